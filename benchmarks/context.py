"""Causal attention alone, forward and backward, at growing lengths: where its square would show."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from .plan import Turn, write_plan
from .rounds import Contest, largest

CONTENDERS = {
    "handgrad": "benchmarks.with_handgrad:attention",
    "PyTorch SDPA": "benchmarks.with_torch:attention",
    "all scores at once": "benchmarks.with_handgrad:attention_in_one_tile",
}
WIDTH, HEADS = 384, 6
AGREE = 1e-4
"""How far y, dq, dk and dv may lie apart, each projected on one random direction and divided by its norm."""


def contest(length: int, threads: int) -> Contest:
    return Contest(
        f"attention, T = {length}",
        CONTENDERS,
        partial(prepare, context=length, threads=threads),
        difference,
        AGREE,
        "y, dq, dk and dv",
    )


def prepare(folder: Path, context: int, threads: int) -> None:
    """As many sequences as threads; in a turn so many times that it takes about as long at each length."""
    steps = max(1, min(64, (2048 // context) ** 2))
    write_plan(folder, width=WIDTH, heads=HEADS, context=context, batch=threads, threads=threads, steps=steps)


def difference(turns: Mapping[str, list[Turn]]) -> float | None:
    """The largest difference between two contenders' projections, relative to the norm of what was projected."""
    found = [np.array(played[0]["projections"]) for played in turns.values()]
    return largest(lambda one, other: float(abs(one - other).max()), found)
