"""handgrad train: train a GPT on a text."""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from ..errors import HandgradError, TextError
from ..model import CONFIG_FILE
from ..training import Trainer, TrainingConfig, default_text, new_trainer, read_text

SAMPLE_TOKENS = 300


def train(
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A UTF-8 text; without it, the reference of the Python language."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Updates of the weights.")] = TrainingConfig.steps,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The run's folder; without it, the next free one of runs/1, runs/2, ..."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides the fresh weights and the order of the data.")] = 0,
) -> None:
    """Train a GPT by characters on a text: 4 blocks, width 128, 4 heads, context 64, about 0.8 million parameters.

    The last tenth of the text is held out; the loss on it is what counts. The weights are saved at each evaluation, at
    the end, and on Ctrl-C.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    if out and (out / CONFIG_FILE).exists():
        raise HandgradError(f"{out}: holds a run already; choose another --out")
    text = read_text(data) if data else default_text()
    try:
        trainer = new_trainer(text, TrainingConfig(steps=steps, seed=seed))
    except TextError as error:
        raise TextError(f"{data or 'the default text'}: {error}") from None
    model, corpus = trainer.model, trainer.corpus
    folder = out or _next_free_folder()
    model.save(folder)  # a folder that cannot be written is found out before the work, not after
    console.print(
        f"{model.parameters.flat.size:,} parameters, {model.config.vocabulary} different characters; "
        f"{len(corpus.training):,} to learn from, {len(corpus.validation):,} held out; run in {folder}",
        soft_wrap=True,
    )
    start = time.perf_counter()
    validation_loss = _follow(trainer, folder, console)
    seconds = time.perf_counter() - start
    done = trainer.optimizer.steps
    if done < steps:
        model.save(folder)
        console.print(f"interrupted after step {done:,}; the weights are saved in {folder}", soft_wrap=True)
        raise typer.Exit(1)
    console.print(
        f"\nvalidation loss {validation_loss:.3f} nats = {corpus.bits_per_character(validation_loss):.3f} bits a "
        f"character, on the held-out tenth ({steps:,} steps in {seconds:.0f} s)\n",
        soft_wrap=True,
    )
    console.print(model.generate(tokens=SAMPLE_TOKENS, seed=0), style="cyan", soft_wrap=True)
    prompt = ' --prompt "The "' if set("The ") <= set(text) else ""
    console.print(f"\nThe run is in {folder}. Next:  handgrad generate {folder}{prompt}", soft_wrap=True)


def _next_free_folder() -> Path:
    """runs/1, or the first number after it that is free, made at once so that no other run takes it."""
    number = 1
    while True:
        folder = Path("runs", str(number))
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1


def _follow(trainer: Trainer, folder: Path, console: Console) -> float:
    """Train to the end or the first Ctrl-C, show where it stands, save at each evaluation. The last validation loss."""
    validation_loss, loss = math.nan, math.nan
    columns = (
        TextColumn("step"),
        MofNCompleteColumn(),
        BarColumn(bar_width=None),
        TextColumn("loss {task.fields[loss]}  validation {task.fields[validation]}"),
        TextColumn("{task.fields[speed]:,.0f} tokens/s"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with _interrupt() as interrupted, ProgressBar(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("train", total=trainer.config.steps, loss="–", validation="–", speed=0)
        for progress in trainer.run():
            loss = progress.loss if math.isnan(loss) else 0.95 * loss + 0.05 * progress.loss
            if progress.validation_loss is not None:
                validation_loss = progress.validation_loss
                trainer.model.save(folder)
                if not console.is_terminal:
                    console.print(
                        f"step {progress.step:,}/{trainer.config.steps:,}  loss {loss:.3f}  validation "
                        f"{validation_loss:.3f}  {progress.tokens_per_second:,.0f} tokens/s",
                        soft_wrap=True,
                    )
            shown: dict[str, Any] = {"loss": f"{loss:.3f}", "speed": progress.tokens_per_second}
            if progress.validation_loss is not None:
                shown["validation"] = f"{validation_loss:.3f}"
            bar.update(task, completed=progress.step, **shown)
            if interrupted.is_set():
                break
    return validation_loss


@contextmanager
def _interrupt() -> Iterator[Event]:
    """An event that the first Ctrl-C sets, so that the update under way is finished; a second one ends at once."""
    interrupted = Event()

    def stop(signum: int, frame: object) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, previous)

    previous = signal.signal(signal.SIGINT, stop)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, previous)
