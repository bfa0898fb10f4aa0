"""Rotary positions: each pair of a head's entries is turned by an angle that grows with the position."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Inexact

from .arrays import Array

BLOCK = 256
"""Positions in a table at least."""


class Rotary(NamedTuple):
    """How fast the pairs turn. A factor of 1 is plain rotary; Llama 3.1 and later have 8 or 32."""

    base: float = 10_000.0
    """The slowest pair turns by nearly 1 / base radians a position."""
    factor: float = 1.0
    """How many times slower the slow pairs turn than they were first trained to."""
    low_factor: float = 1.0
    """Pairs that turn fewer times than this in the first context are slowed down wholly."""
    high_factor: float = 4.0
    """Pairs that turn more often than this in it are left as they are; those between, in part."""
    first_context: int = 8192
    """The length that the model was first trained with."""


PLAIN = Rotary()


class RotaryCache(NamedTuple):
    """What the rotation's backward needs: the angles."""

    cos: Array
    """cos θ, (T, 1, D/2)."""
    sin: Array
    """-sin θ and sin θ, (T, 2, D/2)."""


def rotary_forward(
    x: Inexact[Array, "B H T D"], *, rotary: Rotary = PLAIN, start: int = 0
) -> tuple[Inexact[Array, "B H T D"], RotaryCache]:
    r"""Turn entry i and entry i + D/2 of each vector, as the coordinates of a point, by the angle of its position.

    $$ y_i = x_i \cos\theta_{ti} - x_{i + D/2} \sin\theta_{ti}, \qquad
       y_{i + D/2} = x_{i + D/2} \cos\theta_{ti} + x_i \sin\theta_{ti} $$
    $$ \theta_{ti} = (\mathrm{start} + t)\, f_i, \qquad f_i = \mathrm{base}^{-2i/D} $$

    for i below D/2; D is even. Queries and keys are turned alike, so that their product depends on the *difference* of
    their positions only: $\langle R_t q, R_s k \rangle = \langle q, R_{s-t}\, k \rangle$. Pairs are halves apart, as
    GPT-NeoX and Hugging Face have them; Llama's own code pairs neighbours, with the columns of its matrices in another
    order. `rotary_frequencies` says how a factor changes $f_i$.

    Source: Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021.
    """
    T, D = x.shape[2:]
    cos, sin = _turns(D, start, T, rotary, x.real.dtype)
    return _rotate(x, cos, sin), RotaryCache(cos, sin)


def rotary_backward(dy: Inexact[Array, "B H T D"], cache: RotaryCache) -> Inexact[Array, "B H T D"]:
    r"""Turn back: a rotation's transpose is its inverse, the rotation by the opposite angle.

    $$ \mathrm{d}x_i = \mathrm{d}y_i \cos\theta_{ti} + \mathrm{d}y_{i + D/2} \sin\theta_{ti}, \qquad
       \mathrm{d}x_{i + D/2} = \mathrm{d}y_{i + D/2} \cos\theta_{ti} - \mathrm{d}y_i \sin\theta_{ti} $$
    """
    return _rotate(dy, cache.cos, -cache.sin)


def rotary_frequencies(D: int, rotary: Rotary = PLAIN) -> Float[Array, "half"]:
    r"""f, radians a position, of the D/2 pairs.

    $$ f_i = \mathrm{base}^{-2i/D} \left( s_i + \frac{1 - s_i}{\mathrm{factor}} \right), \qquad
       s_i = \frac{n_i - \mathrm{low\_factor}}{\mathrm{high\_factor} - \mathrm{low\_factor}}
       \text{, held between 0 and 1} $$

    with $n_i = \mathrm{first\_context}\,\mathrm{base}^{-2i/D} / 2\pi$, the turns of a pair in the first context. What
    turns slowly is slowed down, so that a longer context shows no angle that training has not shown; what turns fast
    tells neighbours apart, and stays.

    Source: the rule that Meta published with Llama 3.1, 2024.
    """
    frequencies: Array = rotary.base ** (-np.arange(0, D, 2) / D)
    turns = rotary.first_context * frequencies / (2 * np.pi)
    kept = np.clip((turns - rotary.low_factor) / (rotary.high_factor - rotary.low_factor), 0, 1)
    return frequencies * (kept + (1 - kept) / rotary.factor)


@lru_cache(maxsize=4)
def _turns(D: int, start: int, T: int, rotary: Rotary, dtype: np.dtype) -> tuple[Array, Array]:
    """cos θ, (T, 1, D/2), and -sin θ and sin θ, (T, 2, D/2), from angles in float64: in float32 a late position's would
    lose digits."""
    first = start % BLOCK
    if first + T < BLOCK:  # one table serves all steps of decoding that are in its block
        cos, sin = _turns(D, start - first, BLOCK, rotary, dtype)
        return cos[first : first + T], sin[first : first + T]
    angles = np.outer(np.arange(start, start + T), rotary_frequencies(D, rotary))[:, None]
    cos, sin = np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)
    signed = np.concatenate((-sin, sin), axis=1)
    cos.flags.writeable = signed.flags.writeable = False
    return cos, signed


def _rotate(x: Array, cos: Array, sin: Array) -> Array:
    """x cos θ, and what x has in the other half of the pair, times ∓sin θ."""
    halves = x.reshape(*x.shape[:-1], 2, -1)
    y: Array = halves * cos
    y += halves[..., ::-1, :] * sin
    return y.reshape(x.shape)
