"""A reader's folder: the files of the exercises, and how far the reader is."""

import difflib
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from ..errors import HandgradError
from ..files import read_json_object, read_text_file, write_atomically
from .exercise import FOLDER, HINTS, Exercise
from .grading import Grade
from .ladder import EXERCISES

PROGRESS_FILE = "progress.json"
README_FILE = "README.md"
KEPT = "kept"
"""The folder of what `reset` took away."""

Standing = Literal["passed", "begun", "untouched", "missing"]


class Course:
    """The course in a folder. A `HandgradError` where there is none."""

    def __init__(self, folder: Path) -> None:
        if not (folder / PROGRESS_FILE).exists():
            raise HandgradError(
                f"{folder.resolve()}: no course here ({PROGRESS_FILE} is missing); `handgrad learn start DIR` writes "
                "one, and the other commands are given in that folder"
            )
        self.folder = folder
        self._read()

    @classmethod
    def start(cls, folder: Path) -> tuple["Course", list[str]]:
        """Write a course into an empty folder, or what is missing of it; and which files were written."""
        if folder.exists() and not folder.is_dir():
            raise HandgradError(f"{folder}: not a folder")
        begun = (folder / PROGRESS_FILE).exists()
        if folder.exists() and not begun and any(folder.iterdir()):
            raise HandgradError(f"{folder}: not empty, and not a course: name a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        files = {exercise.file: exercise.unsolved for exercise in EXERCISES} | {README_FILE: readme()}
        missing = {name: text for name, text in files.items() if not (folder / name).exists()}
        for name, text in missing.items():
            write_atomically(folder / name, text)
        if not begun:
            write_atomically(folder / PROGRESS_FILE, "{}\n")
        return cls(folder), list(missing)

    def path(self, exercise: Exercise) -> Path:
        return self.folder / exercise.file

    def source(self, exercise: Exercise) -> str:
        """The text of the reader's file. A `HandgradError` says why it cannot be read."""
        return read_text_file(self.path(exercise))

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
        return sum(self.standing(exercise) == "passed" for exercise in EXERCISES)

    def record(self, grades: Iterable[Grade]) -> None:
        """Remember which sources have passed, and forget those that no longer do."""
        self._read()  # another process may have found something meanwhile
        for grade in grades:
            name, digest = grade.exercise.name, _digest(grade.source or "")
            if grade.passed:
                self._passed[name] = digest
            elif self._passed.get(name) == digest:
                del self._passed[name]
        self._write()

    def more_hints(self, exercise: Exercise) -> list[str]:
        """The hints that were shown before, and one more."""
        self._read()
        shown = min(HINTS, self._hints.get(exercise.name, 0) + 1)
        self._hints[exercise.name] = shown
        self._write()
        return exercise.hints[:shown]

    @property
    def hints_shown(self) -> dict[str, int]:
        """How many hints of which exercise the reader has seen."""
        return dict(self._hints)

    def reset(self, exercise: Exercise) -> Path | None:
        """Write the file as it was given; the path under which the reader's is kept, where there was one."""
        path, kept = self.path(exercise), None
        if path.exists():
            folder = self.folder / KEPT
            folder.mkdir(exist_ok=True)
            number = 1 + max((int(old.suffix[1:]) for old in folder.glob(f"{exercise.file}.[0-9]*")), default=0)
            kept = folder / f"{exercise.file}.{number}"
            path.replace(kept)
        write_atomically(path, exercise.unsolved)
        return kept

    def _read(self) -> None:
        progress = read_json_object(self.folder / PROGRESS_FILE)
        self._passed = _known(progress.get("passed"), str)
        self._hints = _known(progress.get("hints"), int)

    def _write(self) -> None:
        progress = {"passed": self._passed, "hints": self._hints}
        write_atomically(self.folder / PROGRESS_FILE, json.dumps(progress, indent=1) + "\n")


def find(name: str) -> Exercise:
    """An exercise by its name, its number, or its file."""
    wanted = Path(name).name.removesuffix(".py")
    for exercise in EXERCISES:
        if wanted in (exercise.name, exercise.module, str(exercise.number), f"{exercise.number:02}"):
            return exercise
    names = [exercise.name for exercise in EXERCISES]
    near = difflib.get_close_matches(wanted.lower(), names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
    raise HandgradError(f"no exercise {name!r}: {hint}")


def readme() -> str:
    """What a reader finds in the folder."""
    rows = "\n".join(f"{exercise.number:2}. `{exercise.file}`: {exercise.title}" for exercise in EXERCISES)
    text = (FOLDER / README_FILE).read_text(encoding="utf-8")
    return f"{text}\n{rows}\n"


def _digest(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()


def _known(value: Any, kind: type) -> dict[str, Any]:
    """A dict of this kind of values, whatever else a damaged file has in its place."""
    items = value.items() if isinstance(value, dict) else ()
    names = {exercise.name for exercise in EXERCISES}
    return {name: item for name, item in items if name in names and isinstance(item, kind)}
