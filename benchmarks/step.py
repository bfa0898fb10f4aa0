"""Whole steps of training: forward, backward, clip, AdamW."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from handgrad.model import initial_parameters, tensors_to_bytes
from handgrad.training import TrainingConfig, training_batch

from .plan import BATCHES, TOKENS, WEIGHTS, Turn, write_plan
from .rounds import Contest, largest
from .sizes import SIZES, Size

CONTENDERS = {
    "handgrad": "benchmarks.with_handgrad:step",
    "PyTorch eager": "benchmarks.with_torch:eager_step",
    "torch.compile": "benchmarks.with_torch:compiled_step",
    "matrix products": "benchmarks.products:step",
}
AGREE = 1e-3
"""How far losses and norms of gradients at the same step may lie apart, relatively; rounding makes some 1e-6 of it."""


def contest(name: str, rounds: int, threads: int) -> Contest:
    return Contest(
        f"step {name}",
        CONTENDERS,
        partial(prepare, size=SIZES[name], rounds=rounds, threads=threads),
        difference,
        AGREE,
        "losses and norms of gradients",
    )


def prepare(folder: Path, size: Size, rounds: int, threads: int) -> None:
    """The same weights, and the same batches of random tokens, for all."""
    model = size.model
    training = TrainingConfig(
        batch=size.batch,
        learning_rate=1e-3,
        final_learning_rate=1e-3,
        warmup=0,
        shards=threads,
        steps=size.steps * (rounds + 1),
    )
    length = training.steps * training.batch * model.context + 2 * model.context
    tokens = np.random.default_rng(0).integers(model.vocabulary, size=length, dtype=np.int32)
    batches = [
        training_batch(tokens, model.context, training.batch, training.seed, step + 1) for step in range(training.steps)
    ]
    np.save(folder / TOKENS, tokens)
    np.save(folder / BATCHES, [np.hstack([batch.tokens, batch.targets[:, -1:]]) for batch in batches])
    (folder / WEIGHTS).write_bytes(tensors_to_bytes(initial_parameters(model)))
    write_plan(folder, model=model.to_dict(), training=training.to_dict(), steps=size.steps, threads=threads)


def difference(turns: Mapping[str, list[Turn]]) -> float | None:
    """The largest relative difference of two contenders' losses at a step, or norms of gradients in the first turn.

    None where there are no two to compare. Later norms tell less: by rounding, the weights drift apart.
    """
    numbers = [
        np.concatenate([played[0]["norms"], *(turn["losses"] for turn in played)])
        for played in turns.values()
        if "losses" in played[0]
    ]
    return largest(lambda one, other: float(abs(one / other - 1).max()), numbers)
