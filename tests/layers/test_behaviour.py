"""What the layers promise beyond their gradients."""

import math
from typing import Any

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from handgrad import layers
from handgrad.layers import IGNORE_INDEX, Array, Rotary
from handgrad.layers.rotary import BLOCK
from handgrad.proof import relative_error
from handgrad.proof.making import LONGER
from tests.reference import visible

normal = np.random.default_rng(6).standard_normal


def test_shapes_in_signatures_are_enforced_in_the_tests() -> None:
    with pytest.raises(TypeCheckError):
        layers.linear_forward(normal((2, 3)), normal((4, 5)))


def test_softmax_is_exact_at_scores_that_would_overflow() -> None:
    y, _ = layers.softmax_forward(np.array([[1e4, 1e4], [-1e4, 1e4], [-np.inf, 3.0]]))
    np.testing.assert_array_equal(y, [[0.5, 0.5], [0, 1], [0, 1]])


def test_silu_has_no_overflow_in_complex_numbers() -> None:
    x = np.array([-1000.0, -40.0, 0.0, 40.0, 1000.0])
    y, _ = layers.silu_forward(x + 1e-30j)
    np.testing.assert_allclose(y.real, [0, 0, 0, 40, 1000], atol=1e-14)
    np.testing.assert_allclose(y.imag / 1e-30, [0, 0, 0.5, 1, 1], atol=1e-14)


@pytest.mark.parametrize("layer", ["gelu", "silu"])
def test_an_array_of_no_axes_is_an_array(layer: str) -> None:
    forward, backward = getattr(layers, f"{layer}_forward"), getattr(layers, f"{layer}_backward")
    x = normal(3)
    y, cache = forward(x)
    dx = backward(x, cache)
    for n in range(3):
        y_n, cache_n = forward(np.asarray(x[n]))
        np.testing.assert_allclose(y_n, y[n], rtol=1e-15)
        np.testing.assert_allclose(backward(np.asarray(x[n]), cache_n), dx[n], rtol=1e-15)


def test_silu_is_accurate_to_its_own_size_far_to_the_left() -> None:
    x = -np.array([1.0, 15, 30, 100, 600])
    y, _ = layers.silu_forward(x)
    np.testing.assert_allclose(y, x * np.exp(x) / (1 + np.exp(x)), rtol=1e-14)
    single, _ = layers.silu_forward(x[:3].astype(np.float32))
    np.testing.assert_allclose(single, y[:3], rtol=1e-6)


def test_a_float64_scale_does_not_widen_a_float32_run() -> None:
    q, k, v = normal((3, 1, 2, 4, 3)).astype(np.float32)
    y, cache = layers.causal_attention_forward(q, k, v, scale=np.float64(0.5))
    assert {x.dtype for x in (y, *layers.causal_attention_backward(y, cache))} == {np.dtype(np.float32)}


def test_a_float64_dloss_does_not_widen_a_float32_run() -> None:
    _, cache = layers.cross_entropy_forward(normal((2, 3)).astype(np.float32), np.array([0, 2]))
    assert layers.cross_entropy_backward(np.asarray(1.0), cache).dtype == np.float32


def test_more_positions_than_the_table_has_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^3 positions, but the table has 1$"):
        layers.positions_forward(normal((2, 3, 4)), normal((1, 4)))


def test_a_later_position_changes_no_earlier_output() -> None:
    q, k, v = normal((3, 2, 2, 5, 4))
    before, _ = layers.causal_attention_forward(q, k, v, scale=0.5)
    k[:, :, 3], v[:, :, 3] = 50, -50
    after, _ = layers.causal_attention_forward(q, k, v, scale=0.5)
    np.testing.assert_array_equal(after[:, :, :3], before[:, :, :3])
    assert np.abs(after[:, :, 3:] - before[:, :, 3:]).min() > 0


