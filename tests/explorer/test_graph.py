"""The dataflow: every tensor is in it, and what comes back along an edge is what that branch alone would send back."""

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from handgrad.explorer.graph import Path, edges_of, paths_of
from handgrad.layers import Array
from handgrad.proof import Trace, trace
from handgrad.proof.derivative import COMPLEX_STEP
from tests.reference import layer_norm, rms_norm

from .conftest import model_of
from .kinds import KINDS, model_of_kind, traced_of_kind

kinds = pytest.mark.parametrize("kind", KINDS)


def gradient_of(traced: Trace, name: str) -> Array:
    return (traced.cotangents | traced.gradients)[name]


def forked(traced: Trace) -> list[Path]:
    """The paths of those tensors that more than one edge leaves."""
    paths = paths_of(traced)[0]
    leaving = Counter(path.source for path in paths)
    return [path for path in paths if leaving[path.source] > 1]


@kinds
def test_the_nodes_are_the_tensors_of_the_trace(kind: str) -> None:
    traced = traced_of_kind(kind)
    edges = edges_of(traced)
    sources, targets = {edge.source for edge in edges}, {edge.target for edge in edges}
    assert sources | targets == {*traced.activations, *traced.parameters}
    assert {*traced.activations} - sources == {"loss"}
    assert {*traced.parameters} <= sources - targets
    assert {*traced.activations} == targets  # the embedding's output is made of its tables
    pairs = [(edge.source, edge.target) for edge in edges]
    assert len(pairs) == len({*pairs})
    order = [*traced.activations]
    places = [order.index(edge.target) for edge in edges]
    assert places == sorted(places)
    assert all(
        edge.source in traced.parameters or order.index(edge.source) < order.index(edge.target) for edge in edges
    )


BLOCK = """
norm_1.output attention.q; norm_1.output attention.k; norm_1.output attention.v
attention.q attention.scores; attention.k attention.scores; attention.scores attention.masked_scores
attention.masked_scores attention.weights; attention.weights attention.context; attention.v attention.context
attention.context attention.output; attention.output residual_1; residual_1 norm_2.output; residual_1 residual_2
norm_2.output feed_forward.gate; norm_2.output feed_forward.up; feed_forward.gate feed_forward.activated
feed_forward.activated feed_forward.hidden; feed_forward.up feed_forward.hidden; feed_forward.hidden feed_forward.output
feed_forward.output residual_2
norm_1.gamma norm_1.output; norm_1.beta norm_1.output; norm_2.gamma norm_2.output; norm_2.beta norm_2.output
attention.w_q attention.q; attention.w_k attention.k; attention.w_v attention.v; attention.w_o attention.output
feed_forward.w_gate feed_forward.gate; feed_forward.w_up feed_forward.up; feed_forward.w_down feed_forward.output
"""


def test_the_edges_of_the_default_model_are_these() -> None:
    expected = [("embedding.token", "embedding.output"), ("embedding.position", "embedding.output")]
    for n, stream in enumerate(["embedding.output", "blocks.0.residual_2"]):
        scope = f"blocks.{n}."
        for pair in BLOCK.replace("\n", ";").strip("; ").split(";"):
            source, target = pair.split()
            expected.append((scope + source, scope + target))
        expected += [(stream, f"{scope}norm_1.output"), (stream, f"{scope}residual_1")]
    expected += [("blocks.1.residual_2", "norm.output"), ("norm.gamma", "norm.output"), ("norm.beta", "norm.output")]
    expected += [("norm.output", "head.logits"), ("head.w_lm", "head.logits"), ("head.logits", "loss")]
    assert sorted((edge.source, edge.target) for edge in edges_of(traced_of_kind("default"))) == sorted(expected)


def test_norms_and_turns_of_queries_are_on_the_way_to_the_scores() -> None:
    chain = ["norm_1.output", "attention.q", "attention.q_normed", "attention.q_rotated", "attention.scores"]
    pairs = {(edge.source, edge.target) for edge in edges_of(traced_of_kind("qwen3"))}
    for source, target in pairwise(chain):
        assert (f"blocks.1.{source}", f"blocks.1.{target}") in pairs
    assert ("blocks.1.attention.v", "blocks.1.attention.context") in pairs


@kinds
def test_what_comes_back_adds_up(kind: str) -> None:
    traced = traced_of_kind(kind)
    paths, sums = paths_of(traced)
    assert [(path.source, path.target) for path in paths] == [(edge.source, edge.target) for edge in edges_of(traced)]
    shares: dict[str, float] = {}
    for path in paths:
        assert path.share is not None
        shares[path.source] = shares.get(path.source, 0.0) + path.share
    assert shares == pytest.approx(dict.fromkeys(shares, 1.0), abs=1e-12)
    leaving = Counter(path.source for path in paths)
    assert {*sums} == {source for source, count in leaving.items() if count > 1}
    assert all(error is not None and error <= 1e-14 for error in sums.values())
    for path in paths:
        if leaving[path.source] == 1:
            whole = np.sqrt((gradient_of(traced, path.source) ** 2).sum())
            assert path.norm == pytest.approx(whole, rel=1e-13)
            assert path.share == 1


