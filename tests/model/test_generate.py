"""Sampling: the distribution that is drawn from, and the draw."""

import itertools
from typing import Any

import numpy as np
import pytest

from handgrad.errors import HandgradError
from handgrad.model import (
    ModelConfig,
    Parameters,
    generate_tokens,
    gpt_forward,
    initial_parameters,
    next_token_probabilities,
)

CONFIG = ModelConfig(layers=1, heads=2, width=8, hidden=12, context=4, vocabulary=9)
PARAMETERS = initial_parameters(CONFIG, seed=3)
PARAMETERS["head.w_lm"][...] *= 1.5  # no token certain, none impossible
LOGITS = np.log(np.array([0.1, 0.4, 0.2, 0.3]))


def draw(count: int, **sampling: Any) -> list[int]:
    tokens = generate_tokens(np.array([5, 1]), PARAMETERS.tree, CONFIG, **sampling)
    return list(itertools.islice(tokens, count))


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "expected"),
    [
        (1.0, None, None, [0.1, 0.4, 0.2, 0.3]),
        (0.5, None, None, [1 / 30, 16 / 30, 4 / 30, 9 / 30]),
        (0.0, None, None, [0, 1, 0, 0]),
        (1e-310, None, None, [0, 1, 0, 0]),
        (1.0, 2, None, [0, 4 / 7, 0, 3 / 7]),
        (1.0, 99, None, [0.1, 0.4, 0.2, 0.3]),
        (1.0, None, 0.6, [0, 4 / 7, 0, 3 / 7]),
        (1.0, None, 0.01, [0, 1, 0, 0]),
        (1.0, None, 1.0, [0.1, 0.4, 0.2, 0.3]),
        (1.0, 3, 0.7, [0, 4 / 7, 0, 3 / 7]),
    ],
)
def test_probabilities(temperature: float, top_k: int | None, top_p: float | None, expected: list[float]) -> None:
    np.testing.assert_allclose(next_token_probabilities(LOGITS, temperature, top_k, top_p), expected, rtol=1e-12)


def test_a_small_temperature_is_not_yet_zero() -> None:
    drawn = next_token_probabilities(np.array([0, 1e-4]), 1e-4, None, None)
    np.testing.assert_allclose(drawn, [1 / (1 + np.e), np.e / (1 + np.e)], rtol=1e-9)


def test_top_p_that_is_reached_exactly_needs_no_more() -> None:
    np.testing.assert_array_equal(next_token_probabilities(np.zeros(4), 1.0, None, 0.5), [0.5, 0.5, 0, 0])


def test_the_bounds_themselves_are_allowed() -> None:
    assert len(draw(1, temperature=0.0, top_k=1, top_p=1.0)) == 1


def test_tokens_are_drawn_with_their_probabilities() -> None:
    """A thousand seeds, one token each: frequencies within five standard deviations of the model's probabilities."""
    logits, _ = gpt_forward(np.array([[5, 1]]), PARAMETERS.tree, CONFIG)
    expected = next_token_probabilities(logits[0, -1], 1.0, None, None)
    drawn = np.bincount([draw(1, temperature=1.0, seed=seed)[0] for seed in range(1000)], minlength=9) / 1000
    assert (np.abs(drawn - expected) < 5 * np.sqrt(expected * (1 - expected) / 1000)).all()
    assert 0.3 < expected.max() < 0.7


def test_should_rounding_leave_the_sum_short_of_1_the_last_token_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    class JustBelowOne:
        def random(self) -> float:
            return float(np.nextafter(1, 0))

    monkeypatch.setattr("numpy.random.default_rng", lambda seed: JustBelowOne())
    config = ModelConfig(layers=1, heads=1, width=2, hidden=2, context=2, vocabulary=10)
    parameters = Parameters(config, dtype=np.float64)  # zeros: ten tokens of 0.1, which add up to less than 1
    assert next(generate_tokens(np.array([0]), parameters.tree, config)) == 9


def test_greedy_takes_the_most_probable_token_of_the_last_window() -> None:
    text = [5, 1]
    for token in draw(8, temperature=0.0):
        logits, _ = gpt_forward(np.array([text[-4:]]), PARAMETERS.tree, CONFIG)
        assert token == logits[0, -1].argmax()
        text.append(token)


def test_the_seed_decides() -> None:
    assert draw(20, seed=1) == draw(20, seed=1) != draw(20, seed=2)


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        ({"temperature": -1.0}, "temperature: -1.0"),
        ({"temperature": float("nan")}, "temperature: nan"),
        ({"temperature": float("inf")}, "temperature: inf"),
        ({"top_k": 0}, "top_k: 0"),
        ({"top_p": 0.0}, "top_p: 0.0"),
        ({"top_p": 1.5}, "top_p: 1.5"),
    ],
)
def test_sampling_that_means_nothing_is_refused(sampling: dict[str, Any], message: str) -> None:
    with pytest.raises(HandgradError, match=f"^{message} is not"):
        draw(1, **sampling)
