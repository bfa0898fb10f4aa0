"""Where a text comes from: files, folders, standard input; and what each mistake is called."""

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from handgrad.errors import HandgradError, TextError
from handgrad.training import default_text, read_documents
from handgrad.training.sources import TEXT_SUFFIXES


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of texts, code, and what is neither, in an order other than that of the names."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.txt", "sub/c.md", "a.py", "sub/deep/d.TXT", "picture.png", "LICENSE", ".hidden.txt", ".git/e.txt"):
        path = Path("texts", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {name}", encoding="utf-8")
    return Path("texts")


def names(documents: Sequence[tuple[str, str]]) -> list[str]:
    return [name.replace(os.sep, "/") for name, _ in documents]


def test_without_a_source_it_is_the_default_text() -> None:
    assert read_documents() == [("the default text", default_text())]


def test_a_file_is_one_document_whatever_it_is_called(tmp_path: Path) -> None:
    path = tmp_path / "no suffix"
    path.write_text("Ein Text, größer: 漢字 \U0001f600\n", encoding="utf-8")
    assert read_documents([str(path)]) == [(str(path), "Ein Text, größer: 漢字 \U0001f600\n")]


def test_a_byte_order_mark_is_dropped_and_windows_line_ends_become_newlines(tmp_path: Path) -> None:
    path = tmp_path / "windows.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n\r\nthree\nfour")
    assert read_documents([str(path)])[0].text == "one\ntwo\n\nthree\nfour"


def test_only_a_leading_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a\ufeffb", encoding="utf-8")
    assert read_documents([str(path)])[0].text == "a\ufeffb"


def test_a_folder_is_its_texts_in_the_order_of_their_names(folder: Path) -> None:
    """Those in folders within it too, but nothing that is hidden, and nothing that does not end like a text."""
    documents = read_documents([str(folder)])
    assert names(documents) == ["texts/a.py", "texts/b.txt", "texts/sub/c.md", "texts/sub/deep/d.TXT"]
    assert documents[2].text == "text of sub/c.md"


def test_a_hidden_folder_can_be_named(folder: Path) -> None:
    assert names(read_documents([str(folder / ".git")])) == ["texts/.git/e.txt"]


@pytest.mark.parametrize("suffix", TEXT_SUFFIXES)
def test_every_suffix_of_a_text_is_read(suffix: str, tmp_path: Path) -> None:
    assert suffix == suffix.lower()
    for name in (f"lower{suffix}", f"UPPER{suffix.upper()}", f"not{suffix}x", suffix[1:]):
        (tmp_path / name).write_text(name)
    found = {text for _, text in read_documents([str(tmp_path)])}
    assert found - {f"not{suffix}x"} == {f"lower{suffix}", f"UPPER{suffix.upper()}"}


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("*.py", ["a.py"]),
        ("**/*.md", ["sub/c.md"]),
        ("*", [".hidden.txt", "LICENSE", "a.py", "b.txt", "picture.png"]),
        ("LICENSE", ["LICENSE"]),
        ("sub/**/*", ["sub/c.md", "sub/deep/d.TXT"]),
        (".git/*", [".git/e.txt"]),
    ],
)
def test_a_pattern_alone_decides_what_is_read(glob: str, expected: list[str], folder: Path) -> None:
    """The suffix does not matter then, and what is hidden can be meant."""
    assert names(read_documents([str(folder)], glob)) == [f"texts/{name}" for name in expected]


def test_a_pattern_is_for_folders_only(folder: Path) -> None:
    assert names(read_documents([str(folder / "LICENSE"), str(folder)], "*.py")) == ["texts/LICENSE", "texts/a.py"]


def test_sources_come_in_their_order_and_as_often_as_they_are_named(folder: Path) -> None:
    sources = [str(folder / "b.txt"), str(folder / "sub"), str(folder / "b.txt")]
    assert names(read_documents(sources)) == ["texts/b.txt", "texts/sub/c.md", "texts/sub/deep/d.TXT", "texts/b.txt"]


