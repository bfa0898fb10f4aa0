"""Training at the edge: learning rates that diverge, numbers that overflow, gradients of zero or below the smallest."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from handgrad.errors import TrainingError
from handgrad.layers import Array
from handgrad.model import Model, ModelConfig, Parameters, initial_parameters, loss_backward, loss_forward
from handgrad.proof import relative_error
from handgrad.proof.making import FAMILIES
from handgrad.training import Batch, Trainer, TrainingConfig, consecutive_batches, new_trainer, training_batch
from handgrad.training.optimizers import OPTIMIZERS, Update
from handgrad.training.optimizers.orthogonal import QUINTICS

CONFIG = ModelConfig(layers=1, heads=2, width=8, hidden=12, context=6, vocabulary=7)
TINY: dict[str, Any] = {"layers": 2, "heads": 2, "width": 8, "hidden": 12, "context": 8, "batch": 4, "shards": 2}
TEXT = "the cat sat on the mat. the dog sat on the log. " * 20


def diverging(family: str, optimizer: str, rate: float, **settings: Any) -> Trainer:
    rates = {"learning_rate": rate, "final_learning_rate": rate, "warmup": 0}
    return new_trainer(TEXT, **TINY | FAMILIES[family] | {"optimizer": optimizer, **rates, **settings})


def all_tensors(model: Model, batch: Batch) -> Iterator[tuple[str, Array]]:
    """All that there is on the way from the parameters to the gradients, in the order in which it comes to be."""
    yield from ((f"the parameter {name} is", x) for name, x in model.parameters.items())
    for n in range(len(batch.tokens)):
        seen: list[tuple[str, Array]] = []

        def tap(name: str, x: Array, seen: list[tuple[str, Array]] = seen) -> Array:
            seen.append((name, np.where(np.isneginf(x), 0, x) if name.endswith("masked_scores") else x.copy()))
            return x

        with np.errstate(all="ignore"):
            one = Batch(*(x[n : n + 1] for x in batch))
            loss, cache = loss_forward(*one, model.parameters.tree, model.config, tap)
            forwards = len(seen)
            tree = loss_backward(np.ones_like(loss), cache, tap)
        yield from ((f"{name} became", x) for name, x in seen[:forwards])
        yield from ((f"the cotangent of {name} became", x) for name, x in seen[forwards:])
        gradients = Parameters.from_tree(model.config, tree)
        yield from ((f"the gradient of {name} became", x) for name, x in gradients.items())


def first_by_hand(model: Model, batch: Batch) -> str | None:
    for name, x in all_tensors(model, batch):
        if not np.isfinite(x).all():
            return f"{name} {'nan' if np.isnan(x).any() else 'infinite'}"
    return None


@pytest.mark.parametrize("rate", [1e4, 1e10, 1e19, 1e30, 1e38, 1e300])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("family", ["default", "llama", "nanogpt"])
def test_a_rate_that_diverges_stops_with_the_first_tensor_or_the_loss_stays_finite(
    family: str, optimizer: str, rate: float
) -> None:
    """It names the first that is not finite, in the batch or, after an update, in the held-out text."""
    trainer, error = diverging(family, optimizer, rate, steps=4, evaluations=4), ""
    try:
        for progress in trainer.run():
            assert math.isfinite(progress.loss)
            assert np.isfinite(trainer.model.parameters.flat).all()
    except TrainingError as raised:
        error = str(raised)
    if not error:
        assert rate < 1e10
        return
    made, step = trainer.optimizer.steps, int(error.removeprefix("step ").partition(":")[0])
    if step == made:
        after, batches = "after it ", list(consecutive_batches(trainer.corpus.validation.tokens, trainer.length, 8))
    else:
        after, batches = "", [training_batch(trainer.corpus.training, trainer.length, 4, trainer.config.seed, made + 1)]
    found = filter(None, (first_by_hand(trainer.model, batch) for batch in batches))
    culprit = next(found, "the norm of the gradients became inf")  # all are finite, but not the sum of their squares
    assert error == f"step {step}: {after}{culprit}; the learning rate was {rate:.2g}"


def test_a_stream_whose_squares_overflow_is_named() -> None:
    """Divided by infinity it would be 0, the loss that of equal logits, and no gradient would be left."""
    with pytest.raises(TrainingError, match=r"^step 1: after it blocks\.1\.norm_1\.output became nan; "):
        list(diverging("llama", "adamw", 1e4, steps=4, evaluations=4).run())


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("head.w_lm", 3e38),
        ("norm.gamma", 3e38),
        ("blocks.0.attention.w_q", 3e38),
        ("blocks.1.attention.w_o", 3e38),
        ("blocks.1.feed_forward.w_up", 3e38),
        ("blocks.1.feed_forward.w_gate", np.nan),
    ],
)
def test_what_overflows_in_the_middle_is_named_and_the_weights_stay(parameter: str, value: float) -> None:
    trainer = diverging("default", "muon", 0.01)
    trainer.model.parameters[parameter][...] *= value
    before = trainer.model.parameters.flat.copy()
    batch = training_batch(trainer.corpus.training, trainer.length, 4, trainer.config.seed, 1)
    with pytest.raises(TrainingError) as raised:
        trainer.step()
    assert str(raised.value) == f"step 1: {first_by_hand(trainer.model, batch)}; the learning rate was 0.01"
    np.testing.assert_array_equal(trainer.model.parameters.flat, before)


def one_by_one(updates: Sequence[Update]) -> None:
    """Unlike `in_order`, it lets NumPy warn."""
    for update in updates:
        update()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_of_zero_move_nothing(dtype: type, optimizer: str) -> None:
    parameters = initial_parameters(CONFIG, dtype=dtype)
    before = parameters.flat.copy()
    moving = OPTIMIZERS[optimizer](parameters, TrainingConfig(weight_decay=0))
    for _ in range(3):
        moving.step(Parameters(CONFIG, dtype=dtype).tree, 0.1, share=one_by_one)
    np.testing.assert_array_equal(parameters.flat, before)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("dtype", "size", "bar"), [(np.float32, 1e-40, 1e-2), (np.float64, 1e-310, 1e-11)])
def test_subnormal_gradients_move_as_the_formulas_say(dtype: type, size: float, bar: float, optimizer: str) -> None:
    """AdamW's first step is g / (|g| + epsilon), here g / epsilon; Muon's that of any multiple of g. The bars are the
    digits that a twentieth of so small a number has left."""
    generator = np.random.default_rng(1)
    plain = Parameters(CONFIG, generator.standard_normal(Parameters(CONFIG).flat.size))
    gradients = Parameters(CONFIG, (size * plain.flat).astype(dtype))
    moved = Parameters(CONFIG, dtype=dtype)
    OPTIMIZERS[optimizer](moved, TrainingConfig(weight_decay=0)).step(gradients.tree, 0.1, share=one_by_one)
    for name, x in moved.items():
        if optimizer == "muon" and name.startswith("blocks.") and x.ndim == 2:
            u, s, vt = np.linalg.svd(plain[name].astype(float), full_matrices=False)
            s /= np.linalg.norm(s)
            for a, b, c in QUINTICS:
                s = a * s + b * s**3 + c * s**5
            expected = -0.1 * 0.2 * max(x.shape) ** 0.5 * (u * s) @ vt
            assert relative_error(x, expected) < bar, name
        else:
            assert relative_error(x / size, -0.1 * plain[name] / 1e-8) < bar, name
