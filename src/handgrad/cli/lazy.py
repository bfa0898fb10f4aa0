"""Commands whose modules are imported when they are called, and not for a list of them: NumPy alone takes longer."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from . import quiet_imports


class Command(TyperCommand):
    """A command that says where a stray argument belongs."""

    stray = ""
    """What to say of one; without it, what Click says."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.allow_extra_args = bool(self.stray)  # and they come back
        extra = super().parse_args(ctx, args)
        if extra and not ctx.resilient_parsing:
            ctx.fail(f"unexpected extra argument ({' '.join(extra)}); {self.stray}")
        return extra


class LazyGroup(TyperGroup):
    """A group of the commands in a package: the module of a command's name has a function of that name, or an `app`."""

    package = ""
    lines: Mapping[str, str] = {}
    """The commands, each with the line that lists it: the first paragraph of its own help."""
    strays: Mapping[str, str] = {}
    """Of a command, what to say where it is given more arguments than it takes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name, line in self.lines.items():
            self.add_command(TyperCommand(name, help=line, rich_markup_mode="markdown"))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """What the list has is a name and a line; here is the command itself."""
        name, listed, rest = super().resolve_command(ctx, args)
        return name, self._load(listed.name or "") if listed else None, rest

    def _load(self, name: str) -> Any:
        with quiet_imports():
            module = import_module(f".{name}", self.package)
        app = getattr(module, "app", None)
        if app is None:
            app = typer.Typer(rich_markup_mode="markdown", add_completion=False)
            app.command(name, cls=Command)(getattr(module, name))
        command: Any = typer.main.get_command(app)
        if isinstance(command, Command):
            command.stray = self.strays.get(name, "")
        return command
