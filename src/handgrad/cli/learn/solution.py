"""handgrad learn solution: the answer."""

import sys
import textwrap
from typing import Annotated

import typer
from rich.syntax import Syntax

from ...errors import HandgradError
from ...learn import HINTS
from .show import Name, chosen, course_console, here


def solution(
    name: Name = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Show the lines that were asked for. Asks first; your file is not changed."""
    course, console = here(), course_console()
    exercise = chosen(course, console, name)
    shown = course.hints_shown.get(exercise.name, 0)
    if course.standing(exercise) != "passed" and not yes:
        if sys.stdin is None:
            raise HandgradError("there is nobody to ask whether to show the solution; --yes shows it")
        left = f"{HINTS - shown} hints are left. " if shown < HINTS else ""
        typer.confirm(f"{left}Show the solution of {exercise.name}?", abort=True)
    code = textwrap.dedent(exercise.solution).rstrip()
    if console.is_terminal:
        console.print(Syntax("", "python", background_color="default").highlight(code), soft_wrap=True, end="")
    else:
        print(code)
