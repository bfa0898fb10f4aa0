"""What a run in training shows: how it begins, how far it is, how it ended and how to go on."""

import math
import time
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from ..errors import counted
from ..model import DEFAULT_TEMPERATURE
from ..training import BEST, PLOT_FILE, Progress, Run
from .terminal import FULL_WIDTH, interruptible

MANY_PASSES = 50
"""Over the text, after which what was held out tells more than ever."""


def show_start(run: Run, console: Console) -> None:
    model, corpus, config = run.trainer.model, run.trainer.corpus, run.trainer.config
    kind = {
        "chars": "different characters",
        "bytes": "bytes",
        "bpe": "byte pairs",
        "model": "tokens",
        "data": "tokens",
    }[run.record.recipe.tokenizer.tokenizer]
    passes = config.steps * config.batch * run.trainer.length / len(corpus.training)
    for note in run.notes:
        console.print(note)
    texts = f"{run.record.documents:,} texts, " if run.record.documents > 1 else ""
    console.print(
        f"{model.parameters.flat.size:,} parameters, {model.config.vocabulary:,} {kind}; {texts}"
        f"{len(corpus.training):,} tokens to learn from, {len(corpus.validation.tokens):,} held out; "
        f"run in {run.folder}"
    )
    if (size := run.trainer.ranks.size) > 1:
        console.print(f"{size} ranks, {counted(run.trainer.threads, 'thread')} each")
    if run.complete:
        return
    if run.step:
        console.print(f"going on after step {run.step:,} of {config.steps:,}")
    else:
        console.print(
            f"{config.steps:,} steps of {config.batch} × {run.trainer.length} tokens, {passes:.1f} times the text"
            + (": enough to learn it by heart" if passes > MANY_PASSES else "")
        )


def train_run(run: Run, minutes: float | None, console: Console) -> None:
    """Train, and say how it ended and how to go on."""
    config = run.trainer.config
    if run.complete:
        console.print(f"{run.folder} is complete: all {config.steps:,} steps are done")
        return
    interrupted = _follow(run, minutes, console)
    run.save()
    if not run.complete:
        why = "interrupted" if interrupted else "time is up"
        console.print(f"{why} after step {run.step:,}; all is saved. Go on with:  handgrad train --resume {run.folder}")
        raise typer.Exit(1 if interrupted else 0)
    last = run.metrics.entries[-1]
    part = "part" if run.record.recipe.tokenizer.tokenizer == "data" else "tenth"  # that of prepared data may be less
    console.print(
        f"\nvalidation loss {last['validation_loss']:.3f} nats = {last['bits_per_character']:.3f} bits a character, on "
        f"the held-out {part} ({config.steps:,} steps in {last['seconds']:.0f} s)"
    )
    if run.best and run.best.step < run.step:
        console.print(f"it was lowest after step {run.best.step:,}, {run.best.loss:.3f}: {run.folder / BEST}")
    console.print(f"\nA sample, temperature {DEFAULT_TEMPERATURE:g}:")
    console.print(last["sample"], style="cyan")
    console.print(f"\nThe losses are drawn in {run.folder / PLOT_FILE}. Next:  handgrad generate {run.folder}")


def _follow(run: Run, minutes: float | None, console: Console) -> bool:
    """Train to the end, until the time is up, or until interrupted (then true); show where it stands."""
    end = time.monotonic() + 60 * minutes if minutes else math.inf
    shown: dict[str, Any] = {"loss": "–", "validation": f"{run.best.loss:.3f}" if run.best else "–", "speed": 0}
    with _progress_bar(console) as bar, interruptible(console) as interrupted:
        task = bar.add_task("train", total=run.trainer.config.steps, completed=run.step, **shown)
        for progress in run.train():
            shown |= {"loss": f"{run.metrics.loss:.3f}", "speed": progress.tokens_per_second}
            if progress.validation_loss is not None:
                shown["validation"] = f"{progress.validation_loss:.3f}"
                if not console.is_terminal:
                    console.print(_line(progress, run.trainer.config.steps, run.metrics.loss))
            bar.update(task, completed=progress.step, **shown)
            if interrupted.is_set() or time.monotonic() > end:
                break
    return interrupted.is_set()


def _line(progress: Progress, steps: int, loss: float) -> str:
    return (
        f"step {progress.step:,}/{steps:,}  loss {loss:.3f}  validation {progress.validation_loss:.3f}  "
        f"{progress.tokens_per_second:,.0f} tokens/s"
    )


def _progress_bar(console: Console) -> ProgressBar:
    """Count, losses and the time left always; the bar and the speed where there is room for them."""
    columns: list[ProgressColumn | str] = [
        "{task.completed:,.0f}/{task.total:,}",
        "loss {task.fields[loss]}",
        "validation {task.fields[validation]}",
        TimeRemainingColumn(),
        "left",
    ]
    if console.width >= FULL_WIDTH:
        columns.insert(1, BarColumn(bar_width=None))
        columns.insert(4, "{task.fields[speed]:,.0f} tokens/s")
    return ProgressBar(*columns, console=console, disable=not console.is_terminal)
