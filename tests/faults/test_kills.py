"""Runs and exports that are killed, as by a user or a crash, at random moments and inside their writes."""

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import handgrad
from handgrad.errors import HandgradError
from handgrad.training import RECORD_FILE, create_run, is_being_trained, make_recipe, read_data

from ..cli.conftest import Cli
from ..interop.folders import LLAMA, write_folder
from . import SETTINGS, being_written, essence, is_inside_a_write, require_same, start
from .conftest import TEXT, Unbroken

KILLS = int(os.environ.get("HANDGRAD_INTERRUPTS", "6"))
SIGNALS = ("SIGKILL", "SIGINT", "SIGKILL", "SIGTERM")
"""By turns, at moments that are random in time; inside a write it is SIGKILL."""
AFTER = 0.5
"""Seconds after a process began to work on a run, at most."""
WRITES = 30
"""Of an evaluation and the one after it, of which one is broken off, if it is met."""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send a signal to one process")
def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(
    tmp_path: Path, generator: random.Random, unbroken: Unbroken, cli: Cli
) -> None:
    """Each time, a copy is resumed to its end, and the run itself goes on to be killed again; when it is over, another
    begins. The count is $HANDGRAD_INTERRUPTS."""
    kills = inside = without_record = 0
    runs = (tmp_path / f"run-{number}" for number in itertools.count())
    run = next(runs)
    while kills < KILLS:
        process = start(*going_on(run, unbroken), folder=tmp_path)
        name = "SIGKILL" if kills % 2 else SIGNALS[kills // 2 % len(SIGNALS)]
        given = getattr(signal, name)
        if kills % 2:
            wait_for_writes(process, run, generator.randint(1, WRITES))
        else:
            wait_for_work(process, run)
            time.sleep(generator.uniform(0, AFTER))
        killed = process.poll() is None
        process.send_signal(given)
        output, errors = process.communicate()
        # 130: before there was anything to save; 0: it was ending anyway
        assert process.returncode in (0, 1, 130, -given), errors
        if killed:
            kills += 1
            inside += is_inside_a_write(run)
            without_record += not (run / RECORD_FILE).exists()
            copy = tmp_path / f"copy-{kills}"
            if run.exists():
                shutil.copytree(run, copy)
            result = cli(*going_on(copy, unbroken))
            assert (result.status, result.errors) == (0, ""), (name, output)
            require_same(copy, unbroken.essence)
        if process.returncode == 0:
            require_same(run, unbroken.essence)
            run = next(runs)
    print(f"{inside} of {kills} kills fell inside a write, {without_record} before there was a record")
    assert 10 * inside >= kills


def going_on(run: Path, unbroken: Unbroken) -> list[str | Path]:
    """What begins the run, or goes on with it where it has begun."""
    return ["train", "--resume", run] if (run / RECORD_FILE).exists() else [*unbroken.begin, "--out", run]


def wait_for_work(process: subprocess.Popen[str], run: Path) -> None:
    """Until the process has the run's lock."""
    while not is_being_trained(run) and process.poll() is None:
        time.sleep(0.01)


def wait_for_writes(process: subprocess.Popen[str], run: Path, count: int) -> None:
    """Until so many writes have been seen to begin."""
    wait_for_work(process, run)
    before = being_written(run)
    while count > 0 and process.poll() is None:
        now = being_written(run)
        count -= len(now - before)
        before = now


@pytest.mark.parametrize("left", ["", ".data.txt.1-2.part", ".training.json.1-2.part", "training.json"])
def test_a_run_killed_before_its_first_checkpoint_begins_anew(
    left: str, tmp_path: Path, unbroken: Unbroken, cli: Cli
) -> None:
    """Whatever was there by then, beside the lock."""
    run = tmp_path / "run"
    run.mkdir()
    (run / ".lock").touch()
    if left:
        (run / left).write_bytes((unbroken.run / left).read_bytes() if left == RECORD_FILE else b"half")
    result = cli(*going_on(run, unbroken))
    assert (result.status, result.errors) == (0, "")
    require_same(run, unbroken.essence)


def test_a_text_that_was_kept_is_taken_again_and_no_other_touched(
    tmp_path: Path, unbroken: Unbroken, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of a run which was killed before its record was there; not one that somebody calls so, beside a lock."""
    monkeypatch.setattr("handgrad.training.record.read_standard_input", lambda: TEXT.encode())
    run, own = tmp_path / "run", tmp_path / "run" / "data.txt"
    run.mkdir()
    (run / ".lock").touch()
    for source, kept, status in (("-", "mine", 2), (str(own), TEXT, 2), ("-", TEXT, 0)):
        own.write_text(kept, encoding="utf-8")
        begin = [source if argument == unbroken.begin[2] else argument for argument in unbroken.begin]
        result = cli(*begin, "--out", run)
        assert result.status == status
        assert own.read_text(encoding="utf-8") == kept
        if status:
            assert result.errors == f"handgrad: {run}: holds other files; a run wants a folder of its own\n"


def test_a_text_of_somebody_else_stays(tmp_path: Path, unbroken: Unbroken, cli: Cli) -> None:
    """A file that is called as a run calls its own, in a folder that none has begun in."""
    (tmp_path / "data.txt").write_text("mine", encoding="utf-8")
    result = cli(*unbroken.begin, "--out", tmp_path)
    assert (result.status, result.output) == (2, "")
    assert result.errors == f"handgrad: {tmp_path}: holds other files; a run wants a folder of its own\n"
    with pytest.raises(HandgradError, match="holds other files"):
        create_run(tmp_path, "default", make_recipe(SETTINGS), read_data([unbroken.begin[2]]))
    assert [path.name for path in tmp_path.iterdir()] == ["data.txt"]


def test_an_export_that_is_killed_is_no_model_and_can_be_given_again(tmp_path: Path, cli: Cli) -> None:
    """At the first sight of a file, and of each that takes its place."""
    model = write_folder(tmp_path / "model", LLAMA)
    assert cli("export", model, "--out", "whole").status == 0
    names = [None, "tokenizer.json", "tokenizer_config.json", "generation_config.json", "model.safetensors"]
    for name in names[: max(1, KILLS // 8)]:
        out = tmp_path / f"killed at {name}"
        with start("export", model, "--out", out, folder=tmp_path) as process:
            while process.poll() is None and not ((out / name).exists() if name else list(out.glob(".*.part"))):
                pass
            process.kill()
        if (out / "config.json").exists():
            assert handgrad.load(out)
        else:
            with pytest.raises(HandgradError):
                handgrad.load(out)
            assert cli("export", model, "--out", out).status == 0
            assert {path.name for path in out.iterdir()} == essence(tmp_path / "whole").keys()
        assert essence(out) == essence(tmp_path / "whole")


@pytest.mark.parametrize("left", ["tokenizer.json", "model.safetensors", ".model.safetensors.1-2.part", "mine.txt"])
@pytest.mark.parametrize("lock", [True, False])
def test_only_what_an_export_has_left_is_replaced(left: str, lock: bool, tmp_path: Path, cli: Cli) -> None:
    model, out = write_folder(tmp_path / "model", LLAMA), tmp_path / "out"
    out.mkdir()
    (out / left).write_text("half", encoding="utf-8")
    if lock:
        (out / ".lock").touch()
    before = {path: path.read_bytes() for path in out.iterdir()}
    result = cli("export", model, "--out", out)
    if lock and left != "mine.txt":
        assert result.status == 0
        assert len(list(out.iterdir())) == 5
        handgrad.load(out)
    else:
        assert (result.status, result.errors) == (2, f"handgrad: {out}: is there already; choose another name\n")
        assert {path: path.read_bytes() for path in out.iterdir()} == before
