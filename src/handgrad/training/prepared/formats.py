"""Files as streams: their bytes, unpacked where they are compressed, and the texts in them, in constant memory."""

import codecs
import gzip
import hashlib
import importlib
import io
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import HandgradError, TextError, installing

BLOCK = 1 << 20
"""Bytes that are read at once."""
PACKED_BLOCK = 1 << 11
"""Bytes of zstandard that are unpacked at once, since a few of them may stand for thousands of times as many."""
LINES, PARQUET, TEXT = "JSON lines", "Parquet", "text"
BY_SUFFIX = {".jsonl": LINES, ".ndjson": LINES, ".parquet": PARQUET}
GZIP, ZSTANDARD = ".gz", ".zst"


class Format(NamedTuple):
    """What a file's name says that it holds."""

    kind: str
    """`LINES`, `PARQUET` or `TEXT`."""
    suffix: str
    """Of the name without `packing`, in small letters."""
    packing: str
    """`GZIP`, `ZSTANDARD` or nothing."""

    @property
    def has_rows(self) -> bool:
        """Whether its documents are rows, and not the file itself."""
        return self.kind != TEXT


def format_of(path: Path) -> Format:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packing = suffixes.pop() if suffixes and suffixes[-1] in (GZIP, ZSTANDARD) else ""
    suffix = suffixes[-1] if suffixes else ""
    kind = BY_SUFFIX.get(suffix, TEXT)
    if kind == PARQUET and packing:
        raise TextError(f"{path}: Parquet cannot be read out of {packing}; it is compressed within, so unpack the file")
    return Format(kind, suffix, packing)


class Counted(io.RawIOBase):
    """A file that knows how many bytes of it were read, and their sha256."""

    def __init__(self, path: Path) -> None:
        self.count = 0
        self.digest = hashlib.sha256()
        with telling(path):
            if not stat.S_ISREG(path.stat().st_mode):
                raise HandgradError(f"{path}: {'is a folder' if path.is_dir() else 'not a file'}")
            self._file = path.open("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer) or 0
        self.digest.update(memoryview(buffer)[:count])
        self.count += count
        return count

    def advance(self, count: int) -> None:
        """Read on up to here: for files that somebody else reads, in another order."""
        while self.count < count and self.read(min(BLOCK, count - self.count)):
            pass

    def close(self) -> None:
        self._file.close()
        super().close()


class telling:
    """What goes wrong within while a file is read becomes one line that names it."""

    def __init__(self, path: Path, *errors: type[Exception]) -> None:
        self.path = path
        self.errors = errors

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        if isinstance(error, HandgradError):
            return
        if isinstance(error, FileNotFoundError):
            raise HandgradError(f"{self.path}: no such file") from None
        if isinstance(error, self.errors):
            raise TextError(f"{self.path}: {' '.join(str(error).split()) or type(error).__name__}") from None
        if isinstance(error, OSError):
            raise HandgradError(f"{self.path}: {error.strerror or error}") from None
        if isinstance(error, ValueError) and "null" in str(error):  # in a name
            raise HandgradError(f"{str(self.path)!r}: {error}") from None


def blocks_of(raw: Counted, path: Path, packing: str) -> Iterator[bytes]:
    """The file's bytes, unpacked. A `TextError` where they are cut off or damaged."""
    if packing == ZSTANDARD:
        yield from _out_of_zstandard(raw, path)
        return
    reader: Any = gzip.GzipFile(fileobj=raw, mode="rb") if packing == GZIP else raw
    while True:
        try:
            block = reader.read(BLOCK)
        except EOFError:
            raise TextError(f"{path}: ends in the middle: the file is cut off") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise TextError(f"{path}: damaged, or not compressed by gzip: {error}") from None
        except OSError as error:
            raise HandgradError(f"{path}: {error.strerror or error}") from None
        if not block:
            return
        yield block


def _out_of_zstandard(raw: Counted, path: Path) -> Iterator[bytes]:
    zstandard = extra("zstandard", path)
    unpacker = None
    for packed in _in_small_blocks(raw):
        while packed:  # frames may follow one another
            unpacker = unpacker or zstandard.ZstdDecompressor().decompressobj()
            try:
                block = unpacker.decompress(packed)
            except zstandard.ZstdError as error:
                raise TextError(f"{path}: damaged, or not compressed by zstandard: {error}") from None
            if block:
                yield block
            packed = unpacker.unused_data if unpacker.eof else b""
            unpacker = None if unpacker.eof else unpacker
    if unpacker is not None:
        raise TextError(f"{path}: ends in the middle: the file is cut off")


def _in_small_blocks(raw: Counted) -> Iterator[bytes]:
    while block := raw.read(BLOCK):
        for start in range(0, len(block), PACKED_BLOCK):
            yield block[start : start + PACKED_BLOCK]


def extra(name: str, path: Path) -> Any:
    """A library that comes with the extra `data` only, or a module of it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise HandgradError(f"{path}: needs {name.split('.')[0]}: {installing('data')}") from None


def decoded(blocks: Iterator[bytes], path: Path) -> Iterator[str]:
    """The text of UTF-8, with line ends as \\n and without a byte-order mark; the first byte that is wrong is told."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    done, held = 0, ""
    for block, last in _with_the_last(blocks):
        kept = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block, last)
        except UnicodeDecodeError as error:
            raise TextError(f"{path}: not UTF-8 (byte {done - kept + error.start:,})") from None
        if done - kept == 0:
            text = text.removeprefix("\ufeff")
        done += len(block)
        text = held + text
        held = "\r" if text.endswith("\r") and not last else ""  # its \n may come with the next
        yield text.removesuffix(held).replace("\r\n", "\n")


def _with_the_last(blocks: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    for block in blocks:
        yield block, False
    yield b"", True
