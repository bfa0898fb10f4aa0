"""The grade of a reader's file: passed, not written yet, or wrong, and then why."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ...errors import HandgradError
from ...machine import cores
from ...proof import BAR
from ...proof.compare.relations import relation
from ..exercise import Exercise, Question, read_source
from .feedback import diagnose, known_mistakes
from .judge import Evidence, evidence, misfit, tensors, wrong
from .run import LIMITS, Limits, Outcome, end_all, run

State = Literal["passed", "unwritten", "wrong", "missing"]
MOST = 6
"""Tensors that are all listed; where there are more, only the wrong ones."""
ROWS = 12
"""Tensors that are listed at the most."""
SHAPELY = ("ValueError", "IndexError", "AxisError", "LinAlgError", "MemoryError")
"""Exceptions that may be a matter of shapes."""


class Grade(NamedTuple):
    """What became of a reader's file, and what to say of it."""

    exercise: Exercise
    state: State
    kind: str = ""
    """Of what is wrong, in the order in which it is looked for: unreadable, syntax, complex, no_function, exception,
    time, crash, returned, shape, dtype, touched, values; todo where nothing was written; grader where we failed."""
    headline: str = ""
    """What is wrong, in a line."""
    message: str = ""
    """What the reader is told: the headline, the place in the file, and more."""
    mistake: str = ""
    """The name of a known mistake that gives just these numbers."""
    printed: str = ""
    """What the reader's code printed."""
    note: str = ""
    """What else there is to say of the file."""
    seed: int = 0
    """What decided the random cases."""
    source: str | None = None
    """What was graded, where it was read from a file."""

    @property
    def passed(self) -> bool:
        """Whether the backward is right."""
        return self.state == "passed"


class Finding(NamedTuple):
    """What is wrong with a file."""

    kind: str
    headline: str
    before: str = ""
    after: str = ""
    mistake: str = ""

    @property
    def message(self) -> str:
        return "\n".join(filter(None, (self.before, self.headline, self.after)))


def grade(exercise: Exercise, source: str, path: str, seed: int, limits: Limits = LIMITS) -> Grade:
    """Grade the source of a reader's file, which messages call `path`, on random cases."""
    questions = exercise.questions(seed)
    return grade_of(exercise, questions, run(exercise, source, questions, limits), source, path, seed)


def grade_of(
    exercise: Exercise, questions: Sequence[Question], outcome: Outcome, source: str, path: str, seed: int
) -> Grade:
    """The grade, by what became of the file."""
    try:
        found = _problem(exercise, outcome, source, path)
        if found is None and outcome.answers is None:
            raise ValueError("there are no answers")
        found = found or _misfit(exercise, questions, outcome)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:  # which the code can write, too
        raise HandgradError(f"{path}: what its process answered cannot be read: {error!r}") from None
    found = found or _wrong_values(exercise, questions, outcome)
    note = ""
    if outcome.changed:
        note = f"{', '.join(outcome.changed)} is not there as it was given; your backward is graded with the given one."
    if found is None:
        return Grade(exercise, "passed", printed=outcome.printed, note=note, seed=seed)
    state: State = "unwritten" if found.kind == "todo" else "wrong"
    said = found.kind, found.headline, found.message, found.mistake
    return Grade(exercise, state, *said, printed=outcome.printed, note=note, seed=seed)


def grade_file(exercise: Exercise, path: Path, seed: int) -> Grade:
    """Grade a file, whatever it is."""
    if not path.exists():
        return Grade(exercise, "missing", headline="no such file", message="no such file", seed=seed)
    try:
        source = read_source(path)
    except HandgradError as error:
        return Grade(exercise, "wrong", "unreadable", str(error), str(error), seed=seed)
    return grade(exercise, source, str(path), seed)._replace(source=source)


