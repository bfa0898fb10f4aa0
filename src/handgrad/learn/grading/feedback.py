"""What is wrong with a gradient: the mistake that makes it, else a plain relation, else the first wrong entry."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ...errors import counted
from ...layers import Array
from ...proof import BAR, MUTATIONS, Case, Mutation
from ...proof.compare.relations import factor_of, known_as, relation
from ..exercise import Exercise, Mistake, Question
from .entries import first_entry
from .judge import Evidence, Tensors, error, tensors

SAME = 10 * BAR
"""How near an answer must be to what a mistake makes."""
NEARLY = 1e-6
"""An error that no mistake in a formula is likely to make."""
ROOM = 3
"""Parts of a set of indices that are listed."""


class Diagnosis(NamedTuple):
    """What is said of wrong answers."""

    name: str
    """The mistake's, or empty."""
    text: str


class Known(NamedTuple):
    """A mistake that is known."""

    name: str
    why: str
    answer: Callable[[int], Tensors | None]
    """What it makes of the question of this number; None where it cannot be made, or has other shapes."""


def diagnose(seen: Evidence, mistakes: Iterable[Known]) -> Diagnosis:
    """Why the answers are wrong: the surest thing that there is to say of each tensor."""
    if text := _not_finite(seen):
        return Diagnosis("", text)
    names, taken, found = seen.names, mistaken_for(seen), explaining(mistakes, seen)
    explained = {name for _, several in found for name in several}
    exchanged = set(taken) == set(taken.values())
    if (exchanged and len(taken) == len(names) and len(found) > 1) or len(taken) > len(explained) != len(names):
        found = [(known, several) for known, several in found if taken.keys().isdisjoint(several)]
    else:
        taken = {name: other for name, other in taken.items() if name not in explained}
    said = [_one_for_another(seen.exercise, taken)] if taken else []
    for known, several in found:
        said.append(f"{_subject(several)} exactly what you get by a known mistake:\n{known.why}")
    rest = [name for name in names if name not in taken and not any(name in several for _, several in found)]
    if rest and max(max(errors.get(name, 0.0) for errors in seen.amiss) for name in rest) < NEARLY:
        why = "was a constant cut short, or a derivative taken numerically?"
        said.append(f"{_subject(rest)} nearly right, but not to the last digits: {why}")
        rest = []
    relations: dict[str, list[str]] = {}
    for name in rest:
        relations.setdefault(related(seen, name), []).append(name)
    unexplained = relations.pop("", [])
    said += [f"{_subject(several)} wrong: {_of(several, words)}." for words, several in relations.items()]
    if unexplained and said:
        why = "which this does not explain" if found and not taken and not relations else "perhaps for the same reason"
        said.append(f"{_listed(unexplained)} {_are(unexplained)} wrong as well, {why}.")
    elif unexplained:
        said.append(first_entry(seen, unexplained[0]))
    return Diagnosis("one_for_another" if taken else found[0][0].name if found else "", "\n".join(said))


def _not_finite(seen: Evidence) -> str:
    """Where the first tensor that holds nan or infinity has it; empty where none does."""
    for name in seen.names:
        for mine in seen.answers:
            bad = np.argwhere(~np.isfinite(mine[name]))
            if len(bad):
                at = f", the first at [{', '.join(map(str, bad[0].tolist()))}]" if mine[name].ndim else ""
                entries = counted(mine[name].size, "entry", "entries")
                return f"Your {name} has nan or infinity in {len(bad)} of {entries}{at}."
    return ""


def mistaken_for(seen: Evidence) -> dict[str, str]:
    """The tensors that are just what another one should be, in every case; and which that is."""

    def is_right(name: str, other: str) -> bool:
        return any(right[other].any() for right in seen.rights) and all(
            mine[name].shape == right[other].shape and error(mine[name], right[other], scale[other]) <= BAR
            for mine, right, scale in zip(seen.answers, seen.rights, seen.scales, strict=True)
        )

    found = {name: next((other for other in seen.rights[0] if is_right(name, other)), "") for name in seen.names}
    return {name: other for name, other in found.items() if other}


def _one_for_another(exercise: Exercise, taken: Mapping[str, str]) -> str:
    if len(taken) > 1 and set(taken) == set(taken.values()) and taken.keys() <= exercise.returns.keys():
        returned = ", ".join(taken.get(name, name) for name in exercise.returns)
        return f"You returned {returned}: return {', '.join(exercise.returns)}, in this order."
    facts = [f"your {name} is the right {other}" for name, other in taken.items()]
    text = " and ".join(facts[:ROOM]) + (f", and so on with {len(facts) - ROOM} more" if len(facts) > ROOM else "")
    return f"{text[0].upper()}{text[1:]}."


