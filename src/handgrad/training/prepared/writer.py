"""A part's tokens on their way into shards."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ConfigError
from ...files import write_atomically
from ...layers import Array
from .manifest import Part, ShardRecord

SHARD = 1 << 24
"""Tokens after which a shard is closed, at the next section's end."""


class Writer:
    """Gathers the tokens of a part and writes them as shards.

    `save` writes all: those that wait, as a shard that is written anew, longer, the next time. So what was saved last
    is on the disk whenever the process ends; what lies there beyond it does not count.
    """

    def __init__(self, folder: Path, name: str, dtype: np.dtype[Any], part: Part, waiting: int = 0) -> None:
        """`part` and `waiting`: what was saved, and how many tokens of the last shard, which was not closed, it has."""
        self.folder, self.name, self.dtype = folder, name, dtype
        self.part = part
        self._waiting = list[Array]()
        self.waiting = waiting
        """Tokens that no closed shard has."""
        self._saved = waiting
        if waiting:
            self._waiting.append(self._read_again(waiting))

    def add(self, texts: Sequence[str], tokens: Sequence[Array], documents: int, first: tuple[int, int]) -> None:
        """`first`: the characters and bytes of this text's first token."""
        count = sum(map(len, tokens))
        part = self.part
        if part.tokens == 0 and count:
            part = part._replace(first_characters=first[0], first_bytes=first[1])
        self.part = part._replace(
            tokens=part.tokens + count,
            characters=part.characters + sum(map(len, texts)),
            bytes=part.bytes + sum(len(text.encode()) for text in texts),
            documents=part.documents + documents,
        )
        self._waiting += [each.astype(self.dtype) for each in tokens]
        self.waiting += count

    @property
    def is_full(self) -> bool:
        return self.waiting >= SHARD

    def save(self, close: bool = False) -> None:
        """Write what waits; a shard that is full, or with `close` any, is closed."""
        if self.waiting == 0 or (self.waiting == self._saved and not (close or self.is_full)):
            return
        tokens = np.concatenate(self._waiting)
        file = io.BytesIO()
        np.lib.format.write_array(file, tokens, version=(1, 0), allow_pickle=False)
        content = file.getbuffer()
        write_atomically(self._path, content)
        self._waiting, self._saved = [tokens], len(tokens)
        if close or self.is_full:
            shard = ShardRecord(self._path.name, len(tokens), hashlib.sha256(content).hexdigest())
            self.part = self.part._replace(shards=(*self.part.shards, shard))
            self._waiting, self.waiting, self._saved = [], 0, 0

    @property
    def _path(self) -> Path:
        """Of the shard that is not closed."""
        return self.folder / f"{self.name}-{len(self.part.shards):05}.npy"

    def _read_again(self, count: int) -> Array:
        """The tokens of the shard that was not closed; it may have grown after what was saved."""
        try:
            there = np.load(self._path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            there = np.empty(0)
        if there.dtype != self.dtype or there.ndim != 1 or len(there) < count:
            raise ConfigError(f"{self._path}: not what {self.folder} had when it was broken off; begin anew elsewhere")
        return np.array(there[:count])
