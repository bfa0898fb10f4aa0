"""The command line: one file for each command, `app` with the list of them, and here how all of them begin and end."""

import io
import os
import signal
import sys
from pathlib import Path

from ..errors import HandgradError, as_told
from ..machine import launched_rank
from .lazy import INTERRUPTED, quiet_imports


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
