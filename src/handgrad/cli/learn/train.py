"""handgrad learn train: the reader's functions train a GPT."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TimeRemainingColumn

from ...errors import HandgradError
from ...learn import STEPS, Agreement, Course, Step, Trained, grade_files, needed
from ...learn import train as train_course
from .show import any_seed, course_console, here

FOLDER = "gpt"
PROMPT = "The function "


def train(steps: Annotated[int, typer.Option(min=1, help="Updates.")] = STEPS) -> None:
    """Put your functions together, and train a GPT with them on the default text.

    Forward, backward, accumulation and AdamW are those of your files; handgrad only shows. The gradients of the first
    batch are compared with handgrad's own. The model is written to the folder `gpt`.
    """
    course, console = here(), course_console()
    _refuse_unless_passed(course)
    columns = "{task.completed}/{task.total}", BarColumn(), "loss {task.fields[loss]}", TimeRemainingColumn()
    bar = Progress(*columns, console=console, disable=not console.is_terminal)
    with bar:
        task = bar.add_task("train", total=steps, loss="–")
        for told in train_course(course, steps):
            if isinstance(told, Agreement):
                console.print(
                    f"Your gradients of all {told.tensors} tensors on the first batch, against handgrad's: the largest "
                    f"relative error is {told.error:.1e} ({told.worst})."
                )
            elif isinstance(told, Step):
                bar.update(task, completed=told.step, loss=f"{told.loss:.3f}")
                if not console.is_terminal and told.step % max(1, steps // 8) == 0:
                    console.print(f"step {told.step}/{steps}  loss {told.loss:.3f}")
            else:
                trained = told
    _show(trained)


def _refuse_unless_passed(course: Course) -> None:
    """Each exercise whose function is called must pass as it stands."""
    unknown = [exercise for exercise in needed() if course.standing(exercise) != "passed"]
    grades = list(grade_files([(exercise, course.path(exercise)) for exercise in unknown], any_seed()))
    course.record(grades)
    if left := [found.exercise.name for found in grades if not found.passed]:
        raise HandgradError(f"your functions are put together once they are right; {', '.join(left)} did not pass yet")


def _show(trained: Trained) -> None:
    path = Path(FOLDER)
    path.mkdir(exist_ok=True)
    trained.model.save(path)
    sample = trained.model.generate(PROMPT, tokens=250, temperature=0.5, seed=4)
    print(f"\nheld-out loss {trained.loss:.3f} nats a character. A sample:\n\n{PROMPT}{sample}")
    print(f'\nEvery gradient of this model was yours. Next:  handgrad generate {FOLDER} --prompt "{PROMPT}"')
