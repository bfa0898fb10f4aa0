"""Sampling: one token after the other, each drawn from the model's distribution for the next."""

import numbers
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float, Inexact

from ..errors import HandgradError
from ..layers import Array, softmax_forward
from .config import ModelConfig
from .decoder import Decoder
from .parameters import GPTParameters

DEFAULT_TOKENS = 500
DEFAULT_TEMPERATURE = 0.8


def generate_tokens(
    prompts: Sequence[Array],
    parameters: GPTParameters,
    config: ModelConfig,
    *,
    tokens: int | None = None,
    over: Callable[[int, int], bool] = lambda row, token: False,
    temperature: float = DEFAULT_TEMPERATURE,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
) -> Iterator[tuple[int, int]]:
    """Go on with prompts of at least one token each, side by side: (which of them, its next token), as they are drawn.

    Each goes on until it has so many `tokens`, or until it is `over` with the one that was drawn. All read the same
    positions at a time: one whose prompt is longer takes from it what another one draws, so there is no padding.

    The model sees up to `context` tokens. Once they are full it forgets the oldest quarter: positions are absolute, so
    a window that has moved must be read anew, and doing that for every token would keep nothing. temperature divides
    the logits (0: always the most probable token); top_k keeps the k most probable tokens; top_p then keeps the
    smallest set of them whose probabilities add up to p. The same seed draws the same tokens.
    """
    check_sampling(temperature, top_k, top_p)
    generators = [
        np.random.default_rng(seed if seed is None or not row else (seed, row)) for row in range(len(prompts))
    ]
    decoder = Decoder(parameters, config, len(prompts))
    windows = [list(prompt[-config.context :]) for prompt in prompts]
    drawn = [0] * len(prompts)
    going = list(range(len(prompts)))
    while going:
        end = min(len(windows[row]) for row in going)
        unread = np.zeros((len(windows), end - decoder.length), np.int64)  # what has ended reads zeros
        for row in going:
            unread[row] = windows[row][decoder.length : end]
        logits = decoder.read(unread)
        for row in [row for row in going if len(windows[row]) == end]:
            if not np.isfinite(logits[row]).all():
                raise HandgradError("the model's logits are not finite; its weights cannot be used")
            if temperature == 0:
                token = int(logits[row].argmax())
            else:
                probabilities = next_token_probabilities(logits[row], temperature, top_k, top_p)
                token = _token_at(generators[row].random(), probabilities)
            yield row, token
            windows[row].append(token)
            drawn[row] += 1
            if over(row, token) or drawn[row] == tokens:
                going.remove(row)
        if end == config.context:
            decoder.forget()
            windows = [window[end + 1 - (config.context - config.context // 4) :] for window in windows]


def _token_at(place: float, probabilities: Float[Array, "V"]) -> int:
    """The token whose part of the line from 0 to 1 this place is in."""
    token = int(np.searchsorted(np.cumsum(probabilities), place, side="right"))
    return min(token, int(np.flatnonzero(probabilities)[-1]))  # should rounding leave the sum short of 1


def next_token_probabilities(
    logits: Inexact[Array, "V"], temperature: float, top_k: int | None, top_p: float | None
) -> Float[Array, "V"]:
    """The distribution to draw from, in float64: softmax of logits / temperature, cut to top_k, then to top_p."""
    if temperature == 0:
        certain = np.zeros(logits.size)
        certain[logits.argmax()] = 1
        return certain
    scores = logits.astype(np.float64)
    descending = np.argsort(-scores, kind="stable")
    if top_k is not None:
        scores[descending[top_k:]] = -np.inf
    with np.errstate(over="ignore"):  # at a tiny temperature all but the greatest go to minus infinity, as they should
        probabilities, _ = softmax_forward((scores - scores.max()) / temperature)
    if top_p is not None:
        before = np.cumsum(probabilities[descending]) - probabilities[descending]
        probabilities[descending[before >= top_p]] = 0  # the first is always kept
        probabilities /= probabilities.sum()
    return probabilities


def until(pieces: Iterator[str], stops: Sequence[str]) -> Iterator[str]:
    """The pieces of a text up to the stop that begins first, which is left out, wherever the pieces are cut."""
    held = ""  # from where a stop may have begun
    for piece in pieces:
        held += piece
        found = _first(held, stops)
        begun = len(held) - max(
            (n for stop in stops for n in range(1, len(stop)) if held.endswith(stop[:n])), default=0
        )
        if found < len(held) and found <= begun:
            break
        if begun:
            yield held[:begun]
        held = held[begun:]
    if rest := held[: _first(held, stops)]:
        yield rest


def _first(text: str, stops: Sequence[str]) -> int:
    """Where the first of the stops begins; the text's end where there is none."""
    return min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))


def check_sampling(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Refuse values that mean nothing, by name."""
    if not 0 <= temperature < np.inf:
        raise HandgradError(f"temperature: {temperature} is not a number of 0 or more")
    if top_k is not None and not (isinstance(top_k, numbers.Integral) and top_k >= 1):
        raise HandgradError(f"top_k: {top_k} is not a whole number of 1 or more")
    if top_p is not None and not 0 < top_p <= 1:
        raise HandgradError(f"top_p: {top_p} is not above 0 and at most 1")
