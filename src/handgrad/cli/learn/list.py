"""handgrad learn list: how far the reader is."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...learn import EXERCISES, Course
from .show import MARKS, course_console, here, show_progress


def list() -> None:  # noqa: A001 - the name of the command
    """List the exercises, and how each stands. Nothing is run: what was changed counts as not passed."""
    course, console = here(), course_console()
    show_standings(console, course)


def show_standings(console: Console, course: Course) -> None:
    """A line for each exercise, and the bar."""
    following = course.next()
    table = Table(box=None, show_header=False, pad_edge=False)
    for exercise in EXERCISES:
        standing = course.standing(exercise)
        words = {"passed": "", "untouched": "", "begun": "begun", "missing": "no such file"}[standing]
        mark = (
            MARKS["passed"] if standing == "passed" else "[bold]>[/]" if exercise == following else MARKS["unwritten"]
        )
        table.add_row(mark, exercise.file, Text(exercise.title), words)
    console.print(table)
    show_progress(console, course)
