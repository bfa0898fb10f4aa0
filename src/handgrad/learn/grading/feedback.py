"""What is wrong with a gradient: the mistake that makes it, else a plain relation, else the first wrong entry."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ...layers import Array
from ...proof import BAR, MUTATIONS, Case, Mutation
from ...proof.compare.relations import relation
from ..exercise import Exercise, Mistake, Question
from .judge import error, named, scales, wrong

Tensors = Mapping[str, Array]
SAME = 10 * BAR
"""How near an answer must be to what a mistake makes."""
ENTRIES = 4000
"""Numbers that are moved, one by one, to see what an entry depends on; where there are more, nothing is said of it."""
ROOM = 3
"""Parts of a set of indices that are listed."""


class Diagnosis(NamedTuple):
    name: str
    """The mistake's, or empty."""
    text: str


class Known(NamedTuple):
    """A mistake that is known."""

    name: str
    why: str
    answer: Callable[[int], Tensors | None]
    """What it makes of the question of this number; None where it cannot be made, or has other shapes."""


def diagnose(exercise: Exercise, questions: Sequence[Question], answers: Sequence[Tensors]) -> Diagnosis:
    """Why these answers, tensors by name for each question, are wrong: at least one of them is."""
    rights = [tensors(exercise, question.right) for question in questions]
    amiss = [wrong(mine, right) for mine, right in zip(answers, rights, strict=True)]
    if found := explaining(known_mistakes(exercise, questions), answers, rights, amiss):
        mistake, names = found
        verb = "are" if len(names) > 1 else "is"
        return Diagnosis(
            mistake.name, f"Your {_listed(names)} {verb} exactly what you get by a known mistake:\n{mistake.why}"
        )
    at = min((n for n, errors in enumerate(amiss) if errors), key=lambda n: sum(x.size for x in rights[n].values()))
    question, mine, right = questions[at], answers[at], rights[at]
    name = next(iter(amiss[at]))
    sizes = {letter: question.sizes[letter] for letter in exercise.letters if letter in question.sizes}
    sizes |= {"(B·T)": sizes["B"] * sizes["T"]} if sizes.keys() >= {"B", "T"} else {}
    axes = exercise.returns.get(name, "").split() or [f"axis {n}" for n in range(right[name].ndim)]
    with np.errstate(all="ignore"):
        if words := relation(mine[name], right[name], axes, BAR, sizes):
            return Diagnosis("", f"Your {name} is wrong: {words}.")
    return Diagnosis("", _first_entry(exercise, question, name, mine[name], right[name]))


def tensors(exercise: Exercise, answer: Any) -> dict[str, Array]:
    return {name: np.asarray(x) for name, x in named(answer, exercise.returns).items()}


def known_mistakes(exercise: Exercise, questions: Sequence[Question]) -> Iterator[Known]:
    """The mistakes that may have been made: those of the exercise itself, then those of the catalogue."""
    for mistake in exercise.mistakes:

        def own(number: int, mistake: Mistake = mistake) -> Tensors | None:
            return _attempted(exercise, questions[number], exercise.mistaken(mistake))

        yield Known(mistake.name, mistake.why, cache(own))
    twin = questions[0].problem.twin
    for mutation in MUTATIONS:
        if twin is not None and reaches(mutation, twin):

            def of_catalogue(number: int, mutation: Mutation = mutation) -> Tensors | None:
                return of_twin(exercise, questions[number], mutation)

            yield Known(mutation.name, mutation.why, cache(of_catalogue))


def reaches(mutation: Mutation, case: Case) -> bool:
    """Whether the case comes to call what the mutation is in."""
    planted = case.planted(mutation)
    return planted.forward is not case.forward or planted.backward is not case.backward


def of_twin(exercise: Exercise, question: Question, mutation: Mutation | None = None) -> Tensors | None:
    """The gradients that the library's layer gives for a question, perhaps with a mutation in it."""
    problem = question.problem
    assert problem.twin is not None
    case = problem.twin.planted(mutation) if mutation else problem.twin
    dy = np.asarray(question.arguments[0])
    try:
        with np.errstate(all="ignore"):
            gradients = case.gradients(dy, case.run()[1])
    except (ValueError, IndexError, ArithmeticError, AttributeError):  # it fits no such shapes
        return None
    by_name = {problem.names.get(name, f"d{name}"): x for name, x in gradients.items()}
    return _fitting(by_name, tensors(exercise, question.right))


def _attempted(exercise: Exercise, question: Question, function: Any) -> Tensors | None:
    try:
        with np.errstate(all="ignore"):
            made = tensors(exercise, question.ask(function))
    except (ValueError, IndexError, ArithmeticError, TypeError, KeyError):  # it fits no such shapes
        return None
    return _fitting(made, tensors(exercise, question.right))