def test_the_mask_is_exact_at_any_scores() -> None:
    """The keys of the future answer far louder than -1e9 could silence, and are still not heard."""
    q, k, v = (
        np.full((1, 1, 2, 1), 1e5),
        np.array([1e5, 1e6]).reshape(1, 1, 2, 1),
        np.array([2.0, 7.0]).reshape(1, 1, 2, 1),
    )
    y, cache = layers.causal_attention_forward(q, k, v, scale=1.0)
    assert y[0, 0, 0, 0] == 2
    _, dk, dv = layers.causal_attention_backward(np.array([1.0, 0.0]).reshape(1, 1, 2, 1), cache)
    assert dk[0, 0, 1, 0] == 0
    assert dv[0, 0, 1, 0] == 0


def test_the_mask_is_read_only_and_of_float32() -> None:
    mask = layers.causal_mask(2)
    np.testing.assert_array_equal(mask, np.array([[0, -np.inf], [0, 0]], np.float32), strict=True)
    with pytest.raises(ValueError, match="read-only"):
        mask[0, 0] = 1


def test_fewer_queries_than_keys_are_those_of_the_last_positions() -> None:
    q, k, v = normal((3, 2, 2, 5, 4))
    whole, _ = layers.causal_attention_forward(q, k, v, scale=0.5)
    for T in (1, 2, 5):
        last, _ = layers.causal_attention_forward(q[:, :, -T:], k, v, scale=0.5)
        np.testing.assert_allclose(last, whole[:, :, -T:], rtol=1e-13)


def test_more_queries_than_keys_are_refused() -> None:
    q, k, v = normal((1, 1, 5, 2)), normal((1, 1, 3, 2)), normal((1, 1, 3, 2))
    with pytest.raises(ValueError, match=r"^more queries than keys: 5 and 3$"):
        layers.causal_attention_forward(q, k, v, scale=1.0)


def test_attention_in_float32_is_as_accurate_as_float32_is() -> None:
    """By tiles, with weights that are kept and with weights that are computed again."""
    for T in (100, 3000):
        q, k, v, dy = normal((4, 1, 2, T, 8))
        y, cache = layers.causal_attention_forward(q, k, v, scale=0.5)
        singles = [x.astype(np.float32) for x in (q, k, v, dy)]
        single_y, single_cache = layers.causal_attention_forward(*singles[:3], scale=0.5)
        found = (single_y, *layers.causal_attention_backward(singles[3], single_cache))
        assert bool(single_cache.kept[0]) == (T == 100)
        for one, expected in zip(found, (y, *layers.causal_attention_backward(dy, cache)), strict=True):
            assert relative_error(one, expected) < 1e-5


def test_positions_may_start_later() -> None:
    x, table = normal((2, 3, 4)), normal((5, 4))
    y, cache = layers.positions_forward(x, table, start=2)
    np.testing.assert_array_equal(y, x + table[2:])
    _, dtable = layers.positions_backward(x, cache)
    np.testing.assert_array_equal(dtable[:2], 0)
    with pytest.raises(ValueError, match=r"^6 positions, but the table has 5$"):
        layers.positions_forward(x, table, start=3)


def test_the_scale_multiplies_the_scores() -> None:
    x, (w_q, *others) = normal((1, 3, 4)), normal((4, 4, 4))
    scaled, _ = layers.multi_head_attention_forward(x, w_q, *others, heads=2, scale=0.3)
    w_q *= 0.3 * 2**0.5  # in place of the usual 1/√D, by the queries
    by_hand, _ = layers.multi_head_attention_forward(x, w_q, *others, heads=2)
    np.testing.assert_allclose(scaled, by_hand, rtol=1e-12)


def test_heads_split_and_merge_are_inverse() -> None:
    x = normal((2, 3, 8))
    split = layers.split_heads(x, 4)
    assert split.shape == (2, 4, 3, 2)
    np.testing.assert_array_equal(split[1, 3, 2], x[1, 2, 6:8])
    np.testing.assert_array_equal(layers.merge_heads(split), x)


def test_layer_norm_gives_each_row_mean_beta_and_spread_gamma() -> None:
    y, _ = layers.layer_norm_forward(5 + 3 * normal((4, 64)), np.full(64, 2.0), np.full(64, 7.0))
    np.testing.assert_allclose(y.mean(axis=-1), 7)
    np.testing.assert_allclose(y.std(axis=-1), 2, rtol=1e-5)


