"""handgrad learn train: the reader's functions train a GPT."""

import contextlib
import math
from collections import deque
from itertools import count
from pathlib import Path
from statistics import mean
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TimeRemainingColumn

from ...errors import TrainingError
from ...learn import STEPS, Agreement, Course, Step, Trained, grade_files, needed
from ...learn import train as train_course
from .check import remember
from .show import any_seed, course_console, here

FOLDER = "gpt"
PROMPT = "The function "


def train(steps: Annotated[int, typer.Option(min=1, help="Updates.")] = STEPS) -> None:
    """Put your functions together, and train a GPT with them on the default text.

    Forward, backward, accumulation and AdamW are those of your files; handgrad only shows. The gradients of the first
    batch are compared with handgrad's own. The model is written to the folder `gpt`, or `gpt.2` if that is there.
    """
    course, console = here(), course_console()
    _refuse_unless_passed(course, console)
    folder = _new_folder()
    try:
        trained = _follow(course, console, steps)
        trained.model.save(folder)
    except BaseException:
        with contextlib.suppress(OSError):
            folder.rmdir()  # nothing was written
        raise
    _show(trained, folder, steps)


def _follow(course: Course, console: Console, steps: int) -> Trained:
    """Train, and show where it stands."""
    columns = "{task.completed}/{task.total}", BarColumn(), "loss {task.fields[loss]}", TimeRemainingColumn()
    every, losses = max(1, steps // 8), deque[float](maxlen=max(1, steps // 8))
    told: Agreement | Step | Trained | None = None
    with (
        contextlib.closing(train_course(course, steps)) as training,
        Progress(*columns, console=console, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("train", total=steps, loss="–")
        for told in training:
            if isinstance(told, Agreement):
                console.print(
                    f"Your gradients of all {told.tensors} tensors on the first batch, against handgrad's: the largest "
                    f"relative error is {told.error:.1e} ({told.worst})."
                )
            elif isinstance(told, Step):
                losses.append(told.loss)
                bar.update(task, completed=told.step, loss=f"{mean(losses):.3f}")
                if told.step == 1:
                    console.print(f"Loss of the first batch {told.loss:.3f}")
                if told.step % every == 0:
                    console.print(f"step {told.step}/{steps}  loss {mean(losses):.3f}")
    assert isinstance(told, Trained)
    return told


def _refuse_unless_passed(course: Course, console: Console) -> None:
    """Each exercise whose function is called must pass as it stands."""
    unknown = [exercise for exercise in needed() if course.standing(exercise) != "passed"]
    grades = list(grade_files([(exercise, course.path(exercise)) for exercise in unknown], any_seed()))
    remember(course, console, grades)
    if left := [found.exercise.name for found in grades if not found.passed]:
        raise TrainingError(f"these must pass first: {', '.join(left)}")


def _new_folder() -> Path:
    """gpt, or the first of gpt.2, gpt.3, ... that is not there: made now, and not found impossible at the end."""
    names = (FOLDER if number == 1 else f"{FOLDER}.{number}" for number in count(1))
    folder = next(path for path in map(Path, names) if not path.exists())
    folder.mkdir()
    return folder


def _show(trained: Trained, folder: Path, steps: int) -> None:
    guess = math.log(trained.model.config.vocabulary)
    sample = trained.model.generate(PROMPT, tokens=250, temperature=0.5, seed=4)
    print(
        f"\nOn held-out text your model is at {trained.loss:.3f} nats a character; a mere guess is at {guess:.3f}."
        f"\nA sample:\n\n{PROMPT}{sample}\n\n"
        f"Every gradient of this model was yours. More steps, better text: handgrad learn train --steps {4 * steps}\n"
        f'Next:  handgrad generate {folder} --prompt "{PROMPT}"'
    )
