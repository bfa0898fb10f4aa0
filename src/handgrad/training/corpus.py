"""What a model is trained on: texts, each cut into a part to learn from and a last tenth that is held out."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import TextError
from ..layers import Array
from ..model import Tokenizer

VALIDATION_SHARE = 0.1
BETWEEN_DOCUMENTS = "\n\n"


class SplitText(NamedTuple):
    """The text to learn from, and the text that is held out."""

    training: str
    validation: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256("\0".join(self).encode()).hexdigest()


def split(texts: Sequence[str]) -> SplitText:
    """Hold out the last tenth of each text, so that both parts are of the same kinds."""
    cuts = [len(text) - int(len(text) * VALIDATION_SHARE) for text in texts]
    parts = [text[:cut] for text, cut in zip(texts, cuts, strict=True)]
    held_out = [text[cut:] for text, cut in zip(texts, cuts, strict=True)]
    return SplitText(BETWEEN_DOCUMENTS.join(parts), BETWEEN_DOCUMENTS.join(filter(None, held_out)))


class Passage(NamedTuple):
    """A text as tokens, and what a loss over it is measured by.

    The first token is predicted by nothing, so the bytes of it, and the characters that it completes, do not count.
    """

    tokens: Array
    characters: int
    bytes: int


def tokenize(text: str, tokenizer: Tokenizer) -> Passage:
    tokens = tokenizer.encode(text)
    content = text.encode()
    first = content[: tokenizer.bytes_of(int(tokens[0]))] if len(tokens) else b""
    return Passage(tokens, len(text) - len(first.decode(errors="ignore")), len(content) - len(first))


class Corpus(NamedTuple):
    """The tokens to learn from, and the held-out passage."""

    training: Array
    validation: Passage


def make_corpus(text: SplitText, tokenizer: Tokenizer, length: int) -> Corpus:
    """Tokenize both parts; each must fill one sequence of this length and its next token."""
    corpus = Corpus(tokenizer.encode(text.training), tokenize(text.validation, tokenizer))
    shortest = min(len(corpus.training), len(corpus.validation.tokens))
    if shortest <= length:
        raise TextError(
            f"the text is too short: its held-out tenth has {len(corpus.validation.tokens)} tokens, a sequence of "
            f"{length} needs {length + 1}, so about {10 * (length + 1):,} in all"
        )
    return corpus
