"""The gradient of a batch, from those of its shards: summed in an order that neither threads nor ranks can change."""

import math
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..layers import Array
from ..model import GPTParameters, join_parts, leaves

Gradients = tuple[Any, ...]
"""Of one part of the model."""


class GradientSum:
    """Adds up what shards find, part by part as it comes, by a fixed tree of pairs.

    The shards are halved, and the halves again: the sum of six is ((0 + 1) + 2) + ((3 + 4) + 5). Whoever brings the
    second of two adds them, always into the left one; so the threads decide who adds, and when, but not what. A
    gradient waits only for its neighbour's: where all shards are worked on side by side, little more than one gradient
    exists. Where they come one after the other, 1 + log2(shards) do at most, rounded up.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Any] = {}
        self._squares: dict[str, Array] = {}
        self._lock = threading.Lock()
        self._shards = 0
        self._waiting: dict[tuple[str, int, int], Gradients] = {}

    def begin(self, shards: int) -> None:
        """So many shards are to come; their sum goes on top of what was summed before."""
        self._shards = shards
        self._waiting.clear()

    def add(self, shard: int, part: str, gradients: Gradients) -> None:
        """Hand over a shard's gradients of a part; they belong to the sum from now on, which writes to them."""
        for left, right in reversed([*_pairs_above(shard, 0, self._shards)]):
            mine, other = (left, right) if shard < right[0] else (right, left)
            with self._lock:
                neighbour = self._waiting.pop((part, *other), None)
                if neighbour is None:
                    self._waiting[part, *mine] = gradients
                    return
            gradients = _add(gradients, neighbour) if mine == left else _add(neighbour, gradients)
        self._whole(part, gradients)

    def _whole(self, part: str, gradients: Gradients) -> None:
        """All shards' sum of a part is there."""
        self._sums[part] = _add(self._sums[part], gradients) if part in self._sums else gradients
        self._squares[part] = squares(leaves(self._sums[part]))

    def finish(self) -> None:
        """Wait for what is still to come, once all shards that were to come have been handed over."""

    @property
    def tree(self) -> GPTParameters:
        return join_parts(self._sums)

    @property
    def norm(self) -> float:
        """Of all gradients together."""
        return norm_of([self._squares[part] for part in sorted(self._squares)])


def squares(tensors: Iterator[Array]) -> Array:
    """The sum of squares of each row. A row is summed in one place wherever it is, so that no bit of a norm depends on
    who has which rows."""
    return np.concatenate([np.empty(0), *(np.atleast_1d(np.vecdot(x, x)) for x in tensors)])


def norm_of(rows: list[Array]) -> float:
    """The norm of all numbers, from the sums of squares of their rows, in this order."""
    return math.sqrt(np.concatenate(rows).sum())


def _pairs_above(shard: int, first: int, count: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """The pairs of halves, each as its first shard and how many it has, that lead from the root to this shard."""
    while count > 1:
        half = (count + 1) // 2
        yield (first, half), (first + half, count - half)
        first, count = (first, half) if shard < first + half else (first + half, count - half)


def _add(left: Gradients, right: Gradients) -> Gradients:
    for one, other in zip(leaves(left), leaves(right), strict=True):
        one += other
    return left
