"""The GPT: embed the tokens and learned positions, run the blocks, normalise, map to logits; and the loss on top.

No formula of its own: it calls forward/backward pairs in order, and in the opposite order.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from jaxtyping import Inexact, Integer

from ..layers import (
    Array,
    EmbeddingCache,
    LinearCache,
    LinearCrossEntropyCache,
    PositionsCache,
    Tap,
    embedding_backward,
    embedding_forward,
    linear_backward,
    linear_cross_entropy_backward,
    linear_cross_entropy_forward,
    linear_forward,
    no_tap,
    positions_backward,
    positions_forward,
    within,
)
from .block import BlockCache, block_backward, block_forward
from .config import ModelConfig
from .norm import NormCache, norm_backward, norm_forward
from .parameters import EmbeddingParameters, GPTParameters, HeadParameters, join_parts

Parts = Iterator[tuple[str, tuple[Any, ...]]]
"""Gradients of parts of the model, each with its name, as `join_parts` wants them: as soon as they are there."""


class TrunkCache(NamedTuple):
    """What the backward of everything below the head needs."""

    token: EmbeddingCache
    position: PositionsCache | None
    """None where positions are not learned."""
    blocks: tuple[BlockCache, ...]
    norm: NormCache


class GPTCache(NamedTuple):
    """What the backward from the logits needs."""

    trunk: TrunkCache
    head: LinearCache
    tied: bool
    """Whether the head is the embedding's table."""


class LossCache(NamedTuple):
    """What the backward from the loss needs."""

    trunk: TrunkCache
    head: LinearCrossEntropyCache
    tied: bool
    """Whether the head is the embedding's table."""


def trunk_forward(
    tokens: Integer[Array, "B T"], parameters: GPTParameters, config: ModelConfig, tap: Tap = no_tap
) -> tuple[Inexact[Array, "B T C"], TrunkCache]:
    """Everything below the head. T is at most the context, tokens are below V."""
    x, token = embedding_forward(tokens, parameters.embedding.token)
    position = None
    if parameters.embedding.position is not None:
        x, position = positions_forward(x, parameters.embedding.position)
    x = tap("embedding.output", x)
    blocks = []
    for n, block in enumerate(parameters.blocks):
        x, block_cache = block_forward(x, block, config, within(tap, f"blocks.{n}"), number=n)
        blocks.append(block_cache)
    normed, norm = norm_forward(x, parameters.norm, config.norm_epsilon, within(tap, "norm"))
    return normed, TrunkCache(token, position, tuple(blocks), norm)


def trunk_backward(dy: Inexact[Array, "B T C"], cache: TrunkCache, tap: Tap = no_tap) -> Parts:
    """The gradients of the norm, of the blocks from the last to the first, and of the embedding.

    What the forward left for a block is let go once it has served, and freed unless somebody else holds the cache.
    """
    token, position, block_caches, norm = cache
    blocks = list(block_caches)
    del cache, block_caches
    dx, dnorm = norm_backward(dy, norm, within(tap, "norm"))
    del dy, norm
    if dnorm is not None:
        yield "norm", dnorm
    while blocks:
        dx, dblock = block_backward(dx, blocks.pop(), within(tap, f"blocks.{len(blocks)}"))
        yield f"blocks.{len(blocks)}", dblock
        del dblock
    dx = tap("embedding.output", dx)
    dposition = None
    if position is not None:
        dx, dposition = positions_backward(dx, position)
    yield "embedding", EmbeddingParameters(embedding_backward(dx, token), dposition)


def head_matrix(parameters: GPTParameters) -> Inexact[Array, "C V"]:
    """What maps to logits: a matrix of its own or, tied, the token embedding transposed (a view)."""
    w_lm = parameters.head.w_lm
    return parameters.embedding.token.T if w_lm is None else w_lm


def with_head(dw_lm: Inexact[Array, "C V"], below: Parts, tied: bool) -> Parts:
    r"""The gradients of the parts below the head, and the head's own, as a part or where it belongs.

    Tied, the table of tokens served twice, at the bottom and at the top: its gradient is the sum of two.

    $$ \mathrm{d}\mathrm{token} = \mathrm{d}\mathrm{table} + \mathrm{d}w_{lm}^\top $$
    """
    if not tied:
        yield "head", HeadParameters(dw_lm)
        del dw_lm
        yield from below
        return
    for name, part in below:
        if isinstance(part, EmbeddingParameters):
            part.token[...] += dw_lm.T  # logits = x @ tokenᵀ
        yield name, part


def gpt_forward(
    tokens: Integer[Array, "B T"], parameters: GPTParameters, config: ModelConfig, tap: Tap = no_tap
) -> tuple[Inexact[Array, "B T V"], GPTCache]:
    """The logits of the next token at every position. T is at most the context, tokens are below V."""
    x, trunk = trunk_forward(tokens, parameters, config, tap)
    logits, head = linear_forward(x, head_matrix(parameters))
    return tap("head.logits", logits), GPTCache(trunk, head, config.tied)


def gpt_backward(dlogits: Inexact[Array, "B T V"], cache: GPTCache, tap: Tap = no_tap) -> GPTParameters:
    """The gradient of every parameter, in the form in which the forward took the parameters."""
    dx, dw_lm = linear_backward(tap("head.logits", dlogits), cache.head)
    return join_parts(dict(with_head(dw_lm, trunk_backward(dx, cache.trunk, tap), cache.tied)))


def loss_forward(
    tokens: Integer[Array, "B T"],
    targets: Integer[Array, "B T"],
    parameters: GPTParameters,
    config: ModelConfig,
    tap: Tap = no_tap,
) -> tuple[Inexact[Array, ""], LossCache]:
    """The mean cross-entropy in nats of the targets, each given the tokens up to its position."""
    x, trunk = trunk_forward(tokens, parameters, config, tap)
    loss, head = linear_cross_entropy_forward(x, head_matrix(parameters), targets, tap=within(tap, "head"))
    return tap("loss", loss), LossCache(trunk, head, config.tied)


def loss_backward(dloss: Inexact[Array, ""], cache: LossCache, tap: Tap = no_tap) -> GPTParameters:
    """The gradients of all parameters; dloss is 1 where the loss is what is minimised."""
    return join_parts(dict(loss_backward_parts(dloss, cache, tap)))


def loss_backward_parts(dloss: Inexact[Array, ""], cache: LossCache, tap: Tap = no_tap) -> Parts:
    """The same, part by part on the way down, so that nobody need hold all at once: see `trunk_backward`."""
    dx, dw_lm = linear_cross_entropy_backward(tap("loss", dloss), cache.head, tap=within(tap, "head"))
    parts = with_head(dw_lm, trunk_backward(dx, cache.trunk, tap), cache.tied)
    del cache, dx, dw_lm
    yield from parts
