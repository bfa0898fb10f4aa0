"""`handgrad train` under mpiexec: one voice, clear refusals, Ctrl-C; and without mpiexec, no MPI."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from handgrad.errors import HandgradError
from handgrad.machine import launched_rank
from handgrad.training import is_being_trained, join

from ..training.ranks import PATIENCE, needs_mpi, run_ranks, start_ranks
from .conftest import SMALL, TINY, Cli

FOUR = [*TINY, "--set", "batch=4", "--shards", "4"]


def handgrad(count: int, *arguments: str | Path, folder: Path) -> tuple[int, str, str]:
    return run_ranks(count, "-m", "handgrad", *arguments, folder=folder)


@needs_mpi
def test_ranks_train_a_run_that_any_number_of_them_goes_on_with(cli: Cli, text: Path, tmp_path: Path) -> None:
    """Four train a part of it, two go on, and this process ends it: the bytes are those of one that trained it all."""
    begin = ["train", "--data", str(text), *SMALL, "--set", "batch=4", "--set", "evaluations=6", "--steps", "60"]
    begin += ["--shards", "4", "--set", "optimizer=muon"]
    status, output, errors = handgrad(4, *begin, "--out", "run", "--minutes", "0.0002", folder=tmp_path)
    assert (status, errors) == (0, "")
    assert "\n4 ranks, 1 thread each\n" in output
    assert output.count("time is up after step ") == 1
    status, output, errors = handgrad(2, "train", "--resume", "run", "--minutes", "0.0002", folder=tmp_path)
    assert (status, errors) == (0, "")
    assert "\n2 ranks, " in output
    assert "time is up after step " in output
    assert cli("train", "--resume", "run").status == 0
    assert cli(*begin, "--out", "whole").status == 0
    for name in ("model.safetensors", "optimizer.safetensors", "best/model.safetensors", "sample.txt"):
        assert Path("run", name).read_bytes() == Path("whole", name).read_bytes(), name


@needs_mpi
def test_without_a_number_there_is_a_shard_for_each_thread_of_each_rank(tmp_path: Path, text: Path) -> None:
    status, output, _ = handgrad(4, "train", "--data", text, *TINY, "--set", "batch=8", "--out", "run", folder=tmp_path)
    assert status == 0
    assert '"shards": 4' in (tmp_path / "run" / "training.json").read_text()
    assert "4 ranks, 1 thread each" in output


@needs_mpi
@pytest.mark.parametrize(
    ("count", "arguments", "line"),
    [
        (
            3,
            ["--out", "run"],
            "3 ranks, which is no power of two: the tree of shards is halved, and halved again; -n 2 ",
        ),
        (
            2,
            ["--shards", "3"],
            "shards: 3 in a batch of 4 cannot be shared equally by 2 ranks, but by 1 at most; more ",
        ),
        (
            4,
            ["--set", "batch=6", "--set", "accumulation=2"],
            "shards: 3 in a batch of 6 cannot be shared equally by 4 ",
        ),
        (2, ["--minutes", "-1"], "--minutes: -1 is not above 0"),
        (2, ["--threads", "0"], "--threads: 0 is not a whole number of at least 1"),
        (2, ["--data", "nothing.txt"], "nothing.txt: no such file"),
        (2, ["--set", "widht=8"], "widht: unknown field; did you mean width? (value 8)"),
        (2, ["--out", "text.txt"], "text.txt: not a folder"),
    ],
)
def test_what_is_refused_is_refused_once(
    count: int, arguments: list[str], line: str, tmp_path: Path, text: Path
) -> None:
    status, output, errors = handgrad(count, "train", "--data", text, *FOUR, *arguments, folder=tmp_path)
    assert (status, output) == (2, "")
    assert errors.startswith(f"handgrad: {line}")
    assert errors.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} <= {"text.txt"}


@needs_mpi
def test_a_typo_and_every_other_command_are_answered_by_one_rank(tmp_path: Path, finished: Path) -> None:
    status, output, errors = handgrad(2, "train", "--shard", "2", folder=tmp_path)
    assert (status, output) == (2, "")
    assert errors.count("No such option: --shard") == 1
    status, output, errors = handgrad(4, "info", finished / "run", folder=tmp_path)
    assert (status, errors) == (0, "")
    assert output.count("architecture") == 1
    status, output, errors = handgrad(2, "--version", folder=tmp_path)
    assert (status, errors, output.count("handgrad")) == (0, "", 1)


@needs_mpi
def test_numbers_that_are_not_finite_end_all_ranks_with_one_line(tmp_path: Path, text: Path) -> None:
    arguments = [*SMALL, "--set", "batch=4", "--steps", "50", "--set", "learning_rate=1e30"]
    status, _, errors = handgrad(2, "train", "--data", text, *arguments, "--out", "run", folder=tmp_path)
    assert status == 1
    assert errors.startswith("handgrad: step ")
    assert errors.endswith("; run keeps the checkpoint of step 0\n")
    assert errors.count("\n") == 1


@needs_mpi
@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send a signal to one process")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_says_how_to_go_on(number: signal.Signals, tmp_path: Path, text: Path) -> None:
    """mpiexec hands it on to every rank; the first answers for all."""
    arguments = [*SMALL, "--set", "batch=4", "--steps", "100000", "--out", "run"]
    with start_ranks(2, "-m", "handgrad", "train", "--data", text, *arguments, folder=tmp_path) as process:
        metrics = tmp_path / "run" / "metrics.jsonl"
        while not metrics.exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(number)
        output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, errors
    assert "interrupted after step " in output
    assert "Go on with:  handgrad train --resume run" in output
    assert "before its time" not in errors
    assert not is_being_trained(tmp_path / "run")


@needs_mpi
@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send a signal to one process")
@pytest.mark.parametrize("seconds", [0.3, 0.6, 0.9, 1.2])
def test_ctrl_c_ends_ranks_that_have_not_met_yet(seconds: float, tmp_path: Path, text: Path) -> None:
    """One might wait for the other within MPI, where Python's handler does not come to its turn."""
    arguments = [*SMALL, "--set", "batch=4", "--steps", "100000", "--out", "run"]
    with start_ranks(2, "-m", "handgrad", "train", "--data", text, *arguments, folder=tmp_path) as process:
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    assert process.returncode != 0


