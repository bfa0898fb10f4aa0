"""A part's text, one document after the other, in pieces whose tokens are those of the whole."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ...model.tokenizer import SAFE_CUT
from ..corpus import BETWEEN_DOCUMENTS

PIECE = 1 << 14
"""Characters that are tokenized as one, about; the library does many such pieces at once on all cores."""
LONGEST_PIECE = 1 << 20
"""Characters after which a text without white space is cut all the same."""
LOOKED_THROUGH = 1 << 12


class Piece(NamedTuple):
    text: str
    begins: bool = False
    """Whether it begins a document, before which a tokenizer may put a special token."""
    ends: bool = False


class Stream:
    """Cuts the documents of a part into pieces, with `BETWEEN_DOCUMENTS` between them.

    For tokenizers of our making (`whole`) documents are one text, cut where its tokens do not change; what comes after
    the last such place waits in `rest` for what follows. Others have each document for itself, and long ones cut after
    the end of a line.
    """

    def __init__(self, whole: bool, begun: bool = False, rest: str = "") -> None:
        self.whole = whole
        self.begun = begun
        """Whether there was a document before."""
        self.rest = rest

    def add(self, texts: Sequence[str]) -> list[Piece]:
        if not texts:
            return []
        if not self.whole:
            return [piece for text in texts for piece in self._document(text)]
        before = BETWEEN_DOCUMENTS if self.begun else ""
        self.begun = True
        return list(self._joined(self.rest + before + BETWEEN_DOCUMENTS.join(texts)))

    def end(self) -> list[Piece]:
        """What has waited to the end."""
        rest, self.rest = self.rest, ""
        return [Piece(rest)] if rest else []

    def _document(self, text: str) -> Iterator[Piece]:
        if self.begun:
            yield Piece(BETWEEN_DOCUMENTS)
        self.begun = True
        start, begins = 0, True
        while len(text) - start > PIECE:
            cut = text.find("\n", start + PIECE, start + LONGEST_PIECE) + 1 or start + LONGEST_PIECE
            if cut >= len(text):
                break
            yield Piece(text[start:cut], begins)
            start, begins = cut, False
        yield Piece(text[start:], begins, ends=True)

    def _joined(self, text: str) -> Iterator[Piece]:
        start = 0
        while len(text) - start > PIECE:
            found = SAFE_CUT.search(text, start + PIECE, start + LONGEST_PIECE)
            if found is None and len(text) - start <= LONGEST_PIECE:
                break
            cut = found.start() if found else start + LONGEST_PIECE
            yield Piece(text[start:cut])
            start = cut
        cut = _last_cut(text, start)
        if cut > start:
            yield Piece(text[start:cut])
        self.rest = text[cut:]


def _last_cut(text: str, start: int) -> int:
    """The last place after the start where the text can be cut; the start itself where there is none."""
    end = len(text)
    while end > start:
        begin = max(start, end - LOOKED_THROUGH)
        places = [found.start() for found in SAFE_CUT.finditer(text, begin, min(end + 1, len(text)))]
        if places and places[-1] > start:
            return places[-1]
        end = begin
    return start
