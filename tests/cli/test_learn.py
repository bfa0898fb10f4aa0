"""handgrad learn: what each command prints, its status, and what it leaves."""

import csv
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from handgrad.learn import EXERCISES, find
from handgrad.learn.exercise import YOURS, with_mistake

from .conftest import Cli

FIRST, SECOND, THIRD = EXERCISES[:3]


@pytest.fixture
def inside(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line in the folder of a course that has just begun."""
    assert cli("learn", "start", "course").status == 0
    monkeypatch.chdir("course")
    return cli


def solve(*names: str) -> None:
    for name in names:
        Path(find(name).file).write_text(find(name).solved, encoding="utf-8")


def test_start_says_what_is_next(cli: Cli) -> None:
    result = cli("learn", "start", "a/b")
    assert result.status == 0
    assert f"cd {Path('a/b')}" in result.output
    assert FIRST.file in result.output
    again = cli("learn", "start", "a/b")
    assert again.status == 0
    assert "files written: 0" in again.output
    Path("file").write_text("x", encoding="utf-8")
    assert cli("learn", "start", "file").errors == "handgrad: file: not a folder\n"
    assert cli("learn", "start", ".").status == 2


@pytest.mark.parametrize("command", ["", "check", "list", "watch", "hint", "solution", "reset linear", "train"])
def test_outside_of_a_course(cli: Cli, command: str) -> None:
    result = cli("learn", *command.split())
    assert result.status == 2
    assert "no course here" in result.errors
    assert "handgrad learn start DIR" in result.errors
    assert result.errors.count("\n") == 1


def test_alone_it_checks_the_next_and_those_after_it(inside: Cli) -> None:
    result = inside("learn")
    assert result.status == 1
    assert "Write chain_rule_backward in ex01_chain_rule.py" in result.output
    assert "0 of 29" in result.output
    solve("chain_rule", "linear")
    result = inside("learn")
    assert result.status == 0
    assert result.output.count("✓") == 2
    assert THIRD.file in result.output
    assert "2 of 29" in result.output
    assert inside("learn").status == 1


def test_check_of_one(inside: Cli) -> None:
    mistake = SECOND.mistakes[0]
    Path(SECOND.file).write_text(with_mistake(SECOND.solved, mistake), encoding="utf-8")
    result = inside("learn", "check", "linear", "--seed", "5")
    assert result.status == 1
    assert mistake.why in " ".join(result.output.split())
    assert "dx  right" in result.output
    assert "handgrad learn check linear --seed 5" in result.output
    assert result.output == inside("learn", "check", "2", "--seed", "5").output
    solve("linear")
    assert inside("learn", "check", "ex02_linear.py").status == 0


def test_check_of_all(inside: Cli) -> None:
    solve("chain_rule", "softmax")
    Path(SECOND.file).write_text(with_mistake(SECOND.solved, SECOND.mistakes[0]), encoding="utf-8")
    Path(THIRD.file).unlink()
    Path("ex04_broadcasting.py").write_bytes(b"\xff\xfe")
    result = inside("learn", "check", "--all")
    assert result.status == 1
    rows = {line.split()[1]: line for line in result.output.splitlines() if ".py" in line}
    assert len(rows) == len(EXERCISES)
    assert rows[FIRST.file].startswith("✓")
    assert SECOND.mistakes[0].name.replace("_", " ") in rows[SECOND.file]
    assert "no such file" in rows[THIRD.file]
    assert "not UTF-8" in rows["ex04_broadcasting.py"]
    assert "2 of 29" in result.output
    assert inside("learn", "check", "--all", "linear").status == 2


def test_all_solved(inside: Cli) -> None:
    solve(*(exercise.name for exercise in EXERCISES))
    assert inside("learn", "check", "--all").status == 0
    for command in ("", "check", "hint", "solution"):
        result = inside("learn", *command.split())
        assert result.status == 0
        assert "All 29 exercises have passed" in result.output
    listed = inside("learn", "list")
    assert listed.output.count("✓") == len(EXERCISES)


def test_missing_and_unreadable_files(inside: Cli) -> None:
    Path(FIRST.file).unlink()
    for command in ("", "check", "check 1"):
        result = inside("learn", *command.split())
        assert result.status == 1
        assert f"There is no {FIRST.file} here." in result.output
        assert "handgrad learn reset chain_rule" in result.output
    Path(FIRST.file).write_bytes(b"\xff")
    assert "not UTF-8" in inside("learn").output
    assert inside("learn", "check", "nonsense").errors.startswith("handgrad: no exercise 'nonsense': ")


def test_hints_and_solution(inside: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for numbers in ([1], [2], [3], [1, 2, 3]):
        result = inside("learn", "hint", "softmax")
        assert [number for number in (1, 2, 3) if f"hint {number} of 3" in result.output] == numbers
    assert "handgrad learn solution softmax" in result.output
    answer = iter("ny")
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: next(answer), raising=False)
    monkeypatch.setattr("typer._click.termui.visible_prompt_func", lambda _: next(answer), raising=False)
    refused = inside("learn", "solution", "softmax")
    assert refused.status == 1
    assert "mean_dy" not in refused.output
    assert "mean_dy = (dy * y).sum(axis=-1, keepdims=True)" in inside("learn", "solution", "softmax").output
    shown = inside("learn", "solution", "linear", "--yes")
    assert "dx = dy @ w.T" in shown.output
    assert Path(SECOND.file).read_text(encoding="utf-8") == SECOND.unsolved


def test_markup_in_a_message_is_shown_as_it_is(inside: Cli) -> None:
    code = FIRST.unsolved.replace("raise NotImplementedError", 'raise ValueError("[/dx] and [b]")')
    Path(FIRST.file).write_text(code, encoding="utf-8")
    for command in (["check"], ["check", "--all"]):
        assert "[/dx] and [b]" in inside("learn", *command).output


def test_the_answer_to_the_question_is_told_to_who_has_passed(inside: Cli) -> None:
    assert FIRST.answer not in " ".join(inside("learn").output.split())
    solve("chain_rule")
    shown = " ".join(inside("learn").output.split())
    assert f"{FIRST.question} {FIRST.answer}" in shown


def test_a_half_written_answer(inside: Cli) -> None:
    code = FIRST.unsolved.replace("    raise NotImplementedError", "    du = dy\n    raise NotImplementedError")
    Path(FIRST.file).write_text(code, encoding="utf-8")
    result = inside("learn")
    assert result.status == 1
    assert f"{FIRST.file}:{len(code.splitlines())}: raise NotImplementedError" in result.output


def test_what_has_passed_cannot_be_written_down(inside: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "progress.json")

    solve("chain_rule")
    monkeypatch.setattr("handgrad.learn.course.write_atomically", full)
    result = inside("learn", "check")
    assert result.status == 0
    assert "✓" in result.output
    assert "your progress could not be written down" in result.output


def test_what_has_passed_cannot_even_be_locked(inside: Cli) -> None:
    """What was found is shown all the same, once."""
    Path(".progress.json.lock").unlink(missing_ok=True)
    Path(".progress.json.lock").mkdir()
    solve("chain_rule")
    result = inside("learn")
    assert result.status == 0
    assert result.output.count("✓") == 1
    assert result.output.count("your progress could not be written down") == 1
    assert FIRST.hints[0][:20] in inside("learn", "hint").output


def test_a_changed_forward_is_noted(inside: Cli) -> None:
    text = find("softmax").solved.replace("exponentials / exp", "2 * exponentials / exp")
    Path(find("softmax").file).write_text(text, encoding="utf-8")
    for arguments in (["softmax"], ["--all"]):
        shown = " ".join(inside("learn", "check", *arguments).output.split())
        assert "softmax_forward is not there as it was given" in shown


def test_a_folder_in_the_place_of_a_file(inside: Cli) -> None:
    Path(FIRST.file).unlink()
    Path(FIRST.file).mkdir()
    assert f"{FIRST.file}: not a file" in inside("learn").output
    assert inside("learn", "check", "--all").status == 1
    if hasattr(os, "mkfifo"):
        Path(FIRST.file).rmdir()
        os.mkfifo(FIRST.file)
        assert inside("learn", "list").status == 0
        assert f"{FIRST.file}: not a file" in inside("learn").output


@pytest.mark.skipif(sys.platform != "linux", reason="its /proc is looked at")
def test_ctrl_c_leaves_nobody_behind(inside: Cli) -> None:
    """Endless loops in all files, none of which need be waited for."""
    for exercise in EXERCISES:
        text = exercise.unsolved.replace("raise NotImplementedError", "import os, time; time.sleep(10**6)")
        Path(exercise.file).write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "handgrad", "learn", "check", "--all"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (children := children_of(process.pid)):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.wait(60)
    finally:
        process.kill()
    for _ in range(600):
        if not any(map(is_running, children)):
            return
        time.sleep(0.1)
    raise AssertionError(f"still running: {children}")


def is_running(process: int) -> bool:
    """Whether it is there, and not only its entry, which somebody has yet to collect."""
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False


def children_of(process: int) -> list[int]:
    found = [path.read_text(encoding="utf-8") for path in Path(f"/proc/{process}/task").glob("*/children")]
    return [int(child) for line in found for child in line.split()]


def test_reset(inside: Cli) -> None:
    Path(SECOND.file).write_text("mine", encoding="utf-8")
    result = inside("learn", "reset", "linear")
    assert result.status == 0
    assert Path("kept/ex02_linear.py.1").read_text(encoding="utf-8") == "mine"
    assert Path(SECOND.file).read_text(encoding="utf-8") == SECOND.unsolved
    assert inside("learn", "reset").status == 2


def test_train(inside: Cli) -> None:
    result = inside("learn", "train")
    assert result.status == 1
    assert "linear" in result.errors
    solve(*(exercise.name for exercise in EXERCISES))
    result = inside("learn", "train", "--steps", "20")
    assert result.status == 0, result.errors
    assert "Your gradients of all 27 tensors" in result.output
    assert "step 20/20" in result.output
    assert inside("learn", "train", "--steps", "1").status == 0
    assert Path("gpt.2").is_dir()  # the first one is not touched
    assert inside("generate", "gpt", "--prompt", "The ", "--tokens", "5", "--seed", "0").output.startswith("The ")


class TestWatch:
    def start(self) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "handgrad", "learn", "watch"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            env=os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "COLUMNS": "100"},
            start_new_session=True,
        )
        timer = threading.Timer(300, process.kill)  # so that a failure does not wait for ever
        timer.daemon = True
        timer.start()
        return process

    def until(self, process: "subprocess.Popen[str]", text: str) -> str:
        assert process.stdout is not None
        seen = ""
        for line in process.stdout:
            seen += line
            if text in line:
                return seen
        raise AssertionError(f"{text!r} did not come:\n{seen}")

    def test_what_is_typed(self, inside: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        typed: queue.SimpleQueue[str] = queue.SimpleQueue()
        monkeypatch.setattr("handgrad.cli.learn.watch.lines_typed", lambda _: typed)
        for line in ("hint", "nonsense", "list", "check", "quit"):
            typed.put(f"{line}\n")
        result = inside("learn", "watch")
        assert result.status == 0
        assert "hint 1 of 3" in result.output
        assert "Type hint, list, check or quit" in result.output
        assert result.output.count("ex29_accumulation.py") == 1
        assert result.output.count("Write chain_rule_backward") == 2

    @pytest.mark.skipif(sys.platform == "win32", reason="its Ctrl-C is another")
    def test_it_follows_what_is_saved(self, inside: Cli) -> None:
        process = self.start()
        try:
            self.until(process, "0 of 29")
            Path(FIRST.file).write_text(with_mistake(FIRST.solved, FIRST.mistakes[0]), encoding="utf-8")
            assert FIRST.mistakes[0].why.split(":")[0] in " ".join(self.until(process, "0 of 29").split())
            solve("chain_rule")
            seen = self.until(process, "1 of 29")
            assert "✓" in seen
            assert f"Next: open {SECOND.file}" in seen
            solve("softmax")  # another one than the next
            assert "ex10_softmax.py" in self.until(process, "2 of 29")
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.communicate()

    def test_it_ends_with_the_course(self, inside: Cli) -> None:
        solve(*(exercise.name for exercise in EXERCISES))
        assert inside("learn", "check", "--all").status == 0
        assert "All 29 exercises have passed" in inside("learn", "watch").output


class TestGrade:
    @pytest.fixture
    def folders(self, cli: Cli) -> list[str]:
        """Three students: one has all, one a few, and one has deleted files."""
        for name in ("anna", "ben [red]x", "cleo"):
            cli("learn", "start", name)
        for exercise in EXERCISES[:4]:
            Path("anna", exercise.file).write_text(exercise.solved, encoding="utf-8")
        for name in ("ben [red]x", "cleo"):
            Path(name, SECOND.file).write_text(with_mistake(SECOND.solved, SECOND.mistakes[0]), encoding="utf-8")
        Path("cleo", FIRST.file).write_bytes(b"\xff")
        Path("cleo", THIRD.file).unlink()
        return ["anna", "ben [red]x", "cleo"]

    def test_side_by_side(self, cli: Cli, folders: list[str]) -> None:
        before = {path: path.read_bytes() for path in Path().glob("*/*")}
        only = "chain_rule,linear,3,broadcasting"
        result = cli("learn", "grade", *folders, "--only", only, "--json", "all.json", "--csv", "all.csv")
        assert result.status == 0, result.errors
        lines = result.output.splitlines()
        assert any(line.startswith("anna") and "4/4" in line and "✓✓✓✓" in line for line in lines)
        assert any(line.startswith("ben [red]x") and "0/4" in line and "·✗··" in line for line in lines)
        assert f"2× linear {SECOND.mistakes[0].name}" in " ".join(result.output.split())
        assert {path: path.read_bytes() for path in Path().glob("*/*")} == before
        found = json.loads(Path("all.json").read_text(encoding="utf-8"))
        assert found["folders"]["anna"]["passed"] == 4
        cleo = found["folders"]["cleo"]["exercises"]
        assert cleo["linear"]["mistake"] == SECOND.mistakes[0].name
        assert SECOND.mistakes[0].why in cleo["linear"]["message"]
        assert cleo["chain_rule"]["kind"] == "unreadable"
        assert cleo["bias"] == {"state": "missing"}
        rows = list(csv.DictReader(Path("all.csv").read_text(encoding="utf-8").splitlines()))
        assert [row["folder"] for row in rows] == folders
        assert rows[1]["linear"] == f"wrong: {SECOND.mistakes[0].name}"
        assert rows[0] | {"folder": ""} == {"folder": "", "passed": "4", "of": "4"} | dict.fromkeys(
            ("chain_rule", "linear", "bias", "broadcasting"), "passed"
        )

    def test_a_failure_of_ours_costs_one_grade(
        self, cli: Cli, folders: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(*_: object) -> None:
            raise ZeroDivisionError("ours")

        monkeypatch.setattr(sys.modules["handgrad.learn.grading.grade"], "diagnose", fails)
        result = cli("learn", "grade", *folders, "--only", "chain_rule,linear", "--csv", "c")
        assert result.status == 0
        rows = [line.split(",") for line in Path("c").read_text(encoding="utf-8").splitlines()]
        assert rows[1][3:] == ["passed", "passed"]
        assert rows[2][3:] == ["unwritten", "wrong: grader"]

    def test_what_is_odd_costs_no_other_grade(self, cli: Cli, folders: list[str]) -> None:
        """Markup and characters that cannot be written, in names and in messages; a file, and an empty folder."""
        Path("a[").mkdir()
        odd = Path("a[", "].d")
        odd.mkdir()
        code = FIRST.unsolved.replace("raise NotImplementedError", 'raise ValueError("[/x] \\ud800")')
        (odd / FIRST.file).write_text(code, encoding="utf-8")
        Path("empty").mkdir()
        Path("notes.txt").write_text("x", encoding="utf-8")
        arguments = [str(odd), "anna", "./anna", "empty", "notes.txt", "--only", "1,1", "--json", "j", "--csv", "c"]
        result = cli("learn", "grade", *arguments)
        assert result.status == 0, result.errors
        assert "left out: notes.txt is not a folder" in result.output
        found = json.loads(Path("j").read_text(encoding="utf-8"))["folders"]
        assert list(found) == [str(odd), "anna", "empty"]
        assert "[/x] \\ud800" in found[str(odd)]["exercises"]["chain_rule"]["message"]
        assert found["empty"]["exercises"] == {"chain_rule": {"state": "missing"}}
        assert len(Path("c").read_text(encoding="utf-8").splitlines()) == 4

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["anna", "--json", "nowhere/x"], "--json: 'nowhere/x' is no place for a file"),
            (["anna", "--csv", "."], "--csv: '.' is no place for a file"),
            (["anna", "--csv", "x", "--json", "x"], "--csv: x is that of --json, too"),
            (["nowhere"], "nowhere: no such folder"),
            (["."], "there are no exercises in it"),
            (["anna", "--only", "nonsense"], "no exercise 'nonsense'"),
            (["anna", "--only", ","], "--only"),
        ],
    )
    def test_bad_input(self, cli: Cli, folders: list[str], arguments: list[str], said: str) -> None:
        result = cli("learn", "grade", *arguments)
        assert result.status == 2
        assert said in result.errors


def test_nothing_is_left_behind(inside: Cli, tmp_path: Path) -> None:
    """No temporary file, and no process, after a reader's code was ended."""
    above, marker, _ = FIRST.unsolved.partition(YOURS)
    number = f"3217.{os.getpid()}"  # nobody else's
    code = f"{above}{marker}:\n    import subprocess\n    subprocess.Popen(['sleep', '{number}'])\n    return 1\n"
    Path(FIRST.file).write_text(code, encoding="utf-8")
    assert inside("learn").status == 1
    assert {path.name for path in Path().iterdir()} == {
        *(exercise.file for exercise in EXERCISES),
        "README.md",
        "progress.json",
        ".progress.json.lock",
    }
    if shutil.which("pgrep"):
        time.sleep(0.2)
        assert subprocess.run(["pgrep", "-f", f"sleep {number}"], check=False, capture_output=True).returncode == 1
