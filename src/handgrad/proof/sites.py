"""Where each tensor of a model comes from: its axes, and the functions whose formulas make it and its gradient."""

import re
from collections.abc import Callable, Collection
from functools import cache
from typing import Any, NamedTuple

from .. import layers
from ..model import block_backward, block_forward
from ..model.gpt import with_head
from .case import Case
from .cases import LAYER_OF
from .formulas import axes_of

Function = Callable[..., Any]


class Source(NamedTuple):
    """A function, and what its docstring's formula calls what it makes."""

    function: Function
    symbol: str


class Site(NamedTuple):
    axes: str
    forward: Source | None
    """What makes the tensor; none where it is given, as parameters are."""
    backward: Source | None
    """What makes its gradient: of an activation the backward of what reads it; none where that is given, as the
    loss's is."""
    follows: str | None = None
    """Of a parameter: the activation whose cotangent its gradient is made from."""


Sites = dict[str, Site]

_attend, _attend_back = layers.multi_head_attention_forward, layers.multi_head_attention_backward
_head, _head_back = layers.causal_attention_forward, layers.causal_attention_backward
_gated, _gated_back = layers.swiglu_forward, layers.swiglu_backward
_fed, _fed_back = layers.mlp_forward, layers.mlp_backward
_loss, _loss_back = layers.linear_cross_entropy_forward, layers.linear_cross_entropy_backward


def sites_of(case: Case) -> Sites:
    """The tensors of a model of the case's parts, by their names, those of a block by their names within it.

    The names of a model's parameters, or of a layer's by itself, tell its parts; but for the rotation, which has none,
    and which norm it is.
    """
    config = case.given.get("config")
    rotary = config.rotary if config else case.given.get("rotary")
    norm = config.norm if config else "none"
    return _sites(frozenset(name.rpartition(".")[2] for name in case.inputs), rotary is not None, norm)


@cache
def _sites(parameters: frozenset[str], rotary: bool, norm: str) -> Sites:
    gated, tied, learned = "w_gate" in parameters, "w_lm" not in parameters, "position" in parameters
    embedding = layers.positions_forward if learned else layers.embedding_forward
    dtoken = Source(with_head, "dtoken") if tied else Source(layers.embedding_backward, "dtable")
    sites = {
        "embedding.output": Site("B T C", Source(embedding, "y"), Source(block_backward, "dx")),
        "embedding.token": Site("V C", None, dtoken, "embedding.output"),
        "embedding.position": _parameter("context C", layers.positions_backward, "dtable", "embedding.output"),
        **_norm("norm_1", norm, _attend_back),
        **_heads("q", "B H T D", "HD", parameters, rotary),
        **_heads("k", "B G S D", "GD", parameters, rotary),
        **_heads("v", "B G S D", "GD", parameters, rotary=False),
        "attention.scores": Site("B H T S", Source(_head, "scores"), Source(_head_back, "dscores")),
        "attention.masked_scores": Site(
            "B H T S", Source(_head, "masked_scores"), Source(_head_back, "dmasked_scores")
        ),
        "attention.weights": Site("B H T S", Source(_head, "weights"), Source(_head_back, "dweights")),
        "attention.context": Site("B H T D", Source(_head, "y"), Source(_attend_back, "dcontext")),
        "attention.output": Site("B T C", Source(_attend, "y"), Source(block_backward, "dattention")),
        "attention.w_o": _parameter("HD C", _attend_back, "dw_o", "attention.output"),
        "attention.b_o": _parameter("C", _attend_back, "db_o", "attention.output"),
        "residual_1": Site("B T C", Source(block_forward, "residual_1"), Source(block_backward, "dresidual_1")),
        **_norm("norm_2", norm, _gated_back if gated else _fed_back),
        **(_swiglu() if gated else _mlp()),
        "residual_2": Site("B T C", Source(block_forward, "residual_2"), Source(block_backward, "dx")),
        **_norm("norm", norm, _loss_back),
        "head.logits": Site("B T V", Source(_loss, "logits"), Source(layers.cross_entropy_backward, "dlogits")),
        "head.w_lm": _parameter("C V", _loss_back, "dw", "head.logits"),
        "loss": Site("", Source(_loss, "loss"), None),
    }
    return {name: site for name, site in sites.items() if site.forward or name.rpartition(".")[2] in parameters}


def _parameter(axes: str, function: Function, symbol: str, follows: str) -> Site:
    return Site(axes, None, Source(function, symbol), follows)


def _norm(scope: str, norm: str, reader: Function) -> Sites:
    """A norm, whose output only `reader`'s layer reads; nothing where there is none."""
    if norm == "none":
        return {}
    of_rows: tuple[Function, Function] = layers.rms_norm_forward, layers.rms_norm_backward
    of_centred_rows = layers.layer_norm_forward, layers.layer_norm_backward
    forward, backward = of_centred_rows if norm == "layer" else of_rows
    return {
        f"{scope}.output": Site("B T C", Source(forward, "y"), Source(reader, "dx")),
        f"{scope}.gamma": _parameter("C", backward, "dgamma", f"{scope}.output"),
        f"{scope}.beta": _parameter("C", backward, "dbeta", f"{scope}.output"),
    }


