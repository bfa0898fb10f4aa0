"""Contenders that take turns, each in a process of its own.

In one process they would disturb each other: NumPy and PyTorch bring a pool of threads each, and one allocator's memory
is the other's. So each contender is a child that waits until it is told to take its turn; all others wait meanwhile.
"""

import itertools
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import IO, NamedTuple, cast

import numpy as np

from .plan import AbsentError, Turn

SETTLE = 0.05
"""Seconds between turns, in which the last one's threads stop to spin."""


class ContenderError(Exception):
    """A contender failed; its own words are on the standard error."""


class Contest(NamedTuple):
    """One set of contenders at one size."""

    title: str
    contenders: Mapping[str, str]
    """For each name the function, as `module:function`, that makes it ready: see `take_turns`."""
    prepare: Callable[[Path], None]
    difference: Callable[[Mapping[str, list[Turn]]], float | None]
    agree: float
    of_what: str
    """What `difference` compares, for people."""
    per_second: int = 0
    """How much is done in the `seconds` of a turn, where a rate says more than a time; else 0."""


def largest(distance: Callable[[np.ndarray, np.ndarray], float], found: Sequence[np.ndarray]) -> float | None:
    """Of the distances between any two: nan if there is one, None where there are no two."""
    distances = [distance(one, other) for one, other in itertools.combinations(found, 2)]
    return float(np.max(distances)) if distances else None


def take_turns(
    contenders: Mapping[str, str], folder: Path, rounds: int, told: Callable[[str, int], None]
) -> tuple[dict[str, list[Turn]], dict[str, str]]:
    """All turns of each contender: one as a warm-up, then `rounds` that count; and why others take no part.

    `contenders`: for each name the function, as `module:function`, that makes it ready: it takes the folder and returns
    what a turn calls; `module:function@2` is started as two ranks of MPI. Who begins a round goes round. `told` hears
    who is at it, and in which round.
    """
    with ExitStack() as stack:
        players, absent = {}, {}
        for name, function in contenders.items():
            told(name, 0)
            try:
                players[name] = stack.enter_context(_player(function, folder))
            except AbsentError as error:
                absent[name] = str(error)
        turns: dict[str, list[Turn]] = {name: [] for name in players}
        names = list(players)
        for round_ in range(rounds + 1):
            first = round_ % max(1, len(names))
            for name in names[first:] + names[:first]:
                told(name, round_)
                turns[name].append(players[name]())
                time.sleep(SETTLE)
    return turns, absent


@contextmanager
def _player(function: str, folder: Path) -> Iterator[Callable[[], Turn]]:
    """A child process that has made its contender ready, or so many ranks of MPI; a call is a turn."""
    function, _, ranks = function.partition("@")
    command = [sys.executable, "-m", "benchmarks.contender", function, str(folder)]
    if ranks:
        if shutil.which("mpiexec") is None:
            raise AbsentError("there is no mpiexec; the extra mpi brings one")
        command = ["mpiexec", "-n", ranks, *command]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, encoding="utf-8") as child:
        to_child, from_child = cast(IO[str], child.stdin), cast(IO[str], child.stdout)

        def answer() -> Turn:
            line = from_child.readline()
            if not line:
                raise ContenderError(f"{function} ended with status {child.wait()}; what it said is above")
            turn: Turn = json.loads(line)
            if why := turn.get("absent"):
                raise AbsentError(why)
            return turn

        def turn() -> Turn:
            with suppress(BrokenPipeError):  # it has ended, as its missing answer will show
                to_child.write("turn\n")
                to_child.flush()
            return answer()

        try:
            answer()  # it is ready
            yield turn
        finally:
            child.kill()  # wherever it is in a turn


class Figures(NamedTuple):
    """What a contender's turns come to, but for the warm-up."""

    seconds: float
    """The median."""
    ratios: list[float]
    """Round by round, to the contender that is the measure."""
    peak: int
    """Bytes of memory that its process held at most."""
    libraries: int
    """Of these, bytes that it held before it made anything."""

    @property
    def ratio(self) -> float:
        return median(self.ratios)


def figures(turns: Mapping[str, list[Turn]], measure: str) -> dict[str, Figures]:
    """The figures of each contender, compared with the one named `measure`."""
    seconds = {name: [turn["seconds"] for turn in played[1:]] for name, played in turns.items()}
    return {
        name: Figures(
            median(seconds[name]),
            [mine / theirs for mine, theirs in zip(seconds[name], seconds[measure], strict=True)],
            max(turn["peak"] for turn in turns[name][1:]),
            turns[name][-1]["libraries"],
        )
        for name in turns
    }