def test_layer_norm_of_equal_entries_is_finite() -> None:
    """Variance 0: only epsilon stands in the root, and the gradient is finite too."""
    for C, dtype in ((6, np.float64), (384, np.float32)):
        y, _ = layers.layer_norm_forward(np.full((1, C), 1000, dtype), np.ones(C, dtype), np.zeros(C, dtype))
        np.testing.assert_array_equal(y, 0)
    y, cache = layers.layer_norm_forward(np.full((1, 4), 3.0), np.ones(4), np.zeros(4))
    np.testing.assert_array_equal(y, 0)
    dx, _, _ = layers.layer_norm_backward(np.array([[1.0, 0, 0, 0]]), cache)
    np.testing.assert_allclose(dx, np.array([[0.75, -0.25, -0.25, -0.25]]) / np.sqrt(1e-5))


def test_a_token_that_occurs_twice_gets_both_gradients() -> None:
    _, cache = layers.embedding_forward(np.array([[2, 0, 2]]), normal((4, 1)))
    dtable = layers.embedding_backward(np.array([[[1.0], [10.0], [100.0]]]), cache)
    np.testing.assert_array_equal(dtable, [[10], [0], [101], [0]])


def test_cross_entropy_of_equal_logits_is_the_logarithm_of_the_vocabulary() -> None:
    loss, _ = layers.cross_entropy_forward(np.full((2, 3, 7), 4.0), np.zeros((2, 3), int))
    assert float(loss) == pytest.approx(np.log(7))


def test_cross_entropy_does_not_underflow() -> None:
    loss, cache = layers.cross_entropy_forward(np.array([[1e4, -1e4]]), np.array([1]))
    assert loss == 2e4
    np.testing.assert_array_equal(layers.cross_entropy_backward(np.asarray(1.0), cache), [[1, -1]])


def test_ignored_targets_change_neither_the_mean_nor_get_a_gradient() -> None:
    logits = normal((4, 5))
    targets = np.array([1, IGNORE_INDEX, 3, IGNORE_INDEX])
    loss, cache = layers.cross_entropy_forward(logits, targets)
    alone, alone_cache = layers.cross_entropy_forward(logits[::2], targets[::2])
    assert loss == pytest.approx(float(alone), rel=1e-14)
    dlogits = layers.cross_entropy_backward(np.asarray(1.0), cache)
    np.testing.assert_array_equal(dlogits[1::2], 0)
    np.testing.assert_allclose(dlogits[::2], layers.cross_entropy_backward(np.asarray(1.0), alone_cache), rtol=1e-14)


def test_any_number_can_mark_what_is_ignored() -> None:
    logits = normal((3, 4))
    loss, _ = layers.cross_entropy_forward(logits, np.array([1, 3, 2]), ignore_index=3)
    expected, _ = layers.cross_entropy_forward(logits[[0, 2]], np.array([1, 2]))
    assert float(loss) == pytest.approx(float(expected), rel=1e-14)


def test_rows_are_shifted_each_by_its_own_maximum() -> None:
    rows = np.array([[0.0, 0.0], [1e4, 1e4]])
    np.testing.assert_array_equal(layers.softmax_forward(rows)[0], 0.5)
    loss, _ = layers.cross_entropy_forward(rows, np.array([0, 1]))
    assert float(loss) == pytest.approx(np.log(2))


def test_a_vocabulary_of_one_has_nothing_to_learn() -> None:
    loss, cache = layers.cross_entropy_forward(np.zeros((2, 1)), np.array([0, IGNORE_INDEX]))
    assert loss == 0
    np.testing.assert_array_equal(layers.cross_entropy_backward(np.asarray(1.0), cache), 0)


def test_where_no_target_counts_loss_and_gradient_are_zero() -> None:
    loss, cache = layers.cross_entropy_forward(normal((2, 3)), np.full(2, IGNORE_INDEX))
    assert loss == 0
    np.testing.assert_array_equal(layers.cross_entropy_backward(np.asarray(1.0), cache), 0)