def _heads(name: str, axes: str, width: str, parameters: Collection[str], rotary: bool) -> Sites:
    """Queries, keys or values on their way: each step is read by the next one, the last by attention."""
    steps = [(f"attention.{name}", Source(_attend, name), Source(_head_back, f"d{name}"))]
    if f"gamma_{name}" in parameters:
        norm = Source(layers.rms_norm_forward, "y"), Source(layers.rms_norm_backward, "dx")
        steps.append((f"attention.{name}_normed", *norm))
    if rotary:
        turn = Source(layers.rotary_forward, "y"), Source(layers.rotary_backward, "dx")
        steps.append((f"attention.{name}_rotated", *turn))
    readers = [reader for _, _, reader in (*steps[1:], steps[0])]
    return {
        **{key: Site(axes, forward, reader) for (key, forward, _), reader in zip(steps, readers, strict=True)},
        f"attention.w_{name}": _parameter(f"C {width}", _attend_back, f"dw_{name}", f"attention.{name}"),
        f"attention.b_{name}": _parameter(width, _attend_back, f"db_{name}", f"attention.{name}"),
        f"attention.gamma_{name}": _parameter("D", layers.rms_norm_backward, "dgamma", f"attention.{name}_normed"),
    }


def _swiglu() -> Sites:
    return {
        "feed_forward.gate": Site("B T F", Source(_gated, "gate"), Source(_gated_back, "dgate")),
        "feed_forward.up": Site("B T F", Source(_gated, "up"), Source(_gated_back, "dup")),
        "feed_forward.activated": Site("B T F", Source(_gated, "activated"), Source(_gated_back, "dactivated")),
        "feed_forward.hidden": Site("B T F", Source(_gated, "hidden"), Source(_gated_back, "dhidden")),
        "feed_forward.output": Site("B T C", Source(_gated, "y"), Source(block_backward, "dfeed_forward")),
        "feed_forward.w_gate": _parameter("C F", _gated_back, "dw_gate", "feed_forward.gate"),
        "feed_forward.w_up": _parameter("C F", _gated_back, "dw_up", "feed_forward.up"),
        "feed_forward.w_down": _parameter("F C", _gated_back, "dw_down", "feed_forward.output"),
    }


def _mlp() -> Sites:
    return {
        "feed_forward.up": Site("B T F", Source(_fed, "up"), Source(_fed_back, "dup")),
        "feed_forward.hidden": Site("B T F", Source(_fed, "hidden"), Source(_fed_back, "dhidden")),
        "feed_forward.output": Site("B T C", Source(_fed, "y"), Source(block_backward, "dfeed_forward")),
        "feed_forward.w_up": _parameter("C F", _fed_back, "dw_up", "feed_forward.up"),
        "feed_forward.w_down": _parameter("F C", _fed_back, "dw_down", "feed_forward.output"),
        "feed_forward.b_up": _parameter("F", _fed_back, "db_up", "feed_forward.up"),
        "feed_forward.b_down": _parameter("C", _fed_back, "db_down", "feed_forward.output"),
    }


SCOPES = {
    "causal_attention": "attention.",
    "multi_head_attention": "attention.",
    "mlp": "feed_forward.",
    "swiglu": "feed_forward.",
    "linear_cross_entropy": "head.",
}
"""Where in a model the taps of a layer by itself are."""


def site_of(case: Case, layer: str, name: str) -> Site:
    """The site of an input, an output or an activation of this layer's case."""
    layer = LAYER_OF.get(layer, layer)
    in_model = sites_of(case).get(SCOPES.get(layer, "") + re.sub(r"^blocks\.\d+\.", "", name))
    if layer in ("block", "gpt"):
        if name == "x":
            return Site("B T C", None, Source(block_backward, "dx"))
        if name == "y":
            return sites_of(case)["residual_2"]._replace(backward=None)
        if layer == "gpt" and name == f"blocks.{case.given['config'].layers - 1}.residual_2":
            last = sites_of(case).get("norm.gamma")  # None where there is no norm
            reader = last.backward.function if last and last.backward else _loss_back
            return sites_of(case)["residual_2"]._replace(backward=Source(reader, "dx"))
        if in_model:
            return in_model
    axes = axes_of(case.forward)
    if name == case.output:
        return Site(axes["return"], Source(case.forward, name), None)
    if name in case.inputs:
        made, follows = (in_model.backward, in_model.follows) if in_model else (None, None)
        return Site(axes[name], None, made or Source(case.backward, f"d{name}"), follows)
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
