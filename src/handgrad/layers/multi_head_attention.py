"""y = merge(attention(heads(x, w_q), heads(x, w_k), heads(x, w_v))) @ w_o, with what today's models add to it."""

from typing import NamedTuple

from jaxtyping import Inexact

from .arrays import Array
from .bias import BiasCache, bias_backward, bias_forward
from .causal_attention import CausalAttentionCache, causal_attention_backward, causal_attention_forward
from .linear import LinearCache, linear_backward, linear_forward
from .rms_norm import RmsNormCache, rms_norm_backward, rms_norm_forward
from .rotary import Rotary, RotaryCache, rotary_backward, rotary_forward
from .tap import Tap, no_tap


class HeadsCache(NamedTuple):
    """What the backward of the queries needs, or of the keys or values: the caches of the steps that make them."""

    linear: LinearCache
    bias: BiasCache
    norm: RmsNormCache | None
    rotary: RotaryCache | None


class MultiHeadAttentionCache(NamedTuple):
    """What the backward of multi-head attention needs: the caches of its steps."""

    q: HeadsCache
    k: HeadsCache
    v: HeadsCache
    heads: int
    """Of the queries."""
    attention: CausalAttentionCache
    out: LinearCache
    out_bias: BiasCache


def split_heads(x: Inexact[Array, "B T HD"], heads: int) -> Inexact[Array, "B H T D"]:
    """Cut the width into heads and bring them before time, so that each head is a stack of (T, D) matrices. A view."""
    B, T, HD = x.shape
    return x.reshape(B, T, heads, HD // heads).swapaxes(1, 2)


def merge_heads(x: Inexact[Array, "B H T D"]) -> Inexact[Array, "B T HD"]:
    """The inverse of `split_heads`. Each is a permutation of entries, so each is also the other's backward."""
    B, H, T, D = x.shape
    return x.swapaxes(1, 2).reshape(B, T, H * D)


def multi_head_attention_forward(
    x: Inexact[Array, "B T C"],
    w_q: Inexact[Array, "C HD"],
    w_k: Inexact[Array, "C GD"],
    w_v: Inexact[Array, "C GD"],
    w_o: Inexact[Array, "HD C"],
    b_q: Inexact[Array, "HD"] | None = None,
    b_k: Inexact[Array, "GD"] | None = None,
    b_v: Inexact[Array, "GD"] | None = None,
    b_o: Inexact[Array, "C"] | None = None,
    gamma_q: Inexact[Array, "D"] | None = None,
    gamma_k: Inexact[Array, "D"] | None = None,
    *,
    heads: int,
    key_value_heads: int | None = None,
    scale: float | None = None,
    rotary: Rotary | None = None,
    start: int = 0,
    window: int | None = None,
    epsilon: float = 1e-5,
    tap: Tap = no_tap,
) -> tuple[Inexact[Array, "B T C"], MultiHeadAttentionCache]:
    r"""Attend with several heads, each in its own slice of the width, and mix what they found.

    $$ q = \mathrm{split}(x\,w_q + b_q) $$
    $$ k = \mathrm{split}(x\,w_k + b_k) $$
    $$ v = \mathrm{split}(x\,w_v + b_v) $$
    $$ \mathrm{context} = \mathrm{causal\_attention}(q, k, v) \text{, in each head} $$
    $$ y = \mathrm{merge}(\mathrm{context})\, w_o + b_o $$

    What is not given is left out: the biases b; the gains gamma of an RMSNorm of each query and key; `rotary`, by which
    queries and keys are then turned, the first of them at position `start`; `window`, the keys that a query sees at
    most. There are `heads` heads of q and G = `key_value_heads` of k and v, as many where not given, all of width D;
    `scale` is $1/\sqrt{D}$ where not given; `epsilon` is RMSNorm's. Taps: `q`, `k`, `v`; `q_normed`, `k_normed`;
    `q_rotated`, `k_rotated`; `scores`, `masked_scores`, `weights`, `context` (all per head), `output`.

    Source: Vaswani et al., "Attention Is All You Need", 2017; the norm of queries and keys: Henry et al., "Query-Key
    Normalization for Transformers", 2020.
    """
    groups = heads if key_value_heads is None else key_value_heads
    q, q_cache = _heads_forward(x, w_q, b_q, gamma_q, heads, rotary, start, epsilon, "q", tap)  # (B, H, T, D)
    k, k_cache = _heads_forward(x, w_k, b_k, gamma_k, groups, rotary, start, epsilon, "k", tap)  # (B, G, T, D)
    v, v_cache = _heads_forward(x, w_v, b_v, None, groups, None, start, epsilon, "v", tap)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    context, attention = causal_attention_forward(q, k, v, scale=scale, window=window, tap=tap)
    y, out = linear_forward(merge_heads(tap("context", context)), w_o)
    y, out_bias = bias_forward(y, b_o)
    return tap("output", y), MultiHeadAttentionCache(q_cache, k_cache, v_cache, heads, attention, out, out_bias)


def multi_head_attention_backward(
    dy: Inexact[Array, "B T C"], cache: MultiHeadAttentionCache, *, tap: Tap = no_tap
) -> tuple[
    Inexact[Array, "B T C"],
    Inexact[Array, "C HD"],
    Inexact[Array, "C GD"],
    Inexact[Array, "C GD"],
    Inexact[Array, "HD C"],
    Inexact[Array, "HD"] | None,
    Inexact[Array, "GD"] | None,
    Inexact[Array, "GD"] | None,
    Inexact[Array, "C"] | None,
    Inexact[Array, "D"] | None,
    Inexact[Array, "D"] | None,
]:
    r"""Carry dy to x, to the four matrices, and to the biases and gains: None for those that were not given.

    $$ \mathrm{d}b_o = \sum_{\mathrm{rows}} \mathrm{d}y $$
    $$ \mathrm{d}w_o = \mathrm{merge}(\mathrm{context})^\top \mathrm{d}y $$
    $$ \mathrm{d}\mathrm{context} = \mathrm{split}(\mathrm{d}y\, w_o^\top) $$
    $$ \mathrm{d}b_q = \sum_{\mathrm{rows}} \mathrm{merge}(\mathrm{d}q), \qquad
       \mathrm{d}w_q = x^\top \mathrm{merge}(\mathrm{d}q) $$
    $$ \mathrm{d}b_k = \sum_{\mathrm{rows}} \mathrm{merge}(\mathrm{d}k), \qquad
       \mathrm{d}w_k = x^\top \mathrm{merge}(\mathrm{d}k) $$
    $$ \mathrm{d}b_v = \sum_{\mathrm{rows}} \mathrm{merge}(\mathrm{d}v), \qquad
       \mathrm{d}w_v = x^\top \mathrm{merge}(\mathrm{d}v) $$
    $$ \mathrm{d}x = \mathrm{merge}(\mathrm{d}q)\,w_q^\top + \mathrm{merge}(\mathrm{d}k)\,w_k^\top
       + \mathrm{merge}(\mathrm{d}v)\,w_v^\top $$

    x feeds the queries, the keys and the values, so its gradient is the sum of three paths.
    """
    dprojected, db_o = bias_backward(tap("output", dy), cache.out_bias)
    dcontext, dw_o = linear_backward(dprojected, cache.out)
    dcontext = tap("context", split_heads(dcontext, cache.heads))
    dq, dk, dv = causal_attention_backward(dcontext, cache.attention, tap=tap)
    dx, dw_q, db_q, dgamma_q = _heads_backward(dq, cache.q, "q", tap)
    dx_k, dw_k, db_k, dgamma_k = _heads_backward(dk, cache.k, "k", tap)
    dx_v, dw_v, db_v, _ = _heads_backward(dv, cache.v, "v", tap)
    dx += dx_k
    dx += dx_v
    return dx, dw_q, dw_k, dw_v, dw_o, db_q, db_k, db_v, db_o, dgamma_q, dgamma_k


def _heads_forward(
    x: Array,
    w: Array,
    b: Array | None,
    gamma: Array | None,
    heads: int,
    rotary: Rotary | None,
    start: int,
    epsilon: float,
    name: str,
    tap: Tap,
) -> tuple[Array, HeadsCache]:
    """Project x and cut it into heads; then what there is of norm and rotation."""
    y, linear = linear_forward(x, w)
    y, bias = bias_forward(y, b)
    y, norm, rotation = tap(name, split_heads(y, heads)), None, None
    if gamma is not None:
        y, norm = rms_norm_forward(y, gamma, epsilon=epsilon)
        y = tap(f"{name}_normed", y)
    if rotary is not None:
        y, rotation = rotary_forward(y, rotary=rotary, start=start)
        y = tap(f"{name}_rotated", y)
    return y, HeadsCache(linear, bias, norm, rotation)


def _heads_backward(
    dy: Array, cache: HeadsCache, name: str, tap: Tap
) -> tuple[Array, Array, Array | None, Array | None]:
    """dx, dw, db and dgamma, the steps in reverse."""
    dgamma = None
    if cache.rotary is not None:
        dy = rotary_backward(tap(f"{name}_rotated", dy), cache.rotary)
    if cache.norm is not None:
        dy, dgamma = rms_norm_backward(tap(f"{name}_normed", dy), cache.norm)
    dprojected, db = bias_backward(merge_heads(tap(name, dy)), cache.bias)
    dx, dw = linear_backward(dprojected, cache.linear)
    return dx, dw, db, dgamma