def made_of(traced: Trace, source: str, target: str, x: Array) -> Any:
    """The target where its source is x and all else is as traced: by its definition, no line of it the library's."""
    scope, _, name = target.rpartition(".")
    parameters = traced.parameters
    if target == "embedding.output":
        position = parameters.get("embedding.position")
        return x[traced.tokens] + (0 if position is None else position[: traced.tokens.shape[1]])
    if target == "head.logits":
        below = next(name for name in ("norm.output", "blocks.1.residual_2") if name in traced.activations)
        return np.einsum("btc,vc->btv", traced.activations[below], x)
    if name.startswith("residual"):
        return traced.activations[target] + (x - traced.activations[source])
    if name in ("q", "k", "v"):
        _, heads, _, D = traced.activations[target].shape
        w = parameters[f"{scope}.w_{name}"].reshape(-1, heads, D)
        b = parameters.get(f"{scope}.b_{name}", np.zeros(heads * D)).reshape(heads, 1, D)
        return np.einsum("btc,chd->bhtd", x, w) + b
    if name in ("gate", "up"):
        return np.einsum("btc,cf->btf", x, parameters[f"{scope}.w_{name}"]) + parameters.get(f"{scope}.b_{name}", 0)
    assert name == "output"
    assert "norm" in scope
    gamma, epsilon = parameters[f"{scope}.gamma"], traced.config.norm_epsilon
    if traced.config.norm == "rms":
        return np.asarray(rms_norm(x, gamma, epsilon))
    return np.asarray(layer_norm(x, gamma, parameters.get(f"{scope}.beta", 0), epsilon))


def derivative_along_branch(traced: Trace, source: str, target: str, direction: Array) -> float:
    """Of the loss, by the complex step, where this branch alone sees the source move."""
    x = (traced.activations | traced.parameters)[source]
    moved = made_of(traced, source, target, x + 1j * COMPLEX_STEP * direction)

    def tap(name: str, y: Array) -> Array:
        return moved if name == target else y

    inputs = {name: x.astype(complex) for name, x in traced.parameters.items()}
    return float(traced.case().run(inputs, tap)[0].imag) / COMPLEX_STEP


@kinds
def test_a_share_is_the_derivative_where_that_branch_alone_sees_the_source_move(kind: str) -> None:
    traced = traced_of_kind(kind)
    branches = forked(traced)
    assert branches
    assert kind not in ("gpt2", "nanogpt", "qwen2", "tied, no norm") or ("embedding.token", "head.logits") in [
        (path.source, path.target) for path in branches
    ]
    for path in branches:
        whole = gradient_of(traced, path.source)
        x = (traced.activations | traced.parameters)[path.source]
        np.testing.assert_allclose(made_of(traced, path.source, path.target, x), traced.activations[path.target], 1e-10)
        along = derivative_along_branch(traced, path.source, path.target, whole)
        assert path.share == pytest.approx(along / (whole * whole).sum(), rel=1e-10, abs=1e-12), path


@pytest.mark.parametrize(
    ("kind", "source", "targets"),
    [
        ("default", "blocks.0.residual_1", ["norm_2.output", "residual_2"]),
        ("default", "blocks.1.norm_1.output", ["attention.q", "attention.k", "attention.v"]),
        ("default", "blocks.1.norm_2.output", ["feed_forward.gate", "feed_forward.up"]),
        ("llama", "blocks.1.residual_1", ["norm_2.output", "residual_2"]),
        ("qwen3", "blocks.1.norm_1.output", ["attention.q", "attention.k", "attention.v"]),
        ("tied, no norm", "blocks.1.residual_1", ["feed_forward.gate", "feed_forward.up", "residual_2"]),
    ],
)
def test_a_norm_is_that_of_the_branch_s_own_gradient(kind: str, source: str, targets: list[str]) -> None:
    traced = trace(model_of_kind(kind), "Hel")
    scope = ".".join(source.split(".")[:2])
    paths = {path.target: path for path in paths_of(traced)[0] if path.source == source}
    assert {*paths} == {f"{scope}.{target}" for target in targets}
    for target, path in paths.items():
        part = np.zeros(traced.activations[source].shape)
        for index in np.ndindex(part.shape):
            direction = np.zeros(part.shape)
            direction[index] = 1
            part[index] = derivative_along_branch(traced, source, target, direction)
        assert path.norm == pytest.approx(np.sqrt((part**2).sum()), rel=1e-11)


def test_a_tied_table_has_what_comes_from_the_top_and_from_the_bottom() -> None:
    traced = traced_of_kind("gpt2")
    paths = {path.target: path for path in paths_of(traced)[0] if path.source == "embedding.token"}
    top = np.einsum("btv,btc->vc", traced.cotangents["head.logits"], traced.activations["norm.output"])
    bottom = np.zeros_like(top)
    for t, token in enumerate(traced.tokens[0]):
        bottom[token] += traced.cotangents["embedding.output"][0, t]
    for target, part in (("head.logits", top), ("embedding.output", bottom)):
        assert paths[target].norm == pytest.approx(np.sqrt((part**2).sum()), rel=1e-13)


@pytest.mark.parametrize("kind", ["default", "gpt2"])
def test_where_no_target_counts_nothing_comes_back_and_nothing_is_wrong(kind: str) -> None:
    model, known = model_of_kind(kind), traced_of_kind(kind)
    paths, sums = paths_of(trace(model, known.tokens, np.full_like(known.targets, -100)))
    assert {path.norm for path in paths} == {0.0}
    assert {*sums.values()} == {0.0}


def test_what_is_not_finite_is_none() -> None:
    model = model_of()
    model.parameters["blocks.0.attention.w_q"][0, 0] = np.nan
    with np.errstate(all="ignore"):
        paths, sums = paths_of(trace(model, "ab c"))
    assert {path.norm for path in paths if path.target == "blocks.1.attention.q"} == {None}
    assert sums["blocks.1.norm_1.output"] is None
