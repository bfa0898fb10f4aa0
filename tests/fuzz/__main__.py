"""A long run: `python3 -m tests.fuzz --inputs 1000000`, over all readers and cores.

Each batch of inputs is read in a process of its own, with little address space and a watchdog: what crashes it, hangs
or asks for more ends that process, and its input is kept.
"""

import faulthandler
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NamedTuple
from unittest import mock

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from handgrad.machine import cores

from .chance import Dice
from .contract import Outcome, read
from .readers import READERS
from .valid import MEMORY

BATCH = 10_000
LEAST = 50
"""For each reader, in runs that are long enough."""
MEASURED = 10
"""Of so many inputs, the memory of one is measured, which takes time."""
SECONDS, WATCHED = 60, 20
"""That so many inputs may take, on a machine that may do other things, too."""
ADDRESS_SPACE = 1 << 30
"""Bytes that a process may map beside what it has mapped when it begins."""


class Tally(NamedTuple):
    """Of the inputs of a batch, or of all of a reader's."""

    inputs: int = 0
    values: int = 0
    refused: int = 0
    memory: int = 0
    seconds: float = 0.0
    failures: list[str] = []  # noqa: RUF012 - never written to

    def with_(self, other: "Tally") -> "Tally":
        most = max(self.memory, other.memory), max(self.seconds, other.seconds)
        inputs, values, refused = (mine + others for mine, others in zip(self[:3], other[:3], strict=True))
        return Tally(inputs, values, refused, *most, [*self.failures, *other.failures])


class Job(NamedTuple):
    reader: str
    inputs: int
    seed: int


