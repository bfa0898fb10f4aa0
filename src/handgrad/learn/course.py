"""A reader's folder: the files of the exercises, and how far the reader is."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from ..errors import ConfigError, HandgradError, meant
from ..files import read_file, read_json_object, write_atomically
from .exercise import FOLDER, Exercise, read_source
from .grading import Grade
from .ladder import EXERCISES

PROGRESS_FILE = "progress.json"
MARK = {"course": "handgrad"}
"""What tells the file of progress from others of its name."""
README_FILE = "README.md"
KEPT = "kept"
"""The folder of what `reset` took away."""

Standing = Literal["passed", "begun", "untouched", "missing"]


class Course:
    """The course in a folder. A `HandgradError` where there is none."""

    def __init__(self, folder: Path) -> None:
        if not (folder / PROGRESS_FILE).exists():
            if any((folder / exercise.file).exists() for exercise in EXERCISES):
                raise HandgradError(
                    f"{folder.resolve()}: {PROGRESS_FILE} is missing; `handgrad learn start .` makes a new one, then "
                    "`handgrad learn check --all` finds out what has passed"
                )
            raise HandgradError(
                f"{folder.resolve()}: no course here; `handgrad learn start DIR` writes one, and the other commands "
                "are given in that folder"
            )
        self.folder = folder
        self._read()

    @classmethod
    def start(cls, folder: Path) -> tuple["Course", list[str]]:
        """Write a course into an empty folder, or what is missing of it; and which files were written."""
        if folder.exists() and not folder.is_dir():
            raise HandgradError(f"{folder}: not a folder")
        there = {path.name for path in folder.iterdir()} if folder.exists() else set()
        known = {exercise.file for exercise in EXERCISES}
        if PROGRESS_FILE in there and _is_ours(folder / PROGRESS_FILE):
            known.add(PROGRESS_FILE)  # a start that was broken off
        if any(not name.startswith(".") for name in there) and not there & known:
            raise HandgradError(f"{folder}: not empty, and not a course: name a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        if PROGRESS_FILE not in there:  # first, so that what is broken off here can be gone on with
            write_atomically(folder / PROGRESS_FILE, json.dumps(MARK) + "\n")
        files = {exercise.file: exercise.unsolved for exercise in EXERCISES} | {README_FILE: readme()}
        missing = {name: text for name, text in files.items() if name not in there}
        for name, text in missing.items():
            write_atomically(folder / name, text)
        return cls(folder), list(missing)

    def path(self, exercise: Exercise) -> Path:
        """Where the reader's file is."""
        return self.folder / exercise.file

    def source(self, exercise: Exercise) -> str:
        """The text of the reader's file. A `HandgradError` says why it cannot be read."""
        return read_source(self.path(exercise))

    def standing(self, exercise: Exercise) -> Standing:
        """How an exercise stands, by what is known without running it."""
        try:
            source = self.source(exercise)
        except HandgradError:
            return "begun" if self.path(exercise).exists() else "missing"
        if self._passed.get(exercise.name) == _digest(source):
            return "passed"
        return "untouched" if source == exercise.unsolved else "begun"

    def next(self) -> Exercise | None:
        """The first exercise that has not passed as it stands; none where all have."""
        return next((exercise for exercise in EXERCISES if self.standing(exercise) != "passed"), None)

    @property
    def passed(self) -> int:
        """How many exercises have passed as they stand."""
        return sum(self.standing(exercise) == "passed" for exercise in EXERCISES)

    def record(self, grades: Iterable[Grade]) -> None:
        """Remember which sources have passed, and forget those that no longer do."""
        with self._changing():
            for grade in grades:
                name, digest = grade.exercise.name, _digest(grade.source or "")
                if grade.passed:
                    self._passed[name] = digest
                elif self._passed.get(name) == digest:
                    del self._passed[name]

    def record_hints(self, exercise: Exercise, count: int) -> None:
        """Remember how many hints of an exercise the reader has seen."""
        with self._changing():
            self._hints[exercise.name] = count

    @property
    def hints_shown(self) -> dict[str, int]:
        """How many hints of which exercise the reader has seen."""
        return {name: max(0, count) for name, count in self._hints.items()}

    def reset(self, exercise: Exercise) -> Path | None:
        """Write the file as it was given; the path under which the reader's is kept, where there was another."""
        path, kept = self.path(exercise), None
        with self._alone():
            if path.exists() and self.standing(exercise) != "untouched":
                folder = self.folder / KEPT
                folder.mkdir(exist_ok=True)
                numbers = (old.suffix[1:] for old in folder.glob(f"{exercise.file}.*"))
                number = 1 + max((int(number) for number in numbers if number.isdecimal()), default=0)
                kept = folder / f"{exercise.file}.{number}"
                write_atomically(kept, read_file(path))
            try:
                write_atomically(path, exercise.unsolved)
            except OSError:
                if kept:
                    kept.unlink()
                raise
        return kept

    def _read(self) -> None:
        path = self.folder / PROGRESS_FILE
        try:
            progress = read_json_object(path)
            if not progress.items() >= MARK.items():
                raise ConfigError(f"{path}: not that of a course")
        except ConfigError as error:
            raise ConfigError(
                f"{error}; delete it, then `handgrad learn start .` and `handgrad learn check --all` find out again "
                "what has passed: the exercises stay as they are"
            ) from None
        self._progress = progress
        self._passed = _known(progress.get("passed"), str)
        self._hints = _known(progress.get("hints"), int)

    def _alone(self) -> FileLock:
        """Held by the process that changes the course; the others wait."""
        return FileLock(self.folder / f".{PROGRESS_FILE}.lock")

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Read, change and write the progress with no other process between."""
        with self._alone():
            self._read()
            yield
            progress = self._progress | {"passed": self._passed, "hints": self._hints}
            write_atomically(self.folder / PROGRESS_FILE, json.dumps(progress, indent=1) + "\n")


def find(name: str) -> Exercise:
    """An exercise by its name, its number, or its file."""
    wanted = name.lower().removeprefix("./").removesuffix(".py")
    for exercise in EXERCISES:
        number = f"{exercise.number:02}"
        if wanted in (exercise.name, exercise.module, str(exercise.number), number, f"ex{number}"):
            return exercise
    otherwise = f"it is a number from 1 to {len(EXERCISES)}, or a name of `learn list`"
    raise HandgradError(f"no exercise {name!r}: {meant(wanted, [exercise.name for exercise in EXERCISES], otherwise)}")


def readme() -> str:
    """What a reader finds in the folder."""
    rows = "\n".join(f"{exercise.number:2}. `{exercise.file}`: {exercise.title}" for exercise in EXERCISES)
    text = (FOLDER / README_FILE).read_text(encoding="utf-8")
    return f"{text}\n{rows}\n"


def _digest(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()


def _is_ours(path: Path) -> bool:
    try:
        return read_json_object(path).items() >= MARK.items()
    except HandgradError:
        return False


def _known(value: Any, kind: type) -> dict[str, Any]:
    """A dict of this kind of values, whatever else a damaged file has in its place."""
    items = value.items() if isinstance(value, dict) else ()
    return {name: item for name, item in items if isinstance(item, kind)}
