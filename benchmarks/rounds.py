"""Contenders that take turns, each in a process of its own.

In one process they would disturb each other: NumPy and PyTorch bring a pool of threads each, and one allocator's memory
is the other's. So each contender is a child that waits until it is told to take its turn; all others wait meanwhile.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import IO, NamedTuple, cast

from .plan import AbsentError, Turn

SETTLE = 0.05
"""Seconds between turns, in which the last one's threads stop to spin."""


class ContenderError(Exception):
    """A contender failed; its own words are on the standard error."""


def take_turns(
    contenders: Mapping[str, str], folder: Path, rounds: int, told: Callable[[str, int], None]
) -> tuple[dict[str, list[Turn]], dict[str, str]]:
    """All turns of each contender: one as a warm-up, then `rounds` that count; and why others take no part.

    `contenders`: for each name the function, as `module:function`, that makes it ready: it takes the folder and returns
    what a turn calls. Who begins a round goes round. `told` hears who is at it, and in which round.
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
        for round_ in range(rounds + 1):
            names = list(players)
            first = round_ % max(1, len(names))
            for name in names[first:] + names[:first]:
                told(name, round_)
                turns[name].append(players[name]())
                time.sleep(SETTLE)
    return turns, absent


@contextmanager
def _player(function: str, folder: Path) -> Iterator[Callable[[], Turn]]:
    """A child process that has made its contender ready; a call is a turn."""
    command = [sys.executable, "-m", "benchmarks.contender", function, str(folder)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")
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
        to_child.close()  # it ends when there is nothing more to read
    finally:
        child.kill()  # not to wait for the end of a turn, where this one was broken off
        child.wait()


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
