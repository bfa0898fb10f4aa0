"""The order of a long text's windows, group by group, against the definition."""

from pathlib import Path

import numpy as np
import pytest

from handgrad.training import consecutive_batches, training_batch, windows_per_epoch
from handgrad.training.batches import order_seed
from handgrad.training.prepared.tokens import MappedTokens, Shard


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handgrad.training.batches.GROUP", 8)


def starts(length: int, size: int, seed: int, epochs: int) -> np.ndarray:
    count = windows_per_epoch(length, 6)
    batches = [training_batch(np.arange(length), 6, size, seed, step) for step in range(1, epochs * count // size + 2)]
    return np.concatenate([batch.tokens[:, 0] for batch in batches])[: epochs * count].reshape(epochs, count)


@pytest.mark.parametrize("length", [20, 50, 53, 54, 60, 103, 104, 150, 151, 200, 333])
@pytest.mark.parametrize("seed", [0, 7, 2**62])
def test_windows_of_a_group_lie_all_over_the_text(length: int, seed: int) -> None:
    count = windows_per_epoch(length, 6)
    groups = -(-count // 8)
    for epoch, found in enumerate(starts(length, 5, seed, epochs=3)):
        generator = np.random.default_rng((seed, epoch))
        first, at = generator.integers(length - count * 6), 0
        for group in range(groups):
            windows = np.arange(group, count, groups)
            if group == 0:
                order = generator.permutation(len(windows))
                np.testing.assert_array_equal(found[: len(windows)], first + 6 * windows[order])
            assert sorted(found[at : at + len(windows)]) == (first + 6 * windows).tolist()
            at += len(windows)
        assert at == count


def test_groups_and_epochs_have_orders_of_their_own() -> None:
    found = starts(6 * 25, 4, 0, epochs=2)
    ranks = [np.argsort(found[epoch, group : group + 8]).tolist() for epoch in (0, 1) for group in (0, 8, 16)]
    assert len({tuple(rank) for rank in ranks}) == 6


def test_one_group_is_ordered_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run recorded before there were groups is the same run."""
    monkeypatch.setattr("handgrad.training.batches.GROUP", 1 << 20)
    for epoch, found in enumerate(starts(200, 5, 3, epochs=2)):
        generator = np.random.default_rng((3, epoch))
        count = windows_per_epoch(200, 6)
        first = generator.integers(200 - count * 6)
        np.testing.assert_array_equal(found, first + 6 * generator.permutation(count))


def test_batches_of_mapped_tokens_are_those_of_an_array(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(300, size=217).astype(np.uint16)
    for name, part in (("a", array[:100]), ("b", array[100:])):
        np.save(tmp_path / f"{name}.npy", part)
    files = [Shard(tmp_path / "a.npy", 100), Shard(tmp_path / "b.npy", 117)]
    mapped, tokens = MappedTokens(files, np.dtype("<u2"), 300), array.astype(np.int32)
    for step in range(1, 20):
        for one, other in zip(
            training_batch(mapped, 6, 4, 0, step), training_batch(tokens, 6, 4, 0, step), strict=True
        ):
            np.testing.assert_array_equal(one, other)
    for size in (1, 3, 50):
        pairs = zip(consecutive_batches(mapped, 6, size), consecutive_batches(tokens, 6, size), strict=True)
        for one, other in ((a, b) for pair in pairs for a, b in zip(*pair, strict=True)):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype


@pytest.mark.parametrize("count", [1, 7, 8, 9, 25, 32])
def test_the_seed_of_a_place_is_that_of_its_group(count: int) -> None:
    groups = -(-count // 8)
    expected = [group for group in range(groups) for _ in range(group, count, groups)]
    found = [order_seed(7, 3, count, place) for place in range(count)]
    assert found == [[7, 3, group] if group else [7, 3] for group in expected]
