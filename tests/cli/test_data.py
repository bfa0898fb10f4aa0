"""handgrad data, and training on what it made, as a user gives the commands."""

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from handgrad.files import check_together

from .conftest import TEXT, TINY, Cli, line


@pytest.fixture
def prepared(cli: Cli, text: Path) -> Path:
    result = cli("data", "prepare", text, "--out", "prepared", "--tokenizer", "bytes")
    assert (result.status, result.errors) == (0, "")
    return Path("prepared")


def test_prepare_and_train(cli: Cli, prepared: Path, text: Path) -> None:
    check_together(prepared)
    result = cli("train", "--data", prepared, *TINY, "--out", "run")
    assert (result.status, result.errors) == (0, "")
    assert "256 tokens; 1,404 tokens to learn from, 156 held out; run in run" in result.output
    assert "on the held-out part" in result.output
    other = cli("train", "--data", text, "--tokenizer", "bytes", *TINY, "--out", "other")
    assert other.status == 0
    for name in ("model.safetensors", "tokenizer.json", "optimizer.safetensors"):
        assert Path("run", name).read_bytes() == Path("other", name).read_bytes()
    assert cli("train", "--resume", "run").output.endswith("run is complete: all 3 steps are done\n")


def test_what_reads_a_run_reads_this_one(cli: Cli, prepared: Path, text: Path) -> None:
    for data, run in ((prepared, "run"), (text, "other")):
        more = ["--tokenizer", "bytes"] if data == text else []
        assert cli("train", "--data", data, *more, *TINY, "--out", run).status == 0
    for command in (["info"], ["watch", "--once"], ["evaluate"], ["generate", "--tokens", "5", "--seed", "1"]):
        found, other = (cli(command[0], run, *command[1:]) for run in ("run", "other"))
        assert (found.status, found.errors) == (0, "")
        if command[0] in ("evaluate", "generate"):
            assert found.output == other.output
    result = cli("explore", "run", "--html", "page.html")
    assert result.status == 0, result.errors


def test_what_would_change_nothing_or_count_twice_is_refused(cli: Cli, text: Path) -> None:
    for arguments, message in (
        ([text, "--column", "body"], "--column: 'body', but the sources are plain text; "),
        ([text, text], f"{text}: given 2 times; "),
        ([text.parent, text], f"{text}: given 2 times; "),
    ):
        assert line(cli("data", "prepare", *arguments, "--out", "prepared")).startswith(message)
    assert not Path("prepared").exists()


def test_a_refused_preparation_leaves_no_folder_but_one_that_was_there(cli: Cli) -> None:
    Path("empty.txt").touch()
    Path("rows.jsonl").write_text('{"body": "text"}\n')
    for source in ("empty.txt", "rows.jsonl"):
        for tokenizer in ("bytes", "bpe"):
            line(cli("data", "prepare", source, "--out", "prepared", "--tokenizer", tokenizer))
            assert not Path("prepared").exists()
    Path("prepared").mkdir()
    line(cli("data", "prepare", "empty.txt", "--out", "prepared"))
    assert Path("prepared").exists()


def test_what_is_told(cli: Cli, text: Path) -> None:
    arguments = ["data", "prepare", text, "--out", "prepared", "--tokenizer", "chars"]
    result = cli(*arguments)
    first, second, last = result.output.splitlines()
    assert first == (
        "1 document in 1 file, 18 different tokens; 1,404 tokens to learn from, 156 held out; 1.00 characters a token"
    )
    assert re.match(r"0\.00 MB in \d+ s, ", second)
    assert last == "Next:  handgrad train --data prepared"
    again = cli(*arguments)
    assert again.status == 0
    assert again.output.splitlines() == ["prepared is complete, and its sources are what they were", first, last]
    checked = cli("data", "check", "prepared")
    assert checked.status == 0
    assert checked.output.startswith("prepared: all of its ")


