"""What is shown of a tensor: its statistics, a histogram, and the part of it that a picture has room for."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import HandgradError
from ..layers import Array

BINS = 48
KINDS = {"activations": "cotangents", "parameters": "gradients"}
"""What comes back to a tensor, by its own kind."""
ROWS, COLUMNS = 256, 1024
"""The most that is shown of a matrix at once."""


class Statistics(NamedTuple):
    """Over the finite entries of a tensor; None where there are none."""

    size: int
    finite: int
    zeros: int
    minimum: float | None
    maximum: float | None
    mean: float | None
    std: float | None
    norm: float | None


def statistics(x: Array) -> Statistics:
    finite = finite_of(x)
    if not finite.size:
        return Statistics(x.size, 0, 0, None, None, None, None, None)
    with np.errstate(all="ignore"):  # the squares and sums of what is not yet infinite may be
        numbers = finite.min(), finite.max(), finite.mean(), finite.std(), np.linalg.norm(finite)
    return Statistics(x.size, finite.size, int(np.count_nonzero(finite == 0)), *map(plain, numbers))


def finite_of(x: Array) -> Array:
    """The entries that are finite; the tensor itself where all are."""
    which = np.isfinite(x)
    return x if which.all() else x[which]


def norm_of(x: Array) -> float | None:
    """Euclidean, of the finite entries."""
    return plain(np.linalg.norm(finite_of(x)))


def told(x: Any) -> float | str:
    """A number as JSON has it; what it has not, as a word: inf, -inf or nan."""
    return float(x) if math.isfinite(x) else str(float(x))


def plain(x: Any) -> float | None:
    """A number that JSON has; it has neither nan nor infinity."""
    return float(x) if math.isfinite(x) else None


class Histogram(NamedTuple):
    """How many finite entries there are in each of some bins of equal width."""

    start: float
    stop: float
    counts: list[int]


def histogram(x: Array) -> Histogram:
    finite = finite_of(x)
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if not (high - low > abs(high) * 1e-12 and math.isfinite(high - low)):  # all the same, to rounding
        return Histogram(low, high, [finite.size])
    counts, _ = np.histogram(finite, BINS, (low, high))
    return Histogram(low, high, counts.tolist())


class Window(NamedTuple):
    """A part of a tensor's last two axes, at one place of the others."""

    at: tuple[int, ...]
    """The place along the axes before the last two: the sequence, the head."""
    row: int
    column: int
    rows: int
    columns: int

    def of(self, x: Array) -> Array:
        """(rows, columns) of this tensor; a vector is one row, a number is one of one."""
        matrix = x[self.at] if self.at else x
        return np.atleast_2d(matrix)[self.row : self.row + self.rows, self.column : self.column + self.columns]


def window_of(shape: Sequence[int], at: Sequence[int], row: int, column: int) -> Window:
    """The window that begins there; a `HandgradError` where the tensor has no such place."""
    leading, (rows, columns) = tuple(shape[:-2]), ((1, 1, *shape)[-2:])
    place = tuple(at)[: len(leading)] + (0,) * (len(leading) - len(at))
    for value, size in (*zip(place, leading, strict=True), (row, rows), (column, columns)):
        if not 0 <= value < size:
            raise HandgradError(f"there is no index {value} on an axis of {size}")
    return Window(place, row, column, min(ROWS, rows - row), min(COLUMNS, columns - column))
