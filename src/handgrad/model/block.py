"""A pre-norm Transformer block: forward/backward pairs are called, and what they found is added."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Inexact

from ..layers import (
    Array,
    MultiHeadAttentionCache,
    Tap,
    multi_head_attention_backward,
    multi_head_attention_forward,
    no_tap,
    within,
)
from .config import ModelConfig
from .feed_forward import FeedForwardCache, feed_forward_backward, feed_forward_forward
from .norm import NormCache, norm_backward, norm_forward
from .parameters import AttentionParameters, BlockParameters


class BlockCache(NamedTuple):
    """What a block's backward needs: the caches of its parts."""

    residual: bool
    """Whether the stream also goes past the sub-layers."""
    norm_1: NormCache
    attention: MultiHeadAttentionCache
    norm_2: NormCache
    feed_forward: FeedForwardCache


def block_forward(
    x: Inexact[Array, "B T C"],
    parameters: BlockParameters,
    config: ModelConfig,
    tap: Tap = no_tap,
    *,
    number: int = 0,
) -> tuple[Inexact[Array, "B T C"], BlockCache]:
    r"""Each sub-layer reads a normalised copy of the stream and adds what it found. Taps: `residual_1`, `residual_2`.

    $$ \mathrm{residual}_1 = [\mathrm{residual}]\, x + \mathrm{attention}(\mathrm{norm}_1(x)) $$
    $$ \mathrm{residual}_2 = [\mathrm{residual}]\, \mathrm{residual}_1
       + \mathrm{feed\_forward}(\mathrm{norm}_2(\mathrm{residual}_1)) $$

    where [residual] is 1, or 0 where the config switches it off, and norm is the identity where that is none. `number`
    counts the blocks from 0, since not all need have a window.
    """
    normed_1, norm_1 = norm_forward(x, parameters.norm_1, config.norm_epsilon, within(tap, "norm_1"))
    attended, attention = multi_head_attention_forward(
        normed_1,
        *parameters.attention,
        heads=config.heads,
        key_value_heads=config.G,
        scale=None if config.score_scale else 1.0,
        rotary=config.rotary,
        window=config.window_of(number),
        epsilon=config.norm_epsilon,
        tap=within(tap, "attention"),
    )
    residual_1 = tap("residual_1", np.add(x, attended, out=attended) if config.residual else attended)
    normed_2, norm_2 = norm_forward(residual_1, parameters.norm_2, config.norm_epsilon, within(tap, "norm_2"))
    fed, feed_forward = feed_forward_forward(normed_2, parameters.feed_forward, within(tap, "feed_forward"))
    residual_2 = tap("residual_2", np.add(residual_1, fed, out=fed) if config.residual else fed)
    return residual_2, BlockCache(config.residual, norm_1, attention, norm_2, feed_forward)


def block_backward(
    dy: Inexact[Array, "B T C"], cache: BlockCache, tap: Tap = no_tap
) -> tuple[Inexact[Array, "B T C"], BlockParameters]:
    r"""Where the stream went two ways, into a sub-layer and past it, two gradients come back and are added.

    $$ \mathrm{d}\mathrm{feed\_forward} = \mathrm{d}\mathrm{residual}_2 $$
    $$ \mathrm{d}\mathrm{residual}_1 = [\mathrm{residual}]\, \mathrm{d}\mathrm{residual}_2
       + J_{\mathrm{norm}_2}^\top\, \mathrm{d}\mathrm{norm}_2 $$
    $$ \mathrm{d}\mathrm{attention} = \mathrm{d}\mathrm{residual}_1 $$
    $$ \mathrm{d}x = [\mathrm{residual}]\, \mathrm{d}\mathrm{residual}_1
       + J_{\mathrm{norm}_1}^\top\, \mathrm{d}\mathrm{norm}_1 $$

    with J a norm's Jacobian, applied by its backward to what the sub-layer above it asks of its input.
    """
    dresidual_2 = tap("residual_2", dy)
    dnormed_2, dfeed_forward = feed_forward_backward(dresidual_2, cache.feed_forward, within(tap, "feed_forward"))
    dresidual_1, dnorm_2 = norm_backward(dnormed_2, cache.norm_2, within(tap, "norm_2"))
    if cache.residual:
        dresidual_1 = dresidual_1 + dresidual_2  # residual_2 = residual_1 + fed
    dresidual_1 = tap("residual_1", dresidual_1)
    dattention: list[Any]  # None where there is no such parameter
    dnormed_1, *dattention = multi_head_attention_backward(dresidual_1, cache.attention, tap=within(tap, "attention"))
    dx, dnorm_1 = norm_backward(dnormed_1, cache.norm_1, within(tap, "norm_1"))
    if cache.residual:
        dx = dx + dresidual_1  # residual_1 = x + attended
    return dx, BlockParameters(dnorm_1, AttentionParameters(*dattention), dnorm_2, dfeed_forward)
