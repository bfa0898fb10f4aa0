"""Formulas and axes as the layers declare them: in their docstrings, and in their signatures."""

import inspect
import re
import sys
import typing
from collections.abc import Callable
from functools import cache
from typing import Any

from ..errors import HandgradError

DEFINES = r"=|\\leftarrow"
"""What stands between a name and what it is: of an equation, of an assignment."""


@cache
def formulas(function: Callable[..., Any]) -> dict[str, str]:
    """The LaTeX between `$$` and `$$` in a docstring, by each name that it defines: `y`, `dgamma`, `masked_scores_ts`.

    A block may define several, with `\\qquad` between them; each has the whole block.
    """
    if sys.flags.optimize > 1:
        raise HandgradError("python -OO strips the docstrings, which the formulas are in")
    found = {}
    for block in re.findall(r"\$\$(.+?)\$\$", inspect.getdoc(function) or "", flags=re.DOTALL):
        formula = " ".join(block.split())
        found.update(dict.fromkeys(defined_in(formula), formula))
    return found


def defined_in(latex: str) -> list[str]:
    """The names that a formula's equations and assignments define, bare of what sets them: `dgamma`, `scores_ts`."""
    sides = (re.split(DEFINES, equation, maxsplit=1) for equation in latex.split(r"\qquad"))
    return [re.sub(r"\\mathrm|\\[,;!]|[\s{}\\,]", "", side[0]) for side in sides if len(side) == 2]


def formula_of(function: Callable[..., Any], name: str) -> str:
    """The formula in which a function's docstring defines this name, with or without an index."""
    known = formulas(function)
    for defined, formula in known.items():
        if defined == name or defined.startswith(f"{name}_"):
            return formula
    raise LookupError(f"{function.__name__} has no formula for {name}; it has {', '.join(known)}")


def equations_of(latex: str) -> list[str]:
    """The equations of a formula one by one; what only explains a sign stays beside the one before it."""
    found: list[str] = []
    for each in re.split(r",?\s*\\qquad\s*", latex):
        if found and not re.search(DEFINES, each):
            found[-1] += rf", \quad {each.strip()}"
        else:
            found.append(each.strip())
    return found


@cache
def axes_of(function: Callable[..., Any]) -> dict[str, str]:
    """The axes in a forward's signature, such as `B T C`, by the argument's name; those of its value as `return`."""
    hints = typing.get_type_hints(inspect.unwrap(function))
    hints["return"] = typing.get_args(hints["return"])[0]
    return {
        name: array.dim_str
        for name, hint in hints.items()
        for array in (hint, *typing.get_args(hint))  # one that may be left out is a union with None
        if hasattr(array, "dim_str")
    }


def named_axes(declared: str, dimensions: int) -> list[str]:
    """The axes one by one; `*batch` and `*shape` are what comes before the others: `B T` here, or less."""
    names = declared.split()
    if names and names[0].startswith("*"):
        names = ["B", "T", "F"] if names[0] == "*shape" else ["B", "T", *names[1:]]
    return names[len(names) - dimensions :] if dimensions else []
