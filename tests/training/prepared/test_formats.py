"""Every format gives the same documents, and what is wrong with a file is told in a line."""

import gzip
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from handgrad.errors import HandgradError
from handgrad.training.prepared.formats import Counted, format_of
from handgrad.training.prepared.sections import sections_of

from .conftest import text_of

ROWS = ["one\r\ndocument", "größer 漢字 🐈", " \n", "the last\n" * 50]
WANTED = [row.replace("\r\n", "\n") for row in ROWS if row.strip()]


def documents(path: Path, column: str = "text") -> list[str]:
    raw = Counted(path)
    with raw:
        return [text for section in sections_of(raw, path, format_of(path), column) for text in section.texts]


def lines(column: str = "text", *more: str) -> bytes:
    rows = [json.dumps({"id": n, column: row}) for n, row in enumerate(ROWS)]
    return "\n".join(["\ufeff" + rows[0], "", *rows[1:], json.dumps({column: None}), *more]).encode()


def pack(content: bytes, suffix: str) -> bytes:
    half = len(content) // 2
    if suffix == ".gz":  # two members
        return gzip.compress(content[:half]) + gzip.compress(content[half:])
    if suffix == ".zst":
        return zstandard.compress(content[:half]) + zstandard.compress(content[half:])
    return content


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson"])
def test_json_lines(packing: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows{suffix}{packing}"
    path.write_bytes(pack(lines("content"), packing))
    assert documents(path, "content") == WANTED


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_parquet(kind: pa.DataType, compression: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.PARQUET"
    table = pa.table({"n": range(len(ROWS) + 1), "words": pa.array([*ROWS, None], pa.string()).cast(kind)})
    pq.write_table(table, path, row_group_size=2, compression=compression)
    assert documents(path, "words") == WANTED


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_text_in_sections(packing: str, mark: str, tmp_path: Path) -> None:
    """Cut wherever the blocks and sections end, all of it comes, with the line ends that `read_documents` gives."""
    text = text_of(900)
    path = tmp_path / f"text.txt{packing}"
    path.write_bytes(pack((mark + text.replace("\n", "\r\n")).encode(), packing))
    found = documents(path)
    assert "".join(found) == text
    assert len(found) > 5
    assert max(map(len, found)) <= 700
    assert all(part.endswith("\n") for part in found[:-1])


@pytest.mark.usefixtures("small_steps")
def test_a_text_without_white_space_is_cut_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a" * 2000 + "\r", encoding="utf-8")
    found = documents(tmp_path / "a.txt")
    assert [len(part) for part in found] == [700, 700, 601]
    assert found[-1].endswith("\r")


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
def test_the_digest_is_that_of_the_file(packing: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.txt{packing}"
    path.write_bytes(pack(b"abc " * 1000, packing))
    raw = Counted(path)
    with raw:
        list(sections_of(raw, path, format_of(path), ""))
        raw.advance(path.stat().st_size)
        assert raw.digest.hexdigest() == hashlib.sha256(path.read_bytes()).hexdigest()


def cut_off(content: bytes) -> bytes:
    return content[:-9]


def spoilt(content: bytes) -> bytes:
    return content[:40] + bytes(20) + content[60:]


@pytest.mark.parametrize("packing", [".gz", ".zst"])
@pytest.mark.parametrize("damage", [cut_off, spoilt, lambda content: b"no such thing" * 9])
def test_a_damaged_archive(packing: str, damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / f"a.txt{packing}"
    content = text_of(3000).encode()
    whole = (
        gzip.compress(content) if packing == ".gz" else zstandard.ZstdCompressor(write_checksum=True).compress(content)
    )
    path.write_bytes(damage(whole))
    with pytest.raises(HandgradError, match=rf"a\.txt{packing}: (damaged|ends in the middle|not UTF-8)"):
        documents(path)


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize(("content", "where"), [(b"abc" * 99 + b"\xff", 297), (b"ab\xc3", 2)])
def test_what_is_not_utf_8(content: bytes, where: int, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(HandgradError, match=rf"a\.txt: not UTF-8 \(byte {where}\)"):
        documents(tmp_path / "a.txt")


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("before", range(95, 105))
def test_a_character_that_is_cut_off_at_any_place(before: int, mark: bytes, tmp_path: Path) -> None:
    """The byte is that of the file, where blocks end elsewhere than characters, and behind a mark."""
    (tmp_path / "a.txt").write_bytes(mark + b"a" * before + "漢".encode() + "漢".encode()[:2] + b"b" * 200)
    with pytest.raises(HandgradError, match=rf"a\.txt: not UTF-8 \(byte {len(mark) + before + 3}\)"):
        documents(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"text": "a"', "line 7: not JSON: "),
        ("[" * 100_000, "line 7: not JSON: "),
        ("[1]", "line 7: not a JSON object"),
        ('{"txt": 1, "id": 2}', "line 7: no 'text' in it; --column may name 'id', 'txt'"),
        ("{}", "line 7: no 'text' in it; it is empty"),
        ('{"text": 1}', "line 7: 'text' is not a text"),
        ('{"text": "\\ud800"}', "line 7: character '\\ud800' cannot be written in UTF-8"),
    ],
)
def test_a_line_that_is_wrong(line: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines("text", line))
    with pytest.raises(HandgradError) as refused:
        documents(tmp_path / "a.jsonl")
    assert str(refused.value).startswith(f"{tmp_path / 'a.jsonl'}: {problem}")


def test_bytes_of_a_line_that_are_wrong(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\n{"text": "\xff"}\n')
    with pytest.raises(HandgradError, match=r"line 2: not UTF-8 \(byte 10 of the line\)"):
        documents(tmp_path / "a.jsonl")


@pytest.mark.parametrize("ending", ["", "\n"])
def test_a_line_without_end(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handgrad.training.prepared.formats.BLOCK", 100)
    monkeypatch.setattr("handgrad.training.prepared.rows.LONGEST_ROW", 1000)
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n' + '{"text": "' + "a" * 5000 + '"}' + ending)
    with pytest.raises(HandgradError, match="line 2 is longer than 1,000 bytes"):
        documents(tmp_path / "a.jsonl")


def test_columns_of_parquet_that_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": [1], "body": ["a"]}), path)
    for column, problem in (
        ("text", "no column 'text'; --column may name 'body', 'n'"),
        ("n", "'n' is no text, but int64"),
    ):
        with pytest.raises(HandgradError, match=problem):
            documents(path, column)


@pytest.mark.parametrize("damage", [cut_off, spoilt, lambda content: b"", lambda content: b"PAR1"])
def test_a_damaged_parquet_file(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["größer"] * 50}), path, use_dictionary=False, write_page_checksum=True)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(HandgradError, match=r"a\.parquet: "):
        documents(path)


def test_text_in_parquet_that_is_not_utf_8(tmp_path: Path) -> None:
    bad = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff"))
    pq.write_table(pa.table({"text": bad}), tmp_path / "a.parquet")
    with pytest.raises(HandgradError, match=r"row 1: not UTF-8 \(byte 1 of the text\)"):
        documents(tmp_path / "a.parquet")


@pytest.mark.parametrize("name", ["a.parquet", "a.txt.zst"])
def test_without_the_extra(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).write_bytes(b"x")
    for library in ("pyarrow", "pyarrow.parquet", "pyarrow.types", "zstandard"):
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(HandgradError, match=r"needs (pyarrow|zstandard): python3 -m pip install 'handgrad\[data\]'"):
        documents(tmp_path / name)


def test_compressed_parquet_is_refused() -> None:
    with pytest.raises(HandgradError, match=r"Parquet cannot be read out of \.gz"):
        format_of(Path("a.parquet.gz"))
