"""The witnesses themselves, on functions whose derivatives are known; and that they catch a wrong backward."""

from typing import Any

import numpy as np
import pytest

from handgrad.layers import IGNORE_INDEX, Array
from handgrad.model import ModelConfig
from handgrad.proof import (
    BAR,
    Case,
    all_cases,
    central_difference,
    check_case,
    complex_step,
    complex_step_along,
    gpt_case,
    relative_error,
)
from handgrad.proof.making import FAMILIES

X = np.random.default_rng(0).standard_normal((3, 2))


def f(x: Array) -> Any:
    return np.exp(x).sum() * np.sin(x[0, 0])


def exact(x: Array) -> Array:
    gradient: Array = np.exp(x) * np.sin(x[0, 0])
    gradient[0, 0] += np.exp(x).sum() * np.cos(x[0, 0])
    return gradient


def test_the_complex_step_is_exact_to_rounding() -> None:
    assert relative_error(complex_step(f, X), exact(X)) < 1e-15


def test_the_complex_step_along_a_direction_is_the_sum_of_gradient_times_direction() -> None:
    direction = np.random.default_rng(1).standard_normal(X.shape)
    assert complex_step_along(f, X, direction) == pytest.approx((exact(X) * direction).sum(), rel=1e-14)


def test_central_differences_are_good_to_ten_digits() -> None:
    error = relative_error(central_difference(f, X), exact(X))
    assert 1e-15 < error < 1e-9


def test_central_differences_work_in_float64_whatever_they_are_given() -> None:
    np.testing.assert_allclose(central_difference(lambda x: (x**2).sum(), np.arange(3)), [0, 2, 4], atol=1e-9)
    gradient = central_difference(lambda x: (x**2).sum(), np.arange(3, dtype=np.float32))
    np.testing.assert_allclose(gradient, [0, 2, 4], atol=1e-9)


def test_the_complex_step_refuses_a_function_that_drops_the_imaginary_part() -> None:
    with pytest.raises(TypeError, match=r"^f is not analytic"):
        complex_step(lambda x: np.abs(x).sum(), X)


def test_the_point_is_not_moved() -> None:
    x = X.copy()
    complex_step(f, x)
    central_difference(f, x)
    np.testing.assert_array_equal(x, X)


def test_relative_error() -> None:
    assert relative_error(np.array([1.0, 2.2]), np.array([1.0, 2.0])) == pytest.approx(0.1)
    assert relative_error(np.ones(3), np.ones(3)) == 0
    assert relative_error(-2 * np.ones(3), -np.ones(3)) == 1


@pytest.mark.parametrize(
    ("computed", "reference"),
    [
        (np.zeros(3), np.zeros(3)),
        (np.array([np.nan, 1]), np.ones(2)),
        (np.ones(2), np.array([np.nan, 1])),
        (np.ones(2), np.array([np.inf, 1])),
        (np.ones((3, 1)), np.ones(3)),
        (np.ones(1), np.ones(3)),
        (np.ones(0), np.ones(0)),
    ],
)
def test_a_comparison_that_proves_nothing_does_not_pass(computed: Array, reference: Array) -> None:
    assert relative_error(computed, reference) == float("inf")


def test_the_bar_and_the_seed() -> None:
    assert BAR == 1e-12
    assert (all_cases(0)["linear"].inputs["x"] != all_cases(1)["linear"].inputs["x"]).any()


def test_the_cases_visit_what_is_hard() -> None:
    """A token that repeats, a table longer than the text, an ignored target, no parameter left at a constant."""
    cases = all_cases()
    tokens = cases["embedding"].given["tokens"]
    assert len(np.unique(tokens)) < tokens.size
    assert len(cases["positions"].inputs["table"]) > cases["positions"].inputs["x"].shape[1]
    assert cases["cross_entropy"].given["targets"].min() == IGNORE_INDEX
    _, cache = cases["gpt"].run()
    assert not cache.head.chunks[0].cross_entropy.counted.all()
    _, cache = cases["attention_tiles"].run()
    assert len(cache.blocks[0]) > 1
    assert all(np.ptp(tensor) > 0 for tensor in cases["gpt"].inputs.values())


SMALL: dict[str, int] = {"layers": 1, "heads": 2, "width": 4, "hidden": 3, "context": 3, "vocabulary": 4}
CASES = all_cases() | {
    "gpt" if family == "default" else family: gpt_case(ModelConfig(**SMALL | parts), np.random.default_rng(3))
    for family, parts in FAMILIES.items()
}


@pytest.mark.parametrize("name", list(CASES))
def test_every_case_notices_each_of_its_gradients_being_off(name: str) -> None:
    """One gradient at a time: one entry by a billionth, zeros, the sign, two entries exchanged."""
    case = CASES[name]
    tensors = list(case.inputs)
    damages = [one_entry_off, np.zeros_like, np.negative, first_two_exchanged]
    large = len(tensors) > 8
    for position in range(0, len(tensors), 5 if large else 1):
        for damage in damages[:1] if large else damages:
            verdicts = check_case(damaged(case, position, damage), seed=2)
            wrong = [verdict.tensor for verdict in verdicts if not verdict.passed]
            assert wrong == [tensors[position]]


def damaged(case: Case, position: int, damage: Any) -> Case:
    """The case with one of its gradients damaged."""

    def backward(dy: Array, cache: Any) -> list[Array]:
        gradients = list(case.gradients(dy, cache).values())
        gradients[position] = damage(gradients[position])
        return gradients

    return case._replace(backward=backward)


def one_entry_off(gradient: Array) -> Array:
    wrong = gradient.copy()
    wrong.flat[np.abs(gradient).argmax()] *= 1 + 1e-9
    return wrong


def first_two_exchanged(gradient: Array) -> Array:
    """The first two entries that differ, exchanged."""
    wrong = gradient.copy()
    other = np.flatnonzero(gradient.flat != gradient.flat[0])[0]
    wrong.flat[[0, other]] = gradient.flat[[other, 0]]
    return wrong
