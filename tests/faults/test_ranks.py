"""Ranks that are killed: the others end and say so, and the run goes on to the same bytes, by any number of ranks."""

import itertools
import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from handgrad.training import RECORD_FILE, is_being_trained, read_position

from ..cli.conftest import Cli
from ..training.ranks import PATIENCE, needs_mpi, start_ranks
from . import HURRY, OPTIONS, essence, require_same, start
from .conftest import TEXT
from .test_kills import KILLS

STEPS = 300
MORE = ["--set", "shards=4", "--set", f"steps={STEPS}", "--set", "evaluations=30", "--set", "optimizer=muon"]
"""So that there is a while in which to be killed."""
AFTER = 0.5
"""Seconds after the ranks began to work on a run, at most."""


def pids(run: Path) -> dict[int, int]:
    """Of the ranks that train this run."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment, words = ((process / name).read_bytes().split(b"\0") for name in ("environ", "cmdline"))
        except OSError:
            continue
        rank = next((word.partition(b"=")[2] for word in environment if word.startswith(b"PMI_RANK=")), None)
        if rank is not None and b"train" in words and str(run).encode() in words:
            found[int(rank)] = int(process.name)
    return found


@needs_mpi
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="the system does not tell who is which rank")
def test_a_rank_killed_at_any_moment_ends_them_all_and_the_run_goes_on_to_the_same_bytes(
    tmp_path: Path, generator: random.Random, cli: Cli
) -> None:
    """Again and again, a random one of four or of two; when the run is over, another begins. In the end this process
    goes on alone. The count is a quarter of $HANDGRAD_INTERRUPTS."""
    text = tmp_path / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    begin = ["train", "--data", str(text), *OPTIONS, *MORE]
    start(*begin, "--out", "unbroken", folder=tmp_path).communicate()
    unbroken = essence(tmp_path / "unbroken")
    runs = (tmp_path / f"run-{number}" for number in itertools.count())
    run, steps = next(runs), list[int]()
    while len(steps) < max(2, KILLS // 4):
        count = 2 if len(steps) % 2 else 4
        arguments = ["train", "--resume", str(run)] if (run / RECORD_FILE).exists() else [*begin, "--out", str(run)]
        found = dict[int, int]()
        with start_ranks(count, "-c", f"{HURRY}; main()", *arguments, folder=tmp_path) as process:
            while not (is_being_trained(run) and len(found := pids(run)) == count) and process.poll() is None:
                time.sleep(0.01)
            time.sleep(generator.uniform(0, AFTER))
            victim = generator.randrange(count)
            with suppress(ProcessLookupError, KeyError):
                os.kill(found[victim], signal.SIGKILL)
            output, errors = process.communicate(timeout=PATIENCE)
        if process.returncode == 0 or "before its time" not in errors:  # over by then, or saying goodbye
            require_same(run, unbroken, STEPS)
            run = next(runs)
            continue
        assert f"handgrad: rank {victim} on " in errors
        assert errors.count("has ended before its time, so the others end too") == 1, errors
        assert ("parameters" in output) <= (f"Go on with: handgrad train --resume {run}" in errors), errors
        steps.append(read_position(run)[0])
    print("killed after steps", steps)
    result = cli("train", "--resume", run)
    assert (result.status, result.errors) == (0, "")
    require_same(run, unbroken, STEPS)
