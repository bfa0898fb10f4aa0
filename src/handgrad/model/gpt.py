"""The GPT: embed the tokens and their positions, run the blocks, normalise, map to logits; and the loss on top.

No formula of its own: it calls forward/backward pairs in order, and in the opposite order.
"""

from typing import NamedTuple

from jaxtyping import Inexact, Integer

from ..layers import (
    Array,
    CrossEntropyCache,
    EmbeddingCache,
    LinearCache,
    PositionsCache,
    Tap,
    cross_entropy_backward,
    cross_entropy_forward,
    embedding_backward,
    embedding_forward,
    linear_backward,
    linear_forward,
    no_tap,
    positions_backward,
    positions_forward,
    within,
)
from .block import BlockCache, block_backward, block_forward
from .config import ModelConfig
from .norm import NormCache, norm_backward, norm_forward
from .parameters import EmbeddingParameters, GPTParameters, HeadParameters


class GPTCache(NamedTuple):
    token: EmbeddingCache
    position: PositionsCache
    blocks: tuple[BlockCache, ...]
    norm: NormCache
    head: LinearCache


class LossCache(NamedTuple):
    gpt: GPTCache
    cross_entropy: CrossEntropyCache


def gpt_forward(
    tokens: Integer[Array, "B T"], parameters: GPTParameters, config: ModelConfig, tap: Tap = no_tap, start: int = 0
) -> tuple[Inexact[Array, "B T V"], GPTCache]:
    """The logits of the next token at every position. T is at most the context, tokens are below V.

    `start` is the position of the first token, where a tap brings the keys and values of those before it.
    """
    embedded, token = embedding_forward(tokens, parameters.embedding.token)
    positioned, position = positions_forward(embedded, parameters.embedding.position, start=start)
    x = tap("embedding.output", positioned)
    blocks = []
    for n, block in enumerate(parameters.blocks):
        x, block_cache = block_forward(x, block, config, within(tap, f"blocks.{n}"))
        blocks.append(block_cache)
    normed, norm = norm_forward(x, parameters.norm, within(tap, "norm"))
    logits, head = linear_forward(normed, parameters.head.w_lm)
    return tap("head.logits", logits), GPTCache(token, position, tuple(blocks), norm, head)


def gpt_backward(dlogits: Inexact[Array, "B T V"], cache: GPTCache, tap: Tap = no_tap) -> GPTParameters:
    """The gradient of every parameter, in the form in which the forward took the parameters."""
    dnormed, dw_lm = linear_backward(tap("head.logits", dlogits), cache.head)
    dx, dnorm = norm_backward(dnormed, cache.norm, within(tap, "norm"))
    dblocks = []
    for n, block_cache in reversed(list(enumerate(cache.blocks))):
        dx, dblock = block_backward(dx, block_cache, within(tap, f"blocks.{n}"))
        dblocks.append(dblock)
    dx = tap("embedding.output", dx)
    dembedded, dposition = positions_backward(dx, cache.position)
    dtoken = embedding_backward(dembedded, cache.token)
    return GPTParameters(EmbeddingParameters(dtoken, dposition), tuple(dblocks[::-1]), dnorm, HeadParameters(dw_lm))


def loss_forward(
    tokens: Integer[Array, "B T"],
    targets: Integer[Array, "B T"],
    parameters: GPTParameters,
    config: ModelConfig,
    tap: Tap = no_tap,
) -> tuple[Inexact[Array, ""], LossCache]:
    """The mean cross-entropy in nats of the targets, each given the tokens up to its position."""
    logits, gpt = gpt_forward(tokens, parameters, config, tap)
    loss, cross_entropy = cross_entropy_forward(logits, targets)
    return tap("loss", loss), LossCache(gpt, cross_entropy)


def loss_backward(dloss: Inexact[Array, ""], cache: LossCache, tap: Tap = no_tap) -> GPTParameters:
    """The gradients of all parameters; dloss is 1 where the loss is what is minimised."""
    dlogits = cross_entropy_backward(tap("loss", dloss), cache.cross_entropy)
    return gpt_backward(dlogits, cache.gpt, tap)
