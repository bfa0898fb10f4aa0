"""A wrong backward: some code of the library, what somebody wrote in its place, and functions that call it so."""

import inspect
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from types import CodeType, FunctionType
from typing import Any, NamedTuple

Function = Callable[..., Any]


class Mutation(NamedTuple):
    """A mistake that people make in a backward, or in what a forward leaves for it: the forward's value stays right."""

    name: str
    layer: str
    """The case that shows it, by its name in `all_cases`."""
    of: Function
    """The function that holds the code."""
    right: str
    """The code, which stands there once."""
    wrong: str
    """What stands there instead."""
    why: str
    """What a good teacher would say."""

    def planted(self, function: Function) -> Function:
        """The function, in which all that calls `of` calls the wrong one. Nothing of the library itself is changed.

        A function that does not come to call `of` is returned as it is.
        """
        return _planted(self, inspect.unwrap(function)) or function


def mutated(mutation: Mutation) -> Function:
    """The function `of` with the wrong code in it."""
    function = inspect.unwrap(mutation.of)
    source = textwrap.dedent(inspect.getsource(function))
    if source.count(mutation.right) != 1:
        raise ValueError(f"{mutation.name}: {mutation.right!r} is not once in {function.__name__}")
    wrong = compile(source.replace(mutation.right, mutation.wrong), f"<{mutation.name}>", "exec")
    namespace = dict(function.__globals__)
    exec(wrong, namespace)
    return namespace[function.__name__]  # type: ignore[no-any-return]


@cache
def _planted(mutation: Mutation, function: Function) -> Function | None:
    """A copy that calls the wrong one, down any number of calls by global name; None where it has no need of it."""
    if function is inspect.unwrap(mutation.of):
        return mutated(mutation)
    if not (isinstance(function, FunctionType) and function.__module__.startswith(ROOT)):
        return None
    changed = {}
    for name in _names(function.__code__):
        called = function.__globals__.get(name)
        if isinstance(called, FunctionType) and name != function.__name__:
            changed[name] = _planted(mutation, inspect.unwrap(called))
    changed = {name: copy for name, copy in changed.items() if copy}
    if not changed:
        return None
    copy = FunctionType(function.__code__, function.__globals__ | changed, function.__name__, function.__defaults__)
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__annotations__, copy.__doc__ = function.__annotations__, function.__doc__
    return copy


ROOT = __name__.partition(".")[0] + "."


def _names(code: CodeType) -> Iterator[str]:
    """The global names that a function uses, those in its comprehensions and inner functions too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
