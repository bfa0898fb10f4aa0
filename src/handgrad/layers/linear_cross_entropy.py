"""loss = cross_entropy(x @ w, targets), some rows at a time: half the memory where the vocabulary is large.

All rows' probabilities are kept for the backward, but never all their logits, nor the logits' gradients, beside them.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Inexact, Integer

from .arrays import Array, as_rows
from .cross_entropy import IGNORE_INDEX, CrossEntropyCache, cross_entropy_backward, cross_entropy_forward
from .linear import LinearCache, linear_backward, linear_forward
from .tap import Tap, no_tap, sees

CHUNK_BYTES = 1 << 27
"""Of logits at a time. Each chunk adds to dw, (C, V); of fewer rows than some hundreds that would cost time."""


class Chunk(NamedTuple):
    """What the backward of some of the rows needs."""

    linear: LinearCache
    cross_entropy: CrossEntropyCache
    share: float
    """Of the targets that count, those in this chunk."""


class LinearCrossEntropyCache(NamedTuple):
    """What the backward of the linear map and the loss needs, some rows at a time."""

    chunks: tuple[Chunk, ...]
    shape: tuple[int, ...]
    """Of all logits."""


def linear_cross_entropy_forward(
    x: Inexact[Array, "*batch C"],
    w: Inexact[Array, "C V"],
    targets: Integer[Array, "*batch"],
    *,
    ignore_index: int = IGNORE_INDEX,
    tap: Tap = no_tap,
) -> tuple[Inexact[Array, ""], LinearCrossEntropyCache]:
    r"""The average surprise at the targets, where the logits are a linear map of x.

    $$ \mathrm{logits} = x\,w $$
    $$ \mathrm{loss} = \sum_{\mathrm{chunks}} \frac{N_{\mathrm{chunk}}}{N}\,
       \mathrm{cross\_entropy}(\mathrm{logits}_{\mathrm{chunk}},\; \mathrm{targets}_{\mathrm{chunk}}) $$

    with N the number of targets that count: the mean over all is the mean of the chunks' means, each by its share. For
    a tap that sees `logits` there is one chunk, so that they exist whole.
    """
    shape = (*x.shape[:-1], w.shape[-1])
    rows, row_targets = as_rows(x), targets.reshape(-1)
    whole = sees(tap, "logits")
    size = max(1, len(rows) if whole else CHUNK_BYTES // (w.shape[-1] * x.itemsize))
    counted = row_targets != ignore_index
    all_counted = max(1, int(np.count_nonzero(counted)))
    loss, chunks = np.zeros((), x.dtype), []
    for chunk in (slice(start, start + size) for start in range(0, max(1, len(rows)), size)):
        logits, linear = linear_forward(rows[chunk], w)
        if whole:
            logits = as_rows(tap("logits", logits.reshape(shape)))
        chunk_loss, cross_entropy = cross_entropy_forward(logits, row_targets[chunk], ignore_index=ignore_index)
        share = int(np.count_nonzero(counted[chunk])) / all_counted
        loss += chunk_loss * share
        chunks.append(Chunk(linear, cross_entropy, share))
    return loss, LinearCrossEntropyCache(tuple(chunks), shape)


def linear_cross_entropy_backward(
    dloss: Inexact[Array, ""], cache: LinearCrossEntropyCache, *, tap: Tap = no_tap
) -> tuple[Inexact[Array, "*batch C"], Inexact[Array, "C V"]]:
    r"""Carry dloss to x and w: a chunk's part of dloss is its share, and w serves all chunks, so its gradients add.

    $$ \mathrm{d}x_{\mathrm{chunk}} = \mathrm{d}\mathrm{logits}_{\mathrm{chunk}}\, w^\top $$
    $$ \mathrm{d}w = \sum_{\mathrm{chunks}} x_{\mathrm{chunk}}^\top\, \mathrm{d}\mathrm{logits}_{\mathrm{chunk}} $$
    """
    chunks, shape = cache
    dlogits = (cross_entropy_backward(np.asarray(dloss * share), cached) for _, cached, share in chunks)
    if sees(tap, "logits"):
        whole = as_rows(tap("logits", np.concatenate(list(dlogits)).reshape(shape)))
        ends = np.cumsum([len(linear.x) for linear, _, _ in chunks])
        dlogits = (part for part in np.split(whole, ends[:-1]))
    dx, dw = linear_backward(next(dlogits), chunks[0].linear)
    dxs = [dx]
    for chunk_dlogits, (linear, _, _) in zip(dlogits, chunks[1:], strict=True):
        chunk_dx, chunk_dw = linear_backward(chunk_dlogits, linear)
        dxs.append(chunk_dx)
        dw += chunk_dw
    return np.concatenate(dxs).reshape(*shape[:-1], -1), dw
