r"""Commands with what they print. The build runs them, so that no output can be older than the program.

    ```{shell}
    handgrad check --layer softmax
    ```

A page has a folder of its own, in which its commands run one after another, by one shell each. Options:

    :status: 1        what the exit status must be; else the build fails
    :first: 5         of the output only so many lines at its beginning,
    :last: 2          and at its end; `...` stands for the rest
    :hidden:          is run, and not shown
    :needs: models    is run only where HANDGRAD_MODELS names a folder of real models; else shown alone
    :needs: torch     the same of PyTorch, and of transformers; several have spaces between

    ```{file} softmax.c
    ...
    ```

shows a file (`:language:` where its ending does not tell) and writes it to that folder; `{picture} runs/1/loss.svg`
shows one that a command wrote there.
"""

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
from sphinx.util import logging
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
logger = logging.getLogger(__name__)


def folder_of(app: Sphinx, page: str) -> Path:
    return Path(app.doctreedir).parent / "shell" / page


def surroundings() -> dict[str, str]:
    """What a command runs in: this environment first on the path, no colours, no terminal, both cores."""
    bin_folder = str(Path(sys.executable).parent)
    path = os.pathsep.join([bin_folder, os.environ.get("PATH", "")])
    return os.environ | {"PATH": path, "COLUMNS": str(WIDTH), "NO_COLOR": "1", "PYTHONWARNINGS": "default"}


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
        shown = []
        self.env.note_reread()
        for command in commands_in(list(self.content)):
            shown.append(f"$ {command}")
            if not all(THERE[need]() for need in self.options.get("needs", ())):
                continue
            shown += self.cut(self.output_of(command))
        text = "\n".join(shown)
        if "hidden" in self.options:
            return []
        return [nodes.literal_block(text, text, language="console", classes=["shell"])]

    def output_of(self, command: str) -> list[str]:
        folder = folder_of(self.env.app, self.env.docname)
        folder.mkdir(parents=True, exist_ok=True)
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
        elif here := re.search(r"<<'?(\w+)'?", line):
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
    option_spec: ClassVar[dict[str, Any]] = {"alt": directives.unchanged_required, "width": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        made = folder_of(self.env.app, self.env.docname) / self.arguments[0]
        kept = Path(self.env.srcdir) / "_made" / self.env.docname / made.name
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made, kept)
        address = "/" + kept.relative_to(self.env.srcdir).as_posix()
        picture = nodes.image(uri=address, alt=self.options.get("alt", made.name))
        if width := self.options.get("width"):
            picture["width"] = width
        return [picture]


def _anew(app: Sphinx, page: str, source: list[str]) -> None:
    """Before a page is read: what its commands left the last time goes."""
    shutil.rmtree(folder_of(app, page), ignore_errors=True)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("shell", Shell)
    app.add_directive("file", File)
    app.add_directive("picture", Picture)
    app.connect("source-read", _anew)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
