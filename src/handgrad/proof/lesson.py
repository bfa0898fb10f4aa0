"""Whether a small model still trains with a wrong backward: the lesson of the catalogue."""

from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ..layers import IGNORE_INDEX, Array
from ..machine import single_threaded_blas
from ..model import ModelConfig, Tokenizer, initial_parameters, leaves, loss_backward, loss_forward
from ..training import AdamW, Batch, TrainingConfig, default_text, learning_rate, make_corpus, split, training_batch
from .cases import gpt_case
from .derivative import relative_error
from .making import FAMILIES
from .mutations import Mutation

TRAINING = TrainingConfig(steps=300, batch=8, learning_rate=1e-2, warmup=30, shards=1)
SIZES: dict[str, Any] = {"layers": 2, "heads": 2, "width": 32, "hidden": 64, "context": 32}
PADDING = 0.1
"""The share of targets that are ignored, so that a backward that counts them is wrong here too."""
HELD_OUT = 64
"""Windows that the loss is taken on in the end."""
SMALLEST: dict[str, Any] = {"layers": 2, "heads": 2, "width": 16, "hidden": 12, "context": 6, "vocabulary": 7}
"""Those of the models that tell which family meets a mistake."""
DIFFERENT = 1e-9


class Lesson(NamedTuple):
    """How the training of a small model went."""

    loss: float
    """On a held-out text, in nats; nan where training broke down."""
    learned: float
    """How far the loss came from that of the characters' mere frequencies, 0, to that of right gradients, 1."""
    met: bool
    """Whether the mistake changed anything: all attention has but one tile here, and dloss is 1."""
    right_loss: float = float("nan")
    """What right gradients come to on that text."""
    losses: tuple[float, ...] = ()
    """The batch's loss before each update, in nats."""
    right_losses: tuple[float, ...] = ()
    """The same with right gradients, on the same batches."""

    @property
    def verdict(self) -> str:
        """What somebody sees who watches the loss; another seed moves it by some 3 % of what there is to learn."""
        if not self.met:
            return "not met"
        return "as well" if self.learned > 0.95 else "worse" if self.learned > 0 else "no"


class Material(NamedTuple):
    config: ModelConfig
    tokens: Array
    held_out: Batch
    loss_of_frequencies: float


def family_of(mutation: Mutation) -> str:
    """The first family whose model has what the mutation is wrong about; where none has, the default."""
    return next((family for family in FAMILIES if meets(config_of(family, **SMALLEST), mutation)), "default")


def config_of(family: str, **sizes: int) -> ModelConfig:
    """A model of these sizes with the family's parts; where heads share keys, two share one, in two groups."""
    parts = FAMILIES[family]
    return ModelConfig(**sizes | parts | ({"heads": 4, "key_value_heads": 2} if "key_value_heads" in parts else {}))


def lesson(mutation: Mutation) -> Lesson:
    """Train a small model with the mutation in it: weights, batches, AdamW and clip are those of any training.

    The model is the default one, or where that does not meet the mistake, one of the first family that does.
    """
    family = family_of(mutation)
    loss, weights, losses = _trained(mutation, family)
    right, right_weights, right_losses = _trained(None, family)
    known_before = _material().loss_of_frequencies
    learned = (known_before - loss) / (known_before - right)
    return Lesson(loss, learned, not np.array_equal(weights, right_weights), right, losses, right_losses)


def loss_of_right_gradients() -> float:
    """What the small default model comes to with them, in nats."""
    return _trained(None, "default")[0]


def meets(config: ModelConfig, mutation: Mutation) -> bool:
    """Whether the gradients of a model change with it, by more than another order of rounding does."""
    try:
        made = _gradients(config, mutation)
    except (ValueError, AttributeError):  # such a model has not what the wrong code is about
        return False
    return relative_error(made, _gradients(config)) > DIFFERENT


@cache
def _gradients(config: ModelConfig, mutation: Mutation | None = None) -> Array:
    """All in one vector: those that are zero by mathematics weigh nothing in it."""
    case = gpt_case(config, np.random.default_rng(0))
    case = case.planted(mutation) if mutation else case
    loss, cached = case.run()
    return np.concatenate([gradient.reshape(-1) for gradient in case.gradients(np.ones_like(loss), cached).values()])


@cache
def _trained(mutation: Mutation | None, family: str) -> tuple[float, Array, tuple[float, ...]]:
    """The loss in the end, the weights, and the loss before each update."""
    default, tokens, held_out, _ = _material()
    config = config_of(family, **SIZES, vocabulary=default.vocabulary)
    parameters = initial_parameters(config)
    forward = mutation.planted(loss_forward) if mutation else loss_forward
    backward = mutation.planted(loss_backward) if mutation else loss_backward
    optimizer, losses = AdamW(parameters, TRAINING), []
    with np.errstate(all="ignore"), single_threaded_blas():  # what overflows is the mutation's doing: the loss shows it
        for step in range(1, TRAINING.steps + 1):
            batch = _padded(training_batch(tokens, config.context, TRAINING.batch, TRAINING.seed, step))
            loss, cached = forward(*batch, parameters.tree, config)
            losses.append(float(loss))
            gradients = backward(np.ones_like(loss), cached)
            clip = min(1.0, TRAINING.clip / _norm(leaves(gradients)))
            optimizer.step(gradients, learning_rate(step, TRAINING), clip)
        loss, _ = loss_forward(*held_out, parameters.tree, config)
    return float(loss), parameters.flat, tuple(losses)


@cache
def _material() -> Material:
    text = default_text()
    tokenizer = Tokenizer.of_characters(text)
    config = config_of("default", **SIZES, vocabulary=tokenizer.vocabulary)
    corpus = make_corpus(split([text]), tokenizer, config.context)
    held_out = training_batch(corpus.validation.tokens, config.context, HELD_OUT, seed=0, step=1)
    counts = np.bincount(corpus.training, minlength=config.vocabulary) + 1
    surprise = -np.log(counts / counts.sum())
    return Material(config, np.asarray(corpus.training), held_out, float(surprise[held_out.targets].mean()))


def _padded(batch: Batch) -> Batch:
    """Some of the targets ignored, the same ones each time."""
    ignored = np.random.default_rng(0).random(batch.targets.shape) < PADDING
    return Batch(batch.tokens, np.where(ignored, IGNORE_INDEX, batch.targets))


def _norm(tensors: Iterable[Array]) -> float:
    return float(np.sqrt(sum(float((tensor.astype(np.float64) ** 2).sum()) for tensor in tensors)))
