"""The tokenizer of prepared data: one that is there, or one that is made for their text."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ...errors import TextError
from ...files import require_folder
from ...model import TOKENIZER_FILE, Tokenizer
from .inputs import text_bytes
from .manifest import Options, Source
from .units import Position, Unit, units

LEARNED_FROM = 32 << 20
"""Bytes of text that byte pairs are learned from, up to a section more: the library keeps all different words, and a
vocabulary of thousands changes hardly with more."""
MADE = ("chars", "bytes", "bpe")

Told = Callable[[str, int], None]
"""Hears what is being done, and how many bytes of the sources were read for it."""


class Learned(NamedTuple):
    tokenizer: Tokenizer
    learned_from: int
    """Characters."""


def make_tokenizer(options: Options, sources: Sequence[Source], told: Told) -> Learned:
    """As `TokenizerConfig.make` makes it; byte pairs from sections that lie evenly in the text where it is long."""
    match options.tokenizer:
        case "bytes":
            return Learned(Tokenizer.of_bytes(), 0)
        case "chars":
            characters = set[str]()
            for unit in _told(units(options, sources, Position(), whole=True), told, "collecting characters"):
                characters.update(*(piece.text for pieces in unit.pieces for piece in pieces))
            return Learned(Tokenizer.of_characters("".join(characters)), 0)
        case "bpe":
            sample = _Sample(
                _told(units(options, sources, Position(), whole=True), told, "learning byte pairs"), sources
            )
            assert options.vocabulary is not None
            return Learned(Tokenizer.of_byte_pairs(iter(sample), options.vocabulary), sample.used)
        case path:
            return Learned(load_tokenizer(Path(path)), 0)


def load_tokenizer(path: Path) -> Tokenizer:
    """Of a file, or of a folder that has one."""
    if path.suffix.lower() == ".json" and not path.is_dir():
        return Tokenizer.load(path)
    if not path.exists():
        raise TextError(f"--tokenizer: {str(path)!r} is none of {', '.join(MADE)}, and no such file or folder")
    require_folder(path)
    return Tokenizer.load(path / TOKENIZER_FILE)


def _told(found: Iterator[Unit], told: Told, what: str) -> Iterator[Unit]:
    for unit in found:
        yield unit
        told(what, unit.bytes)


class _Sample:
    """The text to learn from, in pieces; of a long one some of the sections, evenly, as far as its length is known.

    Where compressed files hold more than was thought, these lie evenly in what comes before `LEARNED_FROM` is reached.
    """

    def __init__(self, found: Iterator[Unit], sources: Sequence[Source]) -> None:
        self.found = found
        self.share = LEARNED_FROM / max(LEARNED_FROM, text_bytes(sources))
        self.used = 0
        """Characters."""

    def __iter__(self) -> Iterator[str]:
        seen = used = 0
        for unit in self.found:
            texts = [piece.text for piece in unit.pieces[0]]
            size = sum(len(text.encode()) for text in texts)
            if used <= self.share * seen and used < LEARNED_FROM:
                used += size
                self.used += sum(map(len, texts))
                yield from texts
            seen += size
