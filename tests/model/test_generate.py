"""Sampling: the distribution that is drawn from, and the draw."""

import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest

from handgrad.errors import HandgradError
from handgrad.model import (
    Decoder,
    ModelConfig,
    Parameters,
    generate_tokens,
    gpt_forward,
    initial_parameters,
    next_token_probabilities,
)
from handgrad.model.generate import until
from handgrad.proof import relative_error

CONFIG = ModelConfig(layers=1, heads=2, width=8, hidden=12, context=4, vocabulary=9)
PARAMETERS = initial_parameters(CONFIG, seed=3)
PARAMETERS["head.w_lm"][...] *= 1.5  # no token certain, none impossible
PROMPT = np.array([5, 1])
LOGITS = np.log(np.array([0.1, 0.4, 0.2, 0.3]))


def draw(count: int, **sampling: Any) -> list[int]:
    return [token for _, token in generate_tokens([PROMPT], PARAMETERS.tree, CONFIG, tokens=count, **sampling)]


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
    assert next(generate_tokens([np.array([0])], parameters.tree, config)) == (0, 9)


def test_a_full_window_forgets_its_oldest_quarter() -> None:
    """Greedy tokens against the whole forward on what should be in the window: 2, 3, 4, then 3, 4, 3, 4, ... tokens."""
    text = [5, 1]
    for token, seen in zip(draw(9, temperature=0.0), [2, 3, 4, 3, 4, 3, 4, 3, 4], strict=True):
        logits, _ = gpt_forward(np.array([text[-seen:]]), PARAMETERS.tree, CONFIG)
        assert token == logits[0, -1].argmax()
        text.append(token)


def test_a_context_of_one_sees_one() -> None:
    config = ModelConfig(layers=1, heads=2, width=8, hidden=12, context=1, vocabulary=9)
    parameters = initial_parameters(config, seed=3)
    drawn = generate_tokens([np.array([4, 5])], parameters.tree, config, tokens=6, temperature=0.0)
    tokens = [token for _, token in drawn]
    for before, token in itertools.pairwise([5, *tokens]):
        logits, _ = gpt_forward(np.array([[before]]), parameters.tree, config)
        assert token == logits[0, -1].argmax()


@pytest.mark.parametrize("pieces", [[6], [1] * 6, [3, 1, 2], [1, 5]])
def test_reading_in_pieces_is_reading_at_once(pieces: list[int]) -> None:
    """In float64, a batch of three: the logits after each piece against the whole forward up to there."""
    config = ModelConfig(layers=2, heads=2, width=8, hidden=12, context=6, vocabulary=9)
    parameters = initial_parameters(config, seed=3, dtype=np.float64)
    tokens = np.random.default_rng(0).integers(9, size=(3, 6))
    decoder = Decoder(parameters.tree, config, batch=3)
    for _ in range(2):  # and once more, after forgetting
        for end, length in zip(itertools.accumulate(pieces), pieces, strict=True):
            logits, _ = gpt_forward(tokens[:, :end], parameters.tree, config)
            assert relative_error(decoder.read(tokens[:, end - length : end]), logits[:, -1]) < 1e-13
        assert decoder.length == 6
        decoder.forget()


@pytest.mark.parametrize(
    "stops", [[], ["n"], ["ana"], ["nab"], ["xyz", "an"], ["banana!"], ["a", "b"], ["ab", "nanab"]]
)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_text_ends_before_the_first_stop_however_it_is_cut(stops: list[str], size: int) -> None:
    text = "bananabanana"
    ends = [text.index(stop) for stop in stops if stop in text]
    pieces = list(until((text[at : at + size] for at in range(0, len(text), size)), stops))
    assert "".join(pieces) == text[: min(ends, default=len(text))]


def test_what_cannot_begin_a_stop_is_not_held_back() -> None:
    pieces = until(iter("banana"), ["nax"])
    assert [next(pieces) for _ in range(4)] == ["b", "a", "na", "na"]


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


def test_the_stop_that_begins_first_ends_the_text_however_it_is_cut() -> None:
    """Random texts of two letters and random stops of up to four, cut at random."""
    generator = np.random.default_rng(0)
    for _ in range(500):
        text = "".join(generator.choice(list("ab"), 12))
        stops = ["".join(generator.choice(list("ab"), generator.integers(1, 5))) for _ in range(2)]
        cuts = sorted({0, 12, *generator.integers(0, 12, size=4).tolist()})
        pieces = (text[start:end] for start, end in itertools.pairwise(cuts))
        ends = [text.index(stop) for stop in stops if stop in text]
        assert "".join(until(pieces, stops)) == text[: min(ends, default=12)], (text, stops, cuts)


def test_a_decoder_is_for_as_many_texts_as_it_was_made_for() -> None:
    with pytest.raises(ValueError, match=r"^1 text, but the decoder is for 3$"):
        Decoder(PARAMETERS.tree, CONFIG, batch=3).read(np.array([[1, 2]]))


def test_a_long_prompt_is_read_without_all_its_scores_at_once() -> None:
    """The decoder's tap wants keys and values; attention goes by tiles all the same."""
    config = ModelConfig(layers=2, heads=8, width=8, hidden=8, context=1024, vocabulary=5)
    decoder = Decoder(initial_parameters(config).tree, config)
    tracemalloc.start()
    try:
        decoder.read(np.zeros((1, 1024), int))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < config.layers * config.heads * 1024**2 * 4 / 4  # a quarter of all scores, in bytes
