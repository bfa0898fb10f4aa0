"""Statistics, histograms and windows against the plainest way of counting."""

import math

import numpy as np
import pytest

from handgrad.errors import HandgradError
from handgrad.explorer.tensors import (
    BINS,
    COLUMNS,
    ROWS,
    Window,
    finite_of,
    histogram,
    norm_of,
    plain,
    statistics,
    told,
    window_of,
)


@pytest.mark.parametrize("shape", [(), (7,), (3, 4), (2, 3, 4, 5)])
def test_statistics_are_those_of_the_numbers_one_by_one(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape) + 3
    numbers = x.ravel().tolist()
    found = statistics(x)
    mean = math.fsum(numbers) / len(numbers)
    assert (found.size, found.finite, found.zeros) == (len(numbers), len(numbers), 0)
    assert (found.minimum, found.maximum) == (min(numbers), max(numbers))
    assert found.mean == pytest.approx(mean, rel=1e-13)
    assert found.std == pytest.approx(math.sqrt(math.fsum((n - mean) ** 2 for n in numbers) / len(numbers)), rel=1e-12)
    assert found.norm == pytest.approx(math.hypot(*numbers), rel=1e-13)


def test_statistics_are_over_what_is_finite() -> None:
    found = statistics(np.array([[3.0, -4.0, 0.0], [np.inf, -np.inf, np.nan]]))
    assert found[:5] == (6, 3, 1, -4, 3)
    assert found.norm == 5
    assert found.mean == pytest.approx(-1 / 3)
    assert statistics(np.full((2, 2), -np.inf)) == (4, 0, 0, *[None] * 5)
    assert statistics(np.zeros(0)) == (0, 0, 0, *[None] * 5)


@pytest.mark.parametrize("shape", [(), (7,), (2, 3, 4)])
def test_where_all_is_finite_nothing_is_copied(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape)
    assert finite_of(x) is x
    some = np.array([[np.nan, 1.0], [-np.inf, 0.0], [np.inf, -2.0]])
    assert finite_of(some).tolist() == [1.0, 0.0, -2.0]
    assert finite_of(some[:, 0]).size == finite_of(np.zeros(0)).size == 0


def test_a_norm_is_over_what_is_finite() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    assert norm_of(x) == pytest.approx(math.hypot(*x.ravel()), rel=1e-13)
    assert norm_of(np.array([[3.0, np.nan, -np.inf], [-4.0, 0.0, np.inf]])) == 5
    assert norm_of(np.array(-2.5)) == 2.5
    assert norm_of(np.full(3, np.nan)) == 0
    with np.errstate(over="ignore"):
        assert norm_of(np.array([1.7e308, 1.7e308])) is None


def test_a_number_that_json_has_not_is_a_word() -> None:
    assert [told(x) for x in (np.float64(2.5), 0, -math.inf, np.inf, np.nan)] == [2.5, 0.0, "-inf", "inf", "nan"]


def test_what_overflows_is_none_and_no_warning() -> None:
    large = statistics(np.array([1.7e308, 1.7e308, -1.7e308, -1.7e308]))
    assert (large.minimum, large.maximum, large.std, large.norm) == (-1.7e308, 1.7e308, None, None)
    assert [plain(x) for x in (math.nan, math.inf, -math.inf, np.float64(2))] == [None, None, None, 2.0]


def test_a_histogram_counts_each_finite_number_once() -> None:
    generator = np.random.default_rng(1)
    x = np.append(generator.standard_normal(500), [np.nan, np.inf, -np.inf])
    found = histogram(x)
    finite = [n for n in x.tolist() if math.isfinite(n)]
    assert (found.start, found.stop) == (min(finite), max(finite))
    width = (found.stop - found.start) / BINS
    expected = [0] * BINS
    for n in finite:
        expected[min(int((n - found.start) / width), BINS - 1)] += 1
    assert found.counts == expected
    assert sum(found.counts) == 500


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ([2.5] * 4, (2.5, 2.5, [4])),
        ([1.0, 1.0 + 2e-16], (1.0, 1.0 + 2e-16, [2])),  # the same, to rounding
        ([0.0], (0.0, 0.0, [1])),
        ([math.nan, math.inf], (0.0, 0.0, [0])),
        ([], (0.0, 0.0, [0])),
        ([-1.7e308, 1.7e308], (-1.7e308, 1.7e308, [2])),  # their distance overflows
    ],
)
def test_what_has_no_width_is_one_bin(x: list[float], expected: tuple[float, float, list[int]]) -> None:
    assert histogram(np.array(x)) == expected


@pytest.mark.parametrize("shape", [(), (5,), (4, 6), (3, 4, 6), (2, 3, 4, 6)])
def test_a_window_is_a_part_of_the_last_two_axes(shape: tuple[int, ...]) -> None:
    x = np.arange(math.prod(shape), dtype=float).reshape(shape)
    matrices = x.reshape(-1, *(1, 1, *shape)[-2:])
    places = [*np.ndindex(*shape[:-2])] if len(shape) > 2 else [()]
    for matrix, place in zip(matrices, places, strict=True):
        rows, columns = matrix.shape
        for row in range(rows):
            for column in range(columns):
                window = window_of(shape, place, row, column)
                assert window == Window(place, row, column, rows - row, columns - column)
                np.testing.assert_array_equal(window.of(x), matrix[row:, column:])


def test_a_place_may_be_left_out_or_be_of_more_axes() -> None:
    assert window_of((2, 3, 4, 5), (1,), 0, 0).at == (1, 0)
    assert window_of((2, 3, 4, 5), (), 0, 0).at == (0, 0)
    assert window_of((4, 5), (1, 2), 0, 0).at == ()


def test_a_window_has_its_largest_size() -> None:
    x = np.zeros((ROWS + 9, COLUMNS + 7))
    assert window_of(x.shape, (), 3, 5) == ((), 3, 5, ROWS, COLUMNS)
    assert window_of(x.shape, (), 10, 8) == ((), 10, 8, ROWS - 1, COLUMNS - 1)
    assert window_of(x.shape, (), 3, 5).of(x).shape == (ROWS, COLUMNS)


@pytest.mark.parametrize(
    ("at", "row", "column", "wrong"),
    [
        ((2,), 0, 0, "2 on an axis of 2"),
        ((-1,), 0, 0, "-1 on an axis of 2"),
        ((0, 3), 0, 0, "3 on an axis of 3"),
        ((), 4, 0, "4 on an axis of 4"),
        ((), -1, 0, "-1 on an axis of 4"),
        ((), 0, 5, "5 on an axis of 5"),
        ((), 0, 10**30, f"{10**30} on an axis of 5"),
    ],
)
def test_no_window_outside(at: tuple[int, ...], row: int, column: int, wrong: str) -> None:
    with pytest.raises(HandgradError) as raised:
        window_of((2, 3, 4, 5), at, row, column)
    assert str(raised.value) == f"there is no index {wrong}"
