"""The gradient of a batch over all ranks: each has its portion of every part, summed by the tree over all shards."""

from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...layers import Array
from ...model import GPTParameters
from ..shards import Gradients, GradientSum, norm_of, squares

if TYPE_CHECKING:
    from mpi4py import MPI

    from .mpi import MpiRanks


class Exchange(NamedTuple):
    """A part's gradients, under way between all ranks."""

    part: str
    incoming: Array
    """This rank's portion, a row from each rank."""
    requests: "list[MPI.Request]"


class SharedSum(GradientSum):
    """The sum over this rank's shards goes to the owners; what comes from the others is the rest of the tree."""

    def __init__(self, ranks: "MpiRanks") -> None:
        super().__init__()
        self._ranks = ranks
        self._under_way: list[Exchange] = []

    def _whole(self, part: str, gradients: Gradients) -> None:
        for exchange in self._under_way:
            self._ranks.is_done(exchange.requests)
        self._under_way.append(self._ranks.exchange(part, gradients))

    def finish(self) -> None:
        for part, incoming, requests in self._under_way:
            self._ranks.wait(requests)
            step = 1
            while step < len(incoming):  # neighbouring ranks, then neighbouring sums: the tree above the blocks
                incoming[:: 2 * step] += incoming[step :: 2 * step]
                step *= 2
            if part in self._sums:
                self._sums[part] += incoming[0]
            else:
                self._sums[part] = incoming[0].copy()  # the other rows need not stay
            self._squares[part] = squares(iter(self.owned(part).values()))
        self._under_way.clear()

    def owned(self, part: str) -> dict[str, Array]:
        """The rows of the part that this rank owns."""
        ownership, rank = self._ranks.ownership, self._ranks.rank
        rows, found, start = ownership.rows(part, rank), {}, 0
        for name, x in rows.items():
            shape = (x.stop - x.start, *ownership.places[name].shape[1:])
            found[name] = self._sums[part][start : start + prod(shape)].reshape(shape)
            start += prod(shape)
        return found

    @property
    def tree(self) -> GPTParameters:
        """Whole; all ranks must ask for it."""
        return self._ranks.tree(self._sums)

    @property
    def norm(self) -> float:
        """Of all gradients together; all ranks must ask for it."""
        parts, ranks = sorted(self._ranks.ownership.cuts), range(self._ranks.size)
        mine = np.concatenate([self._squares[part] for part in parts])
        counts = [[self._ranks.ownership.squares(part, rank) for part in parts] for rank in ranks]
        everybodys = self._ranks.gather(mine, [*map(sum, counts)])
        pieces = [np.split(x, np.cumsum(count)[:-1]) for x, count in zip(everybodys, counts, strict=True)]
        return norm_of([rows for part in zip(*pieces, strict=True) for rows in part])
