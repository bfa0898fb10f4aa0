"""What a model is trained on: a text, cut into a part to learn from and a last tenth that is held out."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer

from ..errors import TextError
from ..files import read_text_file
from ..layers import Array
from ..model import Tokenizer

VALIDATION_SHARE = 0.1


def default_text() -> str:
    """The reference of the Python language, which every CPython carries (it differs a little between versions)."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise TextError("this Python has no pydoc_data.topics, the default text; name a text with --data") from None
    return "\n\n".join(topics[name] for name in sorted(topics))


def read_text(path: Path) -> str:
    """The text of a UTF-8 file; line ends become \\n."""
    text = read_text_file(path).replace("\r\n", "\n")
    if not text.strip():
        raise TextError(f"{path}: empty or blank")
    return text


class Corpus(NamedTuple):
    """The tokens to learn from, the held-out tokens, and the number of characters of those held out but the first.

    The first held-out token is predicted by nothing, so its characters do not count.
    """

    training: Array
    validation: Array
    validation_characters: int

    def bits_per_character(self, validation_loss: float) -> float:
        """The validation loss, nats a token, in a unit that does not depend on the tokenizer."""
        return validation_loss / math.log(2) * (len(self.validation) - 1) / self.validation_characters


def tokenize(text: str, tokenizer: Tokenizer, context: int) -> Corpus:
    """Cut off the last tenth of the text and tokenize both parts; each must fill one context and its next token."""
    cut = len(text) - int(len(text) * VALIDATION_SHARE)
    training, validation = tokenizer.encode(text[:cut]), tokenizer.encode(text[cut:])
    if min(len(training), len(validation)) <= context:
        raise TextError(
            f"the text is too short: its held-out tenth has {len(validation)} tokens, a context of {context} needs "
            f"{context + 1}, so about {10 * (context + 1):,} in all"
        )
    return Corpus(training, validation, len(text) - cut - len(tokenizer.decode(validation[:1])))


class Batch(NamedTuple):
    """Sequences and, shifted by one, what should follow each of their tokens."""

    tokens: Array
    targets: Array


def random_batch(tokens: Integer[Array, "N"], context: int, size: int, seed: int, step: int) -> Batch:
    """Windows at random places: a function of seed and step alone."""
    starts = np.random.default_rng((seed, step)).integers(len(tokens) - context, size=size)
    windows = tokens[starts[:, None] + np.arange(context + 1)]  # (B, T + 1)
    return Batch(windows[:, :-1], windows[:, 1:])


def consecutive_batches(tokens: Integer[Array, "N"], context: int, size: int) -> Iterator[Batch]:
    """All tokens in order, window after window; the last may be shorter, so that each target counts just once."""
    count = (len(tokens) - 1) // context
    inputs, targets = (tokens[shift : shift + count * context].reshape(count, context) for shift in (0, 1))
    for at in range(0, count, size):
        yield Batch(inputs[at : at + size], targets[at : at + size])
    if len(tokens) - 1 > count * context:
        yield Batch(tokens[None, count * context : -1], tokens[None, count * context + 1 :])