def _grade_one_of_many(exercise: Exercise, path: Path, seed: int) -> Grade:
    """What we have not thought of costs this grade, and not those of all others."""
    try:
        return grade_file(exercise, path, seed)
    except Exception as error:
        said = f"the grader failed: {type(error).__name__}: {error}"
        return Grade(exercise, "wrong", "grader", said, said, seed=seed)


def grade_files(files: Iterable[tuple[Exercise, Path]], seed: int) -> Iterator[Grade]:
    """The grades of many files, in their order; as many at once as there are cores."""
    with ThreadPoolExecutor(cores()) as pool:
        grades = [pool.submit(_grade_one_of_many, exercise, path, seed) for exercise, path in files]
        try:
            for found in grades:
                yield found.result()
        finally:  # after Ctrl-C, say, an endless loop need not be waited for
            for waiting in grades:
                waiting.cancel()
            while not all(found.done() for found in grades):
                end_all()
                time.sleep(0.05)


def _problem(exercise: Exercise, outcome: Outcome, source: str, path: str) -> Finding | None:
    """Why there are no answers."""
    problem = outcome.problem
    kind, line = problem.get("problem", ""), problem.get("line", 0)
    lines = source.split("\n")
    at = f"{path}:{line}: {lines[line - 1].strip()}" if 0 < line <= len(lines) else ""
    match kind:
        case "no_function":
            return Finding(kind, f"there is no function {exercise.function}")
        case "complex":
            why = "complex numbers are refused here: they are the tool of numerical derivatives"
            return Finding(kind, why, before=at, after="Write the derivative in real numbers.")
        case "syntax":
            return Finding(kind, f"{problem['type']}: {problem['message']}", before=at)
        case "time":
            return Finding(kind, f"still running after {problem['seconds']:g} s", before=at)
        case "crash":
            return Finding(kind, f"the process ended {problem['how']}, without an answer", before=at)
        case "exception":
            return _exception(problem, path)
    return None


def _exception(problem: Mapping[str, Any], path: str) -> Finding:
    """By the reader's own lines, and with the shapes of what was at hand."""
    kind, message = problem["type"], problem["message"]
    places = "\n".join(f"{path}:{frame['line']}: {frame['text']}" for frame in problem["frames"])
    if kind == "NotImplementedError" and not message:
        return Finding("todo", "this line is to make room for yours", places)
    shapes = ", ".join(f"{name} {shape}" for name, shape in problem["shapes"].items())
    shapes = f"Shapes there: {shapes}" if shapes and kind in SHAPELY else ""
    if kind == "Flood":
        return Finding("exception", "it printed or wrote too much", places)
    said = {"TakenOut": message, "MemoryError": f"out of memory: {message}"}.get(kind, f"{kind}: {message}")
    return Finding("exception", said.rstrip(": "), places, shapes)


def _misfit(exercise: Exercise, questions: Sequence[Question], outcome: Outcome) -> Finding | None:
    """What keeps an answer from being compared, or that something was written to."""
    assert outcome.answers is not None
    for question, mine, touched in zip(questions, outcome.answers, outcome.touched, strict=True):
        if found := misfit(mine, question.right, exercise.returns):
            if found.kind != "shape":
                return Finding(found.kind, found.text)
            more, sizes = _shape_in_words(exercise, question, mine, found.name), _sizes(exercise, question)
            return Finding(found.kind, found.text, after=f"{more}\nHere {sizes}.".strip() if sizes else more)
        if touched:
            return Finding(
                "touched",
                f"your code wrote to what it was given: {_place(exercise, touched)} was {touched['was']}, and is "
                f"{touched['is']} now",
                after="Leave the arguments as they are: others need them, and a second call must find the same.",
            )
    return None


