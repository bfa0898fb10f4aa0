"""y = x σ(2u), u = √(2/π) (x + 0.044715 x³): the Gaussian error linear unit in its tanh form."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Inexact

from .arrays import Array
from .silu import lowest_of

CUBIC = 0.044715
FARTHEST = 30.0
"""Beyond it σ is 0 or 1 in every dtype; x is held there on its way into u, so that x³ cannot overflow."""


class GeluCache(NamedTuple):
    """What GELU's backward needs: the slope at each x."""

    slope: Array


def gelu_forward(x: Inexact[Array, "*shape"]) -> tuple[Inexact[Array, "*shape"], GeluCache]:
    r"""x times nearly the probability that a standard normal number is below x.

    $$ y = \tfrac12 x \left(1 + \tanh u\right) = x\,\sigma(2u), \qquad
       u = \sqrt{2/\pi}\,\left(x + 0.044715\,x^3\right) $$

    The form with σ is the one computed: 1 + tanh(u) cancels where u is far below 0. As in silu, σ's argument is held
    where σ has left all digits of the dtype behind.

    Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016; it is what GPT-2 was trained with.
    """
    rate = 2 * float(np.sqrt(2 / np.pi))
    held_left = np.maximum(x, -FARTHEST)  # complex numbers by their real parts
    held = np.minimum(held_left, FARTHEST)
    square = held * held
    two_u = held * (rate + rate * CUBIC * square)
    sigmoid = 1 / (1 + np.exp(-np.maximum(two_u, lowest_of(x.dtype))))
    y = np.asarray(held_left * sigmoid)  # of no axes NumPy makes a number
    slope = rate + 3 * rate * CUBIC * square  # (2u)'
    slope *= y * (1 - sigmoid)
    slope += sigmoid  # y' = σ + x σ (1 - σ) (2u)'
    return y, GeluCache(slope)


def gelu_backward(dy: Inexact[Array, "*shape"], cache: GeluCache) -> Inexact[Array, "*shape"]:
    r"""Scale by the slope.

    $$ \mathrm{d}x = \mathrm{d}y \odot \left(\sigma(2u) + x\,\sigma(2u)\,(1 - \sigma(2u)) \cdot 2u'\right), \qquad
       u' = \sqrt{2/\pi}\,\left(1 + 3 \cdot 0.044715\,x^2\right) $$
    """
    dx: Array = np.asarray(dy * cache.slope)  # y = gelu(x)
    return dx
