"""y = softmax(mask(q @ kᵀ · scale)) @ v, per head; a query sees the keys up to its own position, or the last of them.

There may be more keys than queries: the T queries are then those of the last T of S positions. There may be fewer heads
G of keys and values than heads H of queries: then H/G neighbouring heads of queries share one.

All T×S scores need not exist at once. Tile by tile, some queries meet some keys; where every key is hidden there is no
tile. The weights are kept for the backward only while they are few, at most `KEPT_BYTES` of a sequence. So memory grows
with T and not with its square (Rabe and Staats, "Self-attention Does Not Need O(n²) Memory", 2021; Dao et al.,
"FlashAttention", 2022).
"""

from collections.abc import Iterator
from functools import lru_cache, reduce
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Inexact

from .arrays import Array, row_sums
from .softmax import SoftmaxCache, softmax_backward, softmax_forward
from .tap import Tap, no_tap, sees

KEYS = 512
"""Keys in a tile; where a window ends, up to a block of queries more."""
KEPT_BYTES = 1 << 24
"""What a sequence's weights may take for the forward to leave them to the backward, which else computes them again."""

TAPS = ("scores", "masked_scores", "weights")


class Tile(NamedTuple):
    """Where some queries meet some keys, of which each query sees one at least."""

    queries: slice
    keys: slice
    diagonal: bool
    """Whether the last of the keys are the queries' own."""
    edge: int | None = None
    """With a window: query i of the tile no longer sees the keys before i + edge; None where all see the first."""


Blocks = tuple[tuple[Tile, ...], ...]
"""For each block of queries all its tiles, from the diagonal to the left."""
Kept = tuple[Array, Array]
Found = tuple[Array, Array, Array]
"""What queries found in a tile: the average y, and the maximum and the total of its softmax."""


class CausalAttentionCache(NamedTuple):
    """What causal attention's backward needs: q, k and v, what each query found, and the weights where kept."""

    q_scaled: Array
    k: Array
    v: Array
    scale: float
    window: int | None
    """The keys that a query sees at most; None where it sees the whole past."""
    y: Array
    maximum: Array
    total: Array
    """Of each query's softmax over all its keys, as in `SoftmaxCache`."""
    blocks: Blocks
    kept: tuple[tuple[Kept, ...], ...]
    """Of each tile what softmax gave and what v met, which differ where a tap replaced the weights; or of no tile."""


@lru_cache(maxsize=4)
def window_mask(t: int, s: int, edge: int) -> Float[Array, "t s"]:
    """Minus infinity where key j (column) lies before the window of query i (row), j < i + edge; else 0. Read-only."""
    mask = np.tril(np.full((t, s), -np.inf, np.float32), k=edge - 1)
    mask.flags.writeable = False
    return mask


@lru_cache(maxsize=4)
def causal_mask(T: int) -> Float[Array, "T T"]:
    """0 where a query (row) may see a key (column), minus infinity to the right of it. Read-only."""
    mask = np.triu(np.full((T, T), -np.inf, np.float32), k=1)  # float32: added to, it widens no dtype
    mask.flags.writeable = False
    return mask


def causal_attention_forward(
    q: Inexact[Array, "B H T D"],
    k: Inexact[Array, "B G S D"],
    v: Inexact[Array, "B G S D"],
    *,
    scale: float,
    window: int | None = None,
    tap: Tap = no_tap,
) -> tuple[Inexact[Array, "B H T D"], CausalAttentionCache]:
    r"""Average the values of the past, weighted by how well their keys answer the query; S >= T.

    $$ \mathrm{scores}_{ts} = \mathrm{scale}\; q_t \cdot k_s $$
    $$ \mathrm{masked\_scores}_{ts} = \mathrm{scores}_{ts} + \mathrm{mask}_{ts}, \qquad
       \mathrm{mask}_{ts} = -\infty \text{ where } s \text{ is later than } t
       \text{, or by the window or more before it; else } 0 $$
    $$ \mathrm{weights}_t = \mathrm{softmax}(\mathrm{masked\_scores}_t) $$
    $$ y_t = \sum_s \mathrm{weights}_{ts}\, v_s $$

    The usual scale is $1/\sqrt{D}$: a dot product of D independent terms of variance 1 has variance D, and a softmax of
    scores that large is nearly one-hot, where its gradient vanishes. The mask is minus infinity above the diagonal, so
    a future key's weight is exactly 0 whatever the scores are. With a `window` a query sees so many keys, its own among
    them. Head h of the queries meets head $\lfloor h\,G/H \rfloor$ of keys and values: G divides H.

    A tile is a small attention of its own, and `merge_tiles` joins what its queries found in two of them. There is but
    one for a tap that sees `scores`, `masked_scores` or `weights`, so that they exist whole.

    Source: Vaswani et al., "Attention Is All You Need", 2017; shared keys and values: Ainslie et al., "GQA", 2023; the
    window: Beltagy et al., "Longformer", 2020.
    """
    scale = float(scale)  # a NumPy float64 would turn a float32 run into float64
    B, H, T, D = q.shape
    q_scaled = q * scale
    S = k.shape[2]
    if S < T:
        raise ValueError(f"more queries than keys: {T} and {S}")
    whole = sees(tap, *TAPS)
    blocks = one_tile(T, S, window) if whole else tile_blocks(T, S, window)
    most = KEPT_BYTES // (H * q.itemsize)
    keep = whole or most >= T * S or entries_of(T, S, window) <= most
    if len(blocks) > 1:
        y = np.empty((B, T, H, D), q.dtype).swapaxes(1, 2)  # lies in memory as the heads will be merged
        maximum, total = np.empty((B, H, T, 1), q.real.dtype), np.empty((B, H, T, 1), q.dtype)
    kept = []
    for tiles in blocks:
        queries, found, kept_block = tiles[0].queries, [], []
        for tile in tiles:
            probabilities, softmax = softmax_forward(_masked_scores(q_scaled, k, tile, tap))  # (B, H, t, s)
            weights = tap("weights", probabilities)
            found.append((by_group(weights, v[:, :, tile.keys]), softmax.maximum, softmax.total))
            if keep:
                kept_block.append((probabilities, weights))
        if len(blocks) > 1:
            y[:, :, queries], maximum[:, :, queries], total[:, :, queries] = reduce(merge_tiles, found)
        else:
            y, maximum, total = reduce(merge_tiles, found)
        if len(tiles) > 1:  # softmax took each tile's keys for all that there are
            for (probabilities, _), (_, tile_maximum, tile_total) in zip(kept_block, found, strict=False):
                probabilities *= np.exp(tile_maximum - maximum[:, :, queries]) * (tile_total / total[:, :, queries])
        kept.append(tuple(kept_block))
    return y, CausalAttentionCache(q_scaled, k, v, scale, window, y, maximum, total, blocks, tuple(kept))