def main(
    inputs: Annotated[int, typer.Option(min=1, help="How many, over all readers.")] = 100_000,
    seed: Annotated[int, typer.Option(min=0, help="Decides the inputs.")] = 0,
    only: Annotated[
        list[str] | None, typer.Option(metavar="READER", help="A reader; may be given several times.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes at once.")] = cores(),
    keep: Annotated[Path, typer.Option(metavar="DIR", help="Where inputs go that break the promise.")] = Path("broken"),
    batch: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Spoil valid files and requests at random, and see that reading each gives a value or a clear refusal."""
    names = only or list(READERS)
    if unknown := set(names) - READERS.keys():
        raise typer.BadParameter(f"no reader {min(unknown)!r}; there are {', '.join(READERS)}", param_hint="--only")
    if batch is not None:
        print(json.dumps(read_batch(Job(names[0], inputs, seed), batch, keep)))
        return
    console = Console()
    tallies = dict.fromkeys(names, Tally())
    start = time.monotonic()
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar, ThreadPoolExecutor(jobs) as pool:
        task = bar.add_task("inputs", total=inputs)
        running = {pool.submit(in_a_process, job, keep): job for job in _jobs(names, inputs, seed)}
        for done in as_completed(running):
            job, tally = running[done], done.result()
            tallies[job.reader] = tallies[job.reader].with_(tally)
            before = sum(each.inputs for each in tallies.values()) - tally.inputs
            if not console.is_terminal and 20 * (before + tally.inputs) // inputs > 20 * before // inputs:
                console.print(f"{before + tally.inputs:,} of {inputs:,} inputs", highlight=False)
            bar.advance(task, job.inputs)
            for failure in tally.failures:
                console.print(
                    f"{job.reader}, seed {job.seed}: {failure}", markup=False, highlight=False, soft_wrap=True
                )
    _show(console, tallies, time.monotonic() - start)
    raise typer.Exit(1 if any(tally.failures for tally in tallies.values()) else 0)


def _jobs(names: list[str], inputs: int, seed: int) -> Iterator[Job]:
    """Batches for each reader as its share is, and some for each, by turns, so that the time left can be told."""
    shares = sum(READERS[name].share for name in names)
    least = max(1, min(LEAST, inputs // 400))
    left = {name: max(least, round(inputs * READERS[name].share / shares)) for name in names}
    number = seed * 10**9
    while left:
        for name in list(left):
            yield Job(name, min(BATCH, left[name]), number)
            number += BATCH
            left[name] -= BATCH
            if left[name] <= 0:
                del left[name]


def in_a_process(job: Job, keep: Path) -> Tally:
    """Read a batch. Where that ends the process, its input is kept, and that is the failure."""
    folder = Path(tempfile.mkdtemp(dir=MEMORY, prefix="fuzz-"))
    options = ["--only", job.reader, "--inputs", str(job.inputs), "--seed", str(job.seed), "--keep", str(keep)]
    command = [sys.executable, "-m", "tests.fuzz", *options, "--batch", str(folder)]
    try:
        environment = os.environ | {"RUST_BACKTRACE": "0"}
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, check=False)
        if done.returncode == 0:
            return Tally(*json.loads(done.stdout.splitlines()[-1]))
        return Tally(failures=[f"{_kept(folder, job, keep)}: status {done.returncode}: {done.stderr.strip()[:1000]}"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_batch(job: Job, folder: Path, keep: Path) -> Tally:
    """Read so many inputs, in this process."""
    reader = READERS[job.reader]
    read(reader, reader.valid(), folder / "input")  # what is imported late, and made once
    with _little_address_space(), mock.patch("handgrad.files.time.sleep"):  # nobody is writing
        return read_inputs(job, folder, keep)


@contextmanager
def _little_address_space() -> Iterator[None]:
    if sys.platform != "linux":
        yield
        return
    import resource

    before, most = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + ADDRESS_SPACE, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, most))


def read_inputs(job: Job, folder: Path, keep: Path) -> Tally:
    """Read them; one of each kind that breaks the promise is kept."""
    reader = READERS[job.reader]
    outcomes: list[Outcome] = []
    failures = dict[str, tuple[int, Path]]()  # how often, and where the first is
    for number in range(job.inputs):
        files = reader.spoilt(Dice(job.seed + number), reader.valid())
        if number % WATCHED == 0:
            faulthandler.dump_traceback_later(SECONDS, exit=True)
        try:
            outcomes.append(read(reader, files, folder / "input", measure=number % MEASURED == 0))
        except BaseException as error:
            told = _told(error)
            count, first = failures.get(told) or (0, _kept(folder, job, keep))
            failures[told] = count + 1, first
    faulthandler.cancel_dump_traceback_later()
    refused = sum(outcome.refusal is not None for outcome in outcomes)
    return Tally(
        job.inputs,
        len(outcomes) - refused,
        refused,
        max((outcome.memory for outcome in outcomes), default=0),
        max((outcome.seconds for outcome in outcomes), default=0.0),
        [f"{told} ({count} times; the first: {first})" for told, (count, first) in failures.items()],
    )


def _told(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(frame.filename).name}, line {frame.lineno}: {str(error)[:300]}"


def _kept(folder: Path, job: Job, keep: Path) -> Path:
    """Where the input is kept that was being read."""
    number = sum(1 for _ in keep.glob("*")) if keep.exists() else 0
    kept = keep / f"{job.reader.replace(' ', '-')}-{job.seed}-{number}"
    if (folder / "input").exists():
        shutil.copytree(folder / "input", kept)
    return kept


def _show(console: Console, tallies: dict[str, Tally], seconds: float) -> None:
    table = Table("reader", "inputs", "values", "refused", "broken", "most memory", "slowest", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, tally in tallies.items():
        numbers = (f"{x:,}" for x in (tally.inputs, tally.values, tally.refused, len(tally.failures)))
        table.add_row(name, *numbers, f"{tally.memory / 1e6:.1f} MB", f"{tally.seconds:.2f} s")
    console.print(table)
    total = sum(tally.inputs for tally in tallies.values())
    console.print(f"{total:,} inputs in {seconds:,.0f} s", highlight=False)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app(prog_name="python3 -m tests.fuzz")
