"""Batches: the order in which windows of the text are learned from, and all of a text in order to be evaluated on."""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer

from ..layers import Array
from .prepared.tokens import MappedTokens

GROUP = 1 << 20
"""Windows that are put into a random order at once: memory does not grow with the text."""


class Batch(NamedTuple):
    """Sequences and, shifted by one, what should follow each of their tokens."""

    tokens: Array
    targets: Array


def training_batch(
    tokens: Integer[Array, "N"] | MappedTokens,
    context: int,
    size: int,
    seed: int,
    step: int,
    rows: slice = slice(None),
) -> Batch:
    """The batch of update `step`, counted from 1: a function of its arguments alone; or some rows of it.

    An epoch is one pass over the text, cut into windows side by side, in a random order and each once. Where the first
    window begins is random too, so that the cuts fall elsewhere in each epoch; less than two windows' tokens at the
    ends are left out, different ones each time. The batches are taken from the epochs one after the other: a batch may
    end one and begin the next. Of a long text the windows are put into order group by group, each of which is spread
    over the whole text.
    """
    count = windows_per_epoch(len(tokens), context)
    places = range((step - 1) * size, step * size)[rows]
    starts = np.array([_start(len(tokens), context, seed, *divmod(place, count)) for place in places])
    windows = tokens[starts[:, None] + np.arange(context + 1)]  # (B, T + 1)
    return Batch(windows[:, :-1], windows[:, 1:])


def windows_per_epoch(length: int, context: int) -> int:
    """As many as leave room to begin at any of `context` places, but at least one."""
    return max(1, (length - context) // context)


def _start(length: int, context: int, seed: int, epoch: int, place: int) -> int:
    """Where the window begins that is learned from in this place of an epoch.

    Group g of G has the windows n with n mod G = g; the first (count mod G) groups have one more than the others.
    """
    count = windows_per_epoch(length, context)
    groups = -(-count // GROUP)
    fewest, more = divmod(count, groups)
    group, place = _group(count, place)
    room = length - count * context  # the last target is at first + count · context < length
    order = _order(room, fewest + (group < more), seed, epoch, group)[1]
    first = _order(room, fewest + (more > 0), seed, epoch, 0)[0]
    return first + context * (group + groups * int(order[place]))


def _group(count: int, place: int) -> tuple[int, int]:
    """The group that is learned from in this place of an epoch of so many windows, and the place in it."""
    fewest, more = divmod(count, -(-count // GROUP))
    return divmod(place, fewest + 1) if place < more * (fewest + 1) else divmod(place - more, fewest)


def order_seed(seed: int, epoch: int, count: int, place: int) -> list[int]:
    """What the order is drawn by around this place of an epoch of so many windows."""
    return _seed(seed, epoch, _group(count, place)[0])


def _seed(seed: int, epoch: int, group: int) -> list[int]:
    return [seed, epoch, group] if group else [seed, epoch]


@lru_cache(maxsize=3)
def _order(room: int, count: int, seed: int, epoch: int, group: int) -> tuple[int, Integer[Array, "windows"]]:
    """Of a group: where in so much room the first window begins (that of group 0 counts), and its windows' order."""
    generator = np.random.default_rng(_seed(seed, epoch, group))
    return int(generator.integers(room)), generator.permutation(count)


def consecutive_batches(
    tokens: Integer[Array, "N"] | MappedTokens, context: int, size: int, numbers: slice = slice(None)
) -> Iterator[Batch]:
    """All tokens in order, window after window; the last may be shorter, so that each target counts just once. Or some
    of the batches, by their numbers."""
    count = (len(tokens) - 1) // context
    for number in range(batch_count(len(tokens), context, size))[numbers]:
        first, last = number * size, min((number + 1) * size, count)
        part = tokens[first * context : last * context + 1] if first < count else tokens[count * context : len(tokens)]
        shape = (-1, context) if first < count else (1, -1)
        yield Batch(part[:-1].reshape(shape), part[1:].reshape(shape))


def batch_count(length: int, context: int, size: int) -> int:
    """How many batches so many tokens make, with that of the rest."""
    count = (length - 1) // context
    return -(-count // size) + (length - 1 > count * context)