def _fitting(made: Tensors, right: Tensors) -> Tensors | None:
    """What was made, in the order of the right one; None where a shape is another, which is told before any mistake."""
    fits = all(made[name].shape == x.shape for name, x in right.items())
    return {name: made[name] for name in right} if fits else None


def explaining(
    mistakes: Iterable[Known],
    answers: Sequence[Tensors],
    rights: Sequence[Tensors],
    amiss: Sequence[Mapping[str, float]],
) -> tuple[Known, list[str]] | None:
    """The mistake that makes the most of the wrong tensors, and changes the fewest others; the first of such.

    A tensor is explained where it is what the mistake makes of every question.
    """
    names = list(dict.fromkeys(name for errors in amiss for name in errors))
    best: tuple[tuple[int, int], Known, list[str]] | None = None
    by = [scales(right) for right in rights]
    smallest_first = sorted(range(len(rights)), key=lambda n: sum(x.size for x in rights[n].values()))
    for known in mistakes:
        same = set(rights[0])
        for n in smallest_first:
            made = known.answer(n)
            same = {name for name in same if made and _same(answers[n][name], made[name], by[n][name])}
            if same.isdisjoint(names):
                break  # it explains nothing
        explained = [name for name in names if name in same]
        rank = (len(explained), len(same))
        if explained and (best is None or rank > best[0]):
            best = rank, known, explained
    return best and (best[1], best[2])


def _same(mine: Array, made: Array, scale: float) -> bool:
    if not np.isfinite(made).all():
        return np.array_equal(np.isfinite(made), np.isfinite(mine))
    return error(mine, made, max(scale, float(np.max(np.abs(made), initial=0)))) <= SAME


def _listed(names: Sequence[str]) -> str:
    shown = [*names[:ROOM], f"{len(names) - ROOM} more"] if len(names) > ROOM + 1 else list(names)
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else shown[0]


def _first_entry(exercise: Exercise, question: Question, name: str, mine: Array, right: Array) -> str:
    with np.errstate(all="ignore"):
        off = ~(np.abs(mine - right) <= BAR * scales(tensors(exercise, question.right))[name])
    index = tuple(int(n) for n in np.argwhere(off)[0])
    place = f"{name}[{', '.join(map(str, index))}]" if index else name
    text = f"The first wrong entry: {place} is {float(mine[index]):.6g}, and should be {float(right[index]):.6g}."
    share = f" {np.count_nonzero(off)} of {off.size} are wrong." if off.size > 1 else ""
    needed = dependencies(exercise, question, name, index)
    return text + share + (f"\nThe right one depends on {', '.join(needed)}." if needed else "")


def dependencies(exercise: Exercise, question: Question, name: str, index: tuple[int, ...]) -> list[str]:
    """The parts of the arguments that an entry of the right answer depends on, found by moving each number."""
    names = exercise.argument_names()
    arguments = _movable(question.arguments)
    leaves = list(_arrays(zip(names, arguments, strict=True), names))
    if sum(x.size for _, x in leaves) > ENTRIES:
        return []

    def entry() -> float:
        return float(tensors(exercise, exercise.right(*copy.deepcopy(arguments)))[name][index])

    here = entry()
    found = []
    for label, x in leaves:
        moved = np.zeros(x.shape, bool)
        for at in np.ndindex(x.shape):
            was = x[at]
            x[at] = was + 1e-2 * (1 + abs(was))
            moved[at] = abs(entry() - here) > 1e-9 * (1 + abs(here))
            x[at] = was
        if moved.any():
            found.append(part(label, moved))
    return found


def _movable(value: Any) -> Any:
    """A copy in which the numbers, too, are arrays that can be written to."""
    if isinstance(value, tuple | list):
        return type(value)(map(_movable, value))
    if isinstance(value, dict):
        return {name: _movable(item) for name, item in value.items()}
    return np.array(value) if isinstance(value, float | np.ndarray) else value


def _arrays(items: Any, names: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Array]]:
    """The arrays of floating numbers among the arguments, each as the reader's code can call it."""
    for name, value in items:
        given = names.get(name, [name])
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            yield given[0], value
        elif isinstance(value, tuple | list):
            inner = given if len(given) == len(value) > 1 else [f"{name}[{n}]" for n in range(len(value))]
            yield from _arrays(zip(inner, value, strict=True), {})
        elif isinstance(value, dict):
            yield from _arrays(((f"{name}['{key}']", item) for key, item in value.items()), {})


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
