"""Envelopes: right results in few bits are within them, also on inputs that nobody measured; wrong ones are not."""

from collections.abc import Iterable, Iterator
from functools import cache, wraps
from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from handgrad.layers import Array, LayerNormCache, layer_norm_forward, linear_backward, linear_forward
from handgrad.proof import BAR, KIT, MUTATIONS, Case, Mutation
from handgrad.proof.cases import LAYER_OF
from handgrad.proof.envelope import Envelope, deviation, envelope, record_in, stored
from handgrad.proof.kit import draw_case
from handgrad.proof.making import FAMILIES
from handgrad.proof.recording import record, zeros_of

FEW_BITS = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
"""The dtypes, with their epsilons."""
DRAWS, FRESH = 32, 4
VARIANTS = [(layer, variant) for layer in KIT for variant in KIT[layer] if layer != "gpt" and variant != "long"]
"""Those that take no time."""


def draws(layer: str, variant: str, numbers: Iterable[int]) -> Iterator[tuple[Case, Array]]:
    return (draw_case(layer, variant, 0, draw) for draw in numbers)


@cache
def measured(layer: str, variant: str) -> Envelope:
    """As the kit has it."""
    return envelope(draws(layer, variant, range(DRAWS)), layer)


# the relative error


ROW = np.array([[3.0, -4.0], [0.0, 1.0]])
MASKED = np.array([[3.0, -np.inf], [-4.0, 1.0]])


@pytest.mark.parametrize(
    ("mine", "reference", "expected"),
    [
        (ROW, ROW, 0),
        (ROW + np.array([[0, 0], [0.5, 0]]), ROW, 0.125),
        (ROW - np.array([[0, 0.5], [0.25, 0]]), ROW, 0.125),
        (-ROW, ROW, 2),
        (ROW * 0, ROW, 1),
        (ROW * 0, ROW * 0, 0),
        (ROW, ROW * 0, 4),
        (np.array(2.5), np.array(2.0), 0.25),
        (np.zeros((0, 3)), np.zeros((0, 3)), 0),
    ],
)
def test_the_deviation_is_relative_to_the_largest_entry_of_the_reference(
    mine: Array, reference: Array, expected: float
) -> None:
    assert deviation(mine, reference) == expected
    assert deviation(mine.astype(np.float16), reference) == expected  # the same numbers
    assert deviation(mine.astype(ml_dtypes.bfloat16), reference) == expected


def test_a_difference_may_be_more_than_its_dtype_has() -> None:
    x = np.array([60000], np.float16)
    assert deviation(x, -x) == 2


@pytest.mark.parametrize(
    ("mine", "reference"),
    [
        (ROW, ROW[0]),
        (ROW[None], ROW),
        (ROW.T[:1], ROW[:, :1]),
        (np.array([1.0]), np.array(1.0)),
        (np.full((2, 2), np.nan), ROW),
        (np.array([[3, -4], [np.nan, 1]]), ROW),
        (np.array([[np.inf, -4], [0, 1]]), ROW),
        (np.array([[3, -np.inf], [0, 1]]), ROW),
        (ROW, np.array([[3, -4], [np.nan, 1]])),
        (np.array([np.nan]), np.array([0.0])),
    ],
    ids=["rank", "batch", "transposed", "scalar", "all nan", "a nan", "inf", "-inf", "nan there", "nan for 0"],
)
def test_the_deviation_is_infinite_where_nothing_can_be_compared(mine: Array, reference: Array) -> None:
    assert deviation(mine, reference) == np.inf


@pytest.mark.parametrize("mask", [-1e4, -1e9, np.finfo(np.float32).min, -np.inf])
def test_where_the_reference_is_hidden_any_number_low_enough_is_right(mask: float) -> None:
    mine = np.where(np.isinf(MASKED), mask, MASKED)
    assert deviation(mine, MASKED) == 0
    mine[1, 1] += 0.5
    assert deviation(mine, MASKED) == 0.125  # of 4, the largest that is not hidden
    assert deviation(np.full(2, mask), np.full(2, -np.inf)) == 0


