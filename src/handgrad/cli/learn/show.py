"""What the commands of the course have in common: where it is, and how grades and progress look."""

import secrets
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ...learn import EXERCISES, Course, Exercise, Grade, find

MARKS = {"passed": "[green]✓[/]", "wrong": "[red]✗[/]", "unwritten": "[dim]·[/]", "missing": "[red]?[/]"}
BAR_WIDTH = 40
Name = Annotated[str | None, typer.Argument(metavar="[NAME]", help="The exercise; without it, the next one.")]
Seed = Annotated[
    int | None, typer.Option(min=0, help="Decides the random cases, so that you see the same numbers again.")
]


def here() -> Course:
    """The course in the folder that one is in."""
    return Course(Path())


def course_console() -> Console:
    return Console(highlight=False, emoji=False)


def chosen(course: Course, name: str | None) -> Exercise | None:
    """The exercise of this name; without a name, the next one, and none where all have passed."""
    return course.next() if name is None else find(name)


def any_seed() -> int:
    """Other cases each time."""
    return secrets.randbelow(10_000)


def show_grade(console: Console, grade: Grade) -> None:
    exercise = grade.exercise
    if grade.printed.strip():
        console.print("[dim]your code printed:[/]")
        console.print(Padding(Text(grade.printed.rstrip()), (0, 0, 0, 2), expand=False))
    console.print(f"{MARKS[grade.state]} [bold]{exercise.file}[/]  {escape(exercise.title)}")
    if grade.state == "wrong":
        console.print(Padding(Text(grade.message), (1, 0, 1, 2), expand=False))
        again = f" --seed {grade.seed}" if grade.kind in ("values", "exception") else ""
        console.print(f"[dim]  handgrad learn hint {exercise.name};  handgrad learn check {exercise.name}{again}[/]")
    elif grade.state == "unwritten":
        console.print(Padding(f"Write {exercise.function} in {exercise.file}.", (1, 0, 1, 2), expand=False))
        console.print(f"[dim]  a nudge: handgrad learn hint {exercise.name}[/]")
    elif grade.state == "missing":
        console.print(Padding(f"There is no {exercise.file} here.", (1, 0, 1, 2), expand=False))
        console.print(f"[dim]  handgrad learn reset {exercise.name} writes it anew[/]")
    if grade.note:
        console.print(Padding(Text(f"note: {grade.note}", style="yellow"), (0, 0, 0, 2), expand=False))


def show_progress(console: Console, course: Course) -> None:
    """The bar over the course, and the count."""
    row = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=len(EXERCISES), completed=course.passed, width=BAR_WIDTH)
    row.add_row(bar, f"{course.passed} of {len(EXERCISES)} exercises")
    console.print(row)


def show_end(console: Console) -> None:
    console.print(
        f"[bold green]All {len(EXERCISES)} exercises have passed.[/] You have written every backward of a GPT.\n"
        "Put your functions together, and let them train one:  [bold]handgrad learn train[/]"
    )
