"""A single bit that flips anywhere in a run's folder: noticed, told of by the file's name, and got over."""

import random
import re
import shutil
from pathlib import Path

import pytest

import handgrad
from handgrad.errors import HandgradError
from handgrad.files import CHECKSUMS_FILE
from handgrad.training import create_run, make_recipe, read_data, read_metrics, resume_run
from handgrad.training.checkpoint import FILES, PREVIOUS, newest_whole
from handgrad.training.metrics import METRICS_FILE

from . import EVERY, SETTINGS, STEPS, essence, flip_a_bit, require_same
from .conftest import Unbroken

BITS = 200
LAST = STEPS - EVERY
MODEL_FILES = ("config.json", "tokenizer.json", "model.safetensors")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is writing."""
    monkeypatch.setattr("handgrad.files.time.sleep", lambda seconds: None)


@pytest.fixture
def broken_off(tmp_path: Path, unbroken: Unbroken) -> Path:
    """A run that stopped dead a step after the checkpoint of step LAST."""
    text = read_data([unbroken.begin[2]])
    with create_run(tmp_path / "run", "default", make_recipe(SETTINGS), text) as run:
        for progress in run.train():
            if progress.step == LAST + 1:
                break
    return tmp_path / "run"


def finish(folder: Path) -> list[str]:
    """Go on to the end; and what there was to tell of."""
    with resume_run(folder) as run:
        for _ in run.train():
            pass
        run.save()
        return run.notes


def places(count: int, folder: Path, names: tuple[str, ...], generator: random.Random) -> list[Path]:
    """Each file some times, and then as often as it is large."""
    sizes = [(folder / name).stat().st_size for name in names]
    drawn = [*names * 4, *generator.choices(names, sizes, k=count - 4 * len(names))]
    return [folder / name for name in drawn]


@pytest.mark.parametrize("bit", range(8))
def test_any_flipped_bit_of_the_end_of_a_line_of_checksums_is_noticed(broken_off: Path, bit: int) -> None:
    """A vertical tab is one bit from a newline, and would end a line elsewhere."""
    path = broken_off / CHECKSUMS_FILE
    path.write_bytes(path.read_bytes().replace(b"\n", bytes([ord("\n") ^ 1 << bit]), 1))
    with resume_run(broken_off) as run:
        assert run.step == LAST - EVERY


def test_any_flipped_bit_of_a_checkpoint_is_noticed_and_the_one_before_it_used(
    broken_off: Path, generator: random.Random
) -> None:
    """In two hundred random places of all its files."""
    names = (*FILES, CHECKSUMS_FILE)
    for path in places(BITS, broken_off, names, generator):
        content = path.read_bytes()
        flip_a_bit(path, generator)
        with resume_run(broken_off) as run:
            assert run.step == LAST - EVERY, path
            (note,) = run.notes
        assert note.startswith(str(broken_off))
        assert path.name in note
        assert note.endswith("; going on from the checkpoint before it")
        path.write_bytes(content)
    assert newest_whole(broken_off) == (broken_off, None)


@pytest.mark.parametrize("name", [*FILES, CHECKSUMS_FILE])
def test_a_run_with_a_flipped_bit_ends_with_the_same_bytes(
    name: str, broken_off: Path, generator: random.Random, unbroken: Unbroken
) -> None:
    flip_a_bit(broken_off / name, generator)
    finish(broken_off)
    require_same(broken_off, unbroken.essence)


@pytest.mark.parametrize("where", ["best", f"kept/{LAST}"])
def test_any_flipped_bit_of_a_model_is_refused_by_name(
    where: str, broken_off: Path, generator: random.Random, unbroken: Unbroken
) -> None:
    """The run goes on all the same: the best model is written anew, and what is kept is only to be looked at."""
    folder = broken_off / where
    for path in places(BITS // 4, folder, (*MODEL_FILES, CHECKSUMS_FILE), generator):
        content = path.read_bytes()
        flip_a_bit(path, generator)
        with pytest.raises(HandgradError, match=rf"^{re.escape(str(folder))}/\S+: ") as raised:
            handgrad.load(folder)
        assert path.name in str(raised.value)
        path.write_bytes(content)
    flip_a_bit(folder / "model.safetensors", generator)
    notes = finish(broken_off)
    if where == "best":
        assert notes[0].endswith("; the next evaluation writes the best weights anew")
    else:
        assert notes == []
        shutil.copy(unbroken.run / where / "model.safetensors", folder)
    require_same(broken_off, unbroken.essence)


def test_a_flipped_bit_in_the_checkpoint_before_the_last_does_not_matter(
    broken_off: Path, generator: random.Random, unbroken: Unbroken
) -> None:
    """The last is whole, and becomes the one before at the next save."""
    for name in (*FILES, CHECKSUMS_FILE):
        flip_a_bit(broken_off / PREVIOUS / name, generator)
    assert finish(broken_off) == []
    require_same(broken_off, unbroken.essence)
    flip_a_bit(broken_off / "model.safetensors", generator)
    with resume_run(broken_off) as run:
        assert run.step == LAST


def test_a_flipped_bit_in_the_metrics_costs_two_lines_at_most(
    broken_off: Path, generator: random.Random, unbroken: Unbroken
) -> None:
    """Two where it was the end of a line. The samples are drawn from there, and nothing else."""
    path = broken_off / METRICS_FILE
    content, entries = path.read_bytes(), read_metrics(broken_off)
    for _ in range(BITS):
        flip_a_bit(path, generator)
        read = read_metrics(broken_off)
        assert sum(entry not in read for entry in entries) <= 2
        assert len(entries) - 2 <= len(read) <= len(entries)
        path.write_bytes(content)
    for _ in range(3):
        flip_a_bit(path, generator)
    finish(broken_off)
    found, expected = essence(broken_off), unbroken.essence.copy()
    assert found.pop("sample.txt")
    del expected["sample.txt"]
    assert found == expected
