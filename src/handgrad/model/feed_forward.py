"""The feed-forward layer of a block: SwiGLU, or GPT-2's with a GELU, by its parameters."""

from typing import Any

from jaxtyping import Inexact

from ..layers import (
    Array,
    MlpCache,
    SwigluCache,
    Tap,
    mlp_backward,
    mlp_forward,
    no_tap,
    swiglu_backward,
    swiglu_forward,
)
from .parameters import FeedForwardParameters, MlpParameters, SwigluParameters

FeedForwardCache = SwigluCache | MlpCache


def feed_forward_forward(
    x: Inexact[Array, "*batch C"], parameters: FeedForwardParameters, tap: Tap = no_tap
) -> tuple[Inexact[Array, "*batch C"], FeedForwardCache]:
    """What the parameters are of. Taps: those of the layer."""
    if isinstance(parameters, MlpParameters):
        return mlp_forward(x, *parameters, tap=tap)
    return swiglu_forward(x, *parameters, tap=tap)


def feed_forward_backward(
    dy: Inexact[Array, "*batch C"], cache: FeedForwardCache, tap: Tap = no_tap
) -> tuple[Inexact[Array, "*batch C"], FeedForwardParameters]:
    """dx, and the gradients of the parameters in the form in which the forward took them."""
    if isinstance(cache, MlpCache):
        dmlp: list[Any]  # None where there is no such bias
        dx, *dmlp = mlp_backward(dy, cache, tap=tap)
        return dx, MlpParameters(*dmlp)
    dx, *dswiglu = swiglu_backward(dy, cache, tap=tap)
    return dx, SwigluParameters(*dswiglu)
