"""Batches: the order in which windows of the text are learned from, and all of a text in order to be evaluated on."""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer

from ..layers import Array


class Batch(NamedTuple):
    """Sequences and, shifted by one, what should follow each of their tokens."""

    tokens: Array
    targets: Array


def training_batch(
    tokens: Integer[Array, "N"], context: int, size: int, seed: int, step: int, rows: slice = slice(None)
) -> Batch:
    """The batch of update `step`, counted from 1: a function of its arguments alone; or some rows of it.

    An epoch is one pass over the text, cut into windows side by side, in a random order and each once. Where the first
    window begins is random too, so that the cuts fall elsewhere in each epoch; less than two windows' tokens at the
    ends are left out, different ones each time. The batches are taken from the epochs one after the other: a batch may
    end one and begin the next.
    """
    count = windows_per_epoch(len(tokens), context)
    places = np.arange((step - 1) * size, step * size)[rows]
    starts = np.array([_starts(len(tokens), context, seed, int(place // count))[place % count] for place in places])
    windows = tokens[starts[:, None] + np.arange(context + 1)]  # (B, T + 1)
    return Batch(windows[:, :-1], windows[:, 1:])


def windows_per_epoch(length: int, context: int) -> int:
    """As many as leave room to begin at any of `context` places, but at least one."""
    return max(1, (length - context) // context)


@lru_cache(maxsize=2)
def _starts(length: int, context: int, seed: int, epoch: int) -> Integer[Array, "windows"]:
    """Where the windows of an epoch begin, in the order in which they are learned from."""
    count = windows_per_epoch(length, context)
    generator = np.random.default_rng((seed, epoch))
    first = generator.integers(length - count * context)  # the last target is at first + count · context < length
    return first + context * generator.permutation(count)


def consecutive_batches(tokens: Integer[Array, "N"], context: int, size: int) -> Iterator[Batch]:
    """All tokens in order, window after window; the last may be shorter, so that each target counts just once."""
    count = (len(tokens) - 1) // context
    inputs, targets = (tokens[shift : shift + count * context].reshape(count, context) for shift in (0, 1))
    for at in range(0, count, size):
        yield Batch(inputs[at : at + size], targets[at : at + size])
    if len(tokens) - 1 > count * context:
        yield Batch(tokens[None, count * context : -1], tokens[None, count * context + 1 :])
