"""y = merge(attention(split(x @ w_q), split(x @ w_k), split(x @ w_v))) @ w_o."""

from typing import NamedTuple

from jaxtyping import Inexact

from .arrays import Array
from .causal_attention import CausalAttentionCache, causal_attention_backward, causal_attention_forward
from .linear import LinearCache, linear_backward, linear_forward
from .tap import Tap, no_tap


class MultiHeadAttentionCache(NamedTuple):
    q: LinearCache
    k: LinearCache
    v: LinearCache
    heads: int
    attention: CausalAttentionCache
    out: LinearCache


def split_heads(x: Inexact[Array, "B T C"], heads: int) -> Inexact[Array, "B H T D"]:
    """Cut the width into heads and bring them before time, so that each head is a stack of (T, D) matrices. A view."""
    B, T, C = x.shape
    return x.reshape(B, T, heads, C // heads).swapaxes(1, 2)


def merge_heads(x: Inexact[Array, "B H T D"]) -> Inexact[Array, "B T C"]:
    """The inverse of `split_heads`. Each is a permutation of entries, so each is also the other's backward."""
    B, H, T, D = x.shape
    return x.swapaxes(1, 2).reshape(B, T, H * D)


def multi_head_attention_forward(
    x: Inexact[Array, "B T C"],
    w_q: Inexact[Array, "C C"],
    w_k: Inexact[Array, "C C"],
    w_v: Inexact[Array, "C C"],
    w_o: Inexact[Array, "C C"],
    *,
    heads: int,
    scale: float | None = None,
    tap: Tap = no_tap,
) -> tuple[Inexact[Array, "B T C"], MultiHeadAttentionCache]:
    r"""Attend with several heads, each in its own slice of the width, and mix what they found.

    $$ q = \mathrm{split}(x\,w_q) $$
    $$ k = \mathrm{split}(x\,w_k) $$
    $$ v = \mathrm{split}(x\,w_v) $$
    $$ \mathrm{context} = \mathrm{causal\_attention}(q, k, v) \text{, in each head} $$
    $$ y = \mathrm{merge}(\mathrm{context})\, w_o $$

    `heads` divides C; `scale` is $1/\sqrt{D}$ with $D = C/H$ where not given. Taps: `q`, `k`, `v`, `scores`,
    `masked_scores`, `weights`, `context` (all per head), `output`.

    Source: Vaswani et al., "Attention Is All You Need", 2017.
    """
    D = x.shape[-1] // heads
    all_q, q_cache = linear_forward(x, w_q)  # (B, T, C)
    all_k, k_cache = linear_forward(x, w_k)
    all_v, v_cache = linear_forward(x, w_v)
    q, k, v = (tap(name, split_heads(part, heads)) for name, part in zip("qkv", (all_q, all_k, all_v), strict=True))
    context, attention = causal_attention_forward(q, k, v, scale=D**-0.5 if scale is None else scale, tap=tap)
    context = tap("context", context)  # (B, H, T, D)
    y, out = linear_forward(merge_heads(context), w_o)
    return tap("output", y), MultiHeadAttentionCache(q_cache, k_cache, v_cache, heads, attention, out)


def multi_head_attention_backward(
    dy: Inexact[Array, "B T C"], cache: MultiHeadAttentionCache, *, tap: Tap = no_tap
) -> tuple[
    Inexact[Array, "B T C"],
    Inexact[Array, "C C"],
    Inexact[Array, "C C"],
    Inexact[Array, "C C"],
    Inexact[Array, "C C"],
]:
    r"""Carry dy to x and to the four matrices.

    $$ \mathrm{d}w_o = \mathrm{merge}(\mathrm{context})^\top \mathrm{d}y $$
    $$ \mathrm{d}\mathrm{context} = \mathrm{split}(\mathrm{d}y\, w_o^\top) $$
    $$ \mathrm{d}w_q = x^\top \mathrm{merge}(\mathrm{d}q) $$
    $$ \mathrm{d}w_k = x^\top \mathrm{merge}(\mathrm{d}k) $$
    $$ \mathrm{d}w_v = x^\top \mathrm{merge}(\mathrm{d}v) $$
    $$ \mathrm{d}x = \mathrm{merge}(\mathrm{d}q)\,w_q^\top + \mathrm{merge}(\mathrm{d}k)\,w_k^\top
       + \mathrm{merge}(\mathrm{d}v)\,w_v^\top $$

    x feeds the queries, the keys and the values, so its gradient is the sum of three paths.
    """
    dcontext, dw_o = linear_backward(tap("output", dy), cache.out)
    dcontext = tap("context", split_heads(dcontext, cache.heads))
    dq, dk, dv = causal_attention_backward(dcontext, cache.attention, tap=tap)
    dx, dw_q = linear_backward(merge_heads(tap("q", dq)), cache.q)
    dx_k, dw_k = linear_backward(merge_heads(tap("k", dk)), cache.k)
    dx_v, dw_v = linear_backward(merge_heads(tap("v", dv)), cache.v)
    dx += dx_k
    dx += dx_v
    return dx, dw_q, dw_k, dw_v, dw_o
