"""The normalisation before each sub-layer and before the head: LayerNorm, RMSNorm, or none, by its parameters."""

from typing import NamedTuple

from jaxtyping import Inexact

from ..layers import (
    Array,
    LayerNormCache,
    RmsNormCache,
    Tap,
    layer_norm_backward,
    layer_norm_forward,
    no_tap,
    rms_norm_backward,
    rms_norm_forward,
)
from .parameters import LayerNormParameters, NormParameters, RmsNormParameters


class NormCache(NamedTuple):
    """What a norm's backward needs; None where there is no norm."""

    inner: LayerNormCache | RmsNormCache | None


def norm_forward(
    x: Inexact[Array, "*batch C"], parameters: NormParameters | None, epsilon: float, tap: Tap = no_tap
) -> tuple[Inexact[Array, "*batch C"], NormCache]:
    """What the parameters are of; x itself where there are none. Tap: `output`."""
    if parameters is None:
        return x, NormCache(None)
    y: Array
    inner: LayerNormCache | RmsNormCache
    if isinstance(parameters, RmsNormParameters):
        y, inner = rms_norm_forward(x, *parameters, epsilon=epsilon)
    else:
        y, inner = layer_norm_forward(x, *parameters, epsilon=epsilon)
    return tap("output", y), NormCache(inner)


def norm_backward(
    dy: Inexact[Array, "*batch C"], cache: NormCache, tap: Tap = no_tap
) -> tuple[Inexact[Array, "*batch C"], NormParameters | None]:
    """dx, and the gradients of the parameters in the form in which the forward took them."""
    if cache.inner is None:
        return dy, None
    dnormed = tap("output", dy)
    if isinstance(cache.inner, RmsNormCache):
        dx, dgamma = rms_norm_backward(dnormed, cache.inner)
        return dx, RmsNormParameters(dgamma)
    dx, dgamma, dbeta = layer_norm_backward(dnormed, cache.inner)
    return dx, LayerNormParameters(dgamma, dbeta)
