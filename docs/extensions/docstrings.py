"""The docstrings' own form, Markdown with formulas between `$$`, as reStructuredText, which autodoc reads."""

import re
from typing import Any

from sphinx.application import Sphinx

from handgrad.proof.formulas import equations_of


def as_rst(lines: list[str]) -> list[str]:
    """`code` becomes ``code``, $x$ a role, $$ a block of mathematics; an indented block is code."""
    text = "\n".join(lines)
    blocks: list[str] = []

    def kept(block: str) -> str:
        blocks.append(block)
        return f"\0{len(blocks) - 1}\0"

    def mathematics(found: re.Match[str]) -> str:
        equations = equations_of(" ".join(found[1].split()))
        return kept("\n\n" + "\n\n".join(f".. math:: {each}" for each in equations) + "\n\n")

    text = re.sub(r"(?<=\n)\n((?:    .*(?:\n|$))+)", lambda code: kept(f"\n\n::\n\n{code[1]}\n"), text)
    text = re.sub(r"``([^`]+)``", lambda code: kept(code[0]), text)
    text = re.sub(r"`([^`]+)`", lambda code: kept(f"``{code[1].strip()}``"), text)
    text = re.sub(r"[ \t]*\$\$(.+?)\$\$", mathematics, text, flags=re.DOTALL)
    text = re.sub(r"\$([^$]+)\$", lambda inline: kept(f":math:`{' '.join(inline[1].split())}`"), text)
    text = re.sub(r"(?<![\w*])\*\w[^*\n]*\w\*(?![\w*])", lambda emphasis: kept(emphasis[0]), text)
    text = re.sub(r"[*|]", r"\\\g<0>", text)  # as in *batch and |x|
    while "\0" in text:
        text = re.sub("\0(\\d+)\0", lambda at: blocks[int(at[1])], text)
    return text.split("\n")


def _convert(app: Sphinx, what: str, name: str, of: Any, options: Any, lines: list[str]) -> None:
    if lines and re.match(r"Alias for field number \d+", lines[0]):  # a NamedTuple's fields that say nothing
        lines[:] = []
    else:
        lines[:] = as_rst(lines)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", _convert)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
