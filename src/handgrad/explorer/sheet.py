"""What a tensor's page says of how it was made: the formulas, and the lines of the source that computed it."""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from latex2mathml.converter import convert

from ..layers import cross_entropy_forward, embedding_forward, linear_cross_entropy_forward
from ..proof import Case
from ..proof.formulas import equations_of, formula_of
from ..proof.sites import Source, follows, site_of
from .frames import dicts

ROOT = Path(__file__).parents[1]


class Listing(NamedTuple):
    """A function as it stands in its file."""

    function: str
    file: str
    """Its path within the package."""
    line: int
    """The number of its first line."""
    source: str
    marked: list[int]
    """The lines, by their numbers in the file, that compute the tensor."""


class Made(NamedTuple):
    """How a tensor, or its gradient, is made."""

    symbol: str
    """What the formula calls it."""
    latex: str
    mathml: list[str]
    """Its equations, one by one."""
    listings: list[Listing]


def forwards_of(case: Case, name: str) -> list[tuple[str, Source]]:
    """What makes a tensor of a model; of a parameter, which is given, what makes the tensors that it is used in: each
    with the tensor's name."""
    if name == "embedding.token":
        tied = case.given["config"].tied
        rows = [("embedding.output", Source(embedding_forward, "y"))]
        return rows + ([("head.logits", Source(linear_cross_entropy_forward, "logits"))] if tied else [])
    makes = follows(case, "gpt", name) or name
    made = site_of(case, "gpt", makes).forward
    found = [(makes, made)] if made else []
    if name == "loss":  # the mean over chunks, and what each of them is
        found.append((name, Source(cross_entropy_forward, "loss")))
    return found


def made_by(source: Source) -> dict[str, Any]:
    """As JSON has it: formulas, and the functions with their marked lines."""
    made = _made(source)
    return made._asdict() | {"listings": dicts(made.listings)}


def _made(source: Source) -> Made:
    latex = formula_of(*source)
    return Made(source.symbol, latex, [to_mathml(each) for each in equations_of(latex)], listings(*source))


@cache
def to_mathml(latex: str) -> str:
    r"""A formula as MathML. Words become texts: the library sets `\mathrm{gate}` as a product of four letters."""
    words = re.sub(r"\\mathrm\{([^{}]*)\}", lambda word: rf"\text{{{word[1]}}}".replace(r"\_", "_"), latex)
    return str(convert(words, display="block"))


@cache
def listings(function: Callable[..., Any], symbol: str) -> list[Listing]:
    """The function, with the lines marked that make what the formula calls so; or the helpers of its file that do;
    or the function with what it returns, where that never had a name."""
    found = [_listing(each, _of_this_name(symbol)) for each in (function, *_helpers(function))]
    if found[0].marked:
        return found[:1]
    return [listing for listing in found if listing.marked] or [_listing(function, _returns)]


def _listing(function: Callable[..., Any], makes: Callable[[ast.AST], bool]) -> Listing:
    function = inspect.unwrap(function)
    lines, first = inspect.getsourcelines(function)
    text = textwrap.dedent("".join(lines))
    statements = [node for node in ast.walk(ast.parse(text)) if makes(node)]
    marked = {line for node in statements for line in range(node.lineno, (node.end_lineno or 0) + 1)}  # type: ignore[attr-defined]
    file = Path(inspect.getfile(function)).relative_to(ROOT.parent).as_posix()
    return Listing(function.__name__, file, first, text, sorted(first - 1 + line for line in marked))


def _of_this_name(symbol: str) -> Callable[[ast.AST], bool]:
    """Whether a statement assigns to this name, shows a tap the tensor of this name, or calls what changes it."""

    def makes(node: ast.AST) -> bool:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and node.value.args:
            changed = node.value.args[0]
            return isinstance(changed, ast.Name) and changed.id == symbol
        if not isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Return):
            return False
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        within = [child for target in targets if target for child in ast.walk(target)]
        assigned = any(isinstance(child, ast.Name) and child.id == symbol for child in within)
        field = any(isinstance(child, ast.Attribute) and f"d{child.attr}" == symbol for child in within)
        return assigned or field or any(_is_shown(child, symbol) for child in ast.walk(node))

    return makes


def _is_shown(call: ast.AST, symbol: str) -> bool:
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "tap"):
        return False
    name, shown = call.args
    backward = any(isinstance(node, ast.Name) and node.id.startswith("d") for node in ast.walk(shown))
    return isinstance(name, ast.Constant) and symbol == ("d" if backward else "") + str(name.value)


def _returns(node: ast.AST) -> bool:
    return isinstance(node, ast.Return)


def _helpers(function: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """The functions of the same file that it calls."""
    function = inspect.unwrap(function)
    for name in function.__code__.co_names:
        called = inspect.unwrap(helper) if callable(helper := function.__globals__.get(name)) else None
        if inspect.isfunction(called) and called.__module__ == function.__module__:
            yield called
