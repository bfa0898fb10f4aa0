"""What a model is trained on: texts, each cut into a part to learn from and a last tenth that is held out."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ..errors import TextError, counted
from ..layers import Array
from ..model import Tokenizer
from .prepared.tokens import MappedTokens
from .recipe import TokenizerConfig

VALIDATION_SHARE = 0.1
BETWEEN_DOCUMENTS = "\n\n"


Tokens = Array | MappedTokens
"""In memory, or on the disk."""


class Passage(NamedTuple):
    """A text as tokens, and what a loss over it is measured by.

    The first token is predicted by nothing, so the bytes of it, and the characters that it completes, do not count.
    """

    tokens: Tokens
    characters: int
    bytes: int


def tokenize(text: str, tokenizer: Tokenizer) -> Passage:
    """The tokens of a text, and what all but the first of them, which is predicted from nothing, stand for."""
    tokens = tokenizer.encode(text)
    content = text.encode()
    first = content[: tokenizer.bytes_of(int(tokens[0]))] if len(tokens) else b""
    return Passage(tokens, len(text) - len(first.decode(errors="ignore")), len(content) - len(first))


class Text(Protocol):
    """What a model is trained on, whether it is in memory or on the disk."""

    @property
    def sha256(self) -> str:
        """Of both its parts."""
        ...

    def make_tokenizer(self, config: TokenizerConfig) -> Tokenizer:
        """One that knows both parts and, where it learns, learns from the first."""
        ...

    def learn_from(self, tokenizer: Tokenizer) -> Tokens:
        """The tokens of the part to learn from."""
        ...

    def held_out(self, tokenizer: Tokenizer) -> Passage:
        """The passage that evaluations measure the loss on."""
        ...

    def excerpt(self) -> str:
        """Some of the held-out text, or all."""
        ...


class SplitText(NamedTuple):
    """The text to learn from, and the text that is held out."""

    training: str
    validation: str

    @property
    def sha256(self) -> str:
        """Of both parts, and so of where the text is split."""
        return hashlib.sha256("\0".join(self).encode()).hexdigest()

    def make_tokenizer(self, config: TokenizerConfig) -> Tokenizer:
        """One that knows the characters of both parts and, where it learns, learns from the first."""
        return config.make(self.training, self.training + self.validation)

    def learn_from(self, tokenizer: Tokenizer) -> Array:
        """The tokens of the text to learn from."""
        return tokenizer.encode(self.training)

    def held_out(self, tokenizer: Tokenizer) -> Passage:
        """The tokens of the text that is held out, and what they stand for."""
        return tokenize(self.validation, tokenizer)

    def excerpt(self) -> str:
        """The held-out text, all of it."""
        return self.validation


def split(texts: Sequence[str]) -> SplitText:
    """Hold out the last tenth of each text, so that both parts are of the same kinds."""
    cuts = [len(text) - int(len(text) * VALIDATION_SHARE) for text in texts]
    parts = [text[:cut] for text, cut in zip(texts, cuts, strict=True)]
    held_out = [text[cut:] for text, cut in zip(texts, cuts, strict=True)]
    return SplitText(BETWEEN_DOCUMENTS.join(parts), BETWEEN_DOCUMENTS.join(filter(None, held_out)))


class Corpus(NamedTuple):
    """The tokens to learn from, and the held-out passage."""

    training: Tokens
    validation: Passage


def make_corpus(text: Text, tokenizer: Tokenizer, length: int) -> Corpus:
    """The tokens of both parts; each must fill one sequence of this length and its next token."""
    corpus = Corpus(text.learn_from(tokenizer), text.held_out(tokenizer))
    training, held_out = len(corpus.training), len(corpus.validation.tokens)
    if min(training, held_out) <= length:
        if not isinstance(text, SplitText):
            raise TextError(
                f"too short: {counted(training, 'token')} to learn from and {held_out:,} held out, and a sequence of "
                f"{length} needs {length + 1} of each; handgrad data prepare --held-out says how much is held out"
            )
        raise TextError(
            f"the text is too short: its held-out tenth has {counted(held_out, 'token')}, a sequence of "
            f"{length} needs {length + 1}, so about {10 * (length + 1):,} in all"
        )
    return corpus
