"""handgrad learn hint: from a nudge to nearly the answer."""

from rich.console import Console

from ...learn import HINTS, Course, Exercise
from .show import Name, chosen, course_console, here, indented, tolerant


def hint(name: Name = None) -> None:
    """Show a hint; give the command again for the next. There are three, from a nudge to nearly the answer."""
    course, console = here(), course_console()
    show_hint(console, course, chosen(course, console, name))


def show_hint(console: Console, course: Course, exercise: Exercise) -> None:
    """The next one; when the reader has seen them all, all."""
    seen = min(HINTS, course.hints_shown.get(exercise.name, 0))
    count = min(HINTS, seen + 1)
    first = 1 if seen == HINTS else count
    for number in range(first, count + 1):
        console.print(f"[bold]{exercise.file}[/], hint {number} of {HINTS}")
        indented(console, exercise.hints[number - 1], below=1)
    with tolerant(console):
        course.record_hints(exercise, count)
    if count == HINTS:
        console.print(f"[dim]That was the last. The answer: handgrad learn solution {exercise.name}[/]")
