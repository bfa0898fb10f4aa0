"""The command line: one file for each command, `app` with the list of them, and here how all of them begin and end."""

import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from ..errors import HandgradError, as_told
from ..machine import launched_rank

INTERRUPTED = 130
"""The exit status after Ctrl-C, as a shell has it."""


def main() -> None:
    """Run the command line. What a user can mend, and what the system refuses, ends in one line and a status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a character that the terminal cannot show is no reason to stop
            stream.reconfigure(errors="replace")
    if launched_rank() is not None:  # Ctrl-C ends all ranks at once, those too that wait for others within MPI
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if launched_rank():  # the first of the ranks speaks for all
        sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    try:
        try:
            with quiet_imports():
                from .app import app
            app(prog_name="handgrad")
        finally:
            _flush()
    except KeyboardInterrupt:  # between two that know better
        sys.exit(INTERRUPTED)
    except (HandgradError, MemoryError, OSError) as error:
        told = as_told(error)
        assert told is not None
        print(f"handgrad: {told[0]}", file=sys.stderr)
        sys.exit(told[1])


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Ctrl-C within ends the process at once, and says nothing.

    As an exception it would come out of the midst of some library; and in a callback of the import system Python prints
    it, and goes on.
    """

    def end(signum: int, frame: FrameType | None) -> None:
        os._exit(INTERRUPTED)  # nothing was written yet

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _flush() -> None:
    """Write what is left for standard output now: where that fails when Python ends, it prints a traceback."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where Python may flush it once more
        if isinstance(error, BrokenPipeError):  # who read it has seen enough
            sys.exit(1)
        raise