def causal_attention_backward(
    dy: Inexact[Array, "B H T D"], cache: CausalAttentionCache, *, tap: Tap = no_tap
) -> tuple[Inexact[Array, "B H T D"], Inexact[Array, "B G S D"], Inexact[Array, "B G S D"]]:
    r"""Carry dy to q, k and v.

    $$ \mathrm{d}v = \mathrm{weights}^\top \mathrm{d}y $$
    $$ \mathrm{d}\mathrm{weights} = \mathrm{d}y\, v^\top $$
    $$ \mathrm{d}\mathrm{masked\_scores} = \mathrm{weights} \odot \left( \mathrm{d}\mathrm{weights}
       - \mathrm{rowsum}(\mathrm{d}\mathrm{weights} \odot \mathrm{weights}) \right) $$
    $$ \mathrm{d}\mathrm{scores} = \mathrm{d}\mathrm{masked\_scores} $$
    $$ \mathrm{d}q = \mathrm{scale}\; \mathrm{d}\mathrm{scores}\, k $$
    $$ \mathrm{d}k = \mathrm{scale}\; \mathrm{d}\mathrm{scores}^\top q $$

    where a head of k and v that serves several heads of q has the sum of what they ask of it. The mask is a constant
    that was added, and where it hides a key the weight is 0, which makes dscores exactly 0
    there, though dweights is not.

    The row sum needs all keys, but no tile has them; y has: with p for weights,
    $\sum_s \mathrm{d}p_{ts}\, p_{ts} = \mathrm{d}y_t \cdot \sum_s p_{ts}\, v_s = \mathrm{d}y_t \cdot y_t$.
    And p, where it was not kept, is $e^{z - \mathrm{maximum}} / \mathrm{total}$, with z for masked scores.
    """
    q_scaled, k, v, scale, window, y, maximum, total, blocks, kept = cache
    if sees(tap, *TAPS) and len(blocks[0]) * len(blocks) > 1:
        blocks, kept = one_tile(q_scaled.shape[2], k.shape[2], window), ((),)
    dq_scaled, dk, dv = (np.zeros_like(x) for x in (q_scaled, k, v))
    for tiles, kept_block in zip(blocks, kept, strict=True):
        queries = tiles[0].queries
        q_block, dy_block = q_scaled[:, :, queries], dy[:, :, queries]
        maximum_block, total_block = maximum[:, :, queries], total[:, :, queries]
        mean_dweights = row_sums(dy_block * y[:, :, queries]) if len(tiles) > 1 else None  # one tile has the whole row
        for tile, kept_tile in zip_longest(tiles, kept_block):
            probabilities, weights = kept_tile or (_made_again(q_scaled, k, tile, maximum_block, total_block),) * 2
            dv[:, :, tile.keys] += sum_of_group(weights, dy_block, v)  # y = weights @ v: weightsᵀ, as v was
            dweights = tap("weights", by_group(dy_block, v[:, :, tile.keys].swapaxes(-1, -2)))
            softmax = SoftmaxCache(probabilities, maximum_block, total_block)
            dmasked_scores = tap("masked_scores", softmax_backward(dweights, softmax, mean_dy=mean_dweights))
            dscores = tap("scores", dmasked_scores)  # + mask, a constant
            dk[:, :, tile.keys] += sum_of_group(dscores, q_block, k)  # scores = q_scaled @ kᵀ: dscoresᵀ, as k was
            dq_scaled[:, :, queries] += by_group(dscores, k[:, :, tile.keys])
    dq = np.multiply(dq_scaled, scale, out=dq_scaled)  # q_scaled = q * scale
    return dq, dk, dv


