"""Text to tokens and back, by the `tokenizers` library, whose file format every tokenizer here is kept in."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.trainers import BpeTrainer

from ..errors import TextError
from ..files import read_text_file
from ..layers import Array

CHARACTERS = Split(tokenizers.Regex(r"[\s\S]"), "isolated")
BYTES = ByteLevel(add_prefix_space=False, use_regex=False)
WORDS_IN_BYTES = ByteLevel(add_prefix_space=False)
PART = 1 << 20
"""Characters that are tokenized at once, about."""
MANY = 1 << 20
"""Tokens, of which the numbers may have gaps."""
SAFE_CUT = re.compile(r"(?<=\S)(?=[ \n])")
"""Where a text can be cut: tokens of our own making never reach from what is not white space into what is, so they stay
those of the whole."""
REPLACEMENT = "\ufffd"
"""What stands for bytes that are no character, or not yet."""
ANY_TEXT = (1 << 32) - 1
"""A number that no token has, in a text's place."""


class Tokenizer:
    """A `tokenizers.Tokenizer` (`inner`) with NumPy arrays at its border and errors that name the character."""

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        self.inner = inner

    @classmethod
    def of_characters(cls, text: str) -> "Tokenizer":
        """One token for each character that occurs in the text, numbered in the order of their code points."""
        inner = tokenizers.Tokenizer(WordLevel({character: n for n, character in enumerate(sorted(set(text)))}))
        inner.pre_tokenizer = CHARACTERS
        inner.decoder = tokenizers.decoders.Fuse()
        return cls(inner)

    @classmethod
    def of_bytes(cls) -> "Tokenizer":
        """A token for each of the 256 bytes of UTF-8, with the byte's value as its number: it expresses every text."""
        inner = tokenizers.Tokenizer(BPE({sign: byte for byte, sign in _byte_signs().items()}, []))
        inner.pre_tokenizer = BYTES
        inner.decoder = tokenizers.decoders.ByteLevel()
        return cls(inner)

    @classmethod
    def of_byte_pairs(cls, text: str | Iterable[str], vocabulary: int) -> "Tokenizer":
        """The 256 bytes, and what byte-pair encoding finds by merging the text's most frequent pair, again and again.

        `vocabulary`, at least 256, is how many tokens there may be; a short text has fewer pairs to merge. Every text
        can be expressed. A text in pieces, cut at `SAFE_CUT`, gives the same tokens as the whole, with less memory.
        Source: Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", 2016.
        """
        inner = tokenizers.Tokenizer(BPE())
        inner.pre_tokenizer = WORDS_IN_BYTES
        inner.decoder = tokenizers.decoders.ByteLevel()
        # the library makes room for all that are asked for
        most = 256 + len(text.encode(errors="replace")) if isinstance(text, str) else MANY
        trainer = BpeTrainer(
            vocab_size=min(vocabulary, most),
            min_frequency=2,
            initial_alphabet=ByteLevel.alphabet(),
            show_progress=False,
        )
        inner.train_from_iterator([text] if isinstance(text, str) else text, trainer)
        return cls(inner)

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """The tokenizer of a `tokenizer.json`; a `TextError` where the file holds none."""
        content = read_text_file(path)
        with _refused(f"{path}: not a tokenizer file"):
            inner = tokenizers.Tokenizer.from_str(content)
        tokenizer = cls(inner)
        if tokenizer.vocabulary > max(MANY, len(content)):  # the library makes room for all numbers up to the highest
            raise TextError(f"{path}: not a tokenizer file: it has a token of the number {tokenizer.vocabulary - 1:,}")
        inner.no_truncation()  # some files carry that of a training run, which would cut texts in silence
        inner.no_padding()
        return tokenizer

    @classmethod
    def from_json(cls, text: str) -> "Tokenizer":
        """What `to_json` wrote."""
        return cls(tokenizers.Tokenizer.from_str(text))

    def to_json(self) -> str:
        """The content of its `tokenizer.json`."""
        return self.inner.to_str(pretty=True)

    @property
    def vocabulary(self) -> int:
        """The number of tokens; where some numbers stand for none, they count too."""
        return max(self.inner.get_vocab().values(), default=-1) + 1

    def encode(self, text: str) -> Array:
        """The tokens of a text, (N,). A character that the tokenizer cannot express is a `TextError`."""
        try:
            with _refused("the text cannot be tokenized"):
                return np.concatenate([np.array(self.inner.encode(part).ids, np.int32) for part in self._parts(text)])
        except TextError:
            self._refuse_characters(text)
            raise

    def encode_pieces(self, pieces: Sequence[str]) -> list[Array]:
        """The tokens of each of many texts, without the `frame` of a document: the library works on all cores.

        Errors as in `encode`, but for the position.
        """
        try:
            with _refused("the text cannot be tokenized"):
                found = self.inner.encode_batch_fast(list(pieces), add_special_tokens=False)
                return [np.array(encoding.ids, np.int32) for encoding in found]
        except TextError:
            for piece in pieces:
                self._refuse_characters(piece, told=False)
            raise

    @property
    def frame(self) -> tuple[Array, Array]:
        """The special tokens that it puts before a text, and those after it."""
        with _refused("no text can be put between special tokens"):
            text = tokenizers.Encoding()
            text.pad(1, pad_id=ANY_TEXT)  # whatever characters there are, none of them need be in the vocabulary
            framed = self.inner.post_process(text).ids
            place = framed.index(ANY_TEXT)
            return np.array(framed[:place], np.int32), np.array(framed[place + 1 :], np.int32)

    def _refuse_characters(self, text: str, told: bool = True) -> None:
        """A `TextError` for the first character that cannot be expressed, with its position where that is `told`."""
        known = self.inner.get_vocab()
        for position, character in enumerate(text):
            where = f"character {character!r}" + (f" (position {position})" if told else "")
            if "\ud800" <= character <= "\udfff":  # half of a pair of UTF-16, or a byte that was not UTF-8
                raise TextError(f"{where} cannot be written in UTF-8")
            if not self._by_bytes and character not in known:
                raise TextError(f"{where} is not in the model's vocabulary; one of bytes or byte pairs has them all")

    def _parts(self, text: str) -> Iterator[str]:
        """A long text in parts whose tokens are those of the whole: the library takes 200 bytes for each character.

        Other people's tokenizers get the text whole: their tokens might reach across any cut.
        """
        cuts = SAFE_CUT.finditer(text) if len(text) > PART and self.is_ours else iter(())
        start = 0
        for cut in cuts:
            if cut.start() - start >= PART:
                yield text[start : cut.start()]
                start = cut.start()
        yield text[start:]

    @property
    def is_ours(self) -> bool:
        """Whether it cuts texts as those made here do: into characters, into bytes, or by GPT-2's rule."""
        inner = self.inner
        if inner.normalizer is not None or inner.post_processor is not None or inner.pre_tokenizer is None:
            return False
        state = inner.pre_tokenizer.__getstate__()
        whole_bytes = state == BYTES.__getstate__() and self.vocabulary == 256
        return whole_bytes or state in (CHARACTERS.__getstate__(), WORDS_IN_BYTES.__getstate__())

    @property
    def _by_bytes(self) -> bool:
        """Whether every text can be expressed, byte by byte."""
        return isinstance(self.inner.decoder, tokenizers.decoders.ByteLevel)

    def bytes_of(self, token: int) -> int:
        """How many bytes of UTF-8 a token stands for; it may be part of a character, or special and stand for none."""
        if (added := self.inner.get_added_tokens_decoder().get(token)) is not None:
            return 0 if added.special else len(added.content.encode())
        return len(self.inner.id_to_token(token) or "") if self._by_bytes else len(self.decode([token]).encode())

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens. Bytes that make no character are �; a number above all tokens' adds nothing."""
        with _refused("the tokens cannot be made a text"):
            return self.inner.decode([int(token) for token in tokens])

    def text_of(self, token: int) -> str:
        """What a token adds to a text: with the space before it, which some decoders drop where a text begins."""
        return self.decode([token, token])[len(self.decode([token])) :]

    def decode_stream(self, tokens: Iterable[int], after: Iterable[int] = ()) -> Iterator[str]:
        """The text piece by piece, each as soon as its characters are complete; `after`: the tokens before them.

        A piece is what new tokens add to the text of those before them (alone they might lose a leading space). What
        has been yielded stays: where a byte spoils the characters before it in `decode`, only the byte is spoiled here.
        """
        before, new = [int(token) for token in after], list[int]()
        piece = ""
        for token in tokens:
            new.append(int(token))
            known, text = self.decode(before), self.decode(before + new)
            piece = text[len(known) :] if text.startswith(known) else self.decode(new)
            if piece and not piece.endswith(REPLACEMENT):
                yield piece
                before, new, piece = new, [], ""
        if piece:  # a character that the last tokens only began
            yield piece


@contextmanager
def _refused(what: str) -> Iterator[None]:
    """What the library raises within is a `TextError`: bare exceptions, and where it panics what is none."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise TextError(f"{what}: {error}") from None
        raise


def _byte_signs() -> dict[int, str]:
    """The printable sign that the `tokenizers` library writes for each byte: itself, or one from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(0x100 + n) for n, byte in enumerate(others)}