def test_layer_norm_ignores_a_shift_of_a_row_and_rms_norm_does_not() -> None:
    x, gamma = normal((3, 8)), normal(8)
    shifted, _ = layers.layer_norm_forward(x + 5, gamma, np.zeros(8))
    np.testing.assert_allclose(shifted, layers.layer_norm_forward(x, gamma, np.zeros(8))[0], rtol=1e-10)
    y, _ = layers.rms_norm_forward(x, gamma)
    assert relative_error(layers.rms_norm_forward(x + 5, gamma)[0], y) > 0.1
    centred = x - x.mean(axis=-1, keepdims=True)
    equal, _ = layers.layer_norm_forward(centred, gamma, np.zeros(8))
    np.testing.assert_allclose(layers.rms_norm_forward(centred, gamma)[0], equal, rtol=1e-12)


def test_rms_norm_gives_each_row_a_mean_square_of_gamma_squared_whatever_its_scale() -> None:
    x = 5 + 3 * normal((4, 64))
    y, _ = layers.rms_norm_forward(x, np.full(64, 2.0))
    np.testing.assert_allclose((y**2).mean(axis=-1), 4, rtol=1e-5)
    scaled, _ = layers.rms_norm_forward(1000 * x, np.full(64, 2.0))
    np.testing.assert_allclose(scaled, y, rtol=1e-6)
    opposite, _ = layers.rms_norm_forward(-x, np.full(64, 2.0))
    np.testing.assert_array_equal(opposite, -y)


def test_rms_norm_of_a_row_of_zeros_is_zero_and_its_gradient_finite() -> None:
    y, cache = layers.rms_norm_forward(np.zeros((1, 3)), np.array([1.0, 2, 3]), epsilon=1e-4)
    np.testing.assert_array_equal(y, 0)
    dx, dgamma = layers.rms_norm_backward(np.ones((1, 3)), cache)
    np.testing.assert_allclose(dx, [[100, 200, 300]], rtol=1e-14)
    np.testing.assert_array_equal(dgamma, 0)


def test_a_row_cannot_move_along_itself() -> None:
    """Without epsilon rms_norm's output does not depend on a row's length: its gradient is at right angles to it."""
    x = normal((5, 8))
    _, cache = layers.rms_norm_forward(x, normal(8), epsilon=0.0)
    dx, _ = layers.rms_norm_backward(normal((5, 8)), cache)
    np.testing.assert_allclose((dx * x).sum(axis=-1), 0, atol=1e-14)
    assert np.abs(dx.sum(axis=-1)).min() > 1e-3  # to the vector of ones it is not


PLAIN, SCALED = Rotary(), Rotary(base=500_000.0, factor=8.0, low_factor=1.0, high_factor=4.0, first_context=8192)


@pytest.mark.parametrize("rotary", [PLAIN, SCALED, LONGER])
def test_rotated_scores_depend_on_the_difference_of_positions_only(rotary: Rotary) -> None:
    q, k = normal((2, 1, 1, 1, 16))

    def score(t: int, s: int) -> float:
        (q_t, _), (k_s, _) = (
            layers.rotary_forward(x, rotary=rotary, start=position) for x, position in ((q, t), (k, s))
        )
        return float((q_t * k_s).sum())

    for distance in (0, 1, 7, 300, 5000):
        expected = score(distance, 0)
        for s in (1, 255, 256, 1000, 100_000):
            assert score(s + distance, s) == pytest.approx(expected, abs=1e-10)
    assert score(8, 1) != pytest.approx(score(9, 1), rel=1e-3)
    assert score(8, 1) != pytest.approx(score(1, 8), rel=1e-3)  # who is earlier matters


def test_position_0_is_not_turned_and_no_position_changes_a_norm() -> None:
    x = normal((2, 3, 300, 8))
    y, _ = layers.rotary_forward(x, rotary=LONGER)
    np.testing.assert_array_equal(y[:, :, 0], x[:, :, 0])
    assert np.abs(y[:, :, 1:] - x[:, :, 1:]).max(axis=-1).min() > 1e-3
    pairs = (x[..., :4] ** 2 + x[..., 4:] ** 2, y[..., :4] ** 2 + y[..., 4:] ** 2)
    np.testing.assert_allclose(*pairs, rtol=1e-13)