def test_check_finds_a_flipped_bit(cli: Cli, prepared: Path) -> None:
    path = prepared / "training-00000.npy"
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    result = cli("data", "check", prepared)
    assert (result.status, result.output) == (2, "")
    assert result.errors.startswith(f"handgrad: {path}: differs from its checksum in manifest.json")
    content[-1001::2] = b"\1" * 501
    path.write_bytes(content)
    result = cli("train", "--data", prepared, *TINY, "--out", "run", "--steps", "40")
    assert result.status == 2
    assert result.errors.startswith(f"handgrad: {path.resolve()}: has a token ")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--tokenizer", "bpe"], "tokenizer: 'bpe', but the prepared data in "),
        (["--vocabulary", "300"], "vocabulary: 300, but the prepared data in "),
        (["--glob", "*"], "prepared: prepared data are all that a run learns from"),
        (["--data", "text.txt"], "prepared: prepared data are all that a run learns from"),
    ],
)
def test_prepared_data_stand_alone(arguments: list[str], problem: str, cli: Cli, prepared: Path) -> None:
    result = cli("train", "--data", prepared, *TINY, *arguments)
    assert (result.status, result.output) == (2, "")
    assert result.errors.startswith(f"handgrad: {problem}")
    assert result.errors.count("\n") == 1
    assert not Path("runs").exists()


def test_other_refusals(cli: Cli, prepared: Path, text: Path) -> None:
    for arguments, problem in (
        (["evaluate", "trained", "--data", prepared], "its tokens are not those of the model's tokenizer"),
        (["evaluate", "trained", "--data", prepared, "--data", text], "prepared: prepared data are all that"),
        (["train", "--data", prepared, *TINY, "--set", "context=500"], "prepared: too short: 1,404 tokens to learn"),
        (
            ["train", "--data", prepared, *TINY, "--init", "trained"],
            "its tokens are not those of the model's tokenizer",
        ),
        (
            ["train", "--data", text, *TINY, "--set", "tokenizer=data"],
            "tokenizer: 'data', but the data are not prepared",
        ),
        (["data", "check", "trained"], "trained: holds no prepared data (manifest.json is missing)"),
        (["data", "check", "none"], "none: no such folder"),
        (["data", "prepare", "none", "--out", "x"], "none: no such file"),
    ):
        if "trained" in arguments and not Path("trained").exists():
            assert cli("train", "--data", text, *TINY, "--out", "trained").status == 0
        result = cli(*arguments)
        assert result.status == 2, arguments
        assert problem in result.errors
        assert result.errors.count("\n") == 1


def test_going_on_with_a_model(cli: Cli, text: Path) -> None:
    assert cli("train", "--data", text, *TINY, "--out", "trained").status == 0
    assert cli("data", "prepare", text, "--tokenizer", "trained", "--out", "prepared").status == 0
    options = ["--steps", "2", "--set", "evaluations=1", "--set", "batch=2"]
    result = cli("train", "--data", "prepared", "--init", "trained", *options, "--out", "run")
    assert (result.status, result.errors) == (0, "")
    assert cli("train", "--data", text, "--init", "trained", *options, "--out", "other").status == 0
    assert Path("run/model.safetensors").read_bytes() == Path("other/model.safetensors").read_bytes()


def test_a_command_that_was_wrong_is_mended_in_the_same_folder(cli: Cli, text: Path) -> None:
    Path("a.jsonl").write_text("\n".join(json.dumps({"body": TEXT}) for _ in range(20)))
    result = cli("data", "prepare", "a.jsonl", "--out", "prepared")
    assert (result.status, result.output) == (2, "")
    assert result.errors.endswith("a.jsonl: line 1: no 'text' in it; --column may name 'body'\n")
    assert cli("data", "prepare", "a.jsonl", "--column", "body", "--out", "prepared").status == 0
    assert cli("data", "check", "prepared").status == 0


def test_all_formats_at_once(cli: Cli) -> None:
    Path("notes").mkdir()
    Path("notes/a.md").write_text(TEXT)
    Path("notes/b.jsonl.gz").write_bytes(
        gzip.compress("\n".join(json.dumps({"body": TEXT}) for _ in range(20)).encode())
    )
    Path("notes/c.bin").write_bytes(b"\xff")
    result = cli("data", "prepare", "notes", "--column", "body", "--out", "prepared", "--vocabulary", "300")
    assert (result.status, result.errors) == (0, "")
    assert result.output.startswith("21 documents in 2 files, ")


