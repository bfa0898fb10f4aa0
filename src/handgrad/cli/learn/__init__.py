"""handgrad learn: the course, one file for each of its commands."""

import typer

from .check import check, check_next
from .grade import grade
from .hint import hint
from .list import show_list
from .reset import reset
from .solution import solution
from .start import start
from .train import train
from .watch import watch

app = typer.Typer(
    epilog="Begin with `handgrad learn start DIR`, then give the other commands in that folder. A NAME is that of an "
    "exercise, such as `linear`, its number, or its file. Exit status: 0 it passed; 1 it did not; 2 input that cannot "
    "be used.",
    rich_markup_mode="markdown",
    invoke_without_command=True,
    no_args_is_help=False,
)


@app.callback()
def learn(context: typer.Context) -> None:
    """Write each backward yourself: a course of graded exercises, from the chain rule to a GPT.

    Alone it checks the next exercise of the course in this folder, and those after it while they pass.
    """
    if context.invoked_subcommand is None:
        check_next()


app.command()(start)
app.command()(check)
app.command()(watch)
app.command()(hint)
app.command()(solution)
app.command("list")(show_list)
app.command()(reset)
app.command()(train)
app.command()(grade)
