"""handgrad learn start: write the course into a folder."""

from pathlib import Path
from typing import Annotated

import typer

from ...learn import EXERCISES, Course


def start(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Where to: a new folder, or one of a course, which gets what it lacks."),
    ],
) -> None:
    """Write the exercises, one file each, into a folder. Files that are there already are left as they are."""
    course, written = Course.start(folder)
    following = (course.next() or EXERCISES[0]).file
    print(f"{len(EXERCISES)} exercises are in {folder}; {len(written) or 'no'} files were written")
    print(f"\nNext:  cd {folder}\n       open {following} in your editor\n       handgrad learn watch")
