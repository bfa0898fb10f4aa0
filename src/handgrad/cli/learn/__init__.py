"""handgrad learn: the course, one file for each of its commands."""

import typer

from ..lazy import LazyGroup

COMMANDS = {
    "start": "Write the exercises, one file each, into a folder. Files that are there already are left as they are.",
    "check": "Grade an exercise: the next one, that of this name, or all.",
    "watch": "Check the next exercise at every save, and go on to the one after it when it passes.",
    "hint": "Show a hint; give the command again for the next. There are three, from a nudge to nearly the answer.",
    "solution": "Show the lines that were asked for. Asks first; your file is not changed.",
    "list": "List the exercises, and how each stands. Nothing is run: what was changed counts as not passed.",
    "reset": "Write an exercise as it was given. What you had is kept, in the folder `kept`.",
    "train": "Put your functions together, and train a GPT with them on the default text.",
    "grade": "Grade many folders side by side, for teachers.",
}


class Commands(LazyGroup):
    package = __package__
    lines = COMMANDS


app = typer.Typer(
    cls=Commands,
    epilog="Begin with `handgrad learn start DIR`, then give the other commands in that folder. A NAME is that of an "
    "exercise, such as `linear`, its number, or its file. Exit status: 0 it passed; 1 it did not; 2 input that cannot "
    "be used.",
    add_completion=False,
    invoke_without_command=True,
    no_args_is_help=False,
    rich_markup_mode="markdown",
)


@app.callback()
def learn(context: typer.Context) -> None:
    """Write each backward yourself: a course of graded exercises, from the chain rule to a GPT.

    Alone it checks the next exercise of the course in this folder, and those after it while they pass.
    """
    if context.invoked_subcommand is None:
        from .check import check_next

        check_next()
