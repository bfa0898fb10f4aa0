"""Training: each part against its definition, and the loop as a whole."""

import warnings
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from handgrad.errors import TextError, TrainingError
from handgrad.layers import IGNORE_INDEX, Array
from handgrad.model import GPTParameters, Model, ModelConfig, Parameters, Tokenizer, initial_parameters, leaves
from handgrad.training import (
    Batch,
    SplitText,
    Trainer,
    TrainingConfig,
    consecutive_batches,
    default_text,
    learning_rate,
    make_corpus,
    new_trainer,
    split,
    training_batch,
    windows_per_epoch,
)
from handgrad.training.optimizers import Optimizer
from handgrad.training.shards import GradientSum

CONFIG = ModelConfig(layers=1, heads=2, width=8, hidden=12, context=6, vocabulary=7)
TINY: dict[str, Any] = {"layers": 1, "heads": 2, "width": 16, "hidden": 24, "context": 8}
TEXT = "the cat sat on the mat. the dog sat on the log. " * 20


def test_the_learning_rate_rises_to_its_peak_and_falls_to_its_end() -> None:
    config = TrainingConfig(steps=1000, warmup=100, learning_rate=1e-2, final_learning_rate=1e-3)
    rates = [learning_rate(step, config) for step in range(1, 1001)]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[49] == pytest.approx(5e-3)
    assert max(rates) == rates[99] == pytest.approx(1e-2)
    assert rates[324] == pytest.approx(1e-3 + 9e-3 * (0.5 + 0.5**1.5))  # a quarter of half a cosine
    assert rates[549] == pytest.approx((1e-2 + 1e-3) / 2)
    assert rates[-1] == pytest.approx(1e-3)
    assert learning_rate(1500, config) == pytest.approx(1e-3)
    assert all(later < earlier for earlier, later in pairwise(rates[99:]))


def test_the_learning_rate_stays_at_its_peak_for_its_share() -> None:
    """Of the updates after the warm-up; then the same half of a cosine, shorter."""
    config = TrainingConfig(steps=1100, warmup=100, hold=0.4, learning_rate=1e-2, final_learning_rate=1e-3)
    rates = [learning_rate(step, config) for step in range(1, 1101)]
    assert rates[98] < rates[99] == max(rates)
    np.testing.assert_allclose(rates[99:500], 1e-2, rtol=1e-12)
    short = TrainingConfig(steps=600, warmup=0, learning_rate=1e-2, final_learning_rate=1e-3)
    np.testing.assert_allclose(rates[500:], [learning_rate(step, short) for step in range(1, 601)], rtol=1e-12)


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (1, 100), (50, 100), (100, 100)])
def test_the_learning_rate_of_a_short_run(steps: int, warmup: int) -> None:
    config = TrainingConfig(steps=steps, warmup=warmup)
    for step in range(1, steps + 1):
        assert 0 < learning_rate(step, config) <= config.learning_rate
    if steps > 1:
        assert max(learning_rate(step, config) for step in range(1, steps + 1)) == pytest.approx(2e-3, rel=1e-2)
    assert learning_rate(steps, config) == pytest.approx(config.final_learning_rate)


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    tokens = np.arange(100)
    first, again = (training_batch(tokens, 6, 5, seed=1, step=3) for _ in range(2))
    np.testing.assert_array_equal(first.tokens, again.tokens)
    assert (training_batch(tokens, 6, 5, seed=1, step=4).tokens != first.tokens).any()
    assert (training_batch(tokens, 6, 5, seed=2, step=3).tokens != first.tokens).any()
    np.testing.assert_array_equal(first.targets, first.tokens + 1)
    assert first.tokens.shape == (5, 6)


