"""Commands whose modules are imported when they are called, and not for a list of them: NumPy alone takes longer."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import typer

INTERRUPTED = 130
"""The exit status after Ctrl-C, as a shell has it."""


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


def lazy_app(
    package: str, commands: Mapping[str, str], strays: Mapping[str, str] | None = None, **options: Any
) -> "typer.Typer":
    """An app of these commands, by name, with the line that lists each: the first paragraph of its own help. The module
    of the same name in the package has the command, a function of that name or an `app`.

    strays: of a command, what to say where it is given more arguments than it takes.
    """
    import typer
    from typer.core import TyperGroup

    def load(name: str) -> Any:
        with quiet_imports():
            module = import_module(f".{name}", package)
        app = getattr(module, "app", None)
        if app is None:
            app = typer.Typer(rich_markup_mode="markdown", add_completion=False)
            app.command(name)(getattr(module, name))
        return typer.main.get_command(app)

    class Group(TyperGroup):
        def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
            """What the list has is a name and a line; here is the command itself."""
            name, listed, rest = super().resolve_command(ctx, args)
            return name, load(listed.name or "") if listed else None, rest

        def invoke(self, ctx: Any) -> Any:
            try:
                return super().invoke(ctx)
            except Exception as error:
                told = getattr(error, "message", "")  # of a usage error, whose class is Click's or Typer's own
                if "unexpected extra argument" in told and (hint := (strays or {}).get(ctx.invoked_subcommand)):
                    error.message = f"{told}; {hint}"  # type: ignore[attr-defined]
                raise

    def listed(line: str) -> Callable[[], None]:
        def command() -> None: ...

        command.__doc__ = line
        return command

    app = typer.Typer(cls=Group, rich_markup_mode="markdown", pretty_exceptions_enable=False, **options)
    for name, line in commands.items():
        app.command(name)(listed(line))
    return app
