"""Text to shards of tokens: in constant memory, and so that it can be broken off anywhere and gone on with."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...errors import TextError
from ...files import CHECKSUMS_FILE, write_atomically
from ...layers import Array
from ...model import TOKENIZER_FILE, Tokenizer
from .learning import Told
from .manifest import DTYPES, MANIFEST_FILE, PROGRESS_FILE, Manifest
from .progress import Saved, Standing, save_progress
from .stream import Piece
from .units import Position, Unit, units
from .writer import Writer

AT_ONCE = 1 << 20
"""Characters that the library tokenizes in one call, about: it takes 100 bytes or more for each."""
MOST_PIECES = 1 << 12
SMALL = 1 << 16
"""Tokens that two bytes can number."""


class Tokens(NamedTuple):
    """Of a unit, part by part."""

    parts: tuple[list[Array], list[Array]]
    first: tuple[tuple[int, int], tuple[int, int]]
    """Characters and bytes of the first token of each."""


class Interrupted(Exception):
    """Raised by who is told of the progress, to stop; all that was done is saved."""


def tokens_to_disk(folder: Path, saved: Saved, tokenizer: Tokenizer, told: Told) -> Manifest:
    """Make what is left of the shards, and at the end the manifest. Where `told` raises `Interrupted`, all is saved."""
    dtype = _dtype(tokenizer)
    names = ("training", "held-out")
    standings = (saved.training, saved.held_out)
    writers = [Writer(folder, name, DTYPES[dtype], *standing) for name, standing in zip(names, standings, strict=True)]
    position: Callable[[], Position] = lambda: saved.position  # noqa: E731

    def save() -> None:
        for writer in writers:
            writer.save()
        training, held_out = (Standing(writer.part, writer.waiting) for writer in writers)
        save_progress(folder, saved._replace(position=position(), training=training, held_out=held_out))

    try:
        for unit, tokens in _tokenized(units(saved.options, saved.sources, position(), tokenizer.is_ours), tokenizer):
            for n, writer in enumerate(writers):
                texts = [piece.text for piece in unit.pieces[n]]
                writer.add(texts, tokens.parts[n], unit.documents[n], tokens.first[n])
            position = unit.after
            if any(writer.is_full for writer in writers):
                save()
            told("tokenizing", unit.bytes)
    except Interrupted:
        save()
        raise
    for writer in writers:
        writer.save(close=True)
    return _finish(folder, saved._replace(sources=position().done), dtype, writers)


def _dtype(tokenizer: Tokenizer) -> str:
    return "uint16" if tokenizer.vocabulary <= SMALL else "uint32"


def _finish(folder: Path, saved: Saved, dtype: str, writers: Sequence[Writer]) -> Manifest:
    """Write the checksums, and last the manifest; only then is the folder complete."""
    training, held_out = (writer.part for writer in writers)
    if not (training.tokens and held_out.tokens):
        what = "nothing is held out; a higher --held-out" if training.tokens else "empty or blank"
        raise TextError(f"{', '.join(source.path for source in saved.sources[:3])}: {what}")
    assert saved.tokenizer is not None
    manifest = Manifest(saved.options, saved.sources, saved.tokenizer, dtype, training, held_out, _made_by())
    listed = [
        (TOKENIZER_FILE, saved.tokenizer.sha256),
        *((x.name, x.sha256) for x in (*training.shards, *held_out.shards)),
    ]
    write_atomically(folder / CHECKSUMS_FILE, "".join(f"{digest}  {name}\n" for name, digest in listed))
    write_atomically(folder / MANIFEST_FILE, manifest.to_bytes())
    (folder / PROGRESS_FILE).unlink()
    return manifest


def _made_by() -> dict[str, str]:
    return {name: version(name) for name in ("handgrad", "numpy", "tokenizers")}


def _tokenized(found: Iterator[Unit], tokenizer: Tokenizer) -> Iterator[tuple[Unit, Tokens]]:
    """The units with their tokens. While the library makes those of one, the next is read."""
    frame = tokenizer.frame
    with ThreadPoolExecutor(1) as pool:
        waiting: tuple[Unit, Future[Tokens]] | None = None
        for unit in found:
            begun = unit, pool.submit(_tokens_of, unit, tokenizer, frame)
            if waiting is not None:
                yield waiting[0], waiting[1].result()
            waiting = begun
        if waiting is not None:
            yield waiting[0], waiting[1].result()


def _tokens_of(unit: Unit, tokenizer: Tokenizer, frame: tuple[Array, Array]) -> Tokens:
    try:
        training, held_out = (list(_encoded(pieces, tokenizer, frame)) for pieces in unit.pieces)
    except TextError as error:
        raise TextError(f"{unit.path}: {error}") from None
    first = [
        _first(pieces, *tokens[:1], tokenizer=tokenizer)
        for pieces, tokens in zip(unit.pieces, (training, held_out), strict=True)
    ]
    return Tokens((training, held_out), (first[0], first[1]))


def _encoded(pieces: list[Piece], tokenizer: Tokenizer, frame: tuple[Array, Array]) -> Iterator[Array]:
    """The tokens of the pieces, with what the tokenizer puts around documents."""
    before, after = frame
    kind: Any = np.uint16 if _dtype(tokenizer) == "uint16" else np.uint32
    for group in _groups(pieces):
        for piece, tokens in zip(group, tokenizer.encode_pieces([piece.text for piece in group]), strict=True):
            framed = [before] * piece.begins + [tokens] + [after] * piece.ends
            yield (np.concatenate(framed) if len(framed) > 1 else tokens).astype(kind)


def _groups(pieces: list[Piece]) -> Iterator[list[Piece]]:
    start = characters = 0
    for end, piece in enumerate(pieces, 1):
        characters += len(piece.text)
        if characters >= AT_ONCE or end - start >= MOST_PIECES or end == len(pieces):
            yield pieces[start:end]
            start, characters = end, 0


def _first(pieces: list[Piece], tokens: Array | None = None, *, tokenizer: Tokenizer) -> tuple[int, int]:
    """The characters that the first token completes, and its bytes; see `corpus.tokenize`."""
    if tokens is None or not len(tokens):
        return 0, 0
    begins = pieces[0].text.encode()[: tokenizer.bytes_of(int(tokens[0]))]
    return len(begins.decode(errors="ignore")), len(begins)


def tokenizer_file(folder: Path, tokenizer: Tokenizer) -> str:
    """Write the tokenizer; its sha256."""
    content = tokenizer.to_json().encode()
    write_atomically(folder / TOKENIZER_FILE, content)
    return hashlib.sha256(content).hexdigest()
