"""handgrad learn check: grade the reader's files."""

from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ...errors import HandgradError
from ...learn import EXERCISES, Course, Exercise, Grade, grade, grade_all, sources_of
from .show import MARKS, Name, Seed, any_seed, chosen, course_console, here, show_end, show_grade, show_progress


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
        exercise = chosen(course, name)
        if exercise is None:
            show_end(console)
            return
        good = check_one(course, console, exercise, seed).passed
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
    else:
        show_end(console)
        good = True
    show_progress(console, course)
    raise typer.Exit(0 if good else 1)


def check_one(course: Course, console: Console, exercise: Exercise, seed: int) -> Grade:
    """Grade a file, show it, and remember whether it passed."""
    if course.standing(exercise) == "missing":
        raise HandgradError(
            f"{course.path(exercise)}: no such file; `handgrad learn reset {exercise.name}` writes it anew"
        )
    source = course.source(exercise)
    with console.status(f"checking {exercise.file}"):
        found = grade(exercise, source, str(course.path(exercise)), seed)
    course.record([(found, source)])
    show_grade(console, found)
    return found


def _check_all(course: Course, console: Console, seed: int) -> bool:
    there = [exercise for exercise in EXERCISES if course.standing(exercise) != "missing"]
    jobs = sources_of(course, there)
    graded = track(
        grade_all(jobs, seed), "checking", len(jobs), console=console, transient=True, disable=not console.is_terminal
    )
    grades = {found.exercise: found for found in graded}
    course.record([(grades[exercise], source) for exercise, source, _ in jobs])
    table = Table(box=None, show_header=False, pad_edge=False)
    for exercise in EXERCISES:
        found = grades.get(exercise)
        what = _in_words(found) if found else "no such file"
        table.add_row(MARKS[found.state if found else "unwritten"], exercise.file, what)
    console.print(table)
    show_progress(console, course)
    return all(exercise in grades and grades[exercise].passed for exercise in EXERCISES)


def _in_words(found: Grade) -> str:
    if found.state == "unwritten":
        return "not written yet"
    return found.mistake.replace("_", " ") or found.headline
