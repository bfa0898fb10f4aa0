"""handgrad learn start: write the course into a folder."""

import shlex
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
    print(f"{len(EXERCISES)} exercises are in {folder}; files written: {len(written)}")
    following = course.next()
    there = [] if folder.samefile(Path()) else [f"cd {shlex.quote(str(folder))}"]
    todo = [f"open {following.file} in your editor", "handgrad learn watch"] if following else ["handgrad learn train"]
    print("\nNext:  " + "\n       ".join(there + todo))