def test_the_backward_of_a_rotation_is_the_rotation_back() -> None:
    x = normal((1, 2, 9, 8))
    y, cache = layers.rotary_forward(x, rotary=LONGER, start=1000)
    np.testing.assert_allclose(layers.rotary_backward(y, cache), x, atol=1e-15)
    back, _ = layers.rotary_forward(y[:, :, 4:5], rotary=LONGER, start=-1004)
    np.testing.assert_allclose(back, x[:, :, 4:5], atol=1e-15)


def test_the_first_pair_turns_by_a_radian_a_position() -> None:
    """Pairs are halves apart: entry 0 and entry D/2."""
    x = np.zeros((1, 1, 4, 6))
    x[..., 0] = 1
    y, _ = layers.rotary_forward(x)
    expected = np.zeros((4, 6))
    expected[:, 0], expected[:, 3] = np.cos(np.arange(4)), np.sin(np.arange(4))
    np.testing.assert_allclose(y[0, 0], expected, atol=1e-15)


@pytest.mark.parametrize("start", [0, 1, BLOCK - 3, BLOCK - 1, BLOCK, 10 * BLOCK - 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_tables_of_cosines_join_without_a_seam(start: int, dtype: type) -> None:
    x: Array = normal((1, 1, 11 * BLOCK, 4)).astype(dtype)
    whole, _ = layers.rotary_forward(x)
    for T in (1, 2, 4, BLOCK):
        piece, _ = layers.rotary_forward(x[:, :, start : start + T], start=start)
        np.testing.assert_array_equal(piece, whole[:, :, start : start + T], strict=True)


def test_late_positions_are_exact_in_float32() -> None:
    x = normal((1, 1, 3, 8))
    y, _ = layers.rotary_forward(x, start=131_069)
    single, _ = layers.rotary_forward(x.astype(np.float32), start=131_069)
    assert single.dtype == np.float32
    assert relative_error(single, y) < 1e-6


def test_a_factor_of_1_is_plain_rotary_and_a_larger_one_slows_what_turns_slowly() -> None:
    plain = layers.rotary_frequencies(128, Rotary(base=500_000.0))
    np.testing.assert_allclose(plain, [500_000 ** (-i / 64) for i in range(64)], rtol=1e-14)
    np.testing.assert_array_equal(layers.rotary_frequencies(128, SCALED._replace(factor=1.0)), plain)
    scaled = layers.rotary_frequencies(128, SCALED)
    wavelengths = 2 * np.pi / plain
    np.testing.assert_array_equal(scaled[wavelengths < 8192 / 4], plain[wavelengths < 8192 / 4])
    np.testing.assert_allclose(scaled[wavelengths > 8192], plain[wavelengths > 8192] / 8, rtol=1e-15)
    between = (wavelengths > 8192 / 4) & (wavelengths < 8192)
    assert between.sum() == 6
    assert ((scaled < plain) & (scaled > plain / 8))[between].all()
    assert (np.diff(scaled) < 0).all()


def test_gelu_is_nearly_x_times_the_probability_that_a_normal_number_is_below_x() -> None:
    x = np.linspace(-6, 6, 1201)
    y, _ = layers.gelu_forward(x)
    exact = np.array([0.5 * a * (1 + math.erf(a / math.sqrt(2))) for a in x])
    assert 1e-4 < np.abs(y - exact).max() < 1e-3
    np.testing.assert_allclose(y - layers.gelu_forward(-x)[0], x, atol=1e-14)  # gelu(x) - gelu(-x) = x


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_gelu_is_finite_however_far_out(dtype: type) -> None:
    x: Array = np.array([-1e20, -1e4, -31, 0, 31, 1e4, 1e20]).astype(dtype)
    with np.errstate(all="raise", under="ignore"):
        y, cache = layers.gelu_forward(x)
        dx = layers.gelu_backward(np.ones_like(x), cache)
    assert y.dtype == dx.dtype == dtype
    np.testing.assert_allclose(y, [0, 0, 0, 0, 31, 1e4, 1e20], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(dx, [0, 0, 0, 0.5, 1, 1, 1], rtol=1e-6, atol=1e-7)


def test_gelu_is_accurate_to_its_own_size_far_to_the_left() -> None:
    x = -np.array([1.0, 4, 8, 12, 16])
    two_u = np.sqrt(8 / np.pi) * (x + 0.044715 * x**3)
    y, _ = layers.gelu_forward(x)
    np.testing.assert_allclose(y, x * np.exp(two_u) / (1 + np.exp(two_u)), rtol=1e-12)
    single, _ = layers.gelu_forward(x[:3].astype(np.float32))
    np.testing.assert_allclose(single, y[:3], rtol=1e-5)


def attention(q: Array, k: Array, v: Array, dy: Array, **given: Any) -> tuple[Array, ...]:
    """y, dq, dk, dv."""
    y, cache = layers.causal_attention_forward(q, k, v, scale=0.5, **given)
    return y, *layers.causal_attention_backward(dy, cache)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
@pytest.mark.parametrize("window", [None, 2])
def test_grouped_attention_is_attention_with_repeated_keys(groups: int, window: int | None) -> None:
    """Neighbouring heads of queries share; what they ask of a shared head adds up."""
    q, dy = normal((2, 2, 6, 5, 4))
    k, v = normal((2, 2, groups, 7, 4))
    y, dq, dk, dv = attention(q, k, v, dy, window=window)
    every_k, every_v = (np.repeat(x, 6 // groups, axis=1) for x in (k, v))
    expected, expected_dq, *each = attention(q, every_k, every_v, dy, window=window)
    sums = (dx.reshape(2, groups, 6 // groups, 7, 4).sum(axis=2) for dx in each)
    for found, other in zip((y, dq, dk, dv), (expected, expected_dq, *sums), strict=True):
        assert relative_error(found, other) < 1e-13


@pytest.mark.parametrize(("T", "S"), [(6, 6), (2, 6), (1, 6)])
@pytest.mark.parametrize("window", [1, 2, 3, 5])
def test_a_window_is_a_mask_by_hand(T: int, S: int, window: int) -> None:
    q, k, v = normal((1, 2, T, 4)), normal((1, 2, S, 4)), normal((1, 2, S, 4))
    scores = np.where(visible(T, S, window), 0.5 * q @ k.swapaxes(-1, -2), -np.inf)
    assert (np.isfinite(scores).sum(axis=-1) == np.minimum(window, S - T + 1 + np.arange(T))).all()
    weights, _ = layers.softmax_forward(scores)
    y, _ = layers.causal_attention_forward(q, k, v, scale=0.5, window=window)
    np.testing.assert_allclose(y, weights @ v, rtol=1e-13)


def test_in_a_window_of_1_each_position_has_its_own_value() -> None:
    q, k, v, dy = normal((4, 1, 2, 5, 3))
    y, dq, dk, dv = attention(q, k, v, dy, window=1)
    np.testing.assert_array_equal((y, dq, dk, dv), (v, np.zeros_like(q), np.zeros_like(k), dy))


@pytest.mark.parametrize(("T", "S"), [(5, 5), (3, 8), (1, 8), (70, 70), (130, 600), (600, 600)])
def test_a_window_of_everything_changes_nothing(T: int, S: int) -> None:
    q, dy = normal((2, 1, 2, T, 3))
    k, v = normal((2, 1, 1, S, 3))
    expected = attention(q, k, v, dy)
    for window in (S, S + 1, 10**9):
        np.testing.assert_equal(attention(q, k, v, dy, window=window), expected)
    if T > 1:
        assert (attention(q, k, v, dy, window=S - 1)[0][:, :, -1] != expected[0][:, :, -1]).any()


def test_what_a_window_hides_is_not_heard_at_any_scores() -> None:
    q, k, v, dy = normal((4, 1, 1, 6, 3))
    before = attention(q, k, v, dy, window=2)
    k[:, :, 0], v[:, :, 0] = 1e8 * q[:, :, 5], 1e8
    after = attention(q, k, v, dy, window=2)
    for one, other in zip(before[:2], after[:2], strict=True):
        np.testing.assert_array_equal(one[:, :, 2:], other[:, :, 2:])


def test_a_bias_of_the_keys_learns_nothing_unless_keys_are_turned_or_normalised() -> None:
    """One number is added to all scores of a query, and softmax does not see it; turned, each key has another one."""
    x, dy, (w_q, w_k, w_v, w_o) = normal((2, 5, 8)), normal((2, 5, 8)), normal((4, 8, 8)) / 3
    b_q, b_k = normal((2, 8))

    def y_and_db(b_k: Array, **given: Any) -> tuple[Array, Array]:
        y, cache = layers.multi_head_attention_forward(x, w_q, w_k, w_v, w_o, b_q, b_k, heads=2, **given)
        _, _, _, _, _, _, db_k, *_ = layers.multi_head_attention_backward(dy, cache)
        assert db_k is not None
        return y, db_k

    y, db_k = y_and_db(b_k)
    np.testing.assert_allclose(y, y_and_db(10 * b_k)[0], rtol=1e-9)
    assert np.abs(db_k).max() < 1e-14
    for seen in ({"rotary": PLAIN}, {"gamma_k": np.ones(4)}):
        y, db_k = y_and_db(b_k, **seen)
        assert relative_error(y_and_db(10 * b_k, **seen)[0], y) > 0.1
        assert np.abs(db_k).max() > 0.01


def test_gradients_come_back_for_what_was_given() -> None:
    x, (w_q, w_k, w_v, w_o) = normal((1, 3, 4)), normal((4, 4, 4))
    options = {**{f"b_{name}": normal(4) for name in "qkvo"}, **{f"gamma_{name}": normal(2) for name in "qk"}}
    for left_out in (set(options), {"b_o"}, {"b_q", "gamma_k"}, {"gamma_q"}, set[str]()):
        given: dict[str, Any] = {name: value for name, value in options.items() if name not in left_out}
        y, cache = layers.multi_head_attention_forward(x, w_q, w_k, w_v, w_o, **given, heads=2)
        *_, db_q, db_k, db_v, db_o, dgamma_q, dgamma_k = layers.multi_head_attention_backward(y, cache)
        found = dict(zip(options, (db_q, db_k, db_v, db_o, dgamma_q, dgamma_k), strict=True))
        assert {name for name, gradient in found.items() if gradient is None} == left_out


def test_a_start_shifts_positions_and_changes_no_attention() -> None:
    """Scores see differences of positions; so where all positions begin does not matter, and whether they do does."""
    x, (w_q, w_k, w_v, w_o) = normal((1, 6, 8)), normal((4, 8, 8)) / 3

    def y(**given: Any) -> Array:
        return layers.multi_head_attention_forward(x, w_q, w_k, w_v, w_o, heads=2, **given)[0]

    turned = y(rotary=LONGER)
    np.testing.assert_allclose(y(rotary=LONGER, start=1000), turned, rtol=1e-10)
    assert relative_error(y(), turned) > 0.01


def test_without_an_offset_layer_norm_is_as_with_one_of_0() -> None:
    x, gamma, dy = normal((3, 8)), normal(8), normal((3, 8))
    (y, cache), (expected, other) = (layers.layer_norm_forward(x, gamma, beta) for beta in (None, np.zeros(8)))
    np.testing.assert_array_equal(y, expected)
    *gradients, dbeta = layers.layer_norm_backward(dy, cache)
    np.testing.assert_equal(gradients, list(layers.layer_norm_backward(dy, other)[:2]))
    assert dbeta is None


def test_without_biases_the_mlp_is_as_with_those_of_0() -> None:
    x, w_up, w_down, dy = normal((3, 4)), normal((4, 6)), normal((6, 4)), normal((3, 4))
    zeros: dict[str, Any] = {"b_up": np.zeros(6), "b_down": np.zeros(4)}
    expected, cache = layers.mlp_forward(x, w_up, w_down, **zeros)
    right = dict(zip(("x", "w_up", "w_down", *zeros), layers.mlp_backward(dy, cache), strict=True))
    for left_out in ({"b_up", "b_down"}, {"b_up"}, {"b_down"}):
        y, cache = layers.mlp_forward(x, w_up, w_down, **zeros | dict.fromkeys(left_out))
        np.testing.assert_array_equal(y, expected)
        found = dict(zip(right, layers.mlp_backward(dy, cache), strict=True))
        np.testing.assert_equal(found, right | dict.fromkeys(left_out))
