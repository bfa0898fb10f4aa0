"""y = (silu(x @ w_gate) * (x @ w_up)) @ w_down."""

from typing import NamedTuple

from jaxtyping import Inexact

from .arrays import Array
from .linear import LinearCache, linear_backward, linear_forward
from .silu import SiluCache, silu_backward, silu_forward
from .tap import Tap, no_tap


class SwigluCache(NamedTuple):
    """What SwiGLU's backward needs: the caches of its steps, and both factors of the product."""

    gate_cache: LinearCache
    up_cache: LinearCache
    silu_cache: SiluCache
    activated: Array
    up: Array
    down_cache: LinearCache


def swiglu_forward(
    x: Inexact[Array, "*batch C"],
    w_gate: Inexact[Array, "C F"],
    w_up: Inexact[Array, "C F"],
    w_down: Inexact[Array, "F C"],
    *,
    tap: Tap = no_tap,
) -> tuple[Inexact[Array, "*batch C"], SwigluCache]:
    r"""A feed-forward layer whose hidden units are opened and closed by a gate.

    $$ \mathrm{gate} = x\,w_{gate} $$
    $$ \mathrm{up} = x\,w_{up} $$
    $$ \mathrm{activated} = \mathrm{silu}(\mathrm{gate}) $$
    $$ \mathrm{hidden} = \mathrm{activated} \odot \mathrm{up} $$
    $$ y = \mathrm{hidden}\, w_{down} $$

    Taps: `gate`, `up`, `activated`, `hidden`, `output`.

    Source: Shazeer, "GLU Variants Improve Transformer", 2020.
    """
    gate, gate_cache = linear_forward(x, w_gate)  # (*batch, F)
    up, up_cache = linear_forward(x, w_up)
    gate, up = tap("gate", gate), tap("up", up)
    activated, silu_cache = silu_forward(gate)
    activated = tap("activated", activated)
    hidden = tap("hidden", activated * up)
    y, down_cache = linear_forward(hidden, w_down)  # (*batch, C)
    return tap("output", y), SwigluCache(gate_cache, up_cache, silu_cache, activated, up, down_cache)


def swiglu_backward(
    dy: Inexact[Array, "*batch C"], cache: SwigluCache, *, tap: Tap = no_tap
) -> tuple[Inexact[Array, "*batch C"], Inexact[Array, "C F"], Inexact[Array, "C F"], Inexact[Array, "F C"]]:
    r"""Carry dy to x and to the three matrices.

    $$ \mathrm{d}w_{down} = \mathrm{hidden}^\top \mathrm{d}y $$
    $$ \mathrm{d}\mathrm{hidden} = \mathrm{d}y\, w_{down}^\top $$
    $$ \mathrm{d}\mathrm{activated} = \mathrm{d}\mathrm{hidden} \odot \mathrm{up} $$
    $$ \mathrm{d}\mathrm{up} = \mathrm{d}\mathrm{hidden} \odot \mathrm{activated} $$
    $$ \mathrm{d}\mathrm{gate} = \mathrm{d}\mathrm{activated} \odot \mathrm{silu}'(\mathrm{gate}) $$
    $$ \mathrm{d}w_{gate} = x^\top \mathrm{d}\mathrm{gate} $$
    $$ \mathrm{d}w_{up} = x^\top \mathrm{d}\mathrm{up} $$
    $$ \mathrm{d}x = \mathrm{d}\mathrm{gate}\,w_{gate}^\top + \mathrm{d}\mathrm{up}\,w_{up}^\top $$

    A product passes to each factor the gradient times the *other* factor; that is all there is to a gate.
    """
    dhidden, dw_down = linear_backward(tap("output", dy), cache.down_cache)
    dhidden = tap("hidden", dhidden)
    dactivated = tap("activated", dhidden * cache.up)  # hidden = activated * up
    dup = tap("up", dhidden * cache.activated)
    dgate = tap("gate", silu_backward(dactivated, cache.silu_cache))
    dx, dw_gate = linear_backward(dgate, cache.gate_cache)
    dx_up, dw_up = linear_backward(dup, cache.up_cache)
    dx += dx_up
    return dx, dw_gate, dw_up, dw_down
