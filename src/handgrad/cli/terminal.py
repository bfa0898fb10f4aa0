"""How the commands write to the terminal, and hear of Ctrl-C."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

from rich.console import Console

FULL_WIDTH = 78
"""Columns that a table takes at least: a narrower terminal wraps its lines, and nothing is cut."""
FINISHING = "finishing the step; once more to stop at once, and go on from the last checkpoint"
PIPE_WIDTH = 5000
"""Columns where there is no terminal, and a long name needs no wrapping."""


def plain_console(**options: Any) -> Console:
    """A console that writes texts and names as they are: brackets and colons in them mean nothing to it."""
    return Console(highlight=False, markup=False, emoji=False, **options)


def make_room(console: Console, pipe: int = FULL_WIDTH) -> None:
    """Give a table the columns that it needs; `pipe` where the output is no terminal."""
    console.width = max(console.width, FULL_WIDTH if console.is_terminal else pipe)


@contextmanager
def interruptible(console: Console, note: str = FINISHING) -> Iterator[Event]:
    """An event that the first Ctrl-C or SIGTERM sets, so that what is under way is finished; a second one kills."""
    interrupted = Event()

    def stop(signum: int, frame: object) -> None:
        interrupted.set()
        if console.is_terminal:
            console.print(note)
        for number, handler in previous.items():
            signal.signal(number, handler)

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupted
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
