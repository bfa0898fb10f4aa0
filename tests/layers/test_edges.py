"""Numbers at the edge: huge scores, rows of one number, numbers below the smallest normal one, and where float ends."""

from decimal import Decimal, localcontext
from functools import cache
from typing import Any

import numpy as np
import pytest

from handgrad import layers
from handgrad.layers import Array
from handgrad.proof import BAR, Case, all_cases, check_case, making, relative_error
from handgrad.proof.making import Maker, Sizes
from tests.layers.conftest import EVERYTHING, Tiled
from tests.reference import visible

CASES = all_cases(seed=1)
EPSILON = 1e-5
"""Of the norms."""
HUGE: list[tuple[Any, float]] = [
    (np.float32, 1e4),
    (np.float32, 1e30),
    (np.float64, 1e4),
    (np.float64, 1e30),
    (np.float64, 1e300),
]
T = 9
normal = np.random.default_rng(2).standard_normal
make = Maker(np.random.default_rng(2), Sizes(B=2, T=5, C=6, H=3, F=7, V=9))


def few(dtype: Any) -> float:
    """Some roundings."""
    return 50 * float(np.finfo(dtype).eps)


def mixtures(dtype: Any, size: float) -> Array:
    """Rows with one number that is huge, one hugely negative, one of each, two or four of one size, all of any size."""
    rows = [
        [size, 0.3, -1.2, 0.7],
        [-size, 0.3, -1.2, 0.7],
        [0.3, -size, size, 0.7],
        [size, -size, 0.7, size],
        [size, size, size, size],
        [-size, -size / 2, -size, -size / 2],
    ]
    return np.array(rows, dtype)


@cache
def exact(row: tuple[float, ...]) -> tuple[list[Decimal], Decimal]:
    """The softmax of a row and the logarithm of its total, in so many digits that a 1 still counts beside 1e300."""
    with localcontext(prec=420):
        exponentials = [(Decimal(z) - Decimal(max(row))).exp() for z in row]
        total = sum(exponentials, Decimal(0))
        return [e / total for e in exponentials], Decimal(max(row)) + total.ln()


def exact_softmax(z: Array) -> Array:
    return np.array([[float(p) for p in exact(tuple(map(float, row)))[0]] for row in z])


def exact_surprise(row: Array, target: int) -> float:
    with localcontext(prec=420):
        return float(exact(tuple(map(float, row)))[1] - Decimal(float(row[target])))


def undo_softmax(dy: Array, y: Array) -> Array:
    return np.asarray(y * (dy - (dy * y).sum(axis=-1, keepdims=True)))


def assert_agrees(found: Array, expected: Array, bar: float) -> None:
    """Within the bar, and where 0 is expected, it is 0."""
    assert relative_error(found, expected) <= bar
    np.testing.assert_array_equal(found[expected == 0], 0)


@pytest.mark.parametrize(("dtype", "size"), HUGE)
def test_softmax_of_huge_scores(dtype: Any, size: float) -> None:
    """In the limit it is one-hot, or shared by those that are equal; where it is one-hot its gradient is exactly 0."""
    z = mixtures(dtype, size)
    y, cached = layers.softmax_forward(z)
    expected, dy = exact_softmax(z), normal(z.shape).astype(dtype)
    np.testing.assert_allclose(y, expected, rtol=few(dtype))
    assert_agrees(layers.softmax_backward(dy, cached), undo_softmax(dy, expected), few(dtype))


@pytest.mark.parametrize(("dtype", "size"), HUGE)
def test_cross_entropy_of_huge_logits(dtype: Any, size: float) -> None:
    """Of a target so far below the maximum that is the loss, and the gradient onehot(maximum) - onehot(target)."""
    for row in mixtures(dtype, size):
        for target in range(len(row)):
            dloss = normal()
            loss, cached = layers.cross_entropy_forward(row[None], np.array([target]))
            np.testing.assert_allclose(loss, exact_surprise(row, target), rtol=few(dtype))
            expected = dloss * (exact_softmax(row[None]) - np.eye(len(row))[target])
            found = layers.cross_entropy_backward(np.asarray(dloss, dtype), cached)
            np.testing.assert_allclose(found, expected, rtol=few(dtype), atol=few(dtype) * abs(dloss))
            np.testing.assert_array_equal(found[expected == 0], 0)


