"""y = x + table[start : start + T]: a learned vector for each absolute position, added to whatever stands there."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Inexact

from .arrays import Array


class PositionsCache(NamedTuple):
    """What the backward of positions needs: no number of the table, only which rows were added."""

    context: int
    """Rows of the table."""
    start: int
    """The first row that was added."""


def positions_forward(
    x: Inexact[Array, "B T C"], table: Inexact[Array, "context C"], *, start: int = 0
) -> tuple[Inexact[Array, "B T C"], PositionsCache]:
    r"""Add to each vector the table's row for its position; x may begin later, and end earlier, than the table.

    $$ y_{bt} = x_{bt} + \mathrm{table}_{\mathrm{start} + t} $$
    """
    T = x.shape[1]
    if len(table) < start + T:  # a table of one row would be broadcast in silence
        raise ValueError(f"{start + T} positions, but the table has {len(table)}")
    return x + table[start : start + T], PositionsCache(len(table), start)


def positions_backward(
    dy: Inexact[Array, "B T C"], cache: PositionsCache
) -> tuple[Inexact[Array, "B T C"], Inexact[Array, "context C"]]:
    r"""A sum passes its gradient to both terms; the table's was used by every sequence, so it adds up over the batch.

    $$ \mathrm{d}x = \mathrm{d}y $$
    $$ \mathrm{d}\mathrm{table}_{\mathrm{start} + t} = \sum_b \mathrm{d}y_{bt} $$

    The other rows took no part, and their gradient is zero.
    """
    T, C = dy.shape[1:]
    dtable = np.zeros((cache.context, C), dy.dtype)
    dtable[cache.start : cache.start + T] = dy.sum(axis=0)  # + table[start : start + T], broadcast over B
    return dy, dtable
