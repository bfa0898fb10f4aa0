"""The loss of a linear map's logits, in chunks: whatever their size, it is that of linear, then cross_entropy."""

from collections.abc import Callable

import numpy as np
import pytest

from handgrad.layers import (
    IGNORE_INDEX,
    Array,
    cross_entropy_backward,
    cross_entropy_forward,
    linear_backward,
    linear_cross_entropy_backward,
    linear_cross_entropy_forward,
    linear_forward,
)
from handgrad.proof import BAR, Case, check_case, relative_error

B, T, C, V = 2, 5, 4, 7
ALL = B * T
generator = np.random.default_rng(8)
X, W = generator.standard_normal((B, T, C)), generator.standard_normal((C, V))
TARGETS = generator.integers(V, size=(B, T))
DLOSS = np.asarray(generator.standard_normal())

Chunked = Callable[[int], None]


@pytest.fixture
def chunked(monkeypatch: pytest.MonkeyPatch) -> Chunked:
    """Chunks of so many rows, in float64."""
    return lambda rows: monkeypatch.setattr("handgrad.layers.linear_cross_entropy.CHUNK_BYTES", rows * V * 8)


def ignoring(*rows: int) -> Array:
    targets = TARGETS.copy()
    targets.flat[list(rows)] = IGNORE_INDEX
    return targets


def in_two_steps(targets: Array, ignore_index: int = IGNORE_INDEX) -> tuple[Array, ...]:
    """loss, dx, dw, dlogits by the two layers."""
    logits, linear = linear_forward(X, W)
    loss, cross_entropy = cross_entropy_forward(logits, targets, ignore_index=ignore_index)
    dlogits = cross_entropy_backward(DLOSS, cross_entropy)
    return loss, *linear_backward(dlogits, linear), dlogits


@pytest.mark.parametrize("targets", [TARGETS, ignoring(3), ignoring(0, 1, 2), ignoring(*range(1, ALL))])
@pytest.mark.parametrize("rows", [0, 1, 2, 3, ALL, 2 * ALL])
def test_it_equals_linear_and_cross_entropy(rows: int, targets: Array, chunked: Chunked) -> None:
    """With 1, 2 or 3 rows in a chunk all of some chunks is ignored, too."""
    chunked(rows)
    loss, cache = linear_cross_entropy_forward(X, W, targets)
    assert len(cache.chunks) == -(-ALL // max(1, rows))
    for name, found, expected in zip(
        ("loss", "dx", "dw"),
        (loss, *linear_cross_entropy_backward(DLOSS, cache)),
        in_two_steps(targets)[:3],
        strict=True,
    ):
        assert relative_error(found, expected) < 1e-13, name


@pytest.mark.parametrize("rows", [1, 3, ALL])
def test_where_no_target_counts_all_is_zero(rows: int, chunked: Chunked) -> None:
    chunked(rows)
    loss, cache = linear_cross_entropy_forward(X, W, ignoring(*range(ALL)))
    dx, dw = linear_cross_entropy_backward(DLOSS, cache)
    assert (loss.shape, dx.shape, dw.shape) == ((), X.shape, W.shape)
    for x in (loss, dx, dw):
        np.testing.assert_array_equal(x, 0)


@pytest.mark.parametrize("rows", [2, 4, 6])
def test_gradients_of_several_chunks_equal_the_complex_step(rows: int, chunked: Chunked) -> None:
    """In complex numbers, of twice the bytes, there are half as many rows in a chunk."""
    chunked(rows)
    given = {"targets": ignoring(0, 1, 7)}
    case = Case(linear_cross_entropy_forward, linear_cross_entropy_backward, {"x": X, "w": W}, given)
    for verdict in check_case(case, seed=3):
        assert verdict.error <= BAR, verdict


@pytest.mark.parametrize("rows", [1, 3, ALL])
def test_a_tap_sees_the_logits_once_and_whole(rows: int, chunked: Chunked) -> None:
    """In the backward too, and there also where the forward had none and went by chunks."""
    chunked(rows)
    targets = ignoring(0, 1, 2)
    loss, dx, dw, dlogits = in_two_steps(targets)
    seen: list[tuple[str, Array]] = []

    def tap(name: str, x: Array) -> Array:
        seen.append((name, x.copy()))
        return x

    tapped_loss, tapped = linear_cross_entropy_forward(X, W, targets, tap=tap)
    _, untapped = linear_cross_entropy_forward(X, W, targets)
    for cache in (tapped, untapped):
        for found, expected in zip(linear_cross_entropy_backward(DLOSS, cache, tap=tap), (dx, dw), strict=True):
            assert relative_error(found, expected) < 1e-13
    assert relative_error(tapped_loss, loss) < 1e-13
    assert [name for name, _ in seen] == ["logits"] * 3
    for (_, found), expected in zip(seen, (X @ W, dlogits, dlogits), strict=True):
        assert relative_error(found, expected) < 1e-13


def test_what_a_tap_returns_is_gone_on_with(chunked: Chunked) -> None:
    chunked(3)
    loss, cache = linear_cross_entropy_forward(X, W, TARGETS)
    tripled, tripled_cache = linear_cross_entropy_forward(X, W, TARGETS, tap=lambda _, logits: 3 * logits)
    assert relative_error(tripled, linear_cross_entropy_forward(X, 3 * W, TARGETS)[0]) < 1e-13
    assert relative_error(tripled, loss) > 0.1
    for one in (cache, tripled_cache):
        gradients = linear_cross_entropy_backward(DLOSS, one)
        doubled = linear_cross_entropy_backward(DLOSS, one, tap=lambda _, dlogits: 2 * dlogits)
        for found, expected in zip(doubled, gradients, strict=True):
            assert relative_error(found, 2 * expected) < 1e-13


@pytest.mark.parametrize("rows", [1, 3, ALL])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_neither_chunks_nor_dloss_widen_float32(dtype: type, rows: int, chunked: Chunked) -> None:
    chunked(rows)
    loss, cache = linear_cross_entropy_forward(X.astype(np.float32), W.astype(np.float32), ignoring(0, 1, 2))
    gradients = linear_cross_entropy_backward(DLOSS.astype(dtype), cache)
    assert {x.dtype for x in (loss, *gradients)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("rows", [1, 3, ALL])
def test_another_ignore_index_is_ignored(rows: int, chunked: Chunked) -> None:
    chunked(rows)
    ignored = int(TARGETS[0, 0])
    expected = in_two_steps(np.where(ignored == TARGETS, IGNORE_INDEX, TARGETS))[:3]
    loss, cache = linear_cross_entropy_forward(X, W, TARGETS, ignore_index=ignored)
    for found, other in zip((loss, *linear_cross_entropy_backward(DLOSS, cache)), expected, strict=True):
        assert relative_error(found, other) < 1e-13
