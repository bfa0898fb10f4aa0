"""The shapes in signatures are enforced, in every module that has any: each combination of them once, since to check
them again at each of the many passes of a witness took most of the tests' time."""

from collections.abc import Callable, Collection
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
from beartype import beartype

SOURCE = Path(__file__).parents[1] / "src"


def modules_with_shapes() -> list[str]:
    return [
        ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        for path in sorted(SOURCE.rglob("*.py"))
        if "from jaxtyping import" in path.read_text(encoding="utf-8")
    ]


class Uncertain(Exception):
    """A container: what is in it may be right once and wrong the next time."""


def once(function: Callable[..., Any]) -> Callable[..., Any]:
    """What jaxtyping calls to check a signature: beartype, but for arguments of kinds that have passed before.

    It is called with the arguments before the call that is checked, and after it with the result as one more.
    """
    if "<locals>" in function.__qualname__:  # which is made anew, and would be compiled anew, with each call around it
        return function
    checked, passed = beartype(function), set[Any]()

    @wraps(function)
    def check(*arguments: Any, **named: Any) -> None:
        try:
            kinds = (*map(kind, arguments), *((name, kind(x)) for name, x in named.items()))
        except Uncertain:
            checked(*arguments, **named)
            return
        if kinds not in passed:
            checked(*arguments, **named)
            passed.add(kinds)

    return check


def kind(x: Any) -> Any:
    """All that a signature can ask of an argument: of arrays no entry, of numbers and words the value (`Literal`)."""
    if isinstance(x, np.ndarray):
        return type(x), x.shape, x.dtype
    if type(x) is tuple:
        return tuple(map(kind, x))
    if isinstance(x, int | str | type):
        return type(x), x
    if isinstance(x, Collection) and not isinstance(x, tuple):  # a NamedTuple is what its class is
        raise Uncertain
    return type(x)
