"""The command line: one file for each command, and here how all of them begin and end."""

import io
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from .. import __version__
from ..errors import HandgradError, as_told
from ..machine import keep_freed_memory
from ..training import launched_rank
from .check import check
from .compare import compare
from .data import app as data
from .evaluate import evaluate
from .explore import explore
from .export import export
from .generate import generate
from .info import info
from .kit import kit
from .learn import app as learn
from .trace import trace
from .train import train
from .watch import watch

app = typer.Typer(
    name="handgrad",
    help="A GPT whose every gradient is written by hand in NumPy, and proved.",
    epilog="Start with `handgrad check`, then `handgrad train`; to learn, `handgrad learn start DIR`. Exit status: "
    "0 good; 1 a check failed, or the run did; 2 input that cannot be used.",
    add_completion=False,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(check)
app.command()(trace)
app.command()(explore)
app.command()(kit)
app.command()(compare)
app.command()(train)
app.command()(watch)
app.command()(generate)
app.command()(evaluate)
app.command()(info)
app.command()(export)
app.add_typer(data, name="data")
app.add_typer(learn, name="learn")


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"handgrad {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if launched_rank() and context.invoked_subcommand != "train":  # all else is done by one process, the first
        raise typer.Exit
    if context.invoked_subcommand != "data":  # the tokenizer library's threads would wait for the one arena
        keep_freed_memory()


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
            app(prog_name="handgrad")
        finally:
            _flush()
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
