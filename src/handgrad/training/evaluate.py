"""The loss on a text, in units that one can compare."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import chain, zip_longest
from typing import NamedTuple, TypeVar

import numpy as np

from ..errors import HandgradError, TextError
from ..machine import cores, single_threaded_blas
from ..model import Model, loss_forward
from .batches import Batch, batch_count, consecutive_batches
from .corpus import Passage, tokenize
from .ranks import Ranks

EVALUATION_BATCH = 8
LONGEST_WINDOW = 1024
"""Tokens read at once at most, however long the context: what a forward keeps grows with them."""

WAITING = 4
"""Batches for each core that are read ahead at most: all of a long text would not fit the memory."""

Told = Callable[[int, int], None]
Given = TypeVar("Given")
Made = TypeVar("Made")


def _nobody(done: int, all_: int) -> None:
    pass


class Evaluation(NamedTuple):
    """The mean loss of a text's tokens, and the passage that it was measured on."""

    loss: float
    """Nats a token."""
    passage: Passage

    @property
    def perplexity(self) -> float:
        """As many tokens, all equally likely, would surprise as much."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    @property
    def bits(self) -> float:
        """Of the whole passage, but for its first token, which nothing predicts."""
        return self.loss / math.log(2) * (len(self.passage.tokens) - 1)

    @property
    def bits_per_character(self) -> float:
        """A unit that does not depend on the tokenizer."""
        return self.bits / max(1, self.passage.characters)

    @property
    def bits_per_byte(self) -> float:
        """The same for each byte of UTF-8, so that alphabets can be compared; the unit of the literature."""
        return self.bits / max(1, self.passage.bytes)


def mean_loss(
    model: Model,
    passage: Passage,
    pool: Executor,
    window: int,
    told: Told = _nobody,
    ranks: Ranks | None = None,
) -> float:
    """Nats a token over the passage, cut into windows of so many tokens, of which each begins without a past.

    The ranks deal out the batches among them, and all have the result. `told` hears how many tokens this one has done,
    and how many there are, again and again.
    """

    def total(batch: Batch) -> tuple[float, int]:
        with np.errstate(all="ignore"):  # what is not finite shows in the result
            loss, _ = loss_forward(*batch, model.parameters.tree, model.config)
        return float(loss) * batch.targets.size, batch.targets.size

    ranks = ranks or Ranks()
    done, totals = 0, list[float]()
    dealt = [slice(rank, None, ranks.size) for rank in range(ranks.size)]
    batches = consecutive_batches(passage.tokens, window, EVALUATION_BATCH, dealt[ranks.rank])
    with single_threaded_blas():
        for part, count in _in_turn(pool, total, batches, WAITING * cores()):
            totals.append(part)
            done += count
            told(done, len(passage.tokens) - 1)
    all_ = range(batch_count(len(passage.tokens), window, EVALUATION_BATCH))
    everybodys = ranks.gather(np.array(totals), [len(all_[numbers]) for numbers in dealt])
    in_turn = zip_longest(*(found.tolist() for found in everybodys), fillvalue=0.0)
    return float(sum(chain.from_iterable(in_turn))) / (len(passage.tokens) - 1)


def _in_turn(pool: Executor, make: Callable[[Given], Made], given: Iterable[Given], most: int) -> Iterator[Made]:
    """As `pool.map`, which takes all that is given at once; here at most so many wait or are worked on."""
    waiting = deque[Future[Made]]()
    try:
        for one in given:
            waiting.append(pool.submit(make, one))
            if len(waiting) == most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def evaluate(model: Model, text: str | Passage, told: Told = _nobody, window: int | None = None) -> Evaluation:
    """The loss of a model on a text, which may be tokenized, read in windows: where not given, the context, but
    `LONGEST_WINDOW` at most."""
    passage = tokenize(text, model.tokenizer) if isinstance(text, str) else text
    if len(passage.tokens) < 2:
        raise TextError("the text is too short: it takes two tokens to predict one")
    with ThreadPoolExecutor(cores()) as pool:
        loss = mean_loss(model, passage, pool, window or min(model.config.context, LONGEST_WINDOW), told)
    if not math.isfinite(loss):
        raise HandgradError(f"the model's loss is {loss}; its weights cannot be used")
    return Evaluation(loss, passage)
