"""A short run over all readers, made simpler by hypothesis where it fails; and that what breaks the promise is told."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from handgrad.errors import HandgradError

from .__main__ import Job, read_inputs
from .chance import Dice, Hypothesis
from .contract import MULTIPLE, Broken, read
from .readers import READERS, Reader
from .spoil import spoilt
from .valid import Files

EXAMPLES = int(os.environ.get("HANDGRAD_FUZZ", "25"))
"""Of a reader with a share of 100."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is writing."""
    monkeypatch.setattr("handgrad.files.time.sleep", lambda seconds: None)


class Input(dict[str, bytes]):
    def __repr__(self) -> str:
        return f"{{{', '.join(f'{name}: {len(content):,} bytes' for name, content in self.items())}}}"


@pytest.mark.parametrize("reader", READERS.values(), ids=list(READERS))
def test_what_is_valid_is_read(reader: Reader, tmp_path: Path) -> None:
    assert read(reader, reader.valid(), tmp_path / "input", measure=False).refusal is None


@pytest.mark.parametrize("reader", READERS.values(), ids=list(READERS))
def test_what_is_spoilt_is_read_or_clearly_refused(reader: Reader, tmp_path: Path) -> None:
    valid = reader.valid()
    read(reader, valid, tmp_path / "input", measure=False)  # what is imported late, and made once

    @st.composite
    def inputs(draw: st.DrawFn) -> Files:
        return Input(reader.spoilt(Hypothesis(draw), valid))

    @settings(
        max_examples=max(5, round(EXAMPLES * reader.share / 100)),
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs())
    def is_read_or_refused(files: Files) -> None:
        note(f"the input lies in {tmp_path / 'input'}")
        read(reader, files, tmp_path / "input")

    is_read_or_refused()


def refuse(*lines: str) -> Callable[[Path], None]:
    def reader(folder: Path) -> None:
        raise HandgradError(*lines)

    return reader


def fail(folder: Path) -> None:
    raise KeyError("missing")


PROMISES: dict[str, tuple[Callable[[Path], Any], type[BaseException]]] = {
    "another exception": (fail, KeyError),
    "memory": (lambda folder: bytes(MULTIPLE * 1000 + 200_000), Broken),
    "no word": (refuse(""), Broken),
    "a blank line": (refuse("here", " ", "there"), Broken),
    "more words than a line": (refuse("x" * 5000), Broken),
}


@pytest.mark.parametrize("name", PROMISES)
def test_what_breaks_the_promise_is_told(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handgrad.errors.LONGEST", 10**6)
    broken, error = PROMISES[name]
    reader = Reader("broken", lambda: {"a": bytes(1000)}, lambda chance, files: files, broken, 1, 100_000)
    with pytest.raises(error):
        read(reader, reader.valid(), tmp_path / "input")


def test_what_keeps_it_is_not(tmp_path: Path) -> None:
    for kept, refusal in (
        (lambda folder: bytes(MULTIPLE * 1000), None),
        (refuse("a: why", "b: why"), "a: why\nb: why"),
    ):
        reader = Reader("kept", lambda: {"a": bytes(1000)}, lambda chance, files: files, kept, 1, 100_000)
        assert read(reader, reader.valid(), tmp_path / "input").refusal == refusal


def test_a_batch_keeps_the_inputs_that_break_the_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of each kind, and counts them all."""

    def odd_ones_fail(folder: Path) -> None:
        if (number := len((folder / "a").read_bytes())) % 2:
            raise KeyError(number % 3)

    reader = Reader("broken", lambda: {"a": b""}, lambda chance, files: {"a": bytes(chance.below(6))}, odd_ones_fail, 1)
    monkeypatch.setitem(READERS, "broken", reader)
    tally = read_inputs(Job("broken", 100, 7), tmp_path, tmp_path / "kept")
    assert (tally.inputs, tally.refused) == (100, 0)
    assert 20 < tally.values < 80
    failures = [
        re.fullmatch(r"KeyError in test_fuzz.py, line \d+: (\d) \((\d+) times; the first: .*\)", failure)
        for failure in tally.failures
    ]
    assert sorted(match[1] for match in failures if match) == ["0", "1", "2"]
    assert sum(int(match[2]) for match in failures if match) == 100 - tally.values
    kept = [path.read_bytes() for path in (tmp_path / "kept").glob("*/a")]
    assert sorted(len(content) % 3 for content in kept) == [0, 1, 2]
    assert all(len(content) % 2 for content in kept)


@pytest.mark.parametrize("reader", READERS.values(), ids=list(READERS))
def test_the_same_dice_spoil_the_same(reader: Reader) -> None:
    """So that a failure of the long run can be had again by its seed; and other dice spoil otherwise."""
    valid = reader.valid()
    before = dict(valid)
    inputs = [reader.spoilt(Dice(seed), valid) for seed in (1, 2, 3, 4, 1, 2, 3, 4)]
    assert inputs[:4] == inputs[4:]
    assert len({tuple(sorted(files.items())) for files in inputs}) > 1
    assert valid == before


def test_bytes_of_any_kind_can_be_spoilt() -> None:
    for name in ("a.json", "a.jsonl", "a.toml", "a.bin"):
        found = {spoilt(Dice(seed), name, b'{"a": [1, 2]}\nb = 1') for seed in range(50)}
        assert len(found) > 10