def test_the_folder_that_is_not_complete(cli: Cli, text: Path) -> None:
    Path("prepared").mkdir()
    Path("prepared/progress.json").write_text('{"format": "handgrad prepared data"}')
    result = cli("train", "--data", "prepared", *TINY)
    assert result.status == 2
    assert result.errors == ("handgrad: prepared: is not prepared to the end; the command that began it goes on\n")
    result = cli("data", "prepare", text, "--out", "prepared")
    assert (result.status, result.errors.count("\n")) == (2, 1)


SMALL_SECTIONS = """
import os, signal
from handgrad.cli import main
from handgrad.training.prepared import sections, writer

sections.SECTION = 1 << 14
real, calls = writer.Writer.add, []

def add(*arguments):
    real(*arguments)
    calls.append(1)
    if len(calls) == 5:
        os.kill(os.getpid(), signal.SIGINT)

"""
INTERRUPTED = f"{SMALL_SECTIONS}\nwriter.Writer.add = add"
"""The command, to which a signal comes while it works, however fast it is."""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send a signal to one process")
def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    """Once a shard is begun; then the same command ends it."""
    (tmp_path / "text.txt").write_text(TEXT * 200, encoding="utf-8")
    options = ["data", "prepare", "text.txt", "--tokenizer", "bytes", "--out", "prepared"]

    def given(program: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", f"{program}\nmain()", *options]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    broken = given(INTERRUPTED)
    assert (broken.returncode, broken.stderr) == (1, ""), broken.stdout
    assert broken.stdout == "interrupted; all is saved in prepared. Go on with the same command\n"
    assert (tmp_path / "prepared" / "training-00000.npy").exists()
    done = given(SMALL_SECTIONS)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Next:  handgrad train --data prepared" in done.stdout


def test_help_teaches(cli: Cli) -> None:
    for arguments in (["data", "--help"], ["data", "prepare", "--help"], ["data", "check", "--help"]):
        assert cli(*arguments).status == 0
    output = " ".join(cli("data", "prepare", "--help").output.split())
    for word in (".parquet", "--column", "--tokenizer", "--held-out", "goes on"):
        assert word in output


def test_prepared_data_are_looked_at_before_they_are_used(cli: Cli, prepared: Path, text: Path) -> None:
    """Files that are shorter or gone, a folder that was copied by halves, and files that are no text."""
    run = [*TINY, "--out", "run"]
    assert cli("train", "--data", prepared, *run).status == 0
    expected = cli("evaluate", "run").output.splitlines()[1].split()[2:]
    prepared.rename("moved")
    assert cli("evaluate", "run").status == 2
    assert cli("evaluate", "run", "--data", "moved").output.splitlines()[1].split()[-5:] == expected[-5:]
    Path("moved").rename(prepared)
    shard = prepared / "training-00000.npy"
    whole = shard.read_bytes()
    again = ["data", "prepare", text, "--tokenizer", "bytes", "--out", prepared]
    assert cli(*again).status == 0
    shard.write_bytes(whole[:-2])
    result = cli(*again)
    assert (result.status, result.output) == (2, "")
    assert "training-00000.npy: not the " in result.errors
    assert "; remove " in result.errors
    shard.unlink()
    assert cli(*again).status == 2
    shard.write_bytes(whole)
    (prepared / "manifest.json").unlink()
    result = cli("train", "--data", prepared, *TINY)
    assert result.status == 2
    assert result.errors.endswith("prepared data, but manifest.json is missing: not all of its files were copied\n")
    Path("packed.txt").write_bytes(gzip.compress(text.read_bytes()))
    result = cli("train", "--data", "packed.txt", *TINY)
    assert result.status == 2
    assert result.errors.startswith("handgrad: packed.txt: compressed, or Parquet; handgrad data prepare reads such ")