@pytest.mark.parametrize("likely", [True, False], ids=["likely targets", "unlikely targets"])
@pytest.mark.parametrize("rows", [1, 4, 6])
@pytest.mark.parametrize(("dtype", "size"), HUGE)
def test_linear_cross_entropy_of_huge_logits(
    dtype: Any, size: float, rows: int, likely: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The logits are those of `mixtures`, exactly: each row of x picks out one of w, in halves of the exponent."""
    monkeypatch.setattr("handgrad.layers.linear_cross_entropy.CHUNK_BYTES", rows * 4 * np.dtype(dtype).itemsize)
    z, root = mixtures(dtype, size), dtype(2.0 ** round(np.log2(size) / 2))
    x, w = root * np.eye(len(z), dtype=dtype), z / root
    targets = z.argmax(axis=-1) if likely else z.argmin(axis=-1)
    loss, cached = layers.linear_cross_entropy_forward(x, w, targets)
    assert len(cached.chunks) == -(-len(z) // rows)
    surprises = [exact_surprise(row, int(target)) for row, target in zip(z, targets, strict=True)]
    np.testing.assert_allclose(loss, np.mean(surprises), rtol=few(dtype))
    dloss = normal()
    dlogits = dloss / len(z) * (exact_softmax(z) - np.eye(z.shape[-1])[targets])
    dx, dw = layers.linear_cross_entropy_backward(np.asarray(dloss, dtype), cached)
    assert_agrees(dw, root * dlogits, few(dtype))
    assert relative_error(dx, dlogits @ w.T.astype(float)) <= few(dtype)


@pytest.mark.parametrize("size", [1e4, 1e30, 1e300])
@pytest.mark.parametrize("name", ["softmax", "cross_entropy"])
def test_gradients_at_huge_scores_equal_the_complex_step(name: str, size: float) -> None:
    z = mixtures(np.float64, size)
    case = CASES[name]._replace(inputs={"z": z})
    if name == "cross_entropy":
        case = case._replace(inputs={"logits": z}, given={"targets": np.array([1, 0, 2, 0, 3, 2])})
    for verdict in check_case(case, seed=3):
        assert verdict.error <= BAR, verdict


@cache
def scored(dtype: Any, size: float, equal: bool = False) -> tuple[Array, Array, Array, Array]:
    """q, k, v, dy of four heads in two groups, whose scores at a scale of 1/2 are exactly ordinary or ± huge numbers:
    each query picks out one entry of the keys; or, all equal, one number."""
    generator = np.random.default_rng(4)
    root = 2.0 ** round(np.log2(size) / 2)
    draw = generator.uniform(size=(1, 2, T, T))
    scores = np.where(draw < 0.35, size, np.where(draw < 0.5, -size, generator.standard_normal(draw.shape)))
    q = 2 * root * np.stack([generator.permutation(np.eye(T)) for _ in range(4)])[None]
    k = np.full_like(scores, size) if equal else scores
    v, dy = generator.standard_normal((1, 2, T, T)), generator.standard_normal((1, 4, T, T))
    q, k, v, dy = (x.astype(dtype) for x in (q, k / root, v, dy))
    return q, k, v, dy


@cache
def attention_by_hand(dtype: Any, size: float, window: int | None, equal: bool = False) -> list[Array]:
    """y, dq, dk, dv by the formulas, with weights that are exact."""
    q, k, v, dy = (x.astype(float) for x in scored(dtype, size, equal))
    y, dq, dk, dv = np.zeros_like(dy), np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    for head in range(4):
        group = head // 2
        scores, weights = 0.5 * q[0, head] @ k[0, group].T, np.zeros((T, T))
        for row, z, seen in zip(weights, scores, visible(T, T, window), strict=True):
            row[seen] = exact_softmax(z[seen][None])[0]
        dscores = 0.5 * undo_softmax(dy[0, head] @ v[0, group].T, weights)
        y[0, head], dq[0, head] = weights @ v[0, group], dscores @ k[0, group]
        dk[0, group] += dscores.T @ q[0, head]
        dv[0, group] += weights.T @ dy[0, head]
    return [y, dq, dk, dv]


@pytest.mark.parametrize("equal", [False, True], ids=["mixed", "equal"])
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("kept", [0, EVERYTHING], ids=["made again", "kept"])
@pytest.mark.parametrize("keys", [512, 2])
@pytest.mark.parametrize(("dtype", "size"), [*HUGE, (np.float64, 1.0)])
def test_attention_of_huge_scores(
    dtype: Any, size: float, keys: int, kept: int, window: int | None, equal: bool, tiled: Tiled
) -> None:
    """Whether those that share the weight are in one tile or in several; equal scores give the mean of the values."""
    tiled(keys, kept)
    q, k, v, dy = scored(dtype, size, equal)
    y, cached = layers.causal_attention_forward(q, k, v, scale=0.5, window=window)
    found = y, *layers.causal_attention_backward(dy, cached)
    by_hand = attention_by_hand(dtype, size, window, equal)
    for name, x, expected in zip(("y", "dq", "dk", "dv"), found, by_hand, strict=True):
        if equal and name == "dq":  # keys of one value: what is left is rounding
            assert np.abs(x).max() <= few(dtype) * np.abs(k).max()
        else:
            assert relative_error(x, expected) <= 2 * few(dtype), name


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("size", [1e4, 1e30])
def test_gradients_of_attention_at_huge_scores_equal_the_complex_step(
    size: float, window: int | None, tiled: Tiled
) -> None:
    """At 1e300 the step, 1e-30, times a key of 1e150 is not small."""
    q, k, v, _ = scored(np.float64, size)
    pair, given = (layers.causal_attention_forward, layers.causal_attention_backward), {"scale": 0.5, "window": window}
    for kept in (0, EVERYTHING):
        tiled(2, kept)
        for verdict in check_case(Case(*pair, {"q": q[:, ::2, :5], "k": k[:, :, :5], "v": v[:, :, :5]}, given)):
            assert verdict.error <= BAR, verdict


@pytest.mark.parametrize("N", [1, 3, 7, 10])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e4, 1e30, 1e-40])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_scores_share_exactly(dtype: Any, value: float, N: int) -> None:
    z, dloss, one = np.full((1, N), value, dtype), normal(), dtype(1)
    np.testing.assert_array_equal(layers.softmax_forward(z)[0], one / dtype(N), strict=False)
    loss, cached = layers.cross_entropy_forward(z, np.array([N - 1]))
    np.testing.assert_allclose(loss, np.log(N), rtol=few(dtype))
    dlogits = layers.cross_entropy_backward(np.asarray(dloss, dtype), cached)
    np.testing.assert_allclose(dlogits, dloss * (1 / N - np.eye(N)[-1:]), rtol=few(dtype))


CONSTANTS: list[tuple[Any, float]] = [
    *((np.float32, c) for c in (0.0, 1e-40, -3.0, 2.0**40, -(2.0**60))),
    *((np.float64, c) for c in (0.0, 1e-310, -3.0, 2.0**100, -(2.0**500))),
]


@pytest.mark.parametrize("C", [1, 6])
@pytest.mark.parametrize(("dtype", "value"), CONSTANTS)
def test_layer_norm_of_rows_of_one_number(dtype: Any, value: float, C: int) -> None:
    """x_hat is 0, and with it two of the terms of dx; what is left is (dx_hat - mean(dx_hat)) / sqrt(epsilon)."""
    dy, gamma, beta = normal((3, C)).astype(dtype), normal(C).astype(dtype), normal(C).astype(dtype)
    y, cached = layers.layer_norm_forward(np.full((3, C), value, dtype), gamma, beta)
    dx, dgamma, dbeta = layers.layer_norm_backward(dy, cached)
    np.testing.assert_array_equal(y, np.broadcast_to(beta, y.shape))
    np.testing.assert_array_equal(dgamma, 0)
    dx_hat = dy.astype(float) * gamma
    expected = (dx_hat - dx_hat.mean(axis=-1, keepdims=True)) / np.sqrt(EPSILON)
    np.testing.assert_allclose(dx, expected, rtol=0, atol=few(dtype) * np.abs(dx_hat).max() / np.sqrt(EPSILON))
    assert dbeta is not None
    np.testing.assert_allclose(dbeta, dy.astype(float).sum(axis=0), rtol=10 * few(dtype))


@pytest.mark.parametrize(("dtype", "value"), CONSTANTS)
def test_rms_norm_of_rows_of_one_number(dtype: Any, value: float) -> None:
    """y = gamma c / r and dx = (dx_hat - mean(dx_hat) c²/r²) / r, with r = sqrt(c² + epsilon)."""
    dy, gamma = normal((3, 6)).astype(dtype), normal(6).astype(dtype)
    y, cached = layers.rms_norm_forward(np.full((3, 6), value, dtype), gamma)
    dx, dgamma = layers.rms_norm_backward(dy, cached)
    c, dx_hat = float(dtype(value)), dy.astype(float) * gamma
    r = np.hypot(c, np.sqrt(EPSILON))
    np.testing.assert_allclose(y, np.broadcast_to(gamma.astype(float) * (c / r), y.shape), rtol=few(dtype))
    expected = (dx_hat - dx_hat.mean(axis=-1, keepdims=True) * (c / r) ** 2) / r
    assert relative_error(dx, expected) <= few(dtype)
    np.testing.assert_allclose(dgamma, dy.astype(float).sum(axis=0) * (c / r), rtol=10 * few(dtype))


@pytest.mark.parametrize(("dtype", "value"), [(np.float32, 54321.1), (np.float64, 0.1), (np.float64, 1e30)])
def test_a_limit_of_layer_norm_is_the_rounding_of_the_mean(dtype: Any, value: float) -> None:
    """Where that is not small beside sqrt(epsilon), a row of one number is 0 no longer; but never beyond ±1."""
    y, _ = layers.layer_norm_forward(np.full((1, 6), value, dtype), np.ones(6, dtype))
    off = 6 * np.finfo(dtype).eps * value
    assert np.abs(y).max() <= min(1, off / np.sqrt(EPSILON))
    assert (y == y[0, 0]).all()


@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 1e20), (np.float64, 1e155)])
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_a_mean_square_that_overflows_is_seen(name: str, dtype: Any, size: float) -> None:
    """Divided by infinity a row would be 0, and so would its gradient, and nobody would know."""
    case = CASES[name]
    inputs = {tensor: x.astype(dtype) for tensor, x in case.inputs.items()}
    inputs["x"] = (size * case.inputs["x"]).astype(dtype)
    with np.errstate(all="ignore"):
        y, cached = case.run(inputs)
        dx = case.gradients(normal(y.shape).astype(dtype), cached)["x"]
    assert np.isnan(y).all()
    assert np.isnan(dx).all()


@pytest.mark.parametrize(
    ("dtype", "size"), [(np.float32, 1e4), (np.float32, 1e38), (np.float64, 1e4), (np.float64, 1e308)]
)
@pytest.mark.parametrize("name", ["silu", "gelu"])
def test_activations_far_out(name: str, dtype: Any, size: float) -> None:
    """To the left 0, to the right x; their slopes 0 and 1: all but for what is nothing beside any number."""
    case = CASES[name]
    x = np.array([-size, size], dtype)
    y, cached = case.run({"x": x})
    dy = normal(2).astype(dtype)
    least = float(np.finfo(dtype).max) ** -0.85
    np.testing.assert_allclose(y, [0, x[1]], rtol=0, atol=least)
    np.testing.assert_allclose(case.gradients(dy, cached)["x"], [0, dy[1]], rtol=0, atol=least)


SUBNORMAL: list[tuple[Any, float]] = [(np.float32, 1e-40), (np.float64, 1e-310)]


@pytest.mark.parametrize("cotangent", [True, False], ids=["with its cotangent", "inputs alone"])
@pytest.mark.parametrize(("dtype", "size"), SUBNORMAL)
@pytest.mark.parametrize("name", CASES)
def test_all_is_finite_where_numbers_are_subnormal(name: str, dtype: Any, size: float, cotangent: bool) -> None:
    case = CASES[name]
    y, cached = case.run({tensor: (size * x).astype(dtype) for tensor, x in case.inputs.items()})
    dy = np.asarray(normal(y.shape) * (size if cotangent else 1)).astype(dtype)
    for tensor, x in {"y": y, **case.gradients(dy, cached)}.items():
        assert np.isfinite(x).all(), tensor


@pytest.mark.parametrize(("dtype", "factor"), [(np.float32, 2.0**-142), (np.float64, 2.0**-1067)])
@pytest.mark.parametrize(
    ("case", "scaled"),
    [
        (making.linear(make), ["x"]),
        (making.linear(make), ["w"]),
        (making.bias(make), ["x", "b"]),
        (making.embedding(make), ["table"]),
        (making.positions(make), ["x", "table"]),
    ],
    ids=lambda part: part.forward.__name__ if isinstance(part, Case) else "+".join(part),
)
def test_what_is_linear_is_so_to_the_last_subnormal_bit(
    case: Case, scaled: list[str], dtype: Any, factor: float
) -> None:
    """Small whole numbers, times a power of two at which they are subnormal: each product and sum is exact."""
    generator = np.random.default_rng(5)
    inputs = {name: generator.integers(-9, 10, x.shape).astype(dtype) for name, x in case.inputs.items()}
    y, cached = case.run(inputs)
    dy = generator.integers(-9, 10, y.shape).astype(dtype)
    small, _ = case.run(inputs | {name: inputs[name] * dtype(factor) for name in scaled})
    assert 0 < np.abs(small).max() < np.finfo(dtype).tiny
    np.testing.assert_array_equal(small, y * dtype(factor), strict=True)
    gradients = case.gradients(dy * dtype(factor), cached)
    for name, gradient in case.gradients(dy, cached).items():
        np.testing.assert_array_equal(gradients[name], gradient * dtype(factor), strict=True)
