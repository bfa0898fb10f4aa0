"""Two commands at the same moment in one place, and many that look at a run while it is written."""

import json
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock, Timeout

import handgrad
from handgrad.errors import HandgradError
from handgrad.explorer import Explorer, shelf_of
from handgrad.files import write_all, write_atomically
from handgrad.learn import EXERCISES
from handgrad.training import create_run, kept_models, make_recipe, read_data

from ..cli.conftest import Cli, Result
from ..interop.folders import LLAMA, write_folder
from . import HURRY, SETTINGS, STEPS, essence, require_same
from .conftest import Unbroken

TIMES = 3
LOOP = f"""
import contextlib, io, json, os, sys, traceback
{HURRY}
for line in sys.stdin:
    folder, *arguments = json.loads(line)
    os.chdir(folder)
    sys.argv = ["handgrad", *arguments]
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            status = main()
        except SystemExit as ended:
            status = ended.code
        except BaseException:
            traceback.print_exc()
            status = -1
    print(json.dumps([status or 0, output.getvalue(), errors.getvalue()]), flush=True)
"""
"""One command after the other, so that two processes begin at the same moment, and not when each has started."""
REFUSED = (
    r"handgrad: \S+: (another process is training this run|holds a run already; .*|holds no run .*|no such folder)\n"
)


class Worker:
    """A process that gives commands."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", LOOP]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def begin(self, folder: Path, *arguments: str | Path) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps([str(folder), *map(str, arguments)]) + "\n")
        self.process.stdin.flush()

    def end(self) -> Result:
        assert self.process.stdout
        return Result(*json.loads(self.process.stdout.readline()))


Pair = tuple[Worker, Worker]
Command = list[str | Path]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    workers = Worker(), Worker()
    yield workers
    for worker in workers:
        worker.process.communicate()


def together(pair: Pair, folder: Path, first: Command, second: Command | None = None) -> list[Result]:
    """Both at once, or the same one twice."""
    for worker, command in zip(pair, (first, second or first), strict=True):
        worker.begin(folder, *command)
    return [worker.end() for worker in pair]


@pytest.fixture
def broken_off(tmp_path: Path, unbroken: Unbroken) -> Path:
    with create_run(tmp_path / "broken_off", "default", make_recipe(SETTINGS), read_data([unbroken.begin[2]])) as run:
        for progress in run.train():
            if progress.step == STEPS // 2:
                break
    return run.folder


# train


@pytest.mark.parametrize("commands", ["out out", "resume resume", "resume out", "out resume"])
def test_of_two_who_would_train_in_one_folder_one_does(
    commands: str, pair: Pair, broken_off: Path, tmp_path: Path, unbroken: Unbroken
) -> None:
    """The other says why it does not; or, where it came when all was over, that the run is complete."""
    for attempt in range(TIMES):
        run = tmp_path / f"run-{attempt}"
        if commands == "resume resume":
            shutil.copytree(broken_off, run)
        given: dict[str, Command] = {"out": [*unbroken.begin, "--out", run], "resume": ["train", "--resume", run]}
        results = together(pair, tmp_path, *(given[command] for command in commands.split()))
        (winner,) = (result for result in results if "validation loss" in result.output)
        (loser,) = (result for result in results if result is not winner)
        assert (winner.status, winner.errors) == (0, "")
        if loser.status == 0:
            assert "is complete: all" in loser.output
        else:
            assert (loser.status, loser.output) == (2, "")
            assert re.fullmatch(REFUSED, loser.errors), loser.errors
        require_same(run, unbroken.essence)


def test_two_without_a_folder_take_one_each(pair: Pair, tmp_path: Path, unbroken: Unbroken) -> None:
    results = together(pair, tmp_path, list(unbroken.begin))
    assert [(result.status, result.errors) for result in results] == [(0, "")] * 2
    for run in ("runs/1", "runs/2"):
        require_same(tmp_path / run, unbroken.essence)


def test_who_looks_at_a_run_that_is_written_sees_a_whole_one(
    pair: Pair, tmp_path: Path, cli: Cli, unbroken: Unbroken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is saved after every step; each model that is read is one that it had."""
    monkeypatch.setattr("handgrad.training.run.PATIENCE", 0.0)
    monkeypatch.chdir(tmp_path)
    run, steps = tmp_path / "run", 25
    often = ["--set", f"evaluations={steps}", "--steps", str(steps)]
    pair[0].begin(tmp_path, *unbroken.begin, *often, "--out", run)
    deadline = time.monotonic() + 200
    while not (run / "kept" / "1" / "checksums.sha256").exists():
        assert pair[0].process.poll() is None
        assert time.monotonic() < deadline, "it has not begun"
    seen, labelled, refused = list[bytes](), list[tuple[int, bytes]](), list[str]()
    looks = ("watch run --once", "info run", "generate run --tokens 9", "evaluate run", "evaluate run/best")
    shelf = shelf_of(run / "kept" / "0", handgrad.load(run / "kept" / "0"))
    explorer = Explorer(shelf, "the cat")
    for command in cycle(looks):
        result = cli(*command.split())
        assert (result.status, result.errors) == (0, ""), command
        seen += [handgrad.load(folder).parameters.flat.tobytes() for folder in (run, run / "best")]
        training = explorer.training({}, lambda: None).header
        try:
            name = "last" if command.startswith("watch") else "best"
            assert explorer.answers["pass"]({"checkpoint": name}, lambda: None).header["loss"] > 0
            checkpoint = shelf.find("last")
            model = shelf.model(checkpoint)
        except HandgradError as error:
            refused.append(str(error))
        else:
            assert checkpoint.step is not None
            labelled.append((checkpoint.step, model.parameters.flat.tobytes()))
        if not training["active"]:
            break
        result = cli("train", "--resume", "run")
        if result.status:
            assert (result.status, result.errors) == (2, "handgrad: run: another process is training this run\n")
    result = pair[0].end()
    assert (result.status, result.errors) == (0, "")
    had = {step: handgrad.load(folder).parameters.flat.tobytes() for step, folder in kept_models(run).items()}
    assert len(had) == steps + 1
    assert set(seen) <= set(had.values())
    assert [step for step, weights in labelled if had[step] != weights] == []
    gone_on = [re.match(r"checkpoint: the run (has gone on from step|keeps none of the name)", why) for why in refused]
    assert all(gone_on), refused
    print(f"{len(seen)} models were read, of {len(set(seen))} steps; {len(refused)} times the run had gone on")


