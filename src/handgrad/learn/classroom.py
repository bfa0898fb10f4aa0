"""Many folders side by side, for who teaches with the course."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import HandgradError
from .exercise import Exercise
from .grading import Grade, grade_files
from .ladder import EXERCISES


class Result(NamedTuple):
    """How one folder fared with one exercise."""

    folder: Path
    exercise: Exercise
    grade: Grade


def grade_folders(folders: Sequence[Path], exercises: Sequence[Exercise], seed: int) -> Iterator[Result]:
    """Grade each exercise of each folder, all with the same random cases; in order, as they are done."""
    jobs = [(folder, exercise) for folder in folders for exercise in exercises]
    graded = grade_files(((exercise, folder / exercise.file) for folder, exercise in jobs), seed)
    for (folder, exercise), grade in zip(jobs, graded, strict=True):
        yield Result(folder, exercise, grade)


def student_folders(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The folders among these, each once, and what is none; a `HandgradError` where there is no exercise in any."""
    folders: dict[Path, Path] = {}
    for path in paths:
        if path.is_dir():
            folders.setdefault(path.resolve(), path)
        elif not path.exists():
            raise HandgradError(f"{path}: no such folder")
    if not any((folder / exercise.file).exists() for folder in folders.values() for exercise in EXERCISES):
        raise HandgradError(f"{paths[0]}: there are no exercises in it ({EXERCISES[0].file}, ...)")
    return list(folders.values()), [path for path in paths if not path.is_dir()]


def commonest_mistakes(results: Sequence[Result]) -> list[tuple[str, str, int]]:
    """(exercise, mistake, how many folders made it), the most frequent ones first."""
    found = Counter(
        (result.exercise.name, result.grade.mistake or result.grade.kind)
        for result in results
        if result.grade.state == "wrong"
    )
    return [(*key, count) for key, count in found.most_common()]


def by_folder(results: Sequence[Result]) -> dict[Path, list[Result]]:
    """The results of each student, in the order in which they came."""
    rows: dict[Path, list[Result]] = {}
    for result in results:
        rows.setdefault(result.folder, []).append(result)
    return rows


def as_json(results: Sequence[Result], seed: int) -> str:
    """Everything that is known of every folder."""
    folders = {
        str(folder): {
            "passed": passed_in(row),
            "exercises": {result.exercise.name: _details(result.grade) for result in row},
        }
        for folder, row in by_folder(results).items()
    }
    return json.dumps({"seed": seed, "folders": folders}, indent=1, ensure_ascii=False) + "\n"


def as_csv(results: Sequence[Result]) -> str:
    """A line for each folder: how many passed, then for each exercise its state, or what is wrong."""
    rows = by_folder(results)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [result.exercise.name for result in next(iter(rows.values()))]
    writer.writerow(["folder", "passed", "of", *names])
    for folder, row in rows.items():
        writer.writerow([folder, passed_in(row), len(row), *(_cell(result.grade) for result in row)])
    return text.getvalue()


def passed_in(row: Sequence[Result]) -> int:
    """How many exercises of a folder have passed."""
    return sum(result.grade.passed for result in row)


def _details(grade: Grade) -> dict[str, str]:
    details = {"kind": grade.kind, "mistake": grade.mistake, "message": grade.message} if grade.state == "wrong" else {}
    return {"state": grade.state, **{name: text for name, text in details.items() if text}}


def _cell(grade: Grade) -> str:
    return f"wrong: {grade.mistake or grade.kind}" if grade.state == "wrong" else grade.state