@pytest.mark.parametrize("mask", [-9999.0, -100.0, 0.0, 1e9, np.inf, np.nan])
def test_a_mask_that_is_too_weak_is_wrong(mask: float) -> None:
    assert deviation(np.where(np.isinf(MASKED), mask, MASKED), MASKED) == np.inf
    assert deviation(np.array([-np.inf, mask]), np.full(2, -np.inf)) == np.inf


# what a dtype leaves of a number


@pytest.mark.parametrize(
    ("dtype", "x", "expected"),
    [
        ("float64", 1 + 2**-52, 1 + 2**-52),
        ("float32", 1 + 2**-24, 1),
        ("float32", 1 + 2**-23, 1 + 2**-23),
        ("float32", 1e39, np.inf),
        ("float16", 1 + 2**-11, 1),
        ("float16", 1 + 2**-10, 1 + 2**-10),
        ("float16", 65504, 65504),
        ("float16", -65520, -np.inf),
        ("float16", 1e-9, 0),
        ("bfloat16", 1 + 2**-8, 1),
        ("bfloat16", 1 + 3 * 2**-8, 1 + 2**-6),
        ("bfloat16", 1 + 2**-7, 1 + 2**-7),
        ("bfloat16", 2.0**100, 2.0**100),
        ("bfloat16", -np.inf, -np.inf),
    ],
)
def test_a_number_is_rounded_to_the_dtype_and_computed_with_in_float32(dtype: str, x: float, expected: float) -> None:
    kept = stored(np.array([x]), dtype)
    assert kept.tolist() == [expected]
    assert kept.dtype == (np.float64 if dtype == "float64" else np.float32)


def test_a_recording_in_a_dtype_has_nothing_that_the_dtype_has_not() -> None:
    case, dy = draw_case("multi_head_attention", "plain", 0)
    exact = record(case, "multi_head_attention", dy)
    for dtype in FEW_BITS:
        kept = record_in(case, "multi_head_attention", dy, dtype)
        assert list(kept) == list(exact)
        for key, x in kept.items():
            assert x.dtype == np.float32
            np.testing.assert_array_equal(x, stored(x, dtype), key)
        assert deviation(kept["outputs/y"], exact["outputs/y"]) > FEW_BITS[dtype] / 8
    unrounded = record_in(case, "multi_head_attention", dy, "float64")
    for key, x in exact.items():
        np.testing.assert_array_equal(unrounded[key], x)


# right results


@pytest.mark.parametrize(("layer", "variant"), VARIANTS)
def test_right_results_of_draws_that_were_not_measured_are_within(layer: str, variant: str) -> None:
    allowed, outside, count = measured(layer, variant), [], 0
    generator = np.random.default_rng(1)
    for case, dy in draws(layer, variant, range(DRAWS, DRAWS + FRESH)):
        exact = record(case, layer, dy) | zeros_of(case)
        assert exact.keys() == allowed.keys()
        for dtype in FEW_BITS:
            for moved in (None, generator):
                kept = record_in(case, layer, dy, dtype, moved)
                beyond = [key for key, x in exact.items() if not deviation(kept[key], x) <= allowed[key][dtype]]
                outside += [(key, dtype) for key in beyond]
                count += len(exact)
    assert len(outside) <= 0.01 * count, outside


@pytest.mark.parametrize(("layer", "variant"), VARIANTS)
def test_fewer_bits_have_wider_envelopes_and_float64_has_the_bar(layer: str, variant: str) -> None:
    for key, allowed in measured(layer, variant).items():
        assert list(allowed) == ["float64", "float32", "float16", "bfloat16"]
        assert allowed["float64"] == BAR == 1e-12
        assert BAR < allowed["float32"] < allowed["float16"] <= allowed["bfloat16"] < np.inf, key
        for dtype, epsilon in FEW_BITS.items():
            assert allowed[dtype] >= epsilon