def _shape_in_words(exercise: Exercise, question: Question, answer: Any, name: str) -> str:
    """What there is to say of a tensor whose shape is wrong, where its numbers tell."""
    right = tensors(question.right, exercise.returns)
    try:
        mine = tensors(answer, exercise.returns)
    except ValueError:
        return ""
    if name not in mine or name not in right:
        return ""
    found, wanted = mine[name], right[name]

    def is_right(name: str, other: str) -> bool:
        there = mine.get(name)
        return (
            there is not None and there.shape == right[other].shape and not wrong({other: there}, {other: right[other]})
        )

    for other in right:
        if other != name and is_right(name, other) and is_right(other, name):
            return f"It is the right {other}: return {', '.join(exercise.returns)}, in this order."
    if found.size == wanted.size and not wrong({name: found.reshape(wanted.shape)}, {name: wanted}):
        ones = " An axis of length 1 makes the difference: keepdims?" if 1 in found.shape + wanted.shape else ""
        return f"It has the right numbers.{ones}"
    axes = exercise.returns.get(name, "").split()
    words = relation(found, wanted, axes, BAR, {}) if len(axes) == wanted.ndim else None
    if words:
        words = words.replace("it is not summed over", "it must still be summed over its")
        return f"{words[0].upper()}{words[1:]}."
    if found.ndim == wanted.ndim and all(
        mine in (1, right) for mine, right in zip(found.shape, wanted.shape, strict=True)
    ):
        return f"Broadcast to {wanted.shape} it would have the right shape."
    return next((f"It is the right {other}." for other in right if is_right(name, other)), "")


def _place(exercise: Exercise, touched: Mapping[str, Any]) -> str:
    """What the reader's code calls the entry that was written to."""
    top, *way = touched["way"]
    argument: str
    argument, given = list(exercise.argument_names().items())[top]
    if len(given) == 1:
        argument = given[0]
    elif way:
        argument, way = given[way[0]], way[1:]
    index = f"[{', '.join(map(str, touched['index']))}]" if touched["index"] else ""
    return argument + "".join(f"[{key!r}]" for key in way) + index


def _wrong_values(exercise: Exercise, questions: Sequence[Question], outcome: Outcome) -> Finding | None:
    seen = evidence(exercise, questions, [tensors(mine, exercise.returns) for mine in outcome.answers or ()])
    if not seen.names:
        return None
    diagnosis = diagnose(seen, known_mistakes(exercise, questions))
    headline, _, more = diagnosis.text.partition("\n")
    return Finding("values", headline, f"{_table(seen)}\n", more, diagnosis.name)


def _table(seen: Evidence) -> str:
    """Each tensor, and how far off it is at the most; where there are many, the wrong ones."""
    worst = {name: max(errors.get(name, 0.0) for errors in seen.amiss) for name in seen.rights[0]}
    shown = worst if len(worst) <= MOST else {name: error for name, error in worst.items() if error}
    width = max(map(len, shown))
    lines = [f"{name:{width}}  {_off_by(error)}" for name, error in shown.items()][:ROWS]
    if len(shown) > ROWS:
        lines.append(f"... and {len(shown) - ROWS} more")
    if rest := len(worst) - len(shown):
        lines.append(f"The other {rest} are right.")
    failed = [question.sizes for question, errors in zip(seen.questions, seen.amiss, strict=True) if errors]
    axes = " ".join(seen.exercise.returns.values())
    for letter, what in (("B", "one sequence"), ("T", "one position")):
        if letter in axes and len(failed) < len(seen.questions) and all(sizes[letter] == 1 for sizes in failed):
            lines.append(f"It is wrong only where there is {what}: {letter} = 1.")
    return "\n".join(lines)


def _off_by(error: float) -> str:
    if not error:
        return "right"
    if error > 10:
        return f"off by {float(f'{error:.3g}'):,.0f} times its size" if math.isfinite(error) else "not finite"
    return f"off by {100 * error:.3g} %"


def _sizes(exercise: Exercise, question: Question) -> str:
    return ", ".join(f"{letter} = {size}" for letter, size in exercise.sizes_of(question).items())
