"""handgrad learn reset: an exercise as it was given."""

from typing import Annotated

import typer

from ...learn import find
from ..complete import exercises
from .show import here


def reset(name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=exercises, help="The exercise.")]) -> None:
    """Write an exercise as it was given. What you had is kept, in the folder `kept`."""
    course, exercise = here(), find(name)
    kept = course.reset(exercise)
    print(f"{course.path(exercise)} is as it was given" + (f"; yours is {kept}" if kept else ""))
