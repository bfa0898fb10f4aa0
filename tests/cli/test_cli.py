"""The command line as a user meets it: what it prints, what it leaves, and its exit status."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import handgrad
from handgrad.cli import app
from handgrad.layers import Array
from handgrad.layers.arrays import row_means
from handgrad.model import Model, ModelConfig, Tokenizer, initial_parameters
from handgrad.proof import all_cases
from handgrad.training import read_metrics, read_position

from .conftest import TEXT, Cli, Result


@pytest.fixture
def run(cli: Cli) -> Path:
    """The folder of a tiny model."""
    tokenizer = Tokenizer.of_characters(TEXT)
    config = ModelConfig(layers=1, heads=1, width=4, hidden=4, context=8, vocabulary=tokenizer.vocabulary)
    Model(config, initial_parameters(config), tokenizer).save("run")
    return Path("run")


def test_check_proves_every_gradient(tmp_path: Path) -> None:
    """In a process of its own, without the checks of shapes, which cost more than the proof; and in 40 columns."""
    command = [sys.executable, "-m", "handgrad", "check"]
    environment = os.environ | {"COLUMNS": "40", "PYTHONUTF8": "1"}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", check=False)
    result = Result(ended.returncode, ended.stdout, ended.stderr)
    assert (result.status, result.errors) == (0, "")
    gradients = sum(len(case.inputs) for case in all_cases().values())
    assert result.output.count("proved\n") == gradients
    assert f"{gradients} gradients against the complex step: all proved in " in result.output
    for name in (*all_cases(), "blocks.1.feed_forward.w_down"):
        assert re.search(rf"\b{re.escape(name)}\b", result.output)


def test_check_of_one_layer(cli: Cli) -> None:
    result = cli("check", "--layer", "layer_norm", "--seed", "5")
    assert result.status == 0
    assert re.search(r"layer_norm +x +2×5×6 +\d\.\de-1\d +proved\n +gamma", result.output)
    assert "softmax" not in result.output


def test_check_ends_with_1_where_a_gradient_is_wrong(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """LayerNorm without the route through the variance."""
    monkeypatch.setattr("handgrad.layers.layer_norm.row_means", without_variance_route(row_means))
    result = cli("check", "--layer", "layer_norm")
    assert result.status == 1
    assert re.search(r"layer_norm +x +2×5×6 +\d\.\de[-+]0\d +WRONG", result.output)
    assert "1 wrong" in result.output


def without_variance_route(row_means: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The backward's second mean becomes zero: of the real calls the forward's are the first and second."""
    calls = []

    def means(x: Array) -> Array:
        calls.append(x)
        return row_means(x) * (len(calls) != 4)

    return means


def test_train_then_generate(cli: Cli, text: Path) -> None:
    trained = cli("train", "--data", text, "--steps", "16")
    assert (trained.status, trained.errors) == (0, "")
    assert "run in runs/1" in trained.output.replace("\\", "/")
    assert re.search(r"step 16/16  loss \d\.\d{3}  validation \d\.\d{3}  [\d,]+ tokens/s", trained.output)
    assert re.search(r"validation loss \d\.\d{3} nats = \d\.\d{3} bits a character", trained.output)
    assert re.search(r"Next:  handgrad generate runs.1\n$", trained.output)
    assert json.loads(Path("runs/1/training.json").read_text(encoding="utf-8"))["settings"]["steps"] == 16
    entries = read_metrics(Path("runs/1"))
    assert (entries[-1]["step"], len([entry for entry in entries if "sample" in entry])) == (16, 8)
    first = cli("generate", "runs/1", "--prompt", "the cat", "--tokens", "20", "--seed", "3")
    again = cli("generate", "runs/1", "--prompt", "the cat", "--tokens", "20", "--seed", "3")
    assert (first.status, first.errors) == (0, "")
    assert first == again
    assert first.output.startswith("the cat")
    assert len(first.output) == len("the cat") + 20 + len("\n")