def related(seen: Evidence, name: str) -> str:
    """How a tensor stands to the right one, in words that hold in every case in which it is wrong; or nothing."""
    pairs = {n: (seen.answers[n][name], seen.rights[n][name]) for n in seen.failed(name)}
    with np.errstate(all="ignore"):
        factors = {n: _factor(*pair) for n, pair in pairs.items()}
        if None not in factors.values():
            known = {n: factor for n, factor in factors.items() if factor is not None}
            return _times(list(known.values()), [_sizes(seen, n) for n in known])
        axes = seen.exercise.returns.get(name, "").split()
        said = set()
        for mine, right in pairs.values():
            letters = axes if len(axes) == right.ndim else [f"axis {k}" for k in range(right.ndim)]
            said.add(relation(mine, right, letters, BAR, {}))
    words = said.pop()
    return words if words and not said else ""


def _factor(mine: Array, right: Array) -> float | None:
    """What mine is the right one times; of a single number too, which other cases must confirm."""
    if np.count_nonzero(right) == 1 and np.count_nonzero(mine[right == 0]) == 0:
        return float(mine[right != 0][0] / right[right != 0][0])
    return factor_of(mine, right, BAR)


def _times(factors: Sequence[float], sizes: Sequence[Mapping[str, int]]) -> str:
    """The factors in words: one number, or a length that fits all cases; nothing where there is but one case."""
    if len(factors) == 1:
        return ""
    if np.allclose(factors, factors[0], rtol=SAME, atol=0):
        factor = round(factors[0], 12)
        simple = {0.0: "it is zero", -1.0: "the sign is turned round"}
        return simple.get(factor, f"it is the right one times {factor:.6g}")
    known = [known_as(factor, lengths, SAME) for factor, lengths in zip(factors, sizes, strict=True)]
    shared = [each for each in known[0] if all(each in other for other in known)]
    return f"it is the right one times {shared[0]}" if shared else ""


def _sizes(seen: Evidence, n: int) -> dict[str, int]:
    """The lengths that a factor may come from."""
    sizes = seen.exercise.sizes_of(seen.questions[n])
    return sizes | ({"(B·T)": sizes["B"] * sizes["T"]} if sizes.keys() >= {"B", "T"} else {})


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
    return _fitting(by_name, tensors(question.right, exercise.returns))


def _attempted(exercise: Exercise, question: Question, function: Any) -> Tensors | None:
    try:
        with np.errstate(all="ignore"):
            made = tensors(question.ask(function), exercise.returns)
    except (ValueError, IndexError, ArithmeticError, TypeError, KeyError):  # it fits no such shapes
        return None
    return _fitting(made, tensors(question.right, exercise.returns))


def _fitting(made: Tensors, right: Tensors) -> Tensors | None:
    """What was made, in the order of the right one; None where a shape is another, which is told before any mistake."""
    fits = all(made[name].shape == x.shape for name, x in right.items())
    return {name: made[name] for name in right} if fits else None


def explaining(mistakes: Iterable[Known], seen: Evidence) -> list[tuple[Known, list[str]]]:
    """The mistakes that make the wrong tensors, each with those that it makes: one if it makes all, else several.

    A mistake counts only if every tensor that it makes wrong is wrong in just this way, in every case. The one that
    makes the most comes first, of equal ones the first in the list.
    """
    left = seen.names
    possible: list[tuple[Known, list[str]]] = []
    for known in mistakes:
        changed = _changed_by(known, seen)
        if changed:
            possible.append((known, [name for name in left if name in changed]))
    found = []
    while possible:
        known, names = max(possible, key=lambda each: len(each[1]))  # the first of equal ones
        found.append((known, names))
        left = [name for name in left if name not in names]
        possible = [(other, those) for other, those in possible if set(those) <= set(left)]
    return found


def _changed_by(known: Known, seen: Evidence) -> set[str]:
    """The tensors that a mistake makes wrong, if the answers are wrong in just this way; else none."""
    changed: set[str] = set()
    for n in sorted(range(len(seen.rights)), key=lambda n: sum(x.size for x in seen.rights[n].values())):
        made, right, scale = known.answer(n), seen.rights[n], seen.scales[n]
        if made is None:
            return set()
        changed |= {name for name, x in made.items() if not error(x, right[name], scale[name]) <= BAR}
        if not changed <= set(seen.names):
            return set()
        if not _all_same(known, seen, n, changed):
            return set()
    everywhere = all(_all_same(known, seen, n, changed) for n in range(len(seen.rights)))
    return changed if everywhere else set()


def _all_same(known: Known, seen: Evidence, n: int, names: Iterable[str]) -> bool:
    """Whether these tensors of a question are what the mistake makes of them."""
    made, scale = known.answer(n) or {}, seen.scales[n]
    return all(
        error(seen.answers[n][name], made[name], max(scale[name], float(np.max(np.abs(made[name]), initial=0)))) <= SAME
        for name in names
    )


def _subject(names: Sequence[str]) -> str:
    return f"Your {_listed(names)} {_are(names)}"


def _of(names: Sequence[str], words: str) -> str:
    """Words of one tensor, said of these."""
    if len(names) == 1:
        return words
    return words.replace("it is the right one", "they are the right ones").replace("it is", "they are")


def _are(names: Sequence[str]) -> str:
    return "are" if len(names) > 1 else "is"


def _listed(names: Sequence[str]) -> str:
    shown = [*names[:ROOM], f"{len(names) - ROOM} more"] if len(names) > ROOM + 1 else list(names)
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else shown[0]
