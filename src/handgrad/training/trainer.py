"""The loop: batches in, updates out, the held-out loss now and then."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from ..errors import ConfigError, TrainingError
from ..layers import IGNORE_INDEX, Array
from ..machine import keep_freed_memory, single_threaded_blas
from ..model import (
    GPTParameters,
    Model,
    initial_parameters,
    loss_backward_parts,
    loss_forward,
)
from .batches import Batch, consecutive_batches, training_batch
from .config import TrainingConfig
from .corpus import Corpus, Text, make_corpus, split
from .evaluate import EVALUATION_BATCH, Evaluation, mean_loss
from .nonfinite import first_non_finite
from .optimizers import OPTIMIZERS, Update, in_order
from .presets import DEFAULT_PRESET
from .ranks import Ranks
from .recipe import Recipe, make_recipe
from .schedule import learning_rate
from .shards import GradientSum


class Progress(NamedTuple):
    """An update: its number, counted from 1, and what was found on the way to it."""

    step: int
    loss: float
    """The batch's, before the update, in nats a token."""
    gradient_norm: float
    """Of all gradients together, before the clip."""
    learning_rate: float
    seconds: float
    """Since the run began, with all that it did besides; but not while it was broken off."""
    tokens_per_second: float
    """In updates alone, the mean since the run began or went on."""
    validation: Evaluation | None = None
    """The loss on the held-out text, where the update was followed by an evaluation."""

    @property
    def validation_loss(self) -> float | None:
        """Nats a token; None where no evaluation followed the update."""
        return self.validation.loss if self.validation else None


