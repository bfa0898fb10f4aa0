"""The commands, each with the line that lists it; each is imported when it is called."""

from typing import Annotated

import typer

from ..machine import keep_freed_memory, launched_rank
from .lazy import LazyGroup

STRAYS = {
    "train": "a text is given by --data",
    "evaluate": "a text is given by --data",
    "generate": "the text to go on from is given by --prompt",
    "explore": "a text is given by --text",
}
"""What to say where a command has more arguments than it takes."""
COMMANDS = {
    "check": "Prove every gradient: each layer's, a block's, and whole small models'; or those of a model of yours.",
    "trace": "Run a model forward and backward on a text, and write down every tensor.",
    "explore": "See a forward and a backward pass of a model on a text, every number of it.",
    "kit": "Write cases that a kernel in any language can be held against.",
    "compare": "Find the first of your tensors that is wrong, and say why.",
    "train": "Train a GPT on a text, or go on with a run.",
    "watch": "Watch a run that another process trains: how far it is, its losses, what it writes. Ends with the run.",
    "generate": "Continue a prompt with a trained model. The text, prompt included, goes to standard output as it is "
    "drawn.",
    "evaluate": "Measure a model on texts: loss, perplexity, bits a character and a byte.",
    "info": "Show a model: architecture, parameters by part, memory to decode and to train, and how it was trained.",
    "export": "Write a folder in Hugging Face's layout, which `transformers` opens.",
    "doctor": "Look at this installation: versions, BLAS, cores, MPI, each extra; and check that this machine computes "
    "right.",
    "data": "Prepare texts of any size, larger than memory too, for `handgrad train --data DIR`.",
    "learn": "Write each backward yourself: a course of graded exercises, from the chain rule to a GPT.",
}


class Commands(LazyGroup):
    package = __package__
    lines = COMMANDS
    strays = STRAYS


app = typer.Typer(
    cls=Commands,
    name="handgrad",
    help="A GPT whose every gradient is written by hand in NumPy, and proved.",
    epilog="Start with `handgrad check`, then `handgrad train`; to learn, `handgrad learn start DIR`. "
    "Where something is slow, wrong or missing: `handgrad doctor`. Exit status: "
    "0 good; 1 a check failed, or the run did; 2 input that cannot be used.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

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