def test_a_model_is_that_of_the_step_that_it_is_shown_with(
    broken_off: Path, unbroken: Unbroken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it was found while a checkpoint took its place, whose step is known before its weights are there."""

    def finished_meanwhile(seconds: float) -> None:
        shutil.copytree(unbroken.run, broken_off, dirs_exist_ok=True)

    shutil.copy(unbroken.run / "optimizer.safetensors", broken_off)
    shelf = shelf_of(broken_off, handgrad.load(broken_off / "kept" / "0"))
    monkeypatch.setattr("handgrad.files.time.sleep", finished_meanwhile)
    assert shelf.find("last").step == STEPS
    shown = shelf.model(shelf.find("last")).parameters.flat
    assert shown.tobytes() == handgrad.load(unbroken.run).parameters.flat.tobytes()


# other commands


def test_of_two_exports_to_one_folder_one_writes(pair: Pair, tmp_path: Path, cli: Cli) -> None:
    model = write_folder(tmp_path / "model", LLAMA)
    assert cli("export", model, "--out", "alone").status == 0
    for attempt in range(TIMES):
        out = tmp_path / f"out-{attempt}"
        if attempt % 2:
            out.mkdir()
        results = together(pair, tmp_path, ["export", model, "--out", out])
        won, lost = sorted(results)
        assert (won.status, won.errors, lost.status, lost.output) == (0, "", 2, "")
        why = r"handgrad: \S+: (is|another process is writing) there( already)?; choose another name\n"
        assert re.fullmatch(why, lost.errors), lost.errors
        assert essence(out) == essence(tmp_path / "alone")
        assert len(list(out.iterdir())) == len(essence(out))


def test_two_traces_of_one_name_are_one_of_the_two(pair: Pair, tmp_path: Path, unbroken: Unbroken, cli: Cli) -> None:
    texts = ("the cat", "the do")
    alone = set()
    for text in texts:
        assert cli("trace", unbroken.run, "--text", text, "--out", "alone.safetensors").status == 0
        alone.add(Path("alone.safetensors").read_bytes())
    for _ in range(TIMES):
        commands: list[Command] = [["trace", unbroken.run, "--text", text, "--out", "it.safetensors"] for text in texts]
        assert [result.status for result in together(pair, tmp_path, *commands)] == [0, 0]
        assert (tmp_path / "it.safetensors").read_bytes() in alone
        assert json.loads((tmp_path / "it.json").read_text(encoding="utf-8"))["kind"] == "trace"
    assert {path.suffix for path in tmp_path.glob(".*")} == set()


def test_two_kits_in_one_folder_are_one(pair: Pair, tmp_path: Path, cli: Cli) -> None:
    assert cli("kit", "alone", "--layers", "silu").status == 0
    results = together(pair, tmp_path, ["kit", "kit", "--layers", "silu"])
    assert [(result.status, result.errors) for result in results] == [(0, "")] * 2
    assert essence(tmp_path / "kit") == essence(tmp_path / "alone")


def test_two_in_one_course_lose_nothing(pair: Pair, tmp_path: Path, cli: Cli, generator: random.Random) -> None:
    course = tmp_path / "course"
    assert cli("learn", "start", course).status == 0
    for exercise in EXERCISES:
        (course / exercise.file).write_text(exercise.solved, encoding="utf-8")
    for first, second in [generator.sample(EXERCISES[:8], 2) for _ in range(TIMES)]:
        (course / "progress.json").write_text('{"course": "handgrad"}', encoding="utf-8")
        results = together(pair, course, ["learn", "check", first.name], ["learn", "check", second.name])
        assert [(result.status, result.errors) for result in results] == [(0, "")] * 2
        progress = json.loads((course / "progress.json").read_text(encoding="utf-8"))
        assert progress["passed"].keys() == {first.name, second.name}
        together(pair, course, ["learn", "check", first.name], ["learn", "reset", second.name])
        assert (course / second.file).read_text(encoding="utf-8") == second.unsolved
        shutil.rmtree(course / "kept")
        (course / second.file).write_text(second.solved, encoding="utf-8")


def test_two_resets_at_once_keep_what_the_reader_had(pair: Pair, tmp_path: Path, cli: Cli) -> None:
    course, exercise = tmp_path / "course", EXERCISES[0]
    assert cli("learn", "start", course).status == 0
    for attempt in range(1, 20):
        (course / exercise.file).write_text(f"mine {attempt}", encoding="utf-8")
        results = together(pair, course, ["learn", "reset", exercise.name])
        assert [(result.status, result.errors) for result in results] == [(0, "")] * 2
        assert (course / exercise.file).read_text(encoding="utf-8") == exercise.unsolved
        kept = {path.read_text(encoding="utf-8") for path in (course / "kept").iterdir()}
        assert kept == {f"mine {number}" for number in range(1, attempt + 1)}


def test_who_writes_is_alone(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """For as long as it writes: the moment in which another could come between is too short to be met."""
    model, course, held = write_folder(tmp_path / "model", LLAMA), tmp_path / "course", list[str]()
    assert cli("learn", "start", course).status == 0
    (course / EXERCISES[0].file).write_text("mine", encoding="utf-8")
    for name, write, lock in (
        ("interop.folder.write_all", write_all, "out/.lock"),
        ("learn.course.write_atomically", write_atomically, "course/.progress.json.lock"),
    ):

        def written(*arguments: Any, lock: str = lock, write: Callable[..., None] = write) -> None:
            with pytest.raises(Timeout):
                FileLock(tmp_path / lock).acquire(timeout=0)
            held.append(lock)
            write(*arguments)

        monkeypatch.setattr(f"handgrad.{name}", written)
    assert cli("export", model, "--out", "out").status == 0
    monkeypatch.chdir(course)
    assert cli("learn", "reset", EXERCISES[0].name).status == 0
    assert cli("learn", "hint").status == 0
    assert held == ["out/.lock", *["course/.progress.json.lock"] * 3]
