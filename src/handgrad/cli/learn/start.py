"""handgrad learn start: write the course into a folder."""

import os
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
    there = [] if folder.samefile(Path()) else [f"cd {_quoted(str(folder))}"]
    todo = [f"open {following.file} in your editor", "handgrad learn watch"] if following else ["handgrad learn train"]
    print("\nNext:  " + "\n       ".join(there + todo))


def _quoted(name: str) -> str:
    """As the system's shell wants it."""
    return shlex.quote(name) if os.name == "posix" else f'"{name}"'
