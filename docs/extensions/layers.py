r"""What a page takes from the library itself: a layer's formulas, and its source. The directives:

    {formula} handgrad.layers.layer_norm_backward      all equations of the docstring, or with
        :of: dx                                        that in which it defines dx

    {source} handgrad.layers.layer_norm_backward       the function, without its docstring

A page is read anew when the layer's file changes.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import handgrad
from handgrad.proof.formulas import equations_of, formula_of, formulas

PACKAGE = Path(handgrad.__file__).parents[1]


def named(path: str) -> Callable[..., Any]:
    """A function by its full name."""
    module, _, name = path.rpartition(".")
    return inspect.unwrap(getattr(import_module(module), name))


def bare_source(function: Callable[..., Any]) -> str:
    """Its code without the docstring, which the page's own words and formulas take the place of."""
    source = textwrap.dedent(inspect.getsource(function))
    body = ast.parse(source).body[0].body  # type: ignore[attr-defined]
    if not (isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)):
        return source
    lines = source.splitlines()
    return "\n".join(lines[: body[0].lineno - 1] + lines[body[0].end_lineno :])


class Formula(SphinxDirective):
    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {"of": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        function = named(self.arguments[0])
        self.env.note_dependency(inspect.getfile(function))
        if "of" in self.options:
            try:
                found = [formula_of(function, name) for name in self.options["of"].split()]
            except LookupError as error:
                raise self.error(str(error)) from error
        else:
            found = list(dict.fromkeys(formulas(function).values()))
        if not found:
            raise self.error(f"{self.arguments[0]} has no formula")
        blocks: list[nodes.Node] = []
        for latex in dict.fromkeys(found):
            blocks += [nodes.math_block(text, text, nowrap=True) for text in equations_of(latex)]
        said = nodes.paragraph("", "from the docstring of ", classes=["source-of"])
        said += nodes.literal(text=function.__name__)
        return [*blocks, said]


class Source(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        function = named(self.arguments[0])
        file = inspect.getfile(function)
        self.env.note_dependency(file)
        code = bare_source(function)
        block = nodes.literal_block(code, code, language="python")
        _, line = inspect.getsourcelines(function)
        said = nodes.paragraph("", "", classes=["source-of"])
        said += nodes.literal(text=f"{Path(file).relative_to(PACKAGE).as_posix()}, line {line}")
        return [block, said]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("formula", Formula)
    app.add_directive("source", Source)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
