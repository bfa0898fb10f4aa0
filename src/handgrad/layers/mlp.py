"""y = gelu(x @ w_up + b_up) @ w_down + b_down: GPT-2's feed-forward layer."""

from typing import NamedTuple

from jaxtyping import Inexact

from .arrays import Array
from .bias import BiasCache, bias_backward, bias_forward
from .gelu import GeluCache, gelu_backward, gelu_forward
from .linear import LinearCache, linear_backward, linear_forward
from .tap import Tap, no_tap


class MlpCache(NamedTuple):
    """What the MLP's backward needs: the caches of its steps."""

    up_cache: LinearCache
    up_bias: BiasCache
    gelu_cache: GeluCache
    down_cache: LinearCache
    down_bias: BiasCache


def mlp_forward(
    x: Inexact[Array, "*batch C"],
    w_up: Inexact[Array, "C F"],
    w_down: Inexact[Array, "F C"],
    b_up: Inexact[Array, "F"] | None = None,
    b_down: Inexact[Array, "C"] | None = None,
    *,
    tap: Tap = no_tap,
) -> tuple[Inexact[Array, "*batch C"], MlpCache]:
    r"""Widen, bend, and come back: a layer of hidden units for each position.

    $$ \mathrm{up} = x\,w_{up} + b_{up} $$
    $$ \mathrm{hidden} = \mathrm{gelu}(\mathrm{up}) $$
    $$ y = \mathrm{hidden}\, w_{down} + b_{down} $$

    A bias that is not given is left out. Taps: `up`, `hidden`, `output`.

    Source: Radford et al., "Language Models are Unsupervised Multitask Learners" (GPT-2), 2019.
    """
    projected, up_cache = linear_forward(x, w_up)  # (*batch, F)
    up, up_bias = bias_forward(projected, b_up)
    hidden, gelu_cache = gelu_forward(tap("up", up))
    projected_back, down_cache = linear_forward(tap("hidden", hidden), w_down)  # (*batch, C)
    y, down_bias = bias_forward(projected_back, b_down)
    return tap("output", y), MlpCache(up_cache, up_bias, gelu_cache, down_cache, down_bias)


def mlp_backward(
    dy: Inexact[Array, "*batch C"], cache: MlpCache, *, tap: Tap = no_tap
) -> tuple[
    Inexact[Array, "*batch C"],
    Inexact[Array, "C F"],
    Inexact[Array, "F C"],
    Inexact[Array, "F"] | None,
    Inexact[Array, "C"] | None,
]:
    r"""Carry dy to x, to the two matrices and to the two biases: None for those that were not given.

    $$ \mathrm{d}b_{down} = \sum_{\mathrm{rows}} \mathrm{d}y $$
    $$ \mathrm{d}w_{down} = \mathrm{hidden}^\top \mathrm{d}y $$
    $$ \mathrm{d}\mathrm{hidden} = \mathrm{d}y\, w_{down}^\top $$
    $$ \mathrm{d}\mathrm{up} = \mathrm{d}\mathrm{hidden} \odot \mathrm{gelu}'(\mathrm{up}) $$
    $$ \mathrm{d}b_{up} = \sum_{\mathrm{rows}} \mathrm{d}\mathrm{up} $$
    $$ \mathrm{d}w_{up} = x^\top \mathrm{d}\mathrm{up} $$
    $$ \mathrm{d}x = \mathrm{d}\mathrm{up}\,w_{up}^\top $$
    """
    dprojected_back, db_down = bias_backward(tap("output", dy), cache.down_bias)
    dhidden, dw_down = linear_backward(dprojected_back, cache.down_cache)
    dup = tap("up", gelu_backward(tap("hidden", dhidden), cache.gelu_cache))
    dprojected, db_up = bias_backward(dup, cache.up_bias)
    dx, dw_up = linear_backward(dprojected, cache.up_cache)
    return dx, dw_up, dw_down, db_up, db_down