@pytest.mark.parametrize("length", [7, 8, 12, 13, 19, 100, 101, 103])
@pytest.mark.parametrize("size", [1, 4, 50])
def test_an_epoch_has_each_window_once(length: int, size: int) -> None:
    """Windows of six over three epochs: side by side, none twice, in another order and from another place each time."""
    count = windows_per_epoch(length, 6)
    batches = [training_batch(np.arange(length), 6, size, 0, step) for step in range(1, -(-3 * count // size) + 1)]
    starts = np.concatenate([batch.tokens[:, 0] for batch in batches])[: 3 * count].reshape(3, count)
    for epoch in starts:
        ordered = np.sort(epoch)
        assert (np.diff(ordered) == 6).all()
        assert ordered[0] >= 0
        assert ordered[-1] + 6 < length
    if length > 100:
        assert (starts[0] != starts[1]).any()
        assert (np.argsort(starts[0]) != np.argsort(starts[1])).any()


def test_batches_reach_both_ends_and_leave_little_out() -> None:
    seen: set[int] = set()
    for step in range(1, 400):
        seen |= set(training_batch(np.arange(20), 6, 2, 0, step).targets.ravel().tolist())
    assert seen == set(range(1, 20))
    for length in range(7, 200):
        assert length - 6 * windows_per_epoch(length, 6) < 2 * 6


@pytest.mark.parametrize("length", [7, 8, 12, 13, 14, 40])
def test_consecutive_batches_have_each_target_once(length: int) -> None:
    batches = list(consecutive_batches(np.arange(length), 6, 2))
    assert np.concatenate([batch.targets.ravel() for batch in batches]).tolist() == list(range(1, length))
    for batch in batches:
        np.testing.assert_array_equal(batch.targets, batch.tokens + 1)
        assert batch.tokens.size
        assert batch.tokens.shape[0] <= 2
        assert batch.tokens.shape[1] <= 6


def test_the_last_tenth_of_each_text_is_held_out() -> None:
    assert split(["0123456789" * 2, "abcdefghij"]) == ("012345678901234567\n\nabcdefghi", "89\n\nj")
    assert split(["short", "abcdefghij"]) == ("short\n\nabcdefghi", "j")
    assert split([TEXT]).training + split([TEXT]).validation == TEXT


def test_the_digest_of_a_text_knows_where_it_is_split() -> None:
    assert SplitText("ab", "c").sha256 != SplitText("a", "bc").sha256
    assert SplitText("ab", "c").sha256 == SplitText("ab", "c").sha256


def test_a_text_shorter_than_the_context_is_refused() -> None:
    for text, held_out in (("hello world " * 8, "9 tokens"), ("hello world", "1 token")):
        with pytest.raises(
            TextError,
            match=rf"^the text is too short: .* {held_out}, a sequence of 64 needs 65, so about 650 in all$",
        ):
            new_trainer(text)


def test_a_text_just_long_enough_is_accepted() -> None:
    text = split(["ab" * 40])  # eight held out: a context of seven and its last target
    tokenizer = Tokenizer.of_characters("ab")
    assert len(make_corpus(text, tokenizer, length=7).validation.tokens) == 8
    with pytest.raises(TextError):
        make_corpus(text, tokenizer, length=8)


def test_the_default_text_is_a_long_english_text() -> None:
    text = default_text()
    assert len(text) > 300_000
    assert "expression" in text


def assert_same(found: tuple[float, GPTParameters, float], loss: float, gradients: Parameters) -> None:
    """The trainer's loss, gradients and their norm are the model's own for the whole batch."""
    trainer_loss, tree, norm = found
    assert trainer_loss == pytest.approx(loss, rel=1e-13)
    np.testing.assert_allclose(flat(tree, gradients.config), gradients.flat, rtol=1e-9, atol=1e-16)
    assert norm == pytest.approx(float(np.linalg.norm(gradients.flat)), rel=1e-12)


def flat(tree: GPTParameters, config: ModelConfig) -> Array:
    return Parameters.from_tree(config, tree).flat


@pytest.mark.parametrize("shards", [1, 2, 3, 5, 12, 99])
def test_any_number_of_shards_gives_the_gradient_of_the_batch(shards: int) -> None:
    trainer = in_float64(TrainingConfig(batch=12, shards=shards))
    batch = training_batch(trainer.corpus.training, 8, 12, seed=0, step=1)
    loss, gradients = trainer.model.loss_and_gradients(*batch)
    assert_same(trainer.batch_gradients(batch), loss, gradients)


def test_a_shard_counts_by_its_targets_that_count() -> None:
    trainer = in_float64(TrainingConfig(batch=6, shards=3))
    tokens, targets = training_batch(trainer.corpus.training, 8, 6, seed=0, step=1)
    targets = targets.copy()
    targets[:2] = IGNORE_INDEX  # all of the first shard
    targets[3, 1:] = IGNORE_INDEX
    loss, gradients = trainer.model.loss_and_gradients(tokens, targets)
    assert_same(trainer.batch_gradients(Batch(tokens, targets)), loss, gradients)


def test_accumulation_gives_the_gradient_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """In parts whose targets count unequally, the mean is still over all targets of the batch."""
    for accumulation, shards in ((1, 1), (2, 1), (3, 2), (5, 2), (99, 2)):
        trainer = in_float64(TrainingConfig(batch=5, accumulation=accumulation, shards=shards))
        tokens, targets = training_batch(trainer.corpus.training, 8, 5, seed=0, step=1)
        targets = targets.copy()
        targets[0] = IGNORE_INDEX
        targets[3, 2:] = IGNORE_INDEX
        loss, gradients = trainer.model.loss_and_gradients(tokens, targets)
        assert_same(trainer.batch_gradients(Batch(tokens, targets)), loss, gradients)


def test_accumulation_works_off_one_part_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = new_trainer(TEXT, batch=6, accumulation=3, shards=99, **TINY)
    at_once: list[int] = []
    begin = GradientSum.begin

    def watched(self: GradientSum, shards: int) -> None:
        at_once.append(shards)
        begin(self, shards)

    monkeypatch.setattr(GradientSum, "begin", watched)
    trainer.step()
    assert at_once == [2, 2, 2]


def test_a_run_that_diverges_stops_before_it_spoils_the_weights() -> None:
    trainer = new_trainer(TEXT, **TINY)
    trainer.model.parameters["head.w_lm"][...] = 1e38
    before = trainer.model.parameters.flat.copy()
    with pytest.raises(
        TrainingError, match=r"^step 1: head.logits became (infinite|nan); the learning rate was 0\.01$"
    ):
        trainer.step()
    np.testing.assert_array_equal(trainer.model.parameters.flat, before)


def in_float64(config: TrainingConfig) -> Trainer:
    tokenizer = Tokenizer.of_characters(TEXT)
    model_config = ModelConfig(**TINY, vocabulary=tokenizer.vocabulary)
    model = Model(model_config, initial_parameters(model_config, dtype=np.float64), tokenizer)
    return Trainer(model, make_corpus(split([TEXT]), tokenizer, 8), config)


def test_each_shard_is_worked_on_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    trainer = new_trainer(TEXT, batch=5, shards=3, **TINY)
    work = trainer._shard

    def watched(number: int, shard: Batch, targets: int, gradients: GradientSum) -> float:
        sizes.append(len(shard.tokens))
        return work(number, shard, targets, gradients)

    monkeypatch.setattr(trainer, "_shard", watched)
    trainer.step()
    assert sorted(sizes) == [1, 2, 2]


def test_each_update_has_the_rate_of_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = []

    def recorded(self: Optimizer, gradients: GPTParameters, rate: float, *others: Any) -> None:
        rates.append(rate)
        self.steps += 1

    monkeypatch.setattr(Optimizer, "step", recorded)
    trainer = new_trainer(TEXT, steps=6, warmup=2, evaluations=1, **TINY)
    list(trainer.run())
    assert rates == [learning_rate(step, trainer.config) for step in range(1, 7)]


def test_the_seed_decides_the_weights_and_the_batches() -> None:
    first, other = (new_trainer(TEXT, seed=seed, **TINY) for seed in (0, 1))
    assert (first.model.parameters.flat != other.model.parameters.flat).any()
    other.model.parameters.flat[:] = first.model.parameters.flat
    assert first.step().loss != other.step().loss


def test_a_text_of_one_character_trains() -> None:
    trainer = new_trainer("a" * 500, steps=2, **TINY)
    assert [progress.loss for progress in trainer.run()] == [0, 0]
    assert np.isfinite(trainer.model.parameters.flat).all()


def test_blas_has_one_thread_while_shards_are_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the gradients are asked for without an update."""
    trainer = new_trainer(TEXT, shards=1, **TINY)
    work = trainer._shard
    seen: list[int] = []

    def watched(*arguments: Any) -> float:
        seen.extend(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")
        return work(*arguments)

    monkeypatch.setattr(trainer, "_shard", watched)
    with threadpool_limits(2, "blas"):
        trainer.batch_gradients(training_batch(trainer.corpus.training, 8, 2, seed=0, step=1))
    assert set(seen) == {1}


def test_clipping_scales_the_gradients_to_the_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    scales: list[float] = []
    norms: list[float] = []

    def recorded(self: Optimizer, gradients: GPTParameters, rate: float, scale: float, *others: Any) -> None:
        scales.append(scale)
        norms.append(float(np.linalg.norm(np.concatenate([x.ravel() for x in leaves(gradients)]))))

    monkeypatch.setattr(Optimizer, "step", recorded)
    for clip in (1e-3, 1e9):
        progress = in_float64(TrainingConfig(clip=clip)).step()
        assert progress.gradient_norm == pytest.approx(norms[-1], rel=1e-12)
        assert scales[-1] == pytest.approx(min(1, clip / norms[-1]), rel=1e-4)
    assert scales[0] < scales[1] == 1


def test_the_validation_loss_is_the_mean_over_every_token() -> None:
    trainer = in_float64(TrainingConfig(batch=5))
    tokens = trainer.corpus.validation.tokens
    total = 0.0
    for batch in consecutive_batches(tokens, 8, 1):
        loss, _ = trainer.model.loss_and_gradients(*batch)
        total += loss * batch.targets.size
    assert trainer.evaluate().loss == pytest.approx(total / (len(tokens) - 1), rel=1e-12)


def run(seed: int = 0, **changes: Any) -> Iterator[Any]:
    settings: dict[str, Any] = {"steps": 60, "batch": 12, "warmup": 10, "hold": 0, "learning_rate": 1e-2}
    trainer = new_trainer(TEXT, optimizer="adamw", seed=seed, **settings, **changes, **TINY)
    yield from trainer.run()
    yield trainer.model.parameters.flat


def test_a_run_learns_and_tells_of_each_update() -> None:
    *progress, _ = run(evaluations=3)
    assert [p.step for p in progress] == list(range(1, 61))
    assert [p.step for p in progress if p.validation_loss is not None] == [20, 40, 60]
    assert progress[0].loss == pytest.approx(np.log(len(set(TEXT))), rel=0.2)
    assert progress[-1].loss < 0.5 * progress[0].loss
    assert progress[-1].validation_loss < 0.6 * progress[0].loss
    assert all(p.tokens_per_second > 0 for p in progress)


def test_a_run_is_a_function_of_its_seed() -> None:
    (*_, first), (*_, again), (*_, other) = run(), run(), run(seed=1)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(("steps", "evaluations"), [(1, 8), (3, 8), (7, 3), (60, 3), (10, 10), (1000, 7), (50, 10**12)])
def test_evaluations_cut_the_run_into_equal_parts_and_the_last_is_at_its_end(steps: int, evaluations: int) -> None:
    trainer = new_trainer(TEXT, steps=steps, evaluations=evaluations, **TINY)
    parts = min(evaluations, steps)
    expected = sorted({round(steps * part / parts) for part in range(1, parts + 1)})
    assert [step for step in range(1, steps + 1) if trainer._is_evaluated(step)] == expected
    assert expected[-1] == steps


def test_an_update_on_threads_that_overflows_warns_nobody() -> None:
    """What overflows in an update is named in the next step; as an error, a warning would leave half an update."""
    trainer = new_trainer(TEXT, shards=2, threads=2, learning_rate=1e45, final_learning_rate=0, warmup=0, **TINY)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer.step()
        with pytest.raises(TrainingError, match=r"^step 2: "):
            trainer.step()


def test_a_shard_that_fails_ends_the_step_and_leaves_the_trainer_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = new_trainer(TEXT, shards=4, threads=2, **TINY)
    before = trainer.model.parameters.flat.copy()
    work = trainer._shard

    def failing(number: int, *others: Any) -> float:
        if number == 1:
            raise MemoryError("no room")
        return work(number, *others)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "_shard", failing)
        with pytest.raises(MemoryError, match="no room"):
            trainer.step()
    np.testing.assert_array_equal(trainer.model.parameters.flat, before)
    other = new_trainer(TEXT, shards=4, threads=1, **TINY)
    assert trainer.step() == other.step()
    np.testing.assert_array_equal(trainer.model.parameters.flat, other.model.parameters.flat)