class Trainer:
    """Trains a model's parameters in place. Each batch is cut into shards, which threads work on side by side.

    Each shard is computed by single-threaded BLAS, as far as threadpoolctl knows it, and a fixed tree sums them: so the
    numbers depend on how many shards there are, but not on the number of threads or on which is first.
    """

    def __init__(
        self,
        model: Model,
        corpus: Corpus,
        config: TrainingConfig,
        threads: int | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        """`threads`: how many work at once; where not given, as many as there are shards and cores. `ranks`: this
        process among those that train together.

        From here on the process keeps the memory that it frees: see `machine.keep_freed_memory`.
        """
        keep_freed_memory()
        self.ranks = ranks or Ranks()
        self.model = model
        self.corpus = corpus
        self.config = config
        self._refuse_unequal_blocks(config.batch)
        self.length = config.sequence(model.config.context)
        """Tokens in a sequence."""
        kind = OPTIMIZERS[config.optimizer]
        self.optimizer = kind(self.ranks.own(model.parameters, kind), config)
        self.seconds = 0.0
        self.threads = threads or min(len(self.ranks.block(config.shards)), self.ranks.cores)
        self._pool = ThreadPoolExecutor(self.threads)
        self._map: Callable[..., Iterable[Any]] = self._pool.map if self.threads > 1 else map
        dtype = model.parameters.flat.dtype
        self._number = self.ranks.begin(lambda: (model.config, dtype, model.tokenizer.to_json(), corpus, config))

    def run(self) -> Iterator[Progress]:
        """Make the updates that are left of `config.steps`, and tell of each."""
        tokens_per_step = self.config.batch * self.length
        first_step, in_steps = self.optimizer.steps, 0.0
        began = time.perf_counter() - self.seconds
        while self.optimizer.steps < self.config.steps:
            start = time.perf_counter()
            progress = self.step()
            in_steps += time.perf_counter() - start
            validation = self._evaluate_after(progress.step) if self._is_evaluated(progress.step) else None
            self.seconds = time.perf_counter() - began
            yield progress._replace(
                seconds=self.seconds,
                tokens_per_second=tokens_per_step * (progress.step - first_step) / in_steps,
                validation=validation,
            )

    def step(self) -> Progress:
        """One update on the next batch."""
        step, config = self.optimizer.steps + 1, self.config
        rate = learning_rate(step, config)

        def read(rows: slice = slice(None)) -> Batch:
            return training_batch(self.corpus.training, self.length, config.batch, config.seed, step, rows)

        with self.ranks.together(self._number, "step"):
            loss, gradients = self._sum(read, config.batch, config.batch * self.length)
            norm = gradients.norm
            if not (math.isfinite(loss) and math.isfinite(norm)):
                whole = f"the norm of the gradients became {norm}" if math.isfinite(loss) else f"the loss became {loss}"
                raise TrainingError(f"step {step}: {self._culprit([read()], whole)}; the learning rate was {rate:.2g}")
            self.ranks.update(self.optimizer, gradients, rate, min(1.0, config.clip / (norm + 1e-6)), self._share)
        return Progress(step, loss, norm, rate, self.seconds, 0.0)

    def evaluate(self) -> Evaluation:
        """The loss over the whole held-out text."""
        with self.ranks.together(self._number, "evaluate"):
            loss = mean_loss(self.model, self.corpus.validation, self._pool, self.length, ranks=self.ranks)
        return Evaluation(loss, self.corpus.validation)

    def state(self) -> Mapping[str, Array]:
        """All that the optimizer keeps, from all ranks."""
        with self.ranks.together(self._number, "state"):
            return self.ranks.collect(self.optimizer)

    def go_on(self, steps: int = 0, read: Callable[[Mapping[str, Array]], None] = lambda _: None) -> None:
        """Go on after so many steps, with the state of the optimizer that is read into these arrays."""
        state = self.ranks.whole(self.optimizer)
        read(state)
        self.optimizer.steps = steps
        with self.ranks.together(self._number, "go_on"):
            self.ranks.deal(self.optimizer, state)

    def _refuse_unequal_blocks(self, rows: int) -> None:
        counts, size = [len(shards) for shards in _cut(rows, self.config)], self.ranks.size
        divisor = math.gcd(*counts)
        if divisor % size:
            shards = ", ".join(map(str, dict.fromkeys(counts)))
            raise ConfigError(
                f"shards: {shards} in a batch of {rows} cannot be shared equally by {size} ranks, but by "
                f"{divisor & -divisor} at most; more want more --shards, or sequences"
            )

    def _is_evaluated(self, step: int) -> bool:
        """Whether this is one of the steps that cut the run into `evaluations` parts of equal length, rounded."""
        steps, evaluations = self.config.steps, min(self.config.evaluations, self.config.steps)
        nearest = round(step * evaluations / steps)
        return any(step == round(steps * part / evaluations) for part in (nearest - 1, nearest, nearest + 1))

    def _evaluate_after(self, step: int) -> Evaluation:
        evaluation = self.evaluate()
        if not math.isfinite(evaluation.loss):
            batches = consecutive_batches(self.corpus.validation.tokens, self.length, EVALUATION_BATCH)
            culprit = self._culprit(batches, f"the validation loss became {evaluation.loss}")
            rate = learning_rate(step, self.config)
            raise TrainingError(f"step {step}: after it {culprit}; the learning rate was {rate:.2g}")
        return evaluation

    def _culprit(self, batches: Iterable[Batch], whole: str) -> str:
        """The first tensor on these batches that is not finite, in words; `whole` where each is."""
        with single_threaded_blas():
            return next(filter(None, (first_non_finite(self.model, batch) for batch in batches)), whole)

    def batch_gradients(self, batch: Batch) -> tuple[float, GPTParameters, float]:
        """The batch's mean loss, its gradients, and the norm of all these together.

        The mean is over all targets that count in the batch, whatever part of it they are in: their number is known
        before the first part is worked on.
        """

        def read(rows: slice) -> Batch:
            return Batch(batch.tokens[rows], batch.targets[rows])

        self._refuse_unequal_blocks(len(batch.tokens))
        with self.ranks.together(self._number, "batch_gradients", batch):
            loss, gradients = self._sum(read, len(batch.tokens), int(np.count_nonzero(batch.targets != IGNORE_INDEX)))
            return loss, gradients.tree, gradients.norm

    def _sum(self, read: Callable[[slice], Batch], rows: int, targets: int) -> tuple[float, GradientSum]:
        """The mean loss of a batch of so many rows and targets that count, and its gradients; each rank reads its own
        rows."""
        gradients, losses, blocks = self.ranks.gradients(), list[float](), list[int]()
        with single_threaded_blas():
            for shards in _cut(rows, self.config):
                block = self.ranks.block(len(shards))
                gradients.begin(len(block))
                mine = map(read, shards[block.start : block.stop])
                losses += self._map(self._shard, range(len(block)), mine, repeat(targets), repeat(gradients))
                blocks.append(len(block))
                gradients.finish()
        gathered = self.ranks.gather(np.array(losses), [len(losses)] * self.ranks.size)
        everybodys = [np.split(found, np.cumsum(blocks)[:-1]) for found in gathered]
        loss = sum(sum(np.concatenate(part).tolist()) for part in zip(*everybodys, strict=True))
        return float(loss), gradients

    def _share(self, updates: Sequence[Update]) -> None:
        """Each thread has its part from the beginning: to hand over updates one by one takes longer than they do."""
        for _ in self._map(in_order, (updates[n :: self.threads] for n in range(self.threads))):
            pass

    def _shard(self, number: int, shard: Batch, targets: int, gradients: GradientSum) -> float:
        """A shard's part of the mean loss of a batch of so many targets, and of the gradients: its own, times its share
        of the targets."""
        share = int(np.count_nonzero(shard.targets != IGNORE_INDEX)) / max(1, targets)
        with np.errstate(all="ignore"):
            loss, cache = loss_forward(*shard, self.model.parameters.tree, self.model.config)
            found = loss_backward_parts(np.asarray(share, loss.dtype), cache)
            del cache  # so that the backward can free what has served
            for part, part_gradients in found:
                gradients.add(number, part, part_gradients)
                del part_gradients
        return float(loss) * share


def _cut(rows: int, config: TrainingConfig) -> list[list[slice]]:
    """The rows of a batch in parts that are worked off one after the other, and each part's in shards; at most as many
    as there are rows."""

    def pieces(rows: range, count: int) -> list[range]:
        return [range(part[0], part[-1] + 1) for part in np.array_split(rows, min(count, len(rows)))]

    parts = (pieces(part, config.shards) for part in pieces(range(rows), config.accumulation))
    return [[slice(shard.start, shard.stop) for shard in part] for part in parts]


def new_trainer(
    text: str,
    preset: str = DEFAULT_PRESET,
    *,
    threads: int | None = None,
    ranks: Ranks | None = None,
    **settings: Any,
) -> Trainer:
    """A trainer of a fresh model on this text. `settings`: any fields of the model, the tokenizer and the training."""
    if ranks and ranks.size > 1:
        settings = {"shards": ranks.shards(threads)} | settings
    return fresh_trainer(make_recipe(settings, preset), split([text]), threads, ranks=ranks)


def fresh_trainer(
    recipe: Recipe,
    text: Text,
    threads: int | None = None,
    init: Model | None = None,
    ranks: Ranks | None = None,
) -> Trainer:
    """A trainer before its first step: a tokenizer made for the text, and weights that the seed decides; or a model to
    start from, whose weights are trained in place."""
    if init is not None:
        model = init
    else:
        tokenizer = text.make_tokenizer(recipe.tokenizer)
        config = recipe.model(tokenizer.vocabulary)
        model = Model(config, initial_parameters(config, recipe.training.seed), tokenizer)
    corpus = make_corpus(text, model.tokenizer, recipe.training.sequence(model.config.context))
    return Trainer(model, corpus, recipe.training, threads, ranks)
