"""Documents that are rows: those of JSON lines, and of a column of Parquet."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import TextError, listed
from .formats import BLOCK, Counted, extra, telling

LONGEST_ROW = 16 << 20
"""Bytes of a line, and characters of a document, beyond which memory would not be constant."""
ROWS_AT_ONCE = 64


def json_rows(blocks: Iterator[bytes], path: Path, column: str) -> Iterator[str]:
    """The texts of a file with a JSON object on each line; a `TextError` names the line that is wrong."""
    for number, line in enumerate(_lines(blocks, path), 1):
        where = f"{path}: line {number:,}"
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            if not text.strip():
                continue
            row = json.loads(text)
        except UnicodeDecodeError as error:
            raise TextError(f"{where}: not UTF-8 (byte {error.start:,} of the line)") from None
        except (ValueError, RecursionError) as error:
            raise TextError(f"{where}: not JSON: {error}") from None
        if not isinstance(row, dict):
            raise TextError(f"{where}: not a JSON object")
        if column not in row:
            raise TextError(f"{where}: no {column!r} in it; {_columns(row)}")
        yield from _document(row[column], where, column)


def _columns(names: Any) -> str:
    return f"--column may name {listed(map(repr, names), most=8)}" if names else "it is empty"


def _document(value: Any, where: str, column: str) -> Iterator[str]:
    """The text of a row. A null is none, and neither is a blank one."""
    if value is None:
        return
    if not isinstance(value, str):
        raise TextError(f"{where}: {column!r} is not a text")
    if len(value) > LONGEST_ROW:
        raise TextError(f"{where}: a document of {len(value):,} characters; at most {LONGEST_ROW:,} can be read")
    text = value.replace("\r\n", "\n")
    if text.strip():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise TextError(f"{where}: character {text[error.start]!r} cannot be written in UTF-8") from None
        yield text


def _lines(blocks: Iterator[bytes], path: Path) -> Iterator[bytes]:
    rest, count = b"", 0
    for block in blocks:
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
        count += len(lines)
        if len(rest) > LONGEST_ROW:
            raise TextError(f"{path}: line {count + 1:,} is longer than {LONGEST_ROW:,} bytes")
    if rest:
        yield rest


def parquet_rows(raw: Counted, path: Path, column: str) -> Iterator[str]:
    """The texts of a column of a Parquet file, some rows at a time. `raw` is read as far as the rows are."""
    pyarrow, parquet, types = (extra(name, path) for name in ("pyarrow", "pyarrow.parquet", "pyarrow.types"))
    errors = (pyarrow.ArrowException, ValueError, OSError, KeyError, TypeError, OverflowError)
    with telling(path, *errors), path.open("rb") as opened:
        # not the whole column of a row group at once, as by default
        file = parquet.ParquetFile(opened, buffer_size=BLOCK, pre_buffer=False)
        schema, size = file.schema_arrow, path.stat().st_size
        if column not in schema.names:
            raise TextError(f"{path}: no column {column!r}; {_columns(schema.names)}")
        kind = schema.field(column).type
        inner = kind.value_type if types.is_dictionary(kind) else kind
        if not (types.is_string(inner) or types.is_large_string(inner) or types.is_null(inner)):
            raise TextError(f"{path}: column {column!r} is no text, but {kind}")
        number = 0
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=[column], use_threads=False):
            for value in batch.column(0):
                number += 1
                where = f"{path}: row {number:,}"
                try:
                    found = value.as_py()
                except UnicodeDecodeError as error:
                    raise TextError(f"{where}: not UTF-8 (byte {error.start:,} of the text)") from None
                yield from _document(found, where, column)
            raw.advance(size * number // max(number, file.metadata.num_rows))
