"""Whether an answer is right: its structure, its shapes and dtypes, that nothing was written to, and its numbers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...errors import counted
from ...layers import Array
from ...proof import BAR
from ..exercise import Exercise, Question
from .run import Other

Tensors = Mapping[str, Array]
SMALLEST = 1e-2
"""A tensor that is smaller than this part of the largest one is compared with that: it may be zero by mathematics."""


class Misfit(NamedTuple):
    """What keeps an answer from being compared."""

    kind: str
    name: str
    text: str


def named(value: Any, returns: Mapping[str, str]) -> dict[str, Any]:
    """The tensors of an answer by name: dx, dp['w_q'], dp['blocks'][0]['w_q']."""
    items = value if isinstance(value, tuple | list) and len(returns) > 1 else (value,)
    return {name: leaf for top, item in zip(returns, items, strict=True) for name, leaf in _leaves(top, item)}


def tensors(answer: Any, returns: Mapping[str, str]) -> dict[str, Array]:
    """The same as arrays. A ValueError where there are not as many things as names."""
    return {name: np.asarray(x) for name, x in named(answer, returns).items()}


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(f"{name}['{key}']", item)
    elif isinstance(value, tuple | list):
        for n, item in enumerate(value):
            yield from _leaves(f"{name}[{n}]", item)
    else:
        yield name, value


def misfit(mine: Any, right: Any, returns: Mapping[str, str]) -> Misfit | None:
    """The first thing that keeps an answer from being compared with the right one: its structure, a shape, a dtype."""
    wanted = ", ".join(returns)
    if len(returns) > 1:
        if _is_none(mine):
            return Misfit("returned", wanted, f"it returned None: is the `return` missing? {wanted} are wanted")
        if not isinstance(mine, tuple | list):
            return Misfit("returned", wanted, f"it returned {_kind(mine)}; {wanted} are wanted, in this order")
        if len(mine) != len(returns):
            return Misfit(
                "returned", wanted, f"it returned {counted(len(mine), 'value')}; {wanted} are wanted, in this order"
            )
    if _is_none(mine):
        why = "is the `return` missing, or does what it returns give None, as np.add.at does?"
        return Misfit("returned", wanted, f"it returned None: {why}")
    pairs = zip(returns, mine, right, strict=True) if len(returns) > 1 else [(wanted, mine, right)]
    return next((found for pair in pairs if (found := _misfit(*pair))), None)


def _misfit(name: str, mine: Any, right: Any) -> Misfit | None:
    if isinstance(right, dict | list | tuple):
        wanted: list[Any] = list(right) if isinstance(right, dict) else list(range(len(right)))
        if not isinstance(mine, dict if isinstance(right, dict) else tuple | list):
            what = "a dict" if isinstance(right, dict) else "a list"
            return Misfit("returned", name, f"{name} is {_kind(mine)}, but must be {what}")
        have = set(mine) if isinstance(mine, dict) else set(range(len(mine)))
        if len(have) != len(wanted) and not isinstance(right, dict):
            return Misfit("returned", name, f"{name} has the length {len(have)}, but must have {len(wanted)}")
        more = [repr(key) for key in sorted(have.difference(wanted), key=str)]
        unknown = f"{more[0]}, which is not wanted" if more else ""
        if missing := [key for key in wanted if key not in have]:
            return Misfit("returned", name, f"{name} has no {missing[0]!r}" + (f", but {unknown}" if more else ""))
        if more:
            return Misfit("returned", name, f"{name} has {unknown}")
        found = (
            _misfit(f"{name}['{key}']" if isinstance(right, dict) else f"{name}[{key}]", mine[key], right[key])
            for key in wanted
        )
        return next((each for each in found if each), None)
    if _is_none(mine):
        return Misfit("returned", name, f"{name} is None, but must be {_kind(np.asarray(right))}")
    if isinstance(mine, Other | dict | list | tuple):
        return Misfit("returned", name, f"{name} is {_kind(mine)}, but must be {_kind(np.asarray(right))}")
    right = np.asarray(right)
    if mine.shape != right.shape:
        return Misfit("shape", name, f"{name} has the shape {mine.shape}, but must have {right.shape}")
    if mine.dtype != right.dtype:
        return Misfit("dtype", name, f"{name} is {mine.dtype}, but must be {right.dtype}")
    return None


def _is_none(value: Any) -> bool:
    return isinstance(value, Other) and value.kind == "NoneType"


def _kind(value: Any) -> str:
    if isinstance(value, Other):
        return f"an {value.kind}" if value.kind.startswith("array") else f"a {value.kind}"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}" if value.ndim else "a number"
    return {"tuple": "a tuple", "list": "a list", "dict": "a dict"}.get(type(value).__name__, type(value).__name__)


def scales(right: Mapping[str, Array]) -> dict[str, float]:
    """What an error of each tensor is measured by: its own largest entry, or a part of the largest of all."""
    largest = {name: float(np.max(np.abs(x), initial=0)) for name, x in right.items()}
    least = SMALLEST * max(largest.values(), default=0.0)
    return {name: max(size, least) or 1.0 for name, size in largest.items()}


def error(mine: Array, right: Array, scale: float) -> float:
    """The largest difference, by this scale; infinite where it is not finite."""
    with np.errstate(all="ignore"):
        worst = float(np.max(np.abs(np.asarray(mine) - right), initial=0))
    return worst / scale if np.isfinite(worst) else float("inf")


def wrong(mine: Mapping[str, Array], right: Mapping[str, Array]) -> dict[str, float]:
    """The tensors that are beyond the bar of the proof, each with its relative error."""
    by = scales(right)
    errors = {name: error(mine[name], x, by[name]) for name, x in right.items()}
    return {name: each for name, each in errors.items() if not each <= BAR}


class Evidence(NamedTuple):
    """Answers of which at least one is wrong."""

    exercise: Exercise
    questions: Sequence[Question]
    answers: Sequence[Tensors]
    rights: Sequence[Tensors]
    scales: Sequence[Mapping[str, float]]
    """What an error of each tensor is measured by."""
    amiss: Sequence[Mapping[str, float]]
    """For each question the tensors that are wrong, with their errors."""

    @property
    def names(self) -> list[str]:
        """The tensors that are wrong in some answer."""
        return list(dict.fromkeys(name for errors in self.amiss for name in errors))

    def failed(self, name: str) -> list[int]:
        """The questions in which a tensor is wrong."""
        return [n for n, errors in enumerate(self.amiss) if name in errors]


def evidence(exercise: Exercise, questions: Sequence[Question], answers: Sequence[Tensors]) -> Evidence:
    """Answers, tensors by name for each question, beside the right ones."""
    rights = [tensors(question.right, exercise.returns) for question in questions]
    amiss = [wrong(mine, right) for mine, right in zip(answers, rights, strict=True)]
    return Evidence(exercise, questions, answers, rights, [scales(right) for right in rights], amiss)
