"""handgrad learn grade: many folders side by side."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from ...errors import HandgradError
from ...files import naming, write_atomically
from ...learn import (
    EXERCISES,
    Exercise,
    Result,
    as_csv,
    as_json,
    by_folder,
    commonest_mistakes,
    find,
    grade_folders,
    passed_in,
    student_folders,
)
from ..complete import exercises_with_commas
from ..terminal import make_room
from .show import MARKS, course_console

SHOWN = 8
"""Mistakes that are listed, the commonest ones."""


def grade(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR", help="Folders with exercises: one for each student.")],
    only: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", autocompletion=exercises_with_commas, help="Only these exercises, with commas between."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides the random cases: the same ones for all.")] = 0,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all that was found, messages too.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a line for each folder.")] = None,
) -> None:
    """Grade many folders side by side, for teachers.

    All are asked the same random cases. Nothing in the folders is changed. Students' code runs with your rights, under
    a time and a memory limit: that guards against accidents, and not against malice.
    """
    exercises = list(EXERCISES) if only is None else _named(only)
    _refuse_places(json, csv)
    students, others = student_folders(folders)
    console = course_console()
    results = list(
        track(
            grade_folders(students, exercises, seed),
            "grading",
            len(students) * len(exercises),
            console=Console(stderr=True),
            transient=True,
            disable=not console.is_terminal,
        )
    )
    if json:
        _write(json, as_json(results, seed))
    if csv:
        _write(csv, as_csv(results))
    make_room(console)
    _show(console, results)
    for path in others:
        console.print(Text(f"left out: {path} is not a folder"))
    for path in filter(None, (json, csv)):
        console.print(Text(f"written: {path}"))


def _refuse_places(json: Path | None, csv: Path | None) -> None:
    for option, path in (("--json", json), ("--csv", csv)):
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise HandgradError(f"{option}: {str(path)!r} is no place for a file")
    if json is not None and json == csv:
        raise HandgradError(f"--csv: {csv} is that of --json, too")


def _named(only: str) -> list[Exercise]:
    exercises = list(dict.fromkeys(find(name.strip()) for name in only.split(",") if name.strip()))
    if not exercises:
        raise HandgradError("--only: no exercise is named")
    return exercises


def _write(path: Path, text: str) -> None:
    content = text.encode(errors="backslashreplace")  # what students' code says may hold anything
    if path.exists() and not path.is_file():
        with naming(path):
            path.write_bytes(content)  # /dev/stdout, say, is not to be replaced
    else:
        write_atomically(path, content)


def _show(console: Console, results: list[Result]) -> None:
    table = Table("folder", "passed", "exercises", box=None, header_style="bold", pad_edge=False)
    table.columns[0].overflow = "fold"
    for folder, row in by_folder(results).items():
        table.add_row(
            Text(str(folder)),
            f"{passed_in(row)}/{len(row)}",
            "".join(MARKS[result.grade.state] for result in row),
        )
    console.print(table)
    if common := commonest_mistakes(results):
        console.print("\n[bold]what is wrong, and how often[/]")
        listed = Table(box=None, show_header=False, pad_edge=False)
        for name, mistake, times in common[:SHOWN]:
            listed.add_row(f"{times}×", name, mistake)
        console.print(listed)
