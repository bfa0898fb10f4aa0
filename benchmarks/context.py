"""Causal attention alone, forward and backward, at growing lengths: where its square would show."""

from collections.abc import Mapping
from pathlib import Path

from .plan import Turn, write_plan

CONTENDERS = {
    "handgrad": "benchmarks.with_handgrad:attention",
    "PyTorch SDPA": "benchmarks.with_torch:attention",
    "all scores at once": "benchmarks.with_handgrad:attention_in_one_tile",
}
WIDTH, HEADS = 384, 6
AGREE = 1e-4
"""How far the norms of the gradients may lie apart, relatively."""


def prepare(folder: Path, context: int, threads: int) -> None:
    """As many sequences as threads; in a turn so many times that it takes about as long at each length."""
    steps = max(1, (2048 // context) ** 2)
    write_plan(folder, width=WIDTH, heads=HEADS, context=context, batch=threads, threads=threads, steps=steps)


def difference(turns: Mapping[str, list[Turn]]) -> float:
    """The largest relative difference between the norms of two contenders' gradients."""
    norms: list[float] = [played[0]["norm"] for played in turns.values()]
    return max(norms) / min(norms) - 1
