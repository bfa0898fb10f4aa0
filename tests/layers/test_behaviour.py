"""What the layers promise beyond their gradients."""

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from handgrad import layers
from handgrad.layers import IGNORE_INDEX
from handgrad.proof import relative_error

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
    with pytest.raises(ValueError, match=r"^5 queries, but only 3 keys$"):
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
