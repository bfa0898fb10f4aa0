r"""Commands with what they print. The build runs them, so that no output can be older than the program.

    ```{shell}
    handgrad check --layer softmax
    ```

A page has a folder of its own, in which its commands run one after another, by one shell each. Options:

    :status: 1        what the exit status must be; else the build fails
    :first: 5         of the output only so many lines at its beginning,
    :last: 2          and at its end; `...` stands for the rest
    :hidden:          is run, and not shown
    :needs: models    is run only where HANDGRAD_MODELS names a folder of real models
    :needs: torch     the same of PyTorch, and of transformers; several have spaces between

Where what a command needs is not there, what it printed elsewhere is shown, from `docs/recorded/`; a build with all
that it needs writes that anew, if HANDGRAD_RECORD is set.

    ```{file} softmax.c
    ...
    ```

shows a file (`:language:` where its ending does not tell) and writes it to that folder; `{picture} runs/1/loss.svg`
shows one that a command wrote there.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

WIDTH = 96
"""Columns of the terminal that a command believes to have."""
SECONDS = 600
THERE: dict[str, Callable[[], bool]] = {
    "models": lambda: bool(os.environ.get("HANDGRAD_MODELS")),
    "torch": lambda: find_spec("torch") is not None,
    "transformers": lambda: find_spec("transformers") is not None,
}
"""What a command may need, and whether it is there."""


def folder_of(app: Sphinx, page: str) -> Path:
    """One beside another, since a page's goes before it is read, and pages are read side by side."""
    return Path(app.doctreedir).parent / "shell" / page.replace("/", "-")


def surroundings() -> dict[str, str]:
    """What a command runs in: this environment first on the path, no colours, no settings of who builds the book."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    kept = {name: x for name, x in os.environ.items() if not name.startswith(("OMP_", "OPENBLAS_", "MKL_", "PMI_"))}
    return kept | {"PATH": path, "COLUMNS": str(WIDTH), "NO_COLOR": "1", "LC_ALL": "C.UTF-8"}


class Shell(SphinxDirective):
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {
        "status": int,
        "first": int,
        "last": int,
        "hidden": directives.flag,
        "needs": lambda value: [directives.choice(each, tuple(THERE)) for each in value.split()],
    }

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()
        needs = self.options.get("needs", ())
        recorded = Path(self.env.srcdir) / "recorded" / f"{self.env.docname.replace('/', '-')}.json"
        if needs and not all(THERE[need]() for need in needs):
            shown = (
                json.loads(recorded.read_text(encoding="utf-8")).get(self.block_text, "") if recorded.is_file() else ""
            )
        else:
            commands = commands_in(list(self.content))
            shown = "\n".join(
                line for command in commands for line in (f"$ {command}", *self.cut(self.output_of(command)))
            )
            if needs and os.environ.get("HANDGRAD_RECORD"):
                record(recorded, self.block_text, shown)
        if "hidden" in self.options:
            return []
        if not shown:
            raise self.error(f"what this needs is not there, nor what it printed elsewhere: {' '.join(needs)}")
        return [nodes.literal_block(shown, shown, language="console", classes=["shell"])]

    def output_of(self, command: str) -> list[str]:
        folder = folder_of(self.env.app, self.env.docname)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=folder,
                env=surroundings(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=SECONDS,
                encoding="utf-8",
            )
        except subprocess.TimeoutExpired:
            raise self.error(f"not done after {SECONDS} s: {command}") from None
        output = done.stdout.replace(str(folder), ".").rstrip("\n")
        wanted = self.options.get("status", 0)
        if done.returncode != wanted:
            raise self.error(f"status {done.returncode} and not {wanted}: {command}\n{output}")
        return output.split("\n") if output else []

    def cut(self, lines: list[str]) -> list[str]:
        first, last = self.options.get("first"), self.options.get("last", 0)
        if first is None and not last:
            return lines
        first = first or 0
        if len(lines) <= first + last + 1:
            return lines
        return [*lines[:first], "...", *(lines[-last:] if last else [])]


def record(path: Path, block: str, shown: str) -> None:
    """Keep what a block showed, beside those of the same page."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(known | {block: shown}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def commands_in(lines: list[str]) -> list[str]:
    """The commands of a block: one a line, or more of them that a backslash or a here-document holds together."""
    commands: list[str] = []
    going_on, until = False, None
    for line in lines:
        if going_on or until:
            commands[-1] += f"\n{line}"
        elif line.strip():
            commands.append(line)
        if until:
            until = None if line == until else until
        elif here := re.search(r"(?<!<)<<'?(\w+)'?", line):
            until = here[1]
        going_on = line.endswith("\\")
    return commands


class File(SphinxDirective):
    has_content = True
    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {"language": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        folder = folder_of(self.env.app, self.env.docname)
        path = folder / self.arguments[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "\n".join(self.content)
        path.write_text(text + "\n", encoding="utf-8")
        language = self.options.get("language") or {"py": "python"}.get(path.suffix[1:], path.suffix[1:])
        said = nodes.paragraph("", "", nodes.literal(text=self.arguments[0]), classes=["source-of"])
        return [nodes.literal_block(text, text, language=language), said]


class Picture(SphinxDirective):
    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {"alt": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        made = folder_of(self.env.app, self.env.docname) / self.arguments[0]
        kept = Path(self.env.srcdir) / "_made" / self.env.docname / made.name
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made, kept)
        address = "/" + kept.relative_to(self.env.srcdir).as_posix()
        return [nodes.image(uri=address, alt=self.options.get("alt", made.name))]


def _anew(app: Sphinx, page: str, source: list[str]) -> None:
    """Before a page is read: what its commands left the last time goes."""
    shutil.rmtree(folder_of(app, page), ignore_errors=True)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("shell", Shell)
    app.add_directive("file", File)
    app.add_directive("picture", Picture)
    app.connect("source-read", _anew)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
