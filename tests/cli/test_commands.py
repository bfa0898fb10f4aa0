"""What is common to the commands on a run."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from handgrad.cli import app
from handgrad.training import newest_run

from .conftest import Cli, line


def test_a_folder_of_runs_is_told_from_a_run(cli: Cli, trained: Path, tmp_path: Path) -> None:
    for name in ("2", "10", "mine"):
        shutil.copytree(trained, tmp_path / "runs" / name)
    (tmp_path / "runs" / "11").mkdir()  # a run without a model yet
    assert newest_run(tmp_path / "runs") == tmp_path / "runs" / "10"
    assert newest_run(tmp_path) is None
    message = line(cli("info", tmp_path / "runs"))
    assert (
        message == f"{tmp_path / 'runs'}: holds runs, and is none; name one of them, such as {tmp_path / 'runs' / '10'}"
    )


@pytest.mark.parametrize("command", ["generate", "evaluate", "info"])
def test_what_is_not_a_model_is_one_clear_line(command: str, cli: Cli, text: Path) -> None:
    Path("empty").mkdir()
    assert line(cli(command, "nowhere")) == "nowhere: no such folder"
    assert line(cli(command, text.name)) == "text.txt: not a folder"
    assert line(cli(command, "empty")) == "empty: holds no model (config.json is missing)"


def test_a_pipe_that_is_closed_early_is_no_traceback(finished: Path) -> None:
    command = [sys.executable, "-m", "handgrad", "generate", "run", "--tokens", "2000"]
    with subprocess.Popen(command, cwd=finished, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(5)
        process.stdout.close()
        assert process.stderr is not None
        errors = process.stderr.read().decode()
    assert "Traceback" not in errors
    assert "Exception" not in errors


OPTIONS = {
    "check": "--layer --seed --against --mutations",
    "trace": "--text --preset --out --dtype --seed",
    "explore": "--preset --text --html --port --browser --no-browser --seed",
    "kit": "--layers --seed",
    "compare": "--dtype --map",
    "train": "--data --glob --tokenizer --vocabulary --preset --config --set --fields --steps --seed --shards "
    "--threads --init --out --resume --minutes",
    "watch": "--every --once",
    "generate": "--prompt --tokens --stop --temperature --top-k --top-p --seed",
    "evaluate": "--data --glob",
    "info": "",
    "export": "--out --dtype",
    "doctor": "--json",
    "data": "prepare check",
    "learn": "start check watch hint solution list reset train grade",
}
"""What the help of each command lists: its options, or its own commands."""


def test_every_command_has_a_help_that_is_tried() -> None:
    assert list(OPTIONS) == list(app.COMMANDS)


@pytest.mark.parametrize("command", OPTIONS)
def test_the_help_of_a_command_names_all_that_it_takes(command: str, cli: Cli) -> None:
    result = cli(command, "--help")
    assert (result.status, result.errors) == (0, "")
    assert f"Usage: handgrad {command}" in result.output
    names = re.findall(r"^│ [* ]{0,3}(--[a-z-]+|[a-z]+) +(--[a-z-]+)?", result.output, re.MULTILINE)
    assert {name for pair in names for name in pair} - {"--help", ""} == set(OPTIONS[command].split())
