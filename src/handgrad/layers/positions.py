"""y = x + table[:T]: a learned vector for each absolute position, added to whatever stands there."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Inexact

from .arrays import Array


class PositionsCache(NamedTuple):
    context: int


def positions_forward(
    x: Inexact[Array, "B T C"], table: Inexact[Array, "context C"]
) -> tuple[Inexact[Array, "B T C"], PositionsCache]:
    r"""Add row t of the table at position t; T may be shorter than the table.

    $$ y_{bt} = x_{bt} + \mathrm{table}_t $$
    """
    T = x.shape[1]
    if len(table) < T:  # a table of one row would be broadcast in silence
        raise ValueError(f"{T} positions, but the table has {len(table)}")
    return x + table[:T], PositionsCache(len(table))


def positions_backward(
    dy: Inexact[Array, "B T C"], cache: PositionsCache
) -> tuple[Inexact[Array, "B T C"], Inexact[Array, "context C"]]:
    r"""A sum passes its gradient to both terms; the table's was used by every sequence, so it adds up over the batch.

    $$ \mathrm{d}x = \mathrm{d}y $$
    $$ \mathrm{d}\mathrm{table}_t = \sum_b \mathrm{d}y_{bt} $$

    Rows past T took no part, and their gradient is zero.
    """
    T, C = dy.shape[1:]
    dtable = np.zeros((cache.context, C), dy.dtype)
    dtable[:T] = dy.sum(axis=0)  # + table[:T], broadcast over B
    return dy, dtable