def test_what_the_command_line_writes_python_writes_too(cli: Cli, run: Path) -> None:
    model = handgrad.load(run)
    assert model.config.vocabulary == len(set(TEXT))
    assert cli("generate", run, "--tokens", "30", "--seed", "1", "--temperature", "0.5").output == (
        model.generate(tokens=30, seed=1, temperature=0.5) + "\n"
    )


def test_a_text_with_a_byte_order_mark_and_windows_line_ends(cli: Cli, text: Path) -> None:
    text.write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    assert cli("train", "--data", text, "--steps", "1", "--out", "run").status == 0
    assert sorted(handgrad.load("run").tokenizer.inner.get_vocab()) == sorted(set(TEXT))


def test_runs_are_numbered(cli: Cli, text: Path) -> None:
    for number in (1, 2):
        assert f"runs{os.sep}{number}" in cli("train", "--data", text, "--steps", "1").output


def test_the_default_text_is_the_reference_of_python(cli: Cli) -> None:
    result = cli("train", "--steps", "1")
    assert result.status == 0
    characters = int(re.findall(r"([\d,]+) tokens to learn from", result.output)[0].replace(",", ""))
    assert characters > 300_000
    assert handgrad.load("runs/1").parameters.flat.size == pytest.approx(800_000, rel=0.1)


def test_a_run_is_never_overwritten(cli: Cli, run: Path, text: Path) -> None:
    before = (run / "model.safetensors").read_bytes()
    result = cli("train", "--data", text, "--out", run)
    assert result == Result(
        2, "", "handgrad: run: holds a run already; choose another --out, or go on with --resume run\n"
    )
    assert (run / "model.safetensors").read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send a signal to one process")