def test_alone_mpi_is_not_imported(tmp_path: Path, text: Path) -> None:
    code = "import sys; from handgrad.cli import main\ntry: main()\nfinally: print(*sys.modules)"
    command = [sys.executable, "-c", code, "train", "--data", str(text), *TINY, "--out", "run"]
    environment = {name: value for name, value in os.environ.items() if "MPI" not in name and "PMI" not in name}
    output = subprocess.check_output(command, cwd=tmp_path, env=environment, text=True)
    assert "mpi4py" not in output.splitlines()[-1]
    assert "handgrad.training.ranks.mpi" not in output.splitlines()[-1]
    assert launched_rank() is None
    assert join().size == 1


@pytest.mark.parametrize("variable", ["PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK"])
def test_under_mpiexec_without_mpi4py_the_extra_is_named(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "1")
    assert launched_rank() == 1
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(
        HandgradError, match=r"^started by mpiexec, but without MPI: .*; python3 -m pip install 'handgrad\[mpi\]'$"
    ):
        join()


@needs_mpi
def test_an_mpiexec_of_another_mpi_is_noticed(tmp_path: Path) -> None:
    """Each of its ranks would train alone, in the same folder."""
    environment = os.environ | {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "0"}
    command = [sys.executable, "-m", "handgrad", "train"]
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.startswith("handgrad: one of 4 ranks, but alone: mpiexec does not belong to mpi4py's MPI, ")
    assert process.stderr.count("\n") == 1


@needs_mpi
def test_ranks_read_prepared_data_themselves(cli: Cli, text: Path, tmp_path: Path) -> None:
    assert cli("data", "prepare", text, "--tokenizer", "bytes", "--out", "prepared").status == 0
    begin = ["train", "--data", "prepared", *FOUR]
    assert cli(*begin, "--out", "whole").status == 0
    status, _, errors = handgrad(2, *begin, "--out", "run", folder=tmp_path)
    assert (status, errors) == (0, "")
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert Path("run", name).read_bytes() == Path("whole", name).read_bytes(), name
