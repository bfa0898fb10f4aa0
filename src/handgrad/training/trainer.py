"""The loop: batches in, updates out, the held-out loss now and then."""

import json
import math
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import TrainingError
from ..files import write_atomically
from ..layers import IGNORE_INDEX
from ..model import (
    GPTParameters,
    Model,
    ModelConfig,
    Parameters,
    Tokenizer,
    initial_parameters,
    leaves,
    loss_backward,
    loss_forward,
    single_threaded_blas,
)
from .adamw import AdamW
from .config import DEFAULT_ARCHITECTURE, TrainingConfig
from .schedule import learning_rate
from .text import Batch, Corpus, consecutive_batches, random_batch, tokenize

RECORD_FILE = "training.json"


class Progress(NamedTuple):
    """Where a run stands after an update. `validation_loss` is set where the update was followed by an evaluation."""

    step: int
    loss: float
    validation_loss: float | None
    tokens_per_second: float


class Trainer:
    """Trains a model's parameters in place. Each batch is cut into shards, which threads work on side by side.

    The shards are summed in their order, and each is computed by single-threaded BLAS, so the numbers depend on how
    many shards there are, but not on the number of threads or on which is first.
    """

    def __init__(self, model: Model, corpus: Corpus, config: TrainingConfig, threads: int | None = None) -> None:
        """`threads`: how many work at once; where not given, as many as there are shards and processors."""
        self.model = model
        self.corpus = corpus
        self.config = config
        self.optimizer = AdamW(model.parameters, config)
        self._pool = ThreadPoolExecutor(threads or min(config.shards, os.cpu_count() or 1))
        self.validation_losses: dict[int, float] = {}
        self.gradients = Parameters(model.config, dtype=model.parameters.flat.dtype)

    def run(self) -> Iterator[Progress]:
        """Make the updates that are left of `config.steps`, and tell of each."""
        tokens_per_step = self.config.batch * self.model.config.context
        evaluations = self.config.evaluations
        evaluate_at = {round(self.config.steps * n / evaluations) for n in range(1, evaluations + 1)}
        seconds = 0.0
        first = self.optimizer.steps
        while self.optimizer.steps < self.config.steps:
            start = time.perf_counter()
            loss = self.step()
            seconds += time.perf_counter() - start
            step = self.optimizer.steps
            if step in evaluate_at:
                self.validation_losses[step] = self.validation_loss()
            yield Progress(step, loss, self.validation_losses.get(step), tokens_per_step * (step - first) / seconds)

    def step(self) -> float:
        """One update on the next batch; the batch's loss before it."""
        step = self.optimizer.steps + 1
        config = self.config
        batch = random_batch(self.corpus.training, self.model.config.context, config.batch, config.seed, step)
        with single_threaded_blas():
            loss = self.set_gradients(batch)
            norm = float(np.sqrt(np.vdot(self.gradients.flat, self.gradients.flat)))
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise TrainingError(f"step {step}: the loss is {loss}, the norm of the gradients {norm}; cannot go on")
            scale = min(1.0, config.clip / (norm + 1e-6))
            self.optimizer.step(self.gradients, learning_rate(step, config), scale)
        return loss

    def validation_loss(self) -> float:
        """The mean loss in nats a token over the whole held-out text."""
        batches = consecutive_batches(self.corpus.validation, self.model.config.context, self.config.batch)
        with single_threaded_blas():
            totals = self._pool.map(lambda batch: self._loss(batch) * batch.targets.size, batches)
            return float(sum(totals)) / (len(self.corpus.validation) - 1)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model's folder, with the record of the run."""
        self.model.save(path)
        self.save_record(path)

    def save_record(self, path: str | PathLike[str]) -> None:
        """Write training.json: the settings, the updates made so far, and the validation loss after some of them."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        record = {"settings": self.config.to_dict(), "step": self.optimizer.steps}
        write_atomically(
            folder / RECORD_FILE, json.dumps(record | {"validation": self.validation_losses}, indent=2) + "\n"
        )

    def _loss(self, batch: Batch) -> float:
        loss, _ = loss_forward(*batch, self.model.parameters.tree, self.model.config)
        return float(loss)

    def set_gradients(self, batch: Batch) -> float:
        """The gradients of the batch's mean loss, into `gradients`; and that loss."""
        count = min(self.config.shards, len(batch.tokens))
        shards = [Batch(*parts) for parts in zip(*(np.array_split(part, count) for part in batch), strict=True)]
        counted = [np.count_nonzero(shard.targets != IGNORE_INDEX) for shard in shards]
        shares = [number / max(1, sum(counted)) for number in counted]
        results = list(self._pool.map(self._shard, shards, shares))
        trees = [tree for _, tree in results]
        for total, first, *others in zip(leaves(self.gradients.tree), *map(leaves, trees), strict=True):
            total[...] = first
            for other in others:
                total += other
        return sum(loss for loss, _ in results)

    def _shard(self, shard: Batch, share: float) -> tuple[float, GPTParameters]:
        """A shard's part of the batch's mean loss and gradients: its own, times its share of the batch."""
        loss, cache = loss_forward(*shard, self.model.parameters.tree, self.model.config)
        return float(loss) * share, loss_backward(np.asarray(share, loss.dtype), cache)


def new_trainer(
    text: str, config: TrainingConfig | None = None, *, threads: int | None = None, **architecture: Any
) -> Trainer:
    """A trainer for a fresh model, by characters, on this text. `architecture` overrides fields of `ModelConfig`."""
    config = config or TrainingConfig()
    tokenizer = Tokenizer.of_characters(text)
    model_config = ModelConfig.from_dict(DEFAULT_ARCHITECTURE | architecture | {"vocabulary": tokenizer.vocabulary})
    corpus = tokenize(text, tokenizer, model_config.context)
    return Trainer(
        Model(model_config, initial_parameters(model_config, config.seed), tokenizer), corpus, config, threads
    )
