"""What cannot be prepared is told in a line."""

from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from handgrad.errors import HandgradError, TextError
from handgrad.model import Tokenizer
from handgrad.training.prepared import make_plan

from .conftest import Preparing, contents, text_files


def test_folders_of_others_stay(tmp_path: Path, preparing: Preparing) -> None:
    (source,) = text_files(tmp_path, 30)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("mine")
    with pytest.raises(HandgradError, match="holds other files"):
        preparing(source, out="mine")
    with pytest.raises(HandgradError, match="not a folder"):
        preparing(source, out="0.txt")
    assert contents(tmp_path / "mine") == {"notes": b"mine"}


def test_two_at_once_are_refused(tmp_path: Path, preparing: Preparing) -> None:
    (source,) = text_files(tmp_path, 30)
    (tmp_path / "prepared").mkdir()
    with FileLock(tmp_path / "prepared" / ".lock"), pytest.raises(HandgradError, match="another process is preparing"):
        preparing(source)


@pytest.mark.parametrize(
    ("names", "options", "problem"),
    [
        (["-"], {}, "-: standard input cannot be read twice"),
        ([""], {}, "an empty path"),
        (["none"], {}, "none: no such file"),
        (["a.txt"], {"glob": "*"}, "--glob: '\\*' has no folder"),
        (["."], {"glob": ""}, "--glob: an empty pattern"),
        (["."], {"glob": "*.none"}, "no file in it matches"),
        (["a.txt"], {"tokenizer": "words"}, "--tokenizer: 'words' is none of chars, bytes, bpe, and no such"),
        (["a.txt"], {"tokenizer": "."}, "tokenizer.json: no such file"),
        (["a.txt"], {"tokenizer": "bytes", "vocabulary": 300}, "--vocabulary: 300, but a tokenizer of bytes"),
        (["a.txt"], {"vocabulary": 10}, "--vocabulary: 10 is not a whole number from 256"),
        (["a.txt"], {"vocabulary": 2**40}, "--vocabulary: "),
        (["a.txt"], {"share": 0.0}, "--held-out: 0 is not between 0 and 1"),
        (["a.txt"], {"share": 1.0}, "--held-out: 1 is not between 0 and 1"),
        (["a.txt"], {"share": float("nan")}, "--held-out: nan is not between 0 and 1"),
        (["a.txt"], {"column": ""}, "--column: an empty name"),
        (["a\0b"], {}, "null"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_made(
    names: list[str], options: dict[str, Any], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("a b c")
    with pytest.raises(HandgradError, match=problem):
        make_plan(names, tmp_path / "out", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(("name", "content"), [("a.txt", " \n"), ("a.jsonl", '{"text": "one document"}')])
def test_too_little(name: str, content: str, tmp_path: Path, preparing: Preparing) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(TextError, match=f"{name}: (empty or blank|nothing is held out)"):
        preparing(tmp_path / name, tokenizer="bytes")


def test_characters_that_a_tokenizer_has_not_are_told_with_the_file(tmp_path: Path, preparing: Preparing) -> None:
    Tokenizer.of_characters("abc \n").inner.save(str(tmp_path / "abc.json"))
    (tmp_path / "a.txt").write_text("abc " * 100)
    (tmp_path / "b.txt").write_text("abc " * 100 + "abcd")
    with pytest.raises(TextError, match=r"b\.txt: character 'd' is not in the model's vocabulary"):
        preparing(tmp_path / "a.txt", tmp_path / "b.txt", tokenizer=str(tmp_path / "abc.json"))
