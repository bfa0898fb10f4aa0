"""y = x σ(x), the sigmoid linear unit (also called swish)."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Inexact

from .arrays import Array


class SiluCache(NamedTuple):
    """What SiLU's backward needs: the slope at each x."""

    slope: Array


def silu_forward(x: Inexact[Array, "*shape"]) -> tuple[Inexact[Array, "*shape"], SiluCache]:
    r"""A ramp with a soft foot.

    $$ y = x\,\sigma(x), \qquad \sigma(x) = \frac{1}{1 + e^{-x}} $$

    Far to the left $e^{-x}$ would overflow (and in complex numbers give nan), so x is held where σ has left all digits
    of the dtype behind. The form $(1 + \tanh(x/2))/2$ needs no such care, but cancels: in float64 it has four right
    digits at x = -30. The slope is formed here, while σ and y are at hand.

    Source: Elfwing, Uchibe, Doya, "Sigmoid-Weighted Linear Units", 2017.
    """
    held = np.maximum(x, lowest_of(x.dtype))  # complex numbers by their real parts
    sigmoid = np.asarray(np.exp(-held))  # of no axes NumPy makes a number
    sigmoid += 1
    np.divide(1, sigmoid, out=sigmoid)  # faster than np.reciprocal
    y = np.asarray(held * sigmoid)  # not x: σ stops at its smallest number, and a huge x times that would be no 0
    slope = 1 - sigmoid
    slope *= y
    slope += sigmoid  # y' = σ + x σ (1 - σ) = σ + y (1 - σ)
    return y, SiluCache(slope)


@lru_cache(maxsize=8)
def lowest_of(dtype: np.dtype) -> float:
    """Where σ is all but the smallest number of the dtype: below it e^(-x) would overflow."""
    return -0.98 * float(np.log(np.finfo(dtype).max))


def silu_backward(dy: Inexact[Array, "*shape"], cache: SiluCache) -> Inexact[Array, "*shape"]:
    r"""Scale by the slope.

    $$ \mathrm{d}x = \mathrm{d}y \odot \left(\sigma(x) + x\,\sigma(x)\,(1 - \sigma(x))\right) $$

    The product rule's two terms: the gate's opening, and x times the rate at which it opens. Leaving out the second is
    the usual mistake.
    """
    dx: Array = np.asarray(dy * cache.slope)  # y = silu(x)
    return dx
