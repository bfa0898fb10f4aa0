"""`{commands}`: the whole command line, from the program itself: what each command does, takes and defaults to."""

import re
from collections.abc import Iterator
from typing import Any

import typer
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from handgrad.cli.app import app as handgrad


def commands(command: Any, name: str, parent: Any = None) -> Iterator[tuple[str, Any, Any]]:
    """A command and all below it, with their names and contexts."""
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    yield (f"{parent.command_path} {name}" if parent else name), command, context
    if hasattr(command, "list_commands"):
        for each in command.list_commands(context):
            yield from commands(command.resolve_command(context, [each])[1], each, context)


class Commands(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # they change with any file of cli/
        found: list[nodes.Node] = []
        for path, command, context in commands(typer.main.get_command(handgrad), "handgrad"):
            if command.hidden:
                continue
            section = nodes.section(ids=[nodes.make_id(path)], names=[path])
            section += nodes.title(text=path)
            usage = re.sub(r"[{}]|(?<=\[)\[|\](?=\])", "", " ".join([path, *command.collect_usage_pieces(context)]))
            section += nodes.literal_block(usage, usage, language="none")
            section += self.parse_text_to_nodes(command.help or "")
            section += self.parse_text_to_nodes("\n".join(rows(command, context)))
            found.append(section)
        return found


def rows(command: Any, context: Any) -> Iterator[str]:
    records = [each.get_help_record(context) for each in command.get_params(context)]
    records = [record for record in records if record and record[1] and not record[0].startswith("--help")]
    if records:
        yield "| takes | what it does |"
        yield "|---|---|"
    for names, said in records:
        text = " ".join(said.split())
        yield "| " + " | ".join(cell.replace("|", r"\|") for cell in (f"`{names.strip('[]')}`", text)) + " |"


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
