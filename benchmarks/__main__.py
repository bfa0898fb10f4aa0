"""The command line of the benchmarks."""

import json
import os
import platform
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from . import step as steps
from .rounds import ContenderError, Figures, figures, take_turns
from .sizes import SIZES

app = typer.Typer(name="benchmarks", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False, markup=False, emoji=False)
progress = Console(stderr=True, highlight=False, markup=False, emoji=False)

Rounds = Annotated[int, typer.Option(min=1, help="Turns of each contender that count.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads of each contender.")]
JSON = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures, of every round, there.")]
Only = Annotated[list[str] | None, typer.Option("--only", help="Leave the other contenders out.")]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@app.callback()
def about() -> None:
    """handgrad and PyTorch side by side, in separate processes that take turns."""


@app.command()
def step(
    sizes: Annotated[str, typer.Option(help=f"Any of {', '.join(SIZES)}.")] = "S,M,L",
    rounds: Rounds = 11,
    threads: Threads = CORES,
    only: Only = None,
    json_: JSON = None,
) -> None:
    """Whole steps of training."""
    results = {}
    for name in sizes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            steps.prepare(Path(folder), SIZES[name], rounds, threads)
            chosen = {k: f for k, f in steps.CONTENDERS.items() if not only or k in only}
            with progress.status(name) as status:
                turns = take_turns(
                    chosen, Path(folder), rounds, lambda who, r: status.update(f"{name}: {who}, round {r}")
                )
        found = figures(turns, steps.EAGER if steps.EAGER in turns else next(iter(turns)))
        difference = steps.largest_difference(turns)
        results[name] = {k: f._asdict() for k, f in found.items()}
        table = Table("size", "contender", "ms", "ratio", "rounds", "peak MB", "net MB")
        for k, f in found.items():
            table.add_row(
                name,
                k,
                f"{f.seconds * 1e3:.1f}",
                f"{f.ratio:.3f}",
                " ".join(f"{r:.2f}" for r in f.ratios),
                f"{f.peak / 1e6:.0f}",
                f"{(f.peak - f.libraries) / 1e6:.0f}",
            )
        console.print(table)
        console.print(f"losses differ by {difference:.1e}")
    if json_:
        json_.write_text(json.dumps(results, indent=2))


app(prog_name="python -m benchmarks")
