"""handgrad learn watch: grade again at every save."""

import queue
import sys
import threading
import time

from rich.console import Console

from ...learn import EXERCISES, Course, Exercise
from .check import check_one
from .hint import show_hint
from .list import show_standings
from .show import any_seed, course_console, here, show_end, show_progress

EVERY = 0.3
"""Seconds between two looks at the files."""
COMMANDS = "Type hint, list, check or quit, then Enter."

Stamps = dict[Exercise, tuple[int, int] | None]


def watch() -> None:
    """Check the next exercise at every save, and go on to the one after it when it passes.

    Another exercise that is saved is checked too. At a terminal, type hint, list, check or quit.
    """
    course, console = here(), course_console()
    seed = any_seed()  # the same numbers at each save, to be compared with those before
    typed = lines_typed(console)
    try:
        _watch(course, console, seed, typed)
    except KeyboardInterrupt:
        console.print("\nhandgrad learn watch goes on from here at any time")


def _watch(course: Course, console: Console, seed: int, typed: "queue.SimpleQueue[str]") -> None:
    exercise: Exercise | None = course.next()
    while exercise is not None:
        stamps = _stamps(course)
        if console.is_terminal:
            console.clear()
        passed = True
        following: Exercise | None = exercise
        while passed and following:  # several may have been written at once
            checked = following
            passed = check_one(course, console, checked, seed, footer=False).passed
            following = course.next()
            if following is checked:
                break
            if passed and following and course.standing(following) == "untouched":
                console.print(f"Next: open [bold]{following.file}[/]  {following.title}")
                break
        show_progress(console, course)
        if following is None:
            break
        if console.is_terminal:
            console.print(f"[dim]Watching for saves. {COMMANDS}[/]")
        exercise = _changed(course, console, stamps, typed, following)
        if exercise is None:
            return
    show_end(console)


def _changed(
    course: Course, console: Console, before: Stamps, typed: "queue.SimpleQueue[str]", current: Exercise
) -> Exercise | None:
    """Wait until a file is saved: which one. None where the reader wants to end."""
    while True:
        time.sleep(EVERY)
        stamps = _stamps(course)
        saved = [exercise for exercise in EXERCISES if stamps[exercise] and stamps[exercise] != before[exercise]]
        if saved:
            return current if current in saved else saved[0]
        if not typed.empty():
            command = typed.get().strip().lower()
            if command in ("q", "quit", "exit"):
                return None
            if command in ("c", "check", ""):
                return current
            if command in ("h", "hint"):
                show_hint(console, course, current)
            elif command in ("l", "list"):
                show_standings(console, course)
            else:
                console.print(COMMANDS, markup=False)


def _stamps(course: Course) -> Stamps:
    """When each file was written last, and its size; None where there is none, as for a moment while it is saved."""
    stamps: Stamps = {}
    for exercise in EXERCISES:
        try:
            status = course.path(exercise).stat()
            stamps[exercise] = status.st_mtime_ns, status.st_size
        except OSError:
            stamps[exercise] = None
    return stamps


def lines_typed(console: Console) -> "queue.SimpleQueue[str]":
    """What is typed at a terminal, line by line, without waiting for it."""
    typed: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            typed.put(line)

    if console.is_terminal and sys.stdin is not None and sys.stdin.isatty():
        threading.Thread(target=read, daemon=True).start()
    return typed
