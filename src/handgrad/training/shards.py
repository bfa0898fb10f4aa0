"""The gradient of a batch, from those of its shards: summed in an order that no thread can change."""

import math
import threading
from typing import Any

import numpy as np

from ..model import GPTParameters, join_parts, leaves

Gradients = tuple[Any, ...]
"""Of one part of the model."""


class GradientSum:
    """Adds up what shards find, part by part as it comes, by a fixed tree of pairs.

    Neighbours are added, then neighbouring sums, and so on: ((0 + 1) + (2 + 3)) + (4 + 5). Whoever brings the second of
    two adds them, always into the left one; so the threads decide who adds, and when, but not what. A gradient waits
    only for its neighbour's: where all shards are worked on side by side, little more than one gradient exists. Where
    they come one after the other, 1 + log2(shards) do at most, rounded up.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Gradients] = {}
        self._squares: dict[str, float] = {}
        self._lock = threading.Lock()
        self._shards = 0
        self._waiting: dict[tuple[str, int, int], Gradients] = {}

    def begin(self, shards: int) -> None:
        """So many shards are to come; their sum goes on top of what was summed before."""
        self._shards = shards
        self._waiting.clear()

    def add(self, shard: int, part: str, gradients: Gradients) -> None:
        """Hand over a shard's gradients of a part; they belong to the sum from now on, which writes to them."""
        first, size = shard, 1  # the shards whose sum they are
        while size < self._shards:
            left = first // (2 * size) * (2 * size)
            if left + size < self._shards:  # there is a neighbour
                other = left + size if first == left else left
                with self._lock:
                    neighbour = self._waiting.pop((part, other, size), None)
                    if neighbour is None:
                        self._waiting[part, first, size] = gradients
                        return
                gradients = _add(gradients, neighbour) if first == left else _add(neighbour, gradients)
            first, size = left, 2 * size
        self._sums[part] = _add(self._sums[part], gradients) if part in self._sums else gradients
        self._squares[part] = sum(float(np.vdot(leaf, leaf)) for leaf in leaves(self._sums[part]))

    @property
    def tree(self) -> GPTParameters:
        return join_parts(self._sums)

    @property
    def norm(self) -> float:
        """Of all gradients together."""
        return math.sqrt(sum(self._squares[part] for part in sorted(self._squares)))


def _add(left: Gradients, right: Gradients) -> Gradients:
    for one, other in zip(leaves(left), leaves(right), strict=True):
        one += other
    return left
