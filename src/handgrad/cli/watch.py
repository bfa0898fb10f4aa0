"""handgrad watch: a live run, from another terminal."""

import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..errors import HandgradError
from ..training import RECORD_FILE, best_of, evaluations, follow_metrics, is_being_trained, read_record, smoothed
from . import complete
from .refuse import refuse
from .terminal import plain_console

BARS = "▁▂▃▄▅▆▇█"
ROWS = 8
"""Evaluations that are shown, the last ones."""
SAMPLE_LINES = 8
LONGEST = 86400 * 999_999
"""Seconds that are told: a damaged line may have any number."""


def watch(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", autocompletion=complete.runs, help="A run's folder, such as runs/1.")
    ],
    every: Annotated[float | None, typer.Option(min=0.1, help="Seconds between two looks.  [default: 1.0]")] = None,
    once: Annotated[bool, typer.Option("--once", help="Show how it stands, and exit.")] = False,
) -> None:
    """Watch a run that another process trains: how far it is, its losses, what it writes. Ends with the run.

    Into a pipe or a file it writes a line for each evaluation.
    """
    if once:
        refuse({"--every": every}, "not with --once, which looks once")
    pause = 1.0 if every is None else every
    if not (run / RECORD_FILE).exists():
        raise HandgradError(f"{run}: holds no run ({RECORD_FILE} is missing)")
    steps = read_record(run).recipe.training.steps
    console = plain_console()
    looks = follow_metrics(run)
    if console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=False) as live:
            while True:
                active = is_being_trained(run)
                live.update(_picture(run, next(looks), steps, active, console.width), refresh=True)
                if once or not active:
                    return
                time.sleep(pause)
    told = 0
    while True:
        active = is_being_trained(run)
        entries = next(looks)
        with_losses = zip(entries, smoothed(entries), strict=True)
        evaluated = [(entry, loss) for entry, loss in with_losses if "validation_loss" in entry]
        for entry, loss in evaluated[told:]:
            losses = f"loss {loss:.3f}  validation {entry['validation_loss']:.3f}"
            console.print(f"step {entry['step']:,}/{steps:,}  {losses}", soft_wrap=True)
        told = len(evaluated)
        if once or not active:
            console.print(_state(run, entries, steps, active), soft_wrap=True)
            return
        time.sleep(pause)


def _state(run: Path, entries: Sequence[dict[str, Any]], steps: int, active: bool) -> str:
    """What is going on, in words."""
    step = entries[-1]["step"] if entries else 0
    if step >= steps:
        return f"complete: {steps:,} steps in {_duration(entries[-1]['seconds'])}"
    if not active:
        return f"not running: stands at step {step:,} of {steps:,}; handgrad train --resume {run} goes on"
    if not entries:
        return f"training: has not finished a step of {steps:,} yet"
    speed = entries[-1]["tokens_per_second"]
    recent = entries[-min(len(entries), 50) :]
    took = (recent[-1]["seconds"] - recent[0]["seconds"]) / max(1, recent[-1]["step"] - recent[0]["step"])
    left = _duration((steps - step) * took)
    return f"training: step {step:,} of {steps:,}, {speed:,.0f} tokens/s, {left} left"


def _duration(seconds: float) -> timedelta:
    return timedelta(seconds=round(min(max(seconds, 0), LONGEST)))


def _picture(run: Path, entries: Sequence[dict[str, Any]], steps: int, active: bool, width: int) -> RenderableType:
    step = entries[-1]["step"] if entries else 0
    parts: list[RenderableType] = [
        Text(f"{run}  ", style="bold").append(_state(run, entries, steps, active), style="not bold"),
        Padding(ProgressBar(total=steps, completed=step), 0),  # which ends the line
    ]
    if entries:
        curve = _sparkline([entry["loss"] for entry in entries], min(width - 20, 100))
        parts.append(Text(f"loss  {curve}  {smoothed(entries)[-1]:.3f}"))
    evaluated = evaluations(entries)
    if evaluated:
        best = best_of(evaluated)
        table = Table("step", "validation loss", "bits a character", "", box=None, header_style="bold", pad_edge=False)
        for entry in evaluated[-ROWS:]:
            table.add_row(
                f"{entry['step']:,}",
                f"{entry['validation_loss']:.3f}",
                f"{entry['bits_per_character']:.3f}",
                "best" if entry is best else "",
            )
        lines = "\n".join(evaluated[-1]["sample"].splitlines()[:SAMPLE_LINES])
        parts += [Text(""), table, Text("\na sample:"), Text(lines, style="cyan")]
    return Group(*parts)


def _sparkline(values: Sequence[float], width: int) -> str:
    """The values as bars, each the mean of as many as it takes, the highest and the lowest at the ends of the scale."""
    size = -(-len(values) // max(1, width))
    with np.errstate(all="ignore"):  # a damaged line may have any number
        means = np.array([np.mean(values[at : at + size]) for at in range(0, len(values), size)])
        low, span = means.min(), np.ptp(means)
    flat = not 0 < span < np.inf
    heights = [0] * len(means) if flat else np.round((means - low) / span * (len(BARS) - 1)).astype(int)
    return "".join(BARS[height] for height in heights)