def test_an_envelope_is_three_times_the_largest_error_over_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here where nothing is moved, and an envelope may be narrow."""
    monkeypatch.setattr("handgrad.proof.envelope.EPSILON", dict.fromkeys(FEW_BITS, 0.0))
    pair = list(draws("swiglu", "plain", range(2)))
    allowed = envelope(pair, "swiglu")
    exact = [record(case, "swiglu", dy) for case, dy in pair]
    for dtype in FEW_BITS:
        kept = [record_in(case, "swiglu", dy, dtype) for case, dy in pair]
        for key, errors in allowed.items():
            first, second = (deviation(kept[n][key], exact[n][key]) for n in range(2))
            assert errors[dtype] == 3 * max(first, second)
            assert first != second or key == "cotangents/y"


def test_more_draws_never_narrow_an_envelope() -> None:
    few, many = (envelope(draws("swiglu", "plain", range(count)), "swiglu") for count in (3, 8))
    assert all(few[key][dtype] <= many[key][dtype] for key, dtype in product(few, FEW_BITS))
    assert any(few[key][dtype] < many[key][dtype] for key, dtype in product(few, FEW_BITS))


def test_only_the_dtypes_that_are_asked_for_are_measured() -> None:
    allowed = envelope(draws("linear", "plain", range(2)), "linear", ["float64", "float16"])
    assert {tuple(errors) for errors in allowed.values()} == {("float64", "float16")}


def test_inputs_are_moved_by_up_to_an_epsilon_of_float32() -> None:
    """An embedding only copies, and what it copies every dtype has: all of the error is the move and its rounding."""
    case, dy = draw_case("embedding", "plain", 0)
    exact, allowed = record(case, "embedding", dy)["outputs/y"], measured("embedding", "plain")["outputs/y"]
    for dtype, epsilon in FEW_BITS.items():
        assert deviation(record_in(case, "embedding", dy, dtype)["outputs/y"], exact) == 0
        moved = record_in(case, "embedding", dy, dtype, np.random.default_rng(0))["outputs/y"]
        assert bool(np.array_equal(moved, exact)) == (dtype != "float32")  # half as many bits round it back
        assert allowed[dtype] == epsilon or dtype == "float32"
    assert 2 * FEW_BITS["float32"] < allowed["float32"] <= 3 * 1.51 * FEW_BITS["float32"]


def test_the_narrowest_envelopes_are_an_epsilon_and_around_zeros_8_of_them() -> None:
    zeros = Case(linear_forward, linear_backward, {"x": np.zeros((1, 2, 3)), "w": np.eye(3)})
    allowed = envelope([(zeros, np.ones((1, 2, 3)))], "linear")
    copied = measured("positions", "plain")["gradients/x"]  # its backward passes dy on
    for dtype, epsilon in FEW_BITS.items():
        assert allowed["outputs/y"][dtype] == allowed["gradients/w"][dtype] == 8 * epsilon
        assert copied[dtype] == epsilon


def test_where_a_gradient_is_zero_by_mathematics_it_is_held_against_zero() -> None:
    """A bias of the keys: float64 leaves 1e-17, and no error is to be taken relative to that."""
    allowed = measured("multi_head_attention", "biased")["gradients/b_k"]
    case, dy = draw_case("multi_head_attention", "biased", 0)
    noise = record(case, "multi_head_attention", dy)["gradients/b_k"]
    assert 0 < np.abs(noise).max() < 1e-14
    for dtype, epsilon in FEW_BITS.items():
        kept = record_in(case, "multi_head_attention", dy, dtype)["gradients/b_k"]
        assert 0 < np.abs(kept).max() <= allowed[dtype] < 100 * epsilon
        assert not deviation(kept, noise) < 100 * epsilon


def test_small_gradients_leave_little_room_around_a_zero() -> None:
    """At most 8 epsilons of the largest: a gradient of a millionth is no noise where all are a thousandth."""
    small = [(case, 1e-6 * dy) for case, dy in draws("multi_head_attention", "biased", range(2))]
    plain = envelope([(case, 1e6 * dy) for case, dy in small], "multi_head_attention")
    allowed = envelope(small, "multi_head_attention")
    for dtype, epsilon in FEW_BITS.items():
        if dtype != "float16":  # which has no numbers so small
            assert allowed["gradients/b_k"][dtype] < 1e-3 * epsilon
            assert plain["gradients/b_k"][dtype] >= 8 * epsilon


@wraps(layer_norm_forward)
def from_squares(x: Array, gamma: Array, beta: Array | None = None) -> tuple[Array, Any]:
    """LayerNorm's forward with the variance as mean(x²) - mean(x)²."""
    mean = x.mean(axis=-1, keepdims=True)
    inverse_std = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) - mean * mean + x.dtype.type(1e-5))
    x_hat = (x - mean) * inverse_std
    y = x_hat * gamma if beta is None else x_hat * gamma + beta
    return y, LayerNormCache(x_hat, inverse_std, gamma, beta is not None)


