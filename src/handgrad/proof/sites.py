"""Where each tensor of a model comes from: its axes, and the functions whose formulas make it and its gradient."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from .. import layers
from ..model import block_backward, block_forward
from .case import Case
from .formulas import axes_of


class Source(NamedTuple):
    """A function, and what its docstring's formula calls what it makes."""

    function: Callable[..., Any]
    symbol: str


class Site(NamedTuple):
    axes: str
    forward: Source | None
    """What makes the tensor; none where it is given, as parameters are."""
    backward: Source | None
    """What makes its gradient; none where that is given, as the loss's is."""
    follows: str | None = None
    """Of a parameter: the activation whose cotangent its gradient is made from."""


def _parameter(axes: str, function: Callable[..., Any], symbol: str, follows: str) -> Site:
    return Site(axes, None, Source(function, symbol), follows)


def _norm(scope: str, reader: Callable[..., Any]) -> dict[str, Site]:
    """A norm, whose output only `reader`'s layer reads."""
    forward, backward = layers.layer_norm_forward, layers.layer_norm_backward
    return {
        f"{scope}.output": Site("B T C", Source(forward, "y"), Source(reader, "dx")),
        f"{scope}.gamma": _parameter("C", backward, "dgamma", f"{scope}.output"),
        f"{scope}.beta": _parameter("C", backward, "dbeta", f"{scope}.output"),
    }


_heads, _heads_back = layers.multi_head_attention_forward, layers.multi_head_attention_backward
_head, _head_back = layers.causal_attention_forward, layers.causal_attention_backward
_fed, _fed_back = layers.swiglu_forward, layers.swiglu_backward
_loss, _loss_back = layers.linear_cross_entropy_forward, layers.linear_cross_entropy_backward

SITES: dict[str, Site] = {
    "embedding.output": Site("B T C", Source(layers.positions_forward, "y"), Source(block_backward, "dx")),
    "embedding.token": _parameter("V C", layers.embedding_backward, "dtable", "embedding.output"),
    "embedding.position": _parameter("context C", layers.positions_backward, "dtable", "embedding.output"),
    **_norm("norm_1", _heads_back),
    "attention.q": Site("B H T D", Source(_heads, "q"), Source(_head_back, "dq")),
    "attention.k": Site("B H S D", Source(_heads, "k"), Source(_head_back, "dk")),
    "attention.v": Site("B H S D", Source(_heads, "v"), Source(_head_back, "dv")),
    "attention.scores": Site("B H T S", Source(_head, "scores"), Source(_head_back, "dscores")),
    "attention.masked_scores": Site("B H T S", Source(_head, "masked_scores"), Source(_head_back, "dmasked_scores")),
    "attention.weights": Site("B H T S", Source(_head, "weights"), Source(_head_back, "dweights")),
    "attention.context": Site("B H T D", Source(_head, "y"), Source(_heads_back, "dcontext")),
    "attention.output": Site("B T C", Source(_heads, "y"), Source(block_backward, "dattention")),
    "attention.w_q": _parameter("C C", _heads_back, "dw_q", "attention.q"),
    "attention.w_k": _parameter("C C", _heads_back, "dw_k", "attention.k"),
    "attention.w_v": _parameter("C C", _heads_back, "dw_v", "attention.v"),
    "attention.w_o": _parameter("C C", _heads_back, "dw_o", "attention.output"),
    "residual_1": Site("B T C", Source(block_forward, "residual_1"), Source(block_backward, "dresidual_1")),
    **_norm("norm_2", _fed_back),
    "feed_forward.gate": Site("B T F", Source(_fed, "gate"), Source(_fed_back, "dgate")),
    "feed_forward.up": Site("B T F", Source(_fed, "up"), Source(_fed_back, "dup")),
    "feed_forward.activated": Site("B T F", Source(_fed, "activated"), Source(_fed_back, "dactivated")),
    "feed_forward.hidden": Site("B T F", Source(_fed, "hidden"), Source(_fed_back, "dhidden")),
    "feed_forward.output": Site("B T C", Source(_fed, "y"), Source(block_backward, "dfeed_forward")),
    "feed_forward.w_gate": _parameter("C F", _fed_back, "dw_gate", "feed_forward.gate"),
    "feed_forward.w_up": _parameter("C F", _fed_back, "dw_up", "feed_forward.up"),
    "feed_forward.w_down": _parameter("F C", _fed_back, "dw_down", "feed_forward.output"),
    "residual_2": Site("B T C", Source(block_forward, "residual_2"), Source(block_backward, "dx")),
    **_norm("norm", _loss_back),
    "head.logits": Site("B T V", Source(_loss, "logits"), Source(layers.cross_entropy_backward, "dlogits")),
    "head.w_lm": _parameter("C V", _loss_back, "dw", "head.logits"),
    "loss": Site("", Source(_loss, "loss"), None),
}

SCOPES = {
    "causal_attention": "attention.",
    "attention_tiles": "attention.",
    "multi_head_attention": "attention.",
    "swiglu": "feed_forward.",
    "linear_cross_entropy": "head.",
}
"""Where in a model the taps of a layer by itself are."""


def site_of(case: Case, layer: str, name: str) -> Site:
    """The site of an input, an output or an activation of this layer's case."""
    in_model = SITES.get(SCOPES.get(layer, "") + re.sub(r"^blocks\.\d+\.", "", name))
    if layer in ("block", "gpt"):
        if name == "x":
            return Site("B T C", None, Source(block_backward, "dx"))
        if name == "y":
            return SITES["residual_2"]._replace(backward=None)
        config = case.given["config"]
        if layer == "gpt" and name == f"blocks.{config.layers - 1}.residual_2":
            reader = _loss_back if config.norm == "none" else layers.layer_norm_backward
            return SITES["residual_2"]._replace(backward=Source(reader, "dx"))
        if in_model:
            return in_model
    axes = axes_of(case.forward)
    if name == case.output:
        return Site(axes["return"], Source(case.forward, name), None)
    if name in case.inputs:
        return Site(axes[name], None, Source(case.backward, f"d{name}"), in_model.follows if in_model else None)
    if name in case.given:
        return Site(axes.get(name, ""), None, None)
    if in_model is None:
        raise LookupError(f"{layer} has no {name}")
    return in_model


def follows(case: Case, layer: str, name: str) -> str | None:
    """The activation whose cotangent the gradient of this input is made from, as the layer's case names it."""
    source = site_of(case, layer, name).follows
    if source is None:
        return None
    return f"{name.rpartition('.')[0]}.{source.rpartition('.')[2]}".removeprefix(".")
