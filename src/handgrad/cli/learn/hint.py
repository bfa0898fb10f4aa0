"""handgrad learn hint: from a nudge to nearly the answer."""

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from ...learn import HINTS, Course, Exercise
from .show import Name, chosen, course_console, here, show_end


def hint(name: Name = None) -> None:
    """Show a hint; say it again for the next. There are three, from a nudge to nearly the answer."""
    course, console = here(), course_console()
    exercise = chosen(course, name)
    if exercise is None:
        show_end(console)
        return
    show_hints(console, course, exercise)


def show_hints(console: Console, course: Course, exercise: Exercise) -> None:
    """Those that were shown before, and one more."""
    hints = course.more_hints(exercise)
    for number, text in enumerate(hints, start=1):
        console.print(f"[bold]{exercise.file}[/], hint {number} of {HINTS}")
        console.print(Padding(Text(text), (0, 0, 1, 2), expand=False))
    if len(hints) == HINTS:
        console.print(f"[dim]That was the last. The answer: handgrad learn solution {exercise.name}[/]")