@pytest.mark.parametrize("variant", [variant for variant in KIT["layer_norm"] if variant != "offset"])
@pytest.mark.parametrize("dtype", FEW_BITS)
def test_another_right_algorithm_is_within(variant: str, dtype: str) -> None:
    """But for rows far from zero, where squares lose the variance's digits."""
    for case, dy in draws("layer_norm", variant, range(FRESH)):
        exact = record(case, "layer_norm", dy)
        kept = record_in(case._replace(forward=from_squares), "layer_norm", dy, dtype)
        for key, x in exact.items():
            assert deviation(kept[key], x) <= measured("layer_norm", variant)[key][dtype], key


# wrong results


@wraps(layer_norm_forward)
def with_a_rounded_mean(x: Array, gamma: Array, beta: Array) -> tuple[Array, Any]:
    """LayerNorm's forward whose mean is kept in bfloat16."""
    centred = x - stored(x.mean(axis=-1, keepdims=True), "bfloat16")
    inverse_std = 1 / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + x.dtype.type(1e-5))
    return centred * inverse_std * gamma + beta, LayerNormCache(centred * inverse_std, inverse_std, gamma, True)


def test_a_mean_that_was_kept_in_bfloat16_is_outside_far_from_zero() -> None:
    case, dy = draw_case("layer_norm", "offset", 0, DRAWS)
    kept = record_in(case._replace(forward=with_a_rounded_mean), "layer_norm", dy, "bfloat16")
    exact, allowed = record(case, "layer_norm", dy), measured("layer_norm", "offset")
    assert any(deviation(kept[key], x) > allowed[key]["bfloat16"] for key, x in exact.items())


def outside(mutation: Mutation, variant: str, dtype: str) -> list[str]:
    """The tensors that are beyond their envelopes where this mistake is made."""
    layer = LAYER_OF.get(mutation.layer, mutation.layer)
    case, dy = draw_case(layer, variant, 0, DRAWS)
    exact = record(case, layer, dy) | zeros_of(case)
    kept = record_in(case.planted(mutation), layer, dy, dtype)
    allowed = measured(layer, variant)
    return [key for key, x in exact.items() if not deviation(kept[key], x) <= allowed[key][dtype]]


SHOWN_IN: dict[str, Iterable[str]] = {
    "grouped_attention": ["grouped"],
    "window_attention": ["window"],
    "grouped_queries": ["everything"],
}
"""The variants that have what the mistakes are about, where not all have."""
OF_LAYERS = [
    mutation
    for mutation in MUTATIONS
    if mutation.layer in {*KIT, *SHOWN_IN} and mutation.layer not in ("gpt", *FAMILIES)
]
HARDLY_WRONG = {("gelu_of_the_error_function", "bfloat16")}
"""What is less than the last bits of the dtype."""


@pytest.mark.parametrize("mutation", OF_LAYERS, ids=lambda mutation: str(mutation.name))
def test_a_kernel_with_this_mistake_is_outside(mutation: Mutation) -> None:
    all_variants = [variant for layer, variant in VARIANTS if layer == mutation.layer and variant not in FAMILIES]
    for dtype in FEW_BITS:
        found = any(outside(mutation, variant, dtype) for variant in SHOWN_IN.get(mutation.layer, all_variants))
        assert found == ((mutation.name, dtype) not in HARDLY_WRONG), dtype


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("dw_averaged_over_the_batch", ["gradients/w"]),
        ("dgamma_without_x_hat", ["gradients/gamma"]),
        ("dq_without_the_scale", ["gradients/q"]),
        ("truth_minus_probability", ["gradients/logits"]),
        ("keys_back_through_w_q", ["gradients/x"]),
        ("gate_without_its_derivative", ["cotangents/gate", "gradients/w_gate", "gradients/x"]),
    ],
)
@pytest.mark.parametrize("dtype", FEW_BITS)
def test_what_a_mistake_does_not_touch_stays_within(name: str, wrong: list[str], dtype: str) -> None:
    (mutation,) = (mutation for mutation in MUTATIONS if mutation.name == name)
    assert outside(mutation, "plain", dtype) == wrong
