"""What is worked on at once, a section of a text or some documents of a file of rows; and what is held out of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .formats import PARQUET, Counted, Format, blocks_of, decoded
from .rows import json_rows, parquet_rows

SECTION = 1 << 22
"""Characters of a text file that are worked on at once, at most."""
BATCH = 1 << 20
"""Characters of rows that are worked on at once, about."""
MOST_ROWS = 1 << 14


class Section(NamedTuple):
    """Some of a file's text: a section of the one text that it is, or whole documents."""

    texts: list[str]
    documents: int
    """That begin in it."""


def sections_of(raw: Counted, path: Path, form: Format, column: str) -> Iterator[Section]:
    """A file's text in its order, never all of it at once; what is blank is left out."""
    if form.kind == PARQUET:
        yield from _batches(parquet_rows(raw, path, column))
    elif form.has_rows:
        yield from _batches(json_rows(blocks_of(raw, path, form.packing), path, column))
    else:
        pieces = decoded(blocks_of(raw, path, form.packing), path)
        for number, text in enumerate(filter(str.strip, _cut(pieces))):
            yield Section([text], int(number == 0))


def _cut(pieces: Iterator[str]) -> Iterator[str]:
    """The text in sections, cut after the last line end in the second half of each, else the last space."""
    text = ""
    for piece in pieces:
        text += piece
        while len(text) > SECTION:
            ends = (text.rfind(sign, SECTION // 2, SECTION) + 1 for sign in "\n ")
            cut = next(filter(None, ends), SECTION)
            yield text[:cut]
            text = text[cut:]
    yield text


def _batches(rows: Iterator[str]) -> Iterator[Section]:
    texts, characters = list[str](), 0
    for text in rows:
        texts.append(text)
        characters += len(text)
        if characters >= BATCH or len(texts) >= MOST_ROWS:
            yield Section(texts, len(texts))
            texts, characters = [], 0
    if texts:
        yield Section(texts, len(texts))


class Split(NamedTuple):
    """The texts of a section to learn from, and those that are held out."""

    training: list[str]
    held_out: list[str]


class Splitter:
    """Holds out a share of the characters: of a text file's section the end, of rows whole documents.

    A document is held out whenever what was held out before is less than the share of all before: so the documents
    that are held out lie evenly among the others.
    """

    def __init__(self, share: float, characters: int = 0, held_out: int = 0) -> None:
        self.share = share
        self.characters = characters
        """Of the rows so far."""
        self.held_out = held_out

    def split(self, section: Section, has_rows: bool) -> Split:
        if not has_rows:
            (text,) = section.texts
            cut = len(text) - int(len(text) * self.share)  # as `corpus.split` does
            return Split([text[:cut]], [text[cut:]] if cut < len(text) else [])
        parts = Split([], [])
        for text in section.texts:
            held_out = self.held_out < self.share * self.characters
            (parts.held_out if held_out else parts.training).append(text)
            self.characters += len(text)
            self.held_out += held_out * len(text)
        return parts
