"""The dataflow of a model: which tensor is made of which, and what comes back along each of these edges."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..layers import Array, EmbeddingCache, LinearCache, embedding_backward, linear_backward, merge_heads
from ..model import GPTParameters, ModelConfig, NormParameters, build_tree, norm_backward, norm_forward
from ..proof import Trace
from ..proof.sites import follows
from .mutants import error_of
from .tensors import plain


class Edge(NamedTuple):
    """From a tensor to one that is made of it."""

    source: str
    target: str
    weight: str | None = None
    """The parameter that multiplied the source, where one did."""
    norm: NormParameters | None = None
    """Of the norm that the source went through, where it did. Through neither, it was added, or there was no choice."""


class Path(NamedTuple):
    """An edge, and the gradient that comes back along it."""

    source: str
    target: str
    norm: float | None
    """The Euclidean norm of that gradient."""
    share: float | None
    r"""Of the source's whole gradient d, to which all its paths add up: $\langle p, d \rangle / \langle d, d \rangle$
    for a path's p. The shares add up to 1; one below 0 pulls against the others."""


def edges_of(traced: Trace) -> list[Edge]:
    """All edges of the traced model, in the order of the dataflow; tokens and targets, without gradients, have none."""
    tree = build_tree(traced.config, lambda name, _: traced.parameters[name])
    edges = [*_between_activations(traced.config, tree)]
    case = traced.case()
    for name in traced.parameters:
        target = follows(case, "gpt", name)
        if target is None:
            raise LookupError(f"{name}: no site says what its gradient is made from")
        edges.append(Edge(name, target))
    if traced.config.tied:
        edges.append(Edge("embedding.token", "head.logits"))
    order = {name: n for n, name in enumerate(traced.activations)}
    return sorted(edges, key=lambda edge: order[edge.target])


def paths_of(traced: Trace) -> tuple[list[Path], dict[str, float | None]]:
    """What comes back along each edge; and for each tensor that several edges leave, how far these are from adding up
    to its gradient in the trace, as a relative error. What is not finite is None.

    Where branches meet, each is computed anew by its layer's backward, so that the sum is a check.
    """
    edges = edges_of(traced)
    leaving: dict[str, list[Edge]] = {}
    for edge in edges:
        leaving.setdefault(edge.source, []).append(edge)
    paths: dict[tuple[str, str], Path] = {}
    errors = {}
    for source, branches in leaving.items():
        whole = traced.gradients[source] if source in traced.gradients else traced.cotangents[source]
        if len(branches) == 1:
            (edge,) = branches
            paths[source, edge.target] = Path(source, edge.target, plain(np.linalg.norm(whole)), 1.0)
            continue
        parts = [_sent_back(edge, traced) for edge in branches]
        errors[source] = plain(error_of(np.sum(parts, axis=0), whole))
        total = float(np.vdot(whole, whole))
        for edge, part in zip(branches, parts, strict=True):
            share = plain(float(np.vdot(part, whole)) / total) if total else 0.0
            paths[source, edge.target] = Path(source, edge.target, plain(np.linalg.norm(part)), share)
    return [paths[edge.source, edge.target] for edge in edges], errors


def _between_activations(config: ModelConfig, tree: GPTParameters) -> Iterator[Edge]:
    stream = "embedding.output"
    for n, block in enumerate(tree.blocks):
        scope = f"blocks.{n}"
        heads = f"{scope}.attention"
        reader = stream
        if block.norm_1 is not None:
            reader = f"{scope}.norm_1.output"
            yield Edge(stream, reader, norm=block.norm_1)
        last = {}
        for name in "qkv":
            yield Edge(reader, f"{heads}.{name}", weight=f"{heads}.w_{name}")
            steps = [f"{heads}.{name}"]
            if config.query_key_norm and name != "v":
                steps.append(f"{heads}.{name}_normed")
            if config.rotary is not None and name != "v":
                steps.append(f"{heads}.{name}_rotated")
            yield from map(Edge, steps, steps[1:])
            last[name] = steps[-1]
        yield Edge(last["q"], f"{heads}.scores")
        yield Edge(last["k"], f"{heads}.scores")
        chain = [f"{heads}.{name}" for name in ("scores", "masked_scores", "weights", "context", "output")]
        yield from map(Edge, chain, chain[1:])
        yield Edge(last["v"], f"{heads}.context")
        yield Edge(chain[-1], f"{scope}.residual_1")
        if config.residual:
            yield Edge(stream, f"{scope}.residual_1")
        stream = reader = f"{scope}.residual_1"
        if block.norm_2 is not None:
            reader = f"{scope}.norm_2.output"
            yield Edge(stream, reader, norm=block.norm_2)
        fed = f"{scope}.feed_forward"
        yield Edge(reader, f"{fed}.up", weight=f"{fed}.w_up")
        if config.feed_forward == "swiglu":
            yield Edge(reader, f"{fed}.gate", weight=f"{fed}.w_gate")
            yield Edge(f"{fed}.gate", f"{fed}.activated")
            yield Edge(f"{fed}.activated", f"{fed}.hidden")
        yield Edge(f"{fed}.up", f"{fed}.hidden")
        yield Edge(f"{fed}.hidden", f"{fed}.output")
        yield Edge(f"{fed}.output", f"{scope}.residual_2")
        if config.residual:
            yield Edge(stream, f"{scope}.residual_2")
        stream = f"{scope}.residual_2"
    if tree.norm is not None:
        yield Edge(stream, "norm.output", norm=tree.norm)
        stream = "norm.output"
    yield Edge(stream, "head.logits")
    yield Edge("head.logits", "loss")


def _sent_back(edge: Edge, traced: Trace) -> Array:
    """The part of the source's gradient that the target's cotangent sends there."""
    dtarget = traced.cotangents[edge.target]
    if edge.source == "embedding.token":
        return _to_the_table(edge, dtarget, traced)
    x = traced.activations[edge.source]
    if edge.norm is not None:
        _, cache = norm_forward(x, edge.norm, traced.config.norm_epsilon)
        return norm_backward(dtarget, cache)[0]
    if edge.weight is not None:
        rows = merge_heads(dtarget) if dtarget.ndim == 4 else dtarget
        return linear_backward(rows, LinearCache(x, traced.parameters[edge.weight]))[0]
    return dtarget  # it was added


def _to_the_table(edge: Edge, dtarget: Array, traced: Trace) -> Array:
    """A tied table of tokens served at the bottom, row by row, and at the top, as a matrix."""
    table = traced.parameters["embedding.token"]
    if edge.target == "embedding.output":
        return embedding_backward(dtarget, EmbeddingCache(traced.tokens, len(table)))
    normed = traced.activations[_below_the_head(traced)]
    return linear_backward(dtarget, LinearCache(normed, table.T))[1].T


def _below_the_head(traced: Trace) -> str:
    names = list(traced.activations)
    return names[names.index("head.logits") - 1]
