"""Formulas as MathML, by the converter of the explorer's page: they need no script, no font and no network."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from handgrad.explorer.sheet import to_mathml


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_node(nodes.math, override=True, html=(_inline, None))
    app.add_node(nodes.math_block, override=True, html=(_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(to_mathml(node.astext()).replace('display="block"', 'display="inline"', 1))
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.math_block) -> None:
    for name in node.get("ids", ()):
        writer.body.append(f'<span id="{name}"></span>')
    writer.body.append(to_mathml(node.astext()))
    raise nodes.SkipNode
