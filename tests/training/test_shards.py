"""The sum over shards: its order is a tree's, and no thread can change a bit of it."""

import itertools
from typing import Any

import numpy as np
import pytest

from handgrad.layers import IGNORE_INDEX
from handgrad.model import leaves
from handgrad.model.parameters import HeadParameters
from handgrad.training import Batch, Trainer, new_trainer, training_batch
from handgrad.training.optimizers import OPTIMIZERS
from handgrad.training.shards import GradientSum

TINY: dict[str, Any] = {"layers": 2, "heads": 2, "width": 16, "hidden": 24, "context": 70}
TEXT = "the cat sat on the mat. the dog sat on the log. " * 40


def pieces(shards: int) -> list[HeadParameters]:
    generator = np.random.default_rng(shards)
    return [HeadParameters(generator.standard_normal((3, 4)).astype(np.float32)) for _ in range(shards)]


def total(shards: int, order: Any) -> np.ndarray:
    gradients = GradientSum()
    gradients.begin(shards)
    for shard in order:
        gradients.add(shard, "head", HeadParameters(pieces(shards)[shard].w_lm.copy()))
    (w_lm,) = gradients._sums["head"]
    return np.asarray(w_lm)


def test_the_tree_adds_the_halves_of_halves() -> None:
    a, b, c, d, e, f = (np.asarray(piece.w_lm) for piece in pieces(6))
    np.testing.assert_array_equal(total(6, range(6)), ((a + b) + c) + ((d + e) + f))
    a, b, c, d, e = (np.asarray(piece.w_lm) for piece in pieces(5))
    np.testing.assert_array_equal(total(5, range(5)), ((a + b) + c) + (d + e))
    a, b, c, d = (np.asarray(piece.w_lm) for piece in pieces(4))
    np.testing.assert_array_equal(total(4, range(4)), (a + b) + (c + d))
    (a,) = (np.asarray(piece.w_lm) for piece in pieces(1))
    np.testing.assert_array_equal(total(1, range(1)), a)


@pytest.mark.parametrize("shards", [2, 3, 4, 5])
def test_the_order_in_which_shards_are_done_changes_no_bit(shards: int) -> None:
    expected = total(shards, range(shards))
    left_to_right = np.zeros((3, 4), np.float32)
    for order in itertools.permutations(range(shards)):
        np.testing.assert_array_equal(total(shards, order), expected)
    for piece in pieces(shards):
        left_to_right += np.asarray(piece.w_lm)
    np.testing.assert_allclose(expected, left_to_right, rtol=1e-5, atol=1e-6)


def gradients_of(trainer: Trainer, batch: Batch) -> list[Any]:
    loss, tree, norm = trainer.batch_gradients(batch)
    return [loss, norm, *leaves(tree)]


@pytest.mark.parametrize(("shards", "held"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (8, 4), (9, 4)])
def test_one_after_the_other_shards_hold_no_more_than_their_logarithm(shards: int, held: int) -> None:
    """1 + log2, rounded down where the tree is not full: what waits, and what has just come."""
    gradients, most = GradientSum(), 0
    gradients.begin(shards)
    for shard, piece in enumerate(pieces(shards)):
        most = max(most, len(gradients._waiting) + 1)
        gradients.add(shard, "head", piece)
    assert most == held
    assert not gradients._waiting


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("shards", "accumulation"), [(1, 1), (2, 1), (3, 1), (5, 1), (5, 2), (7, 1)])
def test_the_number_of_threads_changes_no_bit(shards: int, accumulation: int, optimizer: str) -> None:
    """Of any gradient, the loss or the norm; nor, after some updates, of a weight. Shards of unequal sizes too."""
    results, weights = [], []
    settings = TINY | {"shards": shards, "accumulation": accumulation, "optimizer": optimizer, "batch": 12}
    for threads in (1, 2, 3, 8):
        trainer = new_trainer(TEXT, threads=threads, **settings)
        tokens, targets = training_batch(trainer.corpus.training, 70, 12, seed=0, step=1)
        targets = targets.copy()
        targets[:3, 5:] = IGNORE_INDEX
        results.append(gradients_of(trainer, Batch(tokens, targets)))
        for _ in range(3):
            trainer.step()
        weights.append(trainer.model.parameters.flat)
    for other, other_weights in zip(results[1:], weights[1:], strict=True):
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(weights[0], other_weights)
