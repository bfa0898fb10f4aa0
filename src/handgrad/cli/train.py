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
from rich.progress import BarColumn, ProgressColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from ..errors import HandgradError, TextError
from ..model import CONFIG_FILE
from ..training import RECORD_FILE, Trainer, TrainingConfig, default_text, new_trainer, read_text

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
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    if out and any((out / name).exists() for name in (CONFIG_FILE, RECORD_FILE)):
        raise HandgradError(f"{out}: holds a run already; choose another --out")
    text = read_text(data) if data else default_text()
    try:
        trainer = new_trainer(text, TrainingConfig(steps=steps, seed=seed))
    except TextError as error:
        raise TextError(f"{data or 'the default text'}: {error}") from None
    model, corpus = trainer.model, trainer.corpus
    folder = out or _next_free_folder()
    trainer.save_record(folder)  # a folder that cannot be written is found out before the work, not after
    console.print(
        f"{model.parameters.flat.size:,} parameters, {model.config.vocabulary} different characters; "
        f"{len(corpus.training):,} to learn from, {len(corpus.validation):,} held out; run in {folder}"
    )
    start = time.perf_counter()
    _follow(trainer, folder, console)
    seconds = time.perf_counter() - start
    if trainer.optimizer.steps < steps:
        trainer.save(folder)
        console.print(f"interrupted after step {trainer.optimizer.steps:,}; the weights are saved in {folder}")
        raise typer.Exit(1)
    loss = trainer.validation_losses[steps]
    console.print(
        f"\nvalidation loss {loss:.3f} nats = {corpus.bits_per_character(loss):.3f} bits a character, on the held-out "
        f"tenth ({steps:,} steps in {seconds:.0f} s)\n"
    )
    for piece in model.generate_stream(tokens=SAMPLE_TOKENS, seed=0):
        console.print(piece, style="cyan", end="")
    prompt = ' --prompt "The "' if set("The ") <= set(text) else ""
    console.print(f"\n\nThe run is in {folder}. Next:  handgrad generate {folder}{prompt}")


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


def _follow(trainer: Trainer, folder: Path, console: Console) -> None:
    """Train to the end, or until interrupted; show where it stands; save at each evaluation."""
    loss = math.nan
    shown: dict[str, Any] = {"loss": "–", "validation": "–", "speed": 0}
    with _interrupt() as interrupted, _progress_bar(console) as bar:
        task = bar.add_task("train", total=trainer.config.steps, **shown)
        for progress in trainer.run():
            loss = progress.loss if math.isnan(loss) else 0.9 * loss + 0.1 * progress.loss
            shown |= {"loss": f"{loss:.3f}", "speed": progress.tokens_per_second}
            if progress.validation_loss is not None:
                trainer.save(folder)
                shown["validation"] = f"{progress.validation_loss:.3f}"
                if not console.is_terminal:
                    console.print(
                        f"step {progress.step:,}/{trainer.config.steps:,}  loss {shown['loss']}  "
                        f"validation {shown['validation']}  {shown['speed']:,.0f} tokens/s"
                    )
            bar.update(task, completed=progress.step, **shown)
            if interrupted.is_set():
                break


def _progress_bar(console: Console) -> ProgressBar:
    """Count, losses and the time left always; the bar and the speed where there is room for them."""
    columns: list[ProgressColumn | str] = [
        "{task.completed:,.0f}/{task.total:,}",
        "loss {task.fields[loss]}",
        "validation {task.fields[validation]}",
        TimeRemainingColumn(),
        "left",
    ]
    if console.width >= 78:
        columns.insert(1, BarColumn(bar_width=None))
        columns.insert(4, "{task.fields[speed]:,.0f} tokens/s")
    return ProgressBar(*columns, console=console, disable=not console.is_terminal)


@contextmanager
def _interrupt() -> Iterator[Event]:
    """An event that the first Ctrl-C or SIGTERM sets, so that the update under way is finished; a second one kills."""
    interrupted = Event()

    def stop(signum: int, frame: object) -> None:
        interrupted.set()
        for number, handler in previous.items():
            signal.signal(number, handler)

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupted
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
