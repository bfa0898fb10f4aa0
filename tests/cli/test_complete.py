"""What a shell offers when Tab is pressed, as its script asks for it; and the scripts, where the shells are there."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from handgrad.cli import app, learn
from handgrad.learn import EXERCISES
from handgrad.proof import KIT, all_cases
from handgrad.training import PRESETS, field_meanings

from .conftest import Cli


@pytest.fixture
def offered(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> "Offered":
    return Offered(cli, monkeypatch)


class Offered:
    """What is offered after these words, of which the last one is being typed."""

    def __init__(self, cli: Cli, patch: pytest.MonkeyPatch) -> None:
        self.cli, self.patch = cli, patch

    def __call__(self, *words: str) -> list[str]:
        self.patch.setenv("_HANDGRAD_COMPLETE", "complete_bash")
        self.patch.setenv("COMP_WORDS", " ".join(["handgrad", *words]))
        self.patch.setenv("COMP_CWORD", str(len(words)))
        result = self.cli()
        assert (result.status, result.errors) == (0, "")
        return result.output.split("\n")[:-1]


def test_commands_and_options(offered: Offered) -> None:
    assert offered("") == list(app.COMMANDS)
    assert offered("tr") == ["trace", "train"]
    assert offered("learn", "") == list(learn.COMMANDS)
    assert offered("data", "") == ["prepare", "check"]
    assert offered("train", "--da") == ["--data"]
    assert offered("train", "--tokenizer", "b") == ["bytes", "bpe"]


def test_commands_are_offered_without_numpy() -> None:
    code = "import sys; from handgrad.cli import main\ntry: main()\nfinally: print('numpy' in sys.modules)"
    asked = {"_HANDGRAD_COMPLETE": "complete_bash", "COMP_WORDS": "handgrad learn ", "COMP_CWORD": "2"}
    output = subprocess.check_output([sys.executable, "-c", code], env=os.environ | asked, text=True)
    assert output.splitlines() == [*learn.COMMANDS, "False"]


def test_values(offered: Offered) -> None:
    assert offered("train", "--preset", "") == list(PRESETS)
    assert offered("check", "--layer", "") == list(all_cases())
    assert offered("train", "--set", "le") == [f"{name}=" for name in field_meanings() if name.startswith("le")]
    assert offered("learn", "hint", "") == [exercise.name for exercise in EXERCISES]
    assert offered("learn", "grade", "--only", "linear,layer") == ["linear,layer_norm"]
    assert offered("kit", "--layers", "") == list(KIT)


def test_runs_and_their_models(offered: Offered, tmp_path: Path) -> None:
    assert offered("generate", "") == [""]
    for run in ("1", "2"):
        for model in ("", "best", "kept/300"):
            (tmp_path / "runs" / run / model).mkdir(parents=True, exist_ok=True)
            (tmp_path / "runs" / run / model / "config.json").touch()
        (tmp_path / "runs" / run / "training.json").touch()
    (tmp_path / "runs" / "notes").mkdir()
    for words in (
        ["generate"],
        ["check"],
        ["train", "--resume"],
        ["train", "--init"],
        ["watch"],
        ["explore"],
        ["trace"],
    ):
        assert offered(*words, "") == ["runs/1", "runs/2"]
    for words in (["info"], ["check"], ["train", "--init"], ["explore"], ["trace"]):
        assert offered(*words, "runs/2/") == ["runs/2/best", "runs/2/kept/300"]
    for words in (["watch"], ["train", "--resume"]):  # which want a whole run
        assert offered(*words, "runs/2/") == [""]
    assert offered("info", "gpt2") == [""]  # of files the shell knows


def test_help_tells_of_it_once(cli: Cli) -> None:
    assert "--install-completion" in cli("--help").output
    for command in ("train", "data", "learn"):
        assert "completion" not in cli(command, "--help").output


@pytest.mark.skipif(sys.platform == "win32", reason="these shells have other paths there than Python")
@pytest.mark.parametrize(
    ("shell", "asking"),
    [
        ("bash", 'COMP_WORDS=(handgrad ge); COMP_CWORD=1; _handgrad_completion handgrad; echo "${COMPREPLY[@]}"'),
        ("zsh", "words=(handgrad ge); CURRENT=2; _arguments() { echo $2 $1 }; _handgrad_completion"),
        ("fish", "complete -C 'handgrad ge'"),
    ],
)
def test_the_script_of_a_shell_works_there(shell: str, asking: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    scripts = sysconfig.get_path("scripts")  # where handgrad is, though it may not be on the path
    path = f"{scripts}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {
        "HOME": str(tmp_path),
        "PATH": path,
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    command = [sys.executable, "-m", "handgrad", "--show-completion", shell]
    script = subprocess.check_output(command, env=environment, cwd=tmp_path, text=True)
    if shell == "zsh":
        script = "compdef() { : }\n" + script
    output = subprocess.check_output([shell, "-c", f"{script}\n{asking}"], env=environment, cwd=tmp_path, text=True)
    assert "generate" in output
    assert "explore" not in output
