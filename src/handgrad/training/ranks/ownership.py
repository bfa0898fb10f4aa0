"""Who owns what: each part of the model is cut into as many runs of rows as there are ranks.

The owner of a row sums its gradient, keeps the optimizer's state for it, and updates it. In the flat vector of
parameters a part is one stretch, and so is each rank's portion of it.
"""

import itertools
from collections.abc import Iterator, Mapping
from math import prod
from typing import NamedTuple

import numpy as np

from ...model import Shape
from ..optimizers import Optimizer


class Place(NamedTuple):
    """Where a parameter is."""

    part: str
    start: int
    """In the flat vector."""
    shape: Shape

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return prod(self.shape[1:])


class Ownership:
    """The portions of all ranks."""

    def __init__(self, cuts: dict[str, list[int]], places: dict[str, Place], ranks: int) -> None:
        self.cuts = cuts
        """For each part, in the order of the flat vector: where in it each rank's portion begins, and the last ends."""
        self.places = places
        self._rows = {
            (part, rank): self._rows_within(part, *cuts[part][rank : rank + 2])
            for part in cuts
            for rank in range(ranks)
        }

    def rows(self, part: str, rank: int) -> dict[str, slice]:
        """The rows that this rank owns of each of the part's parameters; of a vector it owns all numbers or none."""
        return self._rows[part, rank]

    def all_rows(self, rank: int) -> dict[str, slice]:
        """The same for all parts."""
        return {name: rows for part in self.cuts for name, rows in self.rows(part, rank).items()}

    def squares(self, part: str, rank: int) -> int:
        """How many sums of squares come of these rows: one of each, but of a vector one in all."""
        rows = self.rows(part, rank)
        return sum(1 if len(self.places[name].shape) == 1 else x.stop - x.start for name, x in rows.items())

    def _rows_within(self, part: str, start: int, stop: int) -> dict[str, slice]:
        found = {}
        for name, place in self.places.items():
            if place.part == part:
                ends = ((end - place.start) // place.width for end in (start, stop))
                first, last = (min(max(end, 0), place.shape[0]) for end in ends)
                if first < last:
                    found[name] = slice(first, last)
        return found


def part_of(name: str) -> str:
    """The part of the model that a parameter belongs to, as backward passes name them: `blocks.0`, `head`, ..."""
    first, second, *_ = name.split(".")
    return f"{first}.{second}" if first == "blocks" else first


def share_out(shapes: Mapping[str, Shape], optimizer: type[Optimizer], ranks: int) -> Ownership:
    """Portions that take about equally long to update.

    A portion ends with a row, or with a tensor that has one owner. In each part the cuts come as near as they can to
    equal shares of all parts so far: what one part leaves uneven, the next makes good.
    """
    places, start = {}, 0
    for name, shape in shapes.items():
        places[name] = Place(part_of(name), start, shape)
        start += prod(shape)
    loads, cuts = np.zeros(ranks), {}
    for part, names in itertools.groupby(shapes, part_of):
        units = [unit for name in names for unit in _units(name, places[name], optimizer)]
        ends, costs = (np.array(column) for column in zip(*units, strict=True))
        done = np.concatenate([[0], np.cumsum(costs)])
        wanted = np.cumsum((loads.sum() + done[-1]) / ranks - loads)[:-1]
        inner = np.maximum.accumulate(np.abs(done[:, None] - wanted).argmin(axis=0))
        at = np.concatenate([[0], inner, [len(costs)]])
        loads += np.diff(done[at])
        first = min(place.start for place in places.values() if place.part == part)
        cuts[part] = [int(end) for end in np.concatenate([[first], ends])[at]]
    return Ownership(cuts, places, ranks)


def _units(name: str, place: Place, optimizer: type[Optimizer]) -> Iterator[tuple[int, float]]:
    """What is not cut further: where in the flat vector it ends, and what its update costs."""
    count = 1 if len(place.shape) == 1 or optimizer.has_one_owner(name, place.shape) else place.shape[0]
    size = prod(place.shape)
    for n in range(1, count + 1):
        yield place.start + n * size // count, optimizer.cost(name, place.shape) / count
