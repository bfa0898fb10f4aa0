"""What the commands of the course have in common: where it is, and how grades and progress look."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ...errors import HandgradError
from ...learn import EXERCISES, Course, Exercise, Grade, find
from ..complete import exercises

MARKS = {"passed": "[green]✓[/]", "wrong": "[red]✗[/]", "unwritten": "[dim]·[/]", "missing": "[red]?[/]"}
BAR_WIDTH = 40
Name = Annotated[
    str | None,
    typer.Argument(metavar="NAME", autocompletion=exercises, help="The exercise; without it, the next one."),
]
Seed = Annotated[
    int | None, typer.Option(min=0, help="Decides the random cases, so that you see the same numbers again.")
]


def here() -> Course:
    """The course in the folder that one is in."""
    return Course(Path())


def course_console() -> Console:
    return Console(highlight=False, emoji=False)


def chosen(course: Course, console: Console, name: str | None) -> Exercise:
    """The exercise of this name; without one, the next. Where all have passed, that is said, and the command ends."""
    exercise = course.next() if name is None else find(name)
    if exercise is None:
        show_end(console)
        raise typer.Exit
    return exercise


def any_seed() -> int:
    """Other cases each time."""
    return secrets.randbelow(10_000)


def show_grade(console: Console, grade: Grade, footer: bool = True) -> None:
    """What there is to say of a file; in the `footer`, which commands help on."""
    exercise = grade.exercise
    if grade.printed.strip():
        console.print("[dim]your code printed, in all cases together:[/]")
        indented(console, grade.printed.rstrip())
    console.print(f"{MARKS[grade.state]} [bold]{exercise.file}[/]  {escape(exercise.title)}")
    helping = {"hint": f"handgrad learn hint {exercise.name}"}
    if grade.passed:
        indented(console, f"{exercise.question}\n{exercise.answer}", above=1, below=1, style="green")
        helping = {"our solution": f"handgrad learn solution {exercise.name}"}
    elif grade.state == "missing":
        indented(console, f"There is no {exercise.file} here.", above=1, below=1)
        helping = {"write it anew": f"handgrad learn reset {exercise.name}"}
    elif grade.state == "unwritten" and (grade.source or exercise.unsolved) == exercise.unsolved:
        indented(console, f"Write {exercise.function} in {exercise.file}.", above=1, below=1)
    else:
        indented(console, grade.message, above=1, below=1)
        if grade.kind in ("values", "shape", "exception"):
            helping["the same numbers again"] = f"handgrad learn check {exercise.name} --seed {grade.seed}"
    if grade.note:
        indented(console, f"note: {grade.note}", below=1, style="yellow")
    if footer:
        for what, command in helping.items():
            console.print(f"[dim]  {what}: {command}[/]")


def indented(console: Console, text: str, above: int = 0, below: int = 0, style: str = "") -> None:
    """Print a text two columns to the right, with so many empty lines above and below."""
    console.print(Padding(Text(text, style=style), (above, 0, below, 2), expand=False))


@contextmanager
def tolerant(console: Console) -> Iterator[None]:
    """Where nothing can be written (a full disk, a folder of somebody else's), say so and go on."""
    try:
        yield
    except (OSError, NotImplementedError, HandgradError) as error:  # a file system without locks has not implemented it
        console.print(Text(f"your progress could not be written down: {error}", style="yellow"))


def show_progress(console: Console, course: Course) -> None:
    """The bar over the course, and the count."""
    row = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=len(EXERCISES), completed=course.passed, width=BAR_WIDTH)
    row.add_row(bar, f"{course.passed} of {len(EXERCISES)} exercises")
    console.print(row)


def show_end(console: Console) -> None:
    """What there is to say when all have passed."""
    console.print(
        f"[bold green]All {len(EXERCISES)} exercises have passed.[/] You have written every backward of a GPT.\n"
        "Put your functions together, and let them train one:  [bold]handgrad learn train[/]"
    )
