"""The normalisation before each sub-layer and before the head: LayerNorm, or none where the config switches it off."""

from typing import NamedTuple

from jaxtyping import Inexact

from ..layers import Array, LayerNormCache, Tap, layer_norm_backward, layer_norm_forward, no_tap
from .parameters import NormParameters


class NormCache(NamedTuple):
    layer_norm: LayerNormCache | None


def norm_forward(
    x: Inexact[Array, "*batch C"], parameters: NormParameters | None, tap: Tap = no_tap
) -> tuple[Inexact[Array, "*batch C"], NormCache]:
    """LayerNorm with these parameters; x itself where there are none. Tap: `output`."""
    if parameters is None:
        return x, NormCache(None)
    y, layer_norm = layer_norm_forward(x, *parameters)
    return tap("output", y), NormCache(layer_norm)


def norm_backward(
    dy: Inexact[Array, "*batch C"], cache: NormCache, tap: Tap = no_tap
) -> tuple[Inexact[Array, "*batch C"], NormParameters | None]:
    """dx, and the gradients of the parameters in the form in which the forward took them."""
    if cache.layer_norm is None:
        return dy, None
    dx, *dparameters = layer_norm_backward(tap("output", dy), cache.layer_norm)
    return dx, NormParameters(*dparameters)