def test_a_dash_is_standard_input(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO("\ufeffpiped größer\r\n".encode())))
    documents = read_documents(["-", str(folder / "b.txt")])
    assert documents == [("standard input", "piped größer\n"), (str(folder / "b.txt"), "text of b.txt")]


def test_standard_input_that_was_read_before_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert read_documents(["-"], kept=b"kept") == [("standard input", "kept")]


def test_a_file_whose_name_is_a_dash_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-").write_text("a file")
    assert read_documents(["./-"]) == [("./-", "a file")]


def test_blank_files_are_left_out(folder: Path) -> None:
    for name in ("0.txt", "sub/blank.txt"):
        (folder / name).write_text(" \n\t\r\n")
    (folder / "empty.txt").touch()
    assert names(read_documents([str(folder)])) == [
        "texts/a.py",
        "texts/b.txt",
        "texts/sub/c.md",
        "texts/sub/deep/d.TXT",
    ]
    assert names(read_documents([str(folder / "0.txt"), str(folder / "b.txt")])) == ["texts/b.txt"]


def test_a_blank_text_is_refused(folder: Path) -> None:
    blank, empty = folder / "blank" / "0.txt", folder / "blank" / "1.txt"
    blank.parent.mkdir()
    blank.write_text("\n \n")
    empty.touch()
    for sources in ([blank], [blank, empty], [blank.parent]):
        named = list(map(str, sources))
        with pytest.raises(TextError) as raised:
            read_documents(named)
        assert str(raised.value) == f"{', '.join(named)}: empty or blank"
    with pytest.raises(TextError, match=r"^standard input: empty or blank$"):
        read_documents(["-"], kept=b"\xef\xbb\xbf\r\n")


@pytest.mark.parametrize(
    ("sources", "glob", "message"),
    [
        (["nowhere.txt"], None, "nowhere.txt: no such file"),
        (["texts/b.txt", "nowhere"], None, "nowhere: no such file"),
        (["texts/b.txt/c.txt"], None, "texts/b.txt/c.txt: Not a directory"),
        (["texts/latin"], None, "texts/latin/bad.txt: not UTF-8 (byte 3)"),
        (["texts/latin/bad.txt"], None, "texts/latin/bad.txt: not UTF-8 (byte 3)"),
        (["texts"], "*.rs", "texts: no file in it matches '*.rs'"),
        (["texts"], "sub", "texts: no file in it matches 'sub'"),
        (["texts/none"], None, "texts/none: no file in it ends like a text (.txt, .md, .rst, ...); see --glob"),
        (["texts"], "a" * 300, f"--glob: {'a' * 300!r}: File name too long"),
        (["texts"], "/absolute/*", "--glob: '/absolute/*': Non-relative patterns are unsupported"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="the separators in the messages are those of POSIX")
def test_a_source_that_cannot_be_read_is_named(
    sources: list[str], glob: str | None, message: str, folder: Path
) -> None:
    (folder / "latin").mkdir()
    (folder / "latin" / "good.txt").write_text("good")
    (folder / "latin" / "bad.txt").write_bytes("café".encode("latin-1"))
    (folder / "none").mkdir()
    (folder / "none" / "picture.png").touch()
    with pytest.raises(HandgradError) as raised:
        read_documents(sources, glob)
    assert str(raised.value) == message


def test_standard_input_that_is_not_utf8_is_named() -> None:
    with pytest.raises(HandgradError, match=r"^standard input: not UTF-8 \(byte 2\)$"):
        read_documents(["-"], kept=b"ab\xff")


@pytest.mark.parametrize("sources", [[""], ["text", ""]])
def test_an_empty_name_is_not_the_folder_that_one_is_in(
    sources: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes from a variable of the shell that is not set."""
    monkeypatch.chdir(tmp_path)
    for name in ("text", "private.txt"):
        Path(name).write_text(name)
    with pytest.raises(HandgradError):
        read_documents(sources)


def test_an_empty_pattern_does_not_mean_every_file(folder: Path) -> None:
    try:
        found = names(read_documents([str(folder)], ""))
    except HandgradError:
        return
    assert found == names(read_documents([str(folder)]))
