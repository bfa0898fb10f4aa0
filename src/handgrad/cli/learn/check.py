"""handgrad learn check: grade the reader's files."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from ...errors import HandgradError
from ...learn import EXERCISES, Course, Exercise, Grade, grade_file, grade_files
from .show import (
    MARKS,
    Name,
    Seed,
    any_seed,
    chosen,
    course_console,
    here,
    show_end,
    show_grade,
    show_progress,
    tolerant,
)


def check(
    name: Name = None,
    every: Annotated[bool, typer.Option("--all", help="All exercises.")] = False,
    seed: Seed = None,
) -> None:
    """Grade an exercise: the next one, that of this name, or all.

    Your function is run in a process of its own on random cases, without the forward, and compared with the right
    gradients. What it prints is shown.
    """
    course, console = here(), course_console()
    seed = any_seed() if seed is None else seed
    if every:
        if name is not None:
            raise HandgradError("--all: not with the name of an exercise")
        good = _check_all(course, console, seed)
    else:
        good = check_one(course, console, chosen(course, console, name), seed).passed
        show_progress(console, course)
    raise typer.Exit(0 if good else 1)


def check_next() -> None:
    """Grade the next exercise, and those after it while they pass."""
    course, console = here(), course_console()
    good = False
    while exercise := course.next():
        if not check_one(course, console, exercise, any_seed()).passed:
            break
        good = True
        if course.next() is exercise:  # that it passed could not be written down
            break
    else:
        show_end(console)
        good = True
    show_progress(console, course)
    raise typer.Exit(0 if good else 1)


def check_one(course: Course, console: Console, exercise: Exercise, seed: int, footer: bool = True) -> Grade:
    """Grade a file, show it, and remember whether it passed."""
    with console.status(f"checking {exercise.file}"):
        found = grade_file(exercise, course.path(exercise), seed)
    show_grade(console, found, footer)
    remember(course, console, [found])
    return found


def remember(course: Course, console: Console, grades: Sequence[Grade]) -> None:
    """Write down what has passed; where that cannot be, what was found has been shown all the same."""
    with tolerant(console):
        course.record(grades)


def _check_all(course: Course, console: Console, seed: int) -> bool:
    files = [(exercise, course.path(exercise)) for exercise in EXERCISES]
    graded = track(
        grade_files(files, seed),
        "checking",
        len(files),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    grades = list(graded)
    table = Table(box=None, show_header=False, pad_edge=False)
    for found in grades:
        table.add_row(MARKS[found.state], found.exercise.file, Text(_in_words(found)))
    console.print(table)
    remember(course, console, grades)
    show_progress(console, course)
    return all(found.passed for found in grades)


def _in_words(found: Grade) -> str:
    if found.state == "unwritten":
        return "not written yet"
    words = found.mistake.replace("_", " ") or found.headline
    return f"{words} (note: {found.note})" if found.note else words
