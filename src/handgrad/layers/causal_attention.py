"""y = softmax(mask(q @ kᵀ · scale)) @ v, per head; a query sees the keys up to its own position.

There may be more keys than queries: the T queries are then those of the last T of S positions.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Inexact

from .arrays import Array
from .softmax import SoftmaxCache, softmax_backward, softmax_forward
from .tap import Tap, no_tap


class CausalAttentionCache(NamedTuple):
    q_scaled: Array
    k: Array
    v: Array
    scale: float
    weights: Array
    softmax: SoftmaxCache


@lru_cache(maxsize=4)
def causal_mask(T: int, S: int) -> Float[Array, "T S"]:
    """0 where a query (row) may see a key (column), the last row all; minus infinity to the right. Read-only."""
    mask = np.triu(np.full((T, S), -np.inf, np.float32), k=1 + S - T)  # float32: added to, it widens no dtype
    mask.flags.writeable = False
    return mask


def causal_attention_forward(
    q: Inexact[Array, "B H T D"],
    k: Inexact[Array, "B H S D"],
    v: Inexact[Array, "B H S D"],
    *,
    scale: float,
    tap: Tap = no_tap,
) -> tuple[Inexact[Array, "B H T D"], CausalAttentionCache]:
    r"""Average the values of the past, weighted by how well their keys answer the query; S >= T.

    $$ z_{ts} = \mathrm{scale}\; q_t \cdot k_s + \mathrm{mask}_{ts}, \qquad
       p_t = \mathrm{softmax}(z_t), \qquad y_t = \sum_s p_{ts}\, v_s $$

    The usual scale is $1/\sqrt{D}$: a dot product of D independent terms of variance 1 has variance D, and a softmax of
    scores that large is nearly one-hot, where its gradient vanishes. The mask is minus infinity above the diagonal, so
    a future key's weight is exactly 0 whatever the scores are.

    Source: Vaswani et al., "Attention Is All You Need", 2017.
    """
    scale = float(scale)  # a NumPy float64 would turn a float32 run into float64
    q_scaled = q * scale
    scores = tap("scores", q_scaled @ k.swapaxes(-1, -2))  # (B, H, T, S)
    masked_scores = tap("masked_scores", np.add(scores, causal_mask(*scores.shape[-2:]), out=scores))
    probabilities, softmax = softmax_forward(masked_scores)
    weights = tap("weights", probabilities)
    y = weights @ v  # (B, H, T, D)
    return y, CausalAttentionCache(q_scaled, k, v, scale, weights, softmax)


def causal_attention_backward(
    dy: Inexact[Array, "B H T D"], cache: CausalAttentionCache, *, tap: Tap = no_tap
) -> tuple[Inexact[Array, "B H T D"], Inexact[Array, "B H S D"], Inexact[Array, "B H S D"]]:
    r"""Carry dy to q, k and v.

    $$ \mathrm{d}v = p^\top \mathrm{d}y $$
    $$ \mathrm{d}z = p \odot \left( \mathrm{d}p - \mathrm{rowsum}(\mathrm{d}p \odot p) \right), \qquad
       \mathrm{d}p = \mathrm{d}y\, v^\top $$
    $$ \mathrm{d}q = \mathrm{scale}\; \mathrm{d}z\, k $$
    $$ \mathrm{d}k = \mathrm{scale}\; \mathrm{d}z^\top q $$

    The mask needs no line of its own: it is a constant that was added, and where it hides a key p is 0, which makes dz
    exactly 0 there, though dp is not.
    """
    q_scaled, k, v, scale, weights, softmax = cache
    dv = weights.swapaxes(-1, -2) @ dy  # y = weights @ v
    dweights = tap("weights", dy @ v.swapaxes(-1, -2))
    dmasked_scores = tap("masked_scores", softmax_backward(dweights, softmax))
    dscores = tap("scores", dmasked_scores)  # + mask, a constant
    dk = dscores.swapaxes(-1, -2) @ q_scaled  # scores = q_scaled @ kᵀ: dscoresᵀ, since k entered transposed
    dq_scaled = dscores @ k
    dq = np.multiply(dq_scaled, scale, out=dq_scaled)  # q_scaled = q * scale
    return dq, dk, dv
