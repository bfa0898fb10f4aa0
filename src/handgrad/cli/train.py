"""handgrad train: train a GPT on a text."""

import itertools
import math
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from ..errors import HandgradError, TextError
from ..model.model import CONFIG_FILE
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
    seed: Annotated[int, typer.Option(min=0, help="Of the fresh weights and of the order of the data.")] = 0,
) -> None:
    """Train a GPT by characters on a text: 4 blocks, width 128, 4 heads, context 64, about 0.8 million parameters.

    The last tenth of the text is held out; the loss on it is what counts. The weights are saved at each evaluation, at
    the end, and on Ctrl-C.
    """
    console = Console(highlight=False)
    folder = out or next(path for n in itertools.count(1) if not (path := Path("runs", str(n))).exists())
    if (folder / CONFIG_FILE).exists():
        raise HandgradError(f"{folder}: holds a run already; choose another --out")
    try:
        trainer = new_trainer(read_text(data) if data else default_text(), TrainingConfig(steps=steps, seed=seed))
    except TextError as error:
        raise TextError(f"{data}: {error}" if data and str(data) not in str(error) else str(error)) from None
    model, corpus = trainer.model, trainer.corpus
    model.save(folder)  # a folder that cannot be written is found out before the work, not after
    console.print(
        f"{model.parameters.flat.size:,} parameters, {model.config.vocabulary} different characters; "
        f"{len(corpus.training):,} to learn from, {len(corpus.held_out):,} held out; run in {folder}"
    )
    start = time.perf_counter()
    try:
        held_out_loss = _follow(trainer, folder, console)
    except KeyboardInterrupt:
        model.save(folder)
        console.print(f"interrupted after step {trainer.optimizer.steps}; the weights are saved in {folder}")
        raise typer.Exit(1) from None
    seconds = time.perf_counter() - start
    bits = held_out_loss / math.log(2) * (len(corpus.held_out) - 1) / corpus.held_out_characters
    console.print(
        f"\nvalidation loss {held_out_loss:.3f} nats, {bits:.3f} bits a character, on the held-out tenth "
        f"({steps:,} steps in {seconds:.0f} s)\n"
    )
    console.print(model.generate(tokens=SAMPLE_TOKENS, temperature=0.8, seed=0), markup=False, style="cyan")
    console.print(f'\nThe run is in {folder}. Next:  handgrad generate {folder} --prompt "The "')


def _follow(trainer: Trainer, folder: Path, console: Console) -> float:
    """Train to the end, show where it stands, save at each evaluation. The last held-out loss."""
    held_out_loss, loss = math.nan, math.nan
    with ProgressBar(
        TextColumn("step"),
        MofNCompleteColumn(),
        BarColumn(bar_width=None),
        TextColumn("loss {task.fields[loss]:.3f}  validation {task.fields[held_out]:.3f}"),
        TextColumn("{task.fields[speed]:,.0f} tokens/s"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("train", total=trainer.config.steps, loss=math.nan, held_out=math.nan, speed=0)
        for progress in trainer.run():
            loss = progress.loss if math.isnan(loss) else 0.95 * loss + 0.05 * progress.loss
            if progress.held_out_loss is not None:
                held_out_loss = progress.held_out_loss
                trainer.model.save(folder)
                if not console.is_terminal:
                    console.print(
                        f"step {progress.step:,}/{trainer.config.steps:,}  loss {loss:.3f}  validation "
                        f"{held_out_loss:.3f}  {progress.tokens_per_second:,.0f} tokens/s"
                    )
            bar.update(
                task, completed=progress.step, loss=loss, held_out=held_out_loss, speed=progress.tokens_per_second
            )
    return held_out_loss