@pytest.mark.parametrize("interrupt", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_finishes_the_update_saves_and_ends_with_1(
    interrupt: signal.Signals, text: Path, tmp_path: Path
) -> None:
    fields = ("layers=1", "width=32", "hidden=32", "evaluations=80", "steps=4000")
    small = [part for field in fields for part in ("--set", field)]
    command = [
        sys.executable,
        "-m",
        "handgrad",
        "train",
        "--data",
        str(text),
        *small,
        "--steps",
        "4000",
        "--out",
        "run",
    ]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "run in run" in process.stdout.readline()
        assert "4,000 steps of 16 × 64 tokens" in process.stdout.readline()
        assert "step 50/4,000" in process.stdout.readline()
        while read_metrics(tmp_path / "run")[-1]["step"] <= 50 and process.poll() is None:
            time.sleep(0.001)  # so that what is saved is not what the evaluation saved
        process.send_signal(interrupt)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (1, "")
    way = "Go on with:  handgrad train --resume run"
    (step,) = re.findall(rf"interrupted after step ([0-9,]+); all is saved. {way}\n", output)
    saved = read_position(tmp_path / "run")[0]
    assert read_metrics(tmp_path / "run")[-1]["step"] == saved == int(step.replace(",", "")) < 4000


def test_help_and_version(cli: Cli) -> None:
    assert cli("--version").output == f"handgrad {handgrad.__version__}\n"
    for command in ([], ["check"], ["train"], ["generate"]):
        result = cli(*command, "--help")
        assert result.status == 0
        assert "Usage: handgrad" in result.output


def test_a_folder_s_name_is_printed_as_it_is(cli: Cli, text: Path) -> None:
    result = cli("train", "--data", text, "--steps", "1", "--out", "a[b]:smile:[red]")
    assert result.status == 0
    assert "run in a[b]:smile:[red]\n" in result.output
    assert Path("a[b]:smile:[red]", "model.safetensors").exists()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_character_that_the_terminal_cannot_show_stops_nothing(encoding: str, text: Path, tmp_path: Path) -> None:
    text.write_text("√2 × 漢字 \U0001f600 " * 200, encoding="utf-8")
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    for arguments in (
        ["check", "--layer", "linear"],
        ["train", "--data", str(text), "--steps", "1", "--out", "run"],
        ["generate", "run", "--prompt", "√", "--tokens", "3", "--seed", "0"],
    ):
        command = [sys.executable, "-m", "handgrad", *arguments]
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
        assert (result.returncode, result.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "--layer", "nope"], "--layer: no layer 'nope'; there are linear, bias, "),
        (["check", "--layer", "layernorm"], "--layer: no layer 'layernorm'; did you mean layer_norm?"),
        (["check", "--layer", "GPT"], "--layer: no layer 'GPT'; did you mean gpt?"),
        (["kit", "kit", "--layers", "linear,bloc"], "layers: no layer 'bloc'; did you mean block?"),
        (["train", "--preset", "midium"], "preset: there is no 'midium'; did you mean medium?"),
        (["train", "--set", "widht=8"], "widht: unknown field; did you mean width? (value 8)"),
        (["trace", "--text", "a", "--preset", "Tiny"], "preset: there is no 'Tiny'; did you mean tiny?"),
        (["train", "--data", "nowhere.txt"], "nowhere.txt: no such file"),
        (["train", "--data", ".", "--glob", "*.md"], ".: no file in it matches '*.md'"),
        (["train", "--steps", "0"], "steps: 0 is not a whole number of at least 1"),
        (["train", "--data", "empty.txt"], "empty.txt: empty or blank"),
        (["train", "--data", "blank.txt"], "blank.txt: empty or blank"),
        (["train", "--data", "latin.txt"], "latin.txt: not UTF-8 (byte 3)"),
        (["train", "--data", "short.txt"], "short.txt: the text is too short: its held-out tenth has 50 tokens"),
        (["generate", "nowhere"], "nowhere: no such folder"),
        (["generate", "short.txt"], "short.txt: not a folder"),
        (["generate", "."], ".: holds no model (config.json is missing)"),
        (["generate", "runn"], "runn: no such folder; did you mean run?"),
        (
            ["generate", "run", "--prompt", "the ©at"],
            "--prompt: character '©' (position 4) is not in the model's vocabulary",
        ),
        (["generate", "run", "--top-p", "0"], "top_p: 0.0 is not above 0 and at most 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_status_2(cli: Cli, run: Path, arguments: list[str], message: str) -> None:
    Path("empty.txt").touch()
    Path("blank.txt").write_text("\n \n")
    Path("latin.txt").write_bytes("caf\u00e9 ".encode("latin-1") * 999)
    Path("short.txt").write_text("word " * 100)
    result = cli(*arguments)
    assert result.status == 2
    assert result.output == ""
    assert result.errors.startswith(f"handgrad: {message}")
    assert result.errors.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [["train", "--steps", "many"], ["train", "--nonsense"], ["generate"], ["nonsense"]],
    ids=" ".join,
)
def test_wrong_usage_has_status_2_and_no_traceback(cli: Cli, arguments: list[str]) -> None:
    result = cli(*arguments)
    assert result.status == 2
    assert "Usage: handgrad" in result.errors
    assert "Traceback" not in result.errors


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["tarin"], "No such command 'tarin'. Did you mean 'train'"),
        (["learn", "hnit"], "No such command 'hnit'. Did you mean 'hint'?"),
        (["data", "prepar"], "No such command 'prepar'. Did you mean 'prepare'?"),
        (["train", "--stesp", "3"], "--steps"),
        (["--verison"], "--version"),
        (["train", "--tokenizer", "bit"], "'bytes', 'bpe'"),
        (["train", "book.txt"], "(book.txt); a text is given by --data"),
        (["generate", "run", "The"], "(The); the text to go on from is given by --prompt"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_typo_is_told_what_was_probably_meant(cli: Cli, arguments: list[str], hint: str) -> None:
    result = cli(*arguments)
    assert (result.status, result.output) == (2, "")
    assert hint in result.errors


@pytest.mark.parametrize("command", app.STRAYS)
def test_where_a_stray_argument_belongs_is_told(command: str, cli: Cli) -> None:
    result = cli(command, "run", "stray")
    assert (result.status, result.output) == (2, "")
    assert app.STRAYS[command] in result.errors


def test_a_folder_that_cannot_be_written_is_found_before_the_work(cli: Cli, text: Path) -> None:
    result = cli("train", "--data", text, "--out", text / "run")
    assert result.status == 1
    assert result.output == ""
    assert re.fullmatch(r"handgrad: .*run: .+\n", result.errors)