def by_group(x: Inexact[Array, "B H t m"], shared: Inexact[Array, "B G m n"]) -> Inexact[Array, "B H t n"]:
    """Each head's x times the matrix of its group. The rows of a group are stacked, so that it is one product."""
    B, H, t, m = x.shape
    G, n = shared.shape[1], shared.shape[-1]
    product: Array = x.reshape(B, G, -1, m) @ shared
    return product.reshape(B, H, t, n)


def sum_of_group(
    x: Inexact[Array, "B H t s"], y: Inexact[Array, "B H t D"], shared: Inexact[Array, "B G ..."]
) -> Inexact[Array, "B G s D"]:
    """xᵀ y of each head, summed over the heads of a group: the product of the stacked rows sums as it goes."""
    B, G = shared.shape[:2]
    product: Array = x.reshape(B, G, -1, x.shape[-1]).swapaxes(-1, -2) @ y.reshape(B, G, -1, y.shape[-1])
    return product


def merge_tiles(one: Found, other: Found) -> Found:
    r"""The average over the keys of two tiles together, and the maximum and total of its softmax, from those of each.

    $$ m = \max(m_1, m_2), \qquad t = e^{m_1 - m}\, t_1 + e^{m_2 - m}\, t_2, \qquad
       y = \frac{e^{m_1 - m}\, t_1}{t}\, y_1 + \frac{e^{m_2 - m}\, t_2}{t}\, y_2 $$

    A tile's share of the whole average is that of its total. This is the online softmax: tiles may come one by one.

    Source: Milakov and Gimelshein, "Online Normalizer Calculation for Softmax", 2018.
    """
    (y_1, maximum_1, total_1), (y_2, maximum_2, total_2) = one, other
    maximum = np.maximum(maximum_1, maximum_2)
    part_1, part_2 = np.exp(maximum_1 - maximum) * total_1, np.exp(maximum_2 - maximum) * total_2
    total = part_1 + part_2
    return part_1 / total * y_1 + part_2 / total * y_2, maximum, total


@lru_cache(maxsize=8)
def tile_blocks(T: int, S: int, window: int | None = None) -> Blocks:
    """The tiles of T queries that are the last of S positions; what no query of a block sees is in none."""
    block = min(KEYS, 64 if S <= KEYS else 128)  # little is wasted above the diagonal, or products are larger: measured
    return tuple(tuple(_tiles(slice(start, min(start + block, T)), S - T, window or S)) for start in range(0, T, block))


def _tiles(queries: slice, earlier: int, window: int) -> Iterator[Tile]:
    """Those of a block of queries before whose first one there are `earlier` more keys than queries."""
    count = queries.stop - queries.start
    stop = earlier + queries.stop
    first = max(0, stop - count - window + 1)  # the oldest key that a query of the block sees
    ends = list(range(stop, first, -KEYS))
    if len(ends) > 1 and stop - window > first > ends[-1] - count:  # the block's last query might see none of these
        ends.pop()
    for end, begin in zip(ends, [*ends[1:], first], strict=True):
        edge = stop - count - window + 1 - begin
        yield Tile(queries, slice(begin, end), end == stop, edge if edge + count > 1 else None)


def one_tile(T: int, S: int, window: int | None = None) -> Blocks:
    edge = S - T - (window or S) + 1
    return ((Tile(slice(0, T), slice(0, S), True, edge if edge + T > 1 else None),),)


@lru_cache(maxsize=8)
def entries_of(T: int, S: int, window: int | None = None) -> int:
    """How many scores there are in all tiles."""
    tiles = (tile for tiles in tile_blocks(T, S, window) for tile in tiles)
    return sum((queries.stop - queries.start) * (keys.stop - keys.start) for queries, keys, *_ in tiles)


def _masked_scores(q_scaled: Array, k: Array, tile: Tile, tap: Tap = no_tap) -> Array:
    """z, of one tile. Only on the diagonal, and where a window ends, is there something to mask."""
    masked_scores = tap("scores", by_group(q_scaled[:, :, tile.queries], k[:, :, tile.keys].swapaxes(-1, -2)))
    if tile.edge is not None:
        masked_scores += window_mask(*masked_scores.shape[-2:], tile.edge)
    if tile.diagonal and (t := masked_scores.shape[-2]) > 1:
        own = masked_scores[..., -t:]
        own += causal_mask(t)
    return tap("masked_scores", masked_scores)


def _made_again(q_scaled: Array, k: Array, tile: Tile, maximum: Array, total: Array) -> Array:
    """The weights of a tile, by what the softmax over all keys had."""
    weights = _masked_scores(q_scaled, k, tile)
    weights -= maximum
    np.exp(weights, out=weights)
    weights /= total
    return weights
