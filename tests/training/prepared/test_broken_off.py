"""Broken off anywhere, it goes on to the same bytes; with other sources or options it does not."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from handgrad.errors import HandgradError, TextError
from handgrad.training.prepared import Interrupted, make_plan, prepare

from .conftest import Preparing, contents, text_files, text_of


class Stop:
    """Interrupts when told for the n-th time that tokens are made."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self, what: str, done: int) -> None:
        self.count -= what == "tokenizing"
        if self.count <= 0:
            raise Interrupted


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("tokenizer", ["chars", "bytes", "bpe"])
def test_interrupted_anywhere_it_ends_with_the_same_bytes(tokenizer: str, tmp_path: Path, preparing: Preparing) -> None:
    sources = text_files(tmp_path, 400, 150)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"text": text_of(12, seed)}) for seed in range(60)))
    whole = contents(preparing(*sources, rows, tokenizer=tokenizer, share=0.2).folder)
    shutil.rmtree(tmp_path / "prepared")
    broken = 0
    for count in range(1, 200):  # each time after so many steps, from where it was broken off before
        try:
            preparing(*sources, rows, tokenizer=tokenizer, share=0.2, out="again", told=Stop(1 + count % 3))
        except Interrupted:
            broken += 1
            continue
        break
    assert broken > 5
    assert contents(tmp_path / "again") == whole


@pytest.mark.parametrize("tokenizer", ["chars", "bpe"])
def test_interrupted_while_it_learns_it_begins_that_anew(tokenizer: str, tmp_path: Path, preparing: Preparing) -> None:
    sources = text_files(tmp_path, 100, 100, 100)
    whole = contents(preparing(*sources, tokenizer=tokenizer).folder)

    def told(what: str, done: int) -> None:
        if done > 0.5 * sum(source.stat().st_size for source in sources):
            raise Interrupted

    with pytest.raises(Interrupted):
        preparing(*sources, tokenizer=tokenizer, out="again", told=told)
    assert contents(tmp_path / "again").keys() == {"progress.json"}
    preparing(*sources, tokenizer=tokenizer, out="again")
    assert contents(tmp_path / "again") == whole


@pytest.mark.usefixtures("small_steps")
def test_what_a_crash_left_beyond_the_last_save_does_not_count(tmp_path: Path, preparing: Preparing) -> None:
    """Shards that are longer than the progress says, shards it does not know, and halves of files."""
    (source,) = text_files(tmp_path, 2000)
    whole = contents(preparing(source, tokenizer="bytes").folder)
    out = tmp_path / "again"
    with pytest.raises(Interrupted):
        preparing(source, tokenizer="bytes", out="again", told=Stop(4))
    saved = (out / "progress.json").read_bytes()
    with pytest.raises(Interrupted):
        preparing(source, tokenizer="bytes", out="again", told=Stop(4))
    assert (out / "progress.json").read_bytes() != saved
    (out / "progress.json").write_bytes(saved)  # as if only this had not been written
    (out / ".training-00009.npy.1-2.part").write_bytes(b"half")
    preparing(source, tokenizer="bytes", out="again")
    assert contents(out) == whole


def test_a_complete_folder_stays_as_it_is(tmp_path: Path, preparing: Preparing) -> None:
    (source,) = text_files(tmp_path, 300)
    folder = preparing(source).folder
    before = contents(folder)
    plan = make_plan([str(source)], folder)
    assert prepare(plan, folder).was_complete
    os.utime(source, (1, 1))  # touched, but the same
    assert prepare(make_plan([str(source)], folder), folder).was_complete
    assert contents(folder) == before


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"tokenizer": "bytes"}, "--tokenizer: 'bytes', but "),
        ({"vocabulary": 300}, "--vocabulary: 300, but "),
        ({"column": "words"}, "--column: 'words', but "),
        ({"share": 0.3}, "--held-out: 0.3, but "),
        ({"more": True}, "was begun with other sources"),
        ({"changed": True}, "has changed since"),
        ({"rewritten": True}, "has changed since"),
    ],
)
def test_other_options_or_sources_are_refused(
    finished: bool, change: dict[str, Any], problem: str, tmp_path: Path, preparing: Preparing, small_steps: None
) -> None:
    sources, change = text_files(tmp_path, 300, 300), dict(change)
    if finished:
        preparing(sources[0])
    else:
        with pytest.raises(Interrupted):
            preparing(sources[0], told=Stop(2))
    before = contents(tmp_path / "prepared")
    if change.pop("changed", False):
        then = sources[0].stat()
        sources[0].write_text("another", encoding="utf-8")
        os.utime(sources[0], ns=(then.st_atime_ns, then.st_mtime_ns))  # its size tells
    if change.pop("rewritten", False):
        size = sources[0].stat().st_size
        sources[0].write_bytes(b"x" * size)
        os.utime(sources[0], (1, 1))
    given = sources if change.pop("more", False) else sources[:1]
    with pytest.raises(HandgradError, match=problem):
        preparing(*given, **change)
    assert contents(tmp_path / "prepared") == before


def test_a_source_that_changes_meanwhile_is_told(tmp_path: Path, preparing: Preparing, small_steps: None) -> None:
    (source,) = text_files(tmp_path, 300)

    def told(what: str, done: int) -> None:
        with source.open("a") as file:
            file.write("more")

    with pytest.raises(TextError, match="has changed while it was read"):
        preparing(source, tokenizer="bytes", told=told)
