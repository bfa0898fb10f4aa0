"""The command line in this process, and a text and a finished run to use it on."""

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from handgrad.cli import main
from handgrad.training import read_record

TEXT = "the cat sat on the mat, and the dog lay by the log.\n" * 30
SMALL = [
    *("--set", "layers=1", "--set", "heads=2", "--set", "width=8", "--set", "hidden=8", "--set", "context=8"),
    *("--set", "batch=2"),
]
TINY = [*SMALL, "--set", "evaluations=1", "--steps", "3"]
"""The options of a run that takes no time."""


class Result(NamedTuple):
    status: int
    output: str
    errors: str


Cli = Callable[..., Result]


def settings(run: str | Path) -> dict[str, Any]:
    return read_record(Path(run)).recipe.to_dict()


def line(result: Result) -> str:
    """The one line on standard error that says why nothing was done."""
    assert (result.status, result.output) == (2, "")
    assert re.fullmatch(r"handgrad: .+\n", result.errors)
    return result.errors.removeprefix("handgrad: ").rstrip("\n")


def row(result: Result, name: str) -> list[str]:
    """The numbers beside a text's name."""
    assert (result.status, result.errors) == (0, "")
    (found,) = (line for line in result.output.splitlines() if line.startswith(f"{name} "))
    return found.removeprefix(name).split()


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """Run the command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("handgrad.training.run.SAMPLE_TOKENS", 20)

    def run(*arguments: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["handgrad", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return run


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text and a run that learned it, complete."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    options = [*SMALL, "--set", "evaluations=3", "--steps", "30", "--set", "learning_rate=1e-2"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("handgrad.training.run.SAMPLE_TOKENS", 20)
        patch.setattr(sys, "argv", ["handgrad", "train", "--data", "text.txt", "--out", "run", *options])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code
    return folder


@pytest.fixture
def trained(cli: Cli, finished: Path) -> Path:
    """A copy of that run, in the folder that one is in."""
    shutil.copytree(finished / "run", "trained")
    return Path("trained")
