"""The first wrong entry of a gradient, and what the right one depends on."""

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ...layers import Array
from ...proof import BAR
from ..exercise import Exercise, Question
from .judge import Evidence, tensors

ENTRIES = 4000
"""Numbers that are moved, one by one, to see what an entry depends on; where there are more, nothing is said of it."""


def first_entry(seen: Evidence, name: str) -> str:
    """In the smallest case that is about as wrong as any, of more than one position, if there is one."""
    worst = max(errors.get(name, 0.0) for errors in seen.amiss)

    def preferred(n: int) -> tuple[bool, bool, int]:
        size = sum(x.size for x in seen.rights[n].values())
        return seen.questions[n].sizes["T"] == 1, seen.amiss[n][name] < worst / 1000, size

    n = min(seen.failed(name), key=preferred)
    mine, right = seen.answers[n][name], seen.rights[n][name]
    off = ~(np.abs(mine - right) <= BAR * seen.scales[n][name])
    telling = off & (right != 0)  # what should be 0 tells little
    index = tuple(int(k) for k in np.argwhere(telling if telling.any() else off)[0])
    place = f"{name}[{', '.join(map(str, index))}]" if index else name
    yours, ours = (f"{float(x[index]):.6g}" for x in (mine, right))
    if yours == ours:  # only the later digits differ
        yours, ours = (f"{float(x[index]):.17g}" for x in (mine, right))
    text = f"The first wrong entry: {place} is {yours}, and should be {ours}."
    share = f" {np.count_nonzero(off)} of {off.size} are wrong." if off.size > 1 else ""
    needed = dependencies(seen.exercise, seen.questions[n], name, index)
    return text + share + (f"\nThe right one changes with {', '.join(needed)}." if needed else "")


def dependencies(exercise: Exercise, question: Question, name: str, index: tuple[int, ...]) -> list[str]:
    """The parts of the arguments that an entry of the right answer depends on, found by moving each number.

    A cache within the cache is told as a whole.
    """
    names = exercise.argument_names()
    arguments = _movable(question.arguments, float | np.ndarray if exercise.forward else int | float | np.ndarray)
    leaves = [
        (called, x)
        for (argument, given), value in zip(names.items(), arguments, strict=True)
        for called, item in (zip(given, value, strict=True) if len(given) > 1 else [(given[0], value)])
        for x in _arrays(item)
    ]
    if sum(x.size for _, x in leaves) > ENTRIES:
        return []

    @np.errstate(all="ignore")
    def entry() -> float:
        return float(tensors(exercise.right(*copy.deepcopy(arguments)), exercise.returns)[name][index])

    here = entry()
    plain = Counter(called for called, _ in leaves)
    found: dict[str, None] = {}  # in their order, each once
    for called, x in leaves:
        moved = np.zeros(x.shape, bool)
        for at in np.ndindex(x.shape):
            was = x[at]
            for other in (was + 1e-2 * (1 + abs(was)), was - 2 * (1 + abs(was))):  # what is a step, too, moves by one
                x[at] = other
                moved[at] |= not abs(entry() - here) <= 1e-9 * (1 + abs(here))
            x[at] = was
        if moved.any():
            found[part(called, moved) if plain[called] == 1 else called] = None
    return list(found)


def _movable(value: Any, kinds: Any) -> Any:
    """A copy in which the numbers of these kinds, too, are arrays that can be written to."""
    if isinstance(value, tuple | list):
        return type(value)(_movable(item, kinds) for item in value)
    if isinstance(value, dict):
        return {name: _movable(item, kinds) for name, item in value.items()}
    if isinstance(value, np.ndarray):
        return value.copy()
    return np.array(value, float) if isinstance(value, kinds) else value


def _arrays(value: Any) -> Iterator[Array]:
    """The arrays of floating numbers in an argument."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "f":
            yield value
    elif isinstance(value, tuple | list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _arrays(item)


def part(label: str, where: Array) -> str:
    """The marked entries as a slice, such as dy[0, :, 2]; where they are none, as their number and the first."""
    if not where.ndim:
        return label
    sets = [sorted(set(axis.tolist())) for axis in np.nonzero(where)]
    if where[np.ix_(*sets)].all():
        return f"{label}[{', '.join(_slice(chosen, length) for chosen, length in zip(sets, where.shape, strict=True))}]"
    first = ", ".join(map(str, np.argwhere(where)[0].tolist()))
    return f"{np.count_nonzero(where)} entries of {label}, the first of them [{first}]"


def _slice(chosen: Sequence[int], length: int) -> str:
    first, last = chosen[0], chosen[-1]
    if len(chosen) == length > 1:
        return ":"
    if len(chosen) == 1:
        return str(first)
    if len(chosen) == last - first + 1:
        return f"{first or ''}:{last + 1 if last + 1 < length else ''}"
    return f"[{', '.join(map(str, chosen))}]"
