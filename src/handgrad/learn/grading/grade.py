"""The grade of a reader's file: passed, not written yet, or wrong, and then why."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ...errors import HandgradError
from ...files import read_text_file
from ...layers import Array
from ...machine import cores
from ..exercise import Exercise, Question
from .feedback import diagnose, tensors
from .judge import misfit, wrong
from .run import Limits, Outcome, run

State = Literal["passed", "unwritten", "wrong", "missing"]
MOST = 20
"""Tensors that are all listed; where there are more, only the wrong ones."""


class Grade(NamedTuple):
    exercise: Exercise
    state: State
    kind: str = ""
    """Of what is wrong: syntax, complex, missing, exception, time, crash, returned, shape, dtype, touched, values."""
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


def grade(exercise: Exercise, source: str, path: str, seed: int, limits: Limits | None = None) -> Grade:
    """Grade the source of a reader's file, which messages call `path`, on random cases."""
    questions = exercise.questions(seed)
    outcome = run(exercise, source, path, questions, limits or Limits())
    found = (
        _problem(exercise, outcome, source, path)
        or _misfit(exercise, questions, outcome)
        or _wrong_values(exercise, questions, outcome)
    )
    note = ""
    if outcome.changed:
        note = f"{', '.join(outcome.changed)} is not as it was given; your backward is graded with the given one."
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
        source = read_text_file(path)
    except HandgradError as error:
        return Grade(exercise, "wrong", "unreadable", str(error), str(error), seed=seed)
    return grade(exercise, source, str(path), seed)._replace(source=source)


def grade_files(files: Iterable[tuple[Exercise, Path]], seed: int) -> Iterator[Grade]:
    """The grades of many files, in their order; as many at once as there are cores."""
    with ThreadPoolExecutor(cores()) as pool:
        yield from pool.map(lambda file: grade_file(file[0], file[1], seed), files)


def _problem(exercise: Exercise, outcome: Outcome, source: str, path: str) -> Finding | None:
    """Why there are no answers."""
    problem = outcome.problem
    kind, line = problem.get("problem", ""), problem.get("line", 0)
    lines = source.splitlines()
    at = f"{path}:{line}: {lines[line - 1].strip()}" if 0 < line <= len(lines) else ""
    match kind:
        case "todo":
            return Finding(kind, f"{exercise.function} is not written yet")
        case "missing":
            return Finding(kind, f"there is no function {exercise.function}")
        case "complex":
            why = "complex numbers have no place in a backward"
            return Finding(kind, why, before=at, after="Write the derivative, and do not take it numerically.")
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
    places = [f"{path}:{frame['line']}: {frame['text']}" for frame in problem["frames"]]
    kind = {"TakenOut": "", "MemoryError": "out of memory: "}.get(problem["type"], f"{problem['type']}: ")
    shapes = ", ".join(f"{name} {shape}" for name, shape in problem["shapes"].items())
    after = f"there {shapes}" if shapes and problem["type"] != "TakenOut" else ""
    return Finding("exception", f"{kind}{problem['message']}".rstrip(": "), "\n".join(places), after)


def _misfit(exercise: Exercise, questions: Sequence[Question], outcome: Outcome) -> Finding | None:
    """What keeps an answer from being compared, or that something was written to."""
    assert outcome.answers is not None
    for question, mine, touched in zip(questions, outcome.answers, outcome.touched, strict=True):
        if found := misfit(mine, question.right, exercise.returns):
            sizes = _sizes(exercise, question)
            return Finding(found.kind, found.text, after=f"That was with {sizes}." if sizes else "")
        if touched:
            return Finding(
                "touched",
                f"your code wrote to what it was given: {_place(exercise, touched)} was {touched['was']}, and is "
                f"{touched['is']} now",
                after="A backward leaves its arguments as they are: others need them, and a second call must find the "
                "same.",
            )
    return None


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
    answers = [tensors(exercise, mine) for mine in outcome.answers or ()]
    rights = [tensors(exercise, question.right) for question in questions]
    amiss = [wrong(mine, right) for mine, right in zip(answers, rights, strict=True)]
    if not any(amiss):
        return None
    diagnosis = diagnose(exercise, questions, answers)
    headline = diagnosis.text.splitlines()[0]
    table = _table(exercise, questions, answers[0], amiss)
    return Finding("values", headline, f"{table}\n", diagnosis.text.partition("\n")[2], diagnosis.name)


def _table(
    exercise: Exercise,
    questions: Sequence[Question],
    answer: Mapping[str, Array],
    amiss: Sequence[Mapping[str, float]],
) -> str:
    """Each tensor, and how far off it is at the most; and where it depends on the sizes whether it is right."""
    worst = {name: max(errors.get(name, 0.0) for errors in amiss) for name in answer}
    if len(worst) > MOST:
        worst = {name: error for name, error in worst.items() if error}
    width = max(map(len, worst))
    verdicts = {name: f"off by {100 * error:.3g} %" if error else "right" for name, error in worst.items()}
    lines = [f"{name:{width}}  {verdict}" for name, verdict in verdicts.items()]
    sizes = [_sizes(exercise, question) for question in questions]
    good = [each for each, errors in zip(sizes, amiss, strict=True) if not errors]
    bad = [each for each, errors in zip(sizes, amiss, strict=True) if errors]
    if good and all(good):
        lines.append(f"Wrong with {'; '.join(bad)}. Right with {'; '.join(good)}.")
    return "\n".join(lines)


def _sizes(exercise: Exercise, question: Question) -> str:
    letters = dict.fromkeys(letter for axes in exercise.returns.values() for letter in axes.split())
    return ", ".join(f"{letter} = {question.sizes[letter]}" for letter in letters if letter in question.sizes)
