"""y = exp(z) / sum(exp(z)), over the last axis."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Inexact

from .arrays import Array, row_sums


class SoftmaxCache(NamedTuple):
    """What softmax's backward needs, y; and of each row what y was made with, from which attention makes it again."""

    y: Array
    maximum: Array
    total: Array
    """y = exp(z - maximum) / total. Two numbers, for in one, maximum + log(total), large scores swallow the total."""


def softmax_forward(z: Inexact[Array, "*batch N"]) -> tuple[Inexact[Array, "*batch N"], SoftmaxCache]:
    r"""Turn each row of scores into probabilities.

    $$ y_j = \frac{e^{z_j}}{\sum_k e^{z_k}} $$

    A shift of a whole row cancels in the quotient, so the row's maximum is taken off first and nothing overflows. It
    is the real part's maximum: a constant of differentiation, in the complex step too. An entry of minus infinity
    gets probability 0; a row needs one entry that is finite.
    """
    maximum = np.maximum.reduce(z.real, axis=-1, keepdims=True)
    y = z - maximum
    np.exp(y, out=y)
    total = row_sums(y)
    y /= total
    return y, SoftmaxCache(y, maximum, total)


def softmax_backward(
    dy: Inexact[Array, "*batch N"], cache: SoftmaxCache, *, mean_dy: Inexact[Array, "*batch 1"] | None = None
) -> Inexact[Array, "*batch N"]:
    r"""Apply the softmax Jacobian without forming it.

    $$ \mathrm{d}z_j = y_j \left( \mathrm{d}y_j - \sum_k \mathrm{d}y_k\, y_k \right) $$

    The Jacobian of one row is $\partial y_k / \partial z_j = y_k (\delta_{kj} - y_j)$, an N×N matrix: the diagonal is
    an entry's own effect, the rest is what it takes from all others through the shared denominator. Its product with dy
    needs no matrix, only one weighted mean of the row; `mean_dy` is this mean where y is but a part of its row.
    """
    y = cache.y
    if mean_dy is None:
        mean_dy = row_sums(dy * y)
    dz: Array = dy - mean_dy
    dz *= y
    return dz
