"""Tokens on the disk, of which only those are in memory that are asked for."""

import io
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...errors import DamagedError, counted
from ...files import naming
from ...layers import Array

MOST_MAPS = 64
"""Files that are mapped at once: each holds a descriptor, of which some systems give a process 256."""


class Shard(NamedTuple):
    """A file of tokens in NumPy's format."""

    path: Path
    tokens: int


def header(dtype: np.dtype[Any], tokens: int) -> bytes:
    """What such a file begins with."""
    file = io.BytesIO()
    fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (tokens,)}
    np.lib.format.write_array_header_1_0(file, fields)
    return file.getvalue()


class MappedTokens:
    """The tokens of several files in a row, read as an array of int32: `tokens[places]` and `tokens[a:b]`.

    What is asked for is copied, and the pages that it lay in are let go: so the memory of a process that reads for
    hours does not grow with the files. Those that were read last stay mapped, `MOST_MAPS` of them. It can be sent to
    other processes, which map them anew.
    """

    def __init__(self, shards: Sequence[Shard], dtype: np.dtype[Any], vocabulary: int) -> None:
        """A `DamagedError` names the first file that is not of the size and the kind that it should be."""
        self.shards = list(shards)
        self.dtype = dtype
        self.vocabulary = vocabulary
        self._ends = np.cumsum([shard.tokens for shard in self.shards], dtype=np.int64)
        self._maps: dict[int, np.memmap[Any, Any]] = {}
        for shard in self.shards:
            _check_file(shard, dtype)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, key: slice | Array) -> Array:
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            found = self._run(start, max(start, stop)) if step > 0 else self._run(0, len(self))
            return found[::step] if step > 0 else found[key]
        places = np.asarray(key)
        flat = places.ravel()
        if flat.size and (flat.min() < 0 or flat.max() >= len(self)):
            raise IndexError(f"{flat.min()} or {flat.max()}: not among {counted(len(self), 'token')}")
        found = np.empty(flat.shape, np.int32)
        shards = np.searchsorted(self._ends, flat, side="right")
        for number in np.unique(shards):
            here = shards == number
            found[here] = self._read(int(number), flat[here] - self._start(number))
        return found.reshape(places.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self[:].astype(dtype or np.int32)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": {}}

    def _start(self, number: int) -> int:
        return int(self._ends[number]) - self.shards[number].tokens

    def _run(self, start: int, stop: int) -> Array:
        found = np.empty(stop - start, np.int32)
        at = start
        while at < stop:
            number = int(np.searchsorted(self._ends, at, side="right"))
            end, offset = min(stop, int(self._ends[number])), self._start(number)
            found[at - start : end - start] = self._read(number, slice(at - offset, end - offset))
            at = end
        return found

    def _read(self, number: int, key: slice | Array) -> Array:
        shard, mapped = self.shards[number], self._mapped(number)
        found = np.array(mapped[key])
        pages = getattr(mapped, "_mmap", None)
        if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
            pages.madvise(mmap.MADV_DONTNEED)
        if found.size and int(found.max()) >= self.vocabulary:
            raise DamagedError(
                f"{shard.path}: has a token {int(found.max()):,}, but there are {self.vocabulary:,}: damaged; "
                "handgrad data check tells all"
            )
        return found

    def _mapped(self, number: int) -> np.memmap[Any, Any]:
        """The maps are in the order in which they were read last; other threads may read at the same time."""
        shard, mapped = self.shards[number], self._maps.pop(number, None)
        if mapped is None:
            _check_file(shard, self.dtype)  # a map of a file that is shorter by now would end the process
            offset = len(header(self.dtype, shard.tokens))
            with naming(shard.path):
                mapped = np.memmap(shard.path, self.dtype, "r", offset, (shard.tokens,))
        self._maps[number] = mapped
        for oldest in list(self._maps)[:-MOST_MAPS]:
            self._maps.pop(oldest, None)
        return mapped


def _check_file(shard: Shard, dtype: np.dtype[Any]) -> None:
    expected = header(dtype, shard.tokens)
    try:
        with naming(shard.path), shard.path.open("rb") as file:
            begins, size = file.read(len(expected)), file.seek(0, io.SEEK_END)
    except FileNotFoundError:
        raise DamagedError(f"{shard.path}: is missing") from None
    if begins != expected or size != len(expected) + shard.tokens * dtype.itemsize:
        raise DamagedError(f"{shard.path}: not the {counted(shard.tokens, 'token')} of {dtype} that its manifest lists")
