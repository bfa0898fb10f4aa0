"""`handgrad explore`: a file, what cannot be explored, and the live page until Ctrl-C."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

import handgrad
from handgrad.explorer.frames import read_frame

from .conftest import Cli, Result


@pytest.fixture(autouse=True)
def never_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process does ends before anything is served."""

    def run(*arguments: object, **options: object) -> None:
        pytest.fail("it serves")

    monkeypatch.setattr("uvicorn.Server.run", run)


def refusal(result: Result, status: int = 2) -> str:
    """The one line on standard error that says why nothing was done."""
    assert (result.status, result.output) == (status, "")
    assert re.fullmatch(r"handgrad: .+\n", result.errors)
    return result.errors.removeprefix("handgrad: ").rstrip("\n")


def answers_in(path: Path) -> dict[str, Any]:
    page = path.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="answers">(.*?)</script>', page)
    assert found
    return dict(json.loads(found[1]))


# one file


def test_a_run_is_written_as_one_file(cli: Cli, trained: Path) -> None:
    result = cli("explore", trained, "--text", "the cat", "--html", "page.html")
    size = Path("page.html").stat().st_size
    assert result == (0, f"page.html: {size / 1e6:,.1f} MB, trained\n", "")
    answers = answers_in(Path("page.html"))
    assert answers["pass"]["text"] == "the cat"
    expected = handgrad.trace(handgrad.load(trained), "the cat")
    assert answers["pass"]["loss"] == expected.loss
    assert answers["training"]["run"] == "trained"
    assert [each["name"] for each in answers["training"]["checkpoints"]] == ["0", "10", "20", "30", "best", "last"]


def test_a_damaged_run_s_checkpoint_before_is_shown_as_that(cli: Cli, trained: Path) -> None:
    content = (trained / "model.safetensors").read_bytes()
    (trained / "model.safetensors").write_bytes(content[:-1])
    result = cli("explore", trained, "--text", "the cat", "--html", "page.html")
    assert result.status == 0
    assert result.output.endswith(f", {trained}/previous\n")
    assert "; this is the checkpoint before it, trained/previous\n" in result.errors
    shown = answers_in(Path("page.html"))["pass"]
    assert shown["loss"] == handgrad.trace(handgrad.load(trained / "previous"), "the cat").loss
    assert (shown["title"], shown["checkpoint"], shown["step"]) == ("trained/previous", "", None)


def test_without_a_text_it_is_what_the_run_held_out(cli: Cli, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    path = finished / "page.html"
    assert cli("explore", "run", "--html", path).status == 0
    text = answers_in(path)["pass"]["text"]
    path.unlink()
    assert len(text) == 9  # the context and one more
    assert text in (finished / "text.txt").read_text()


def test_without_a_run_it_is_the_newest_or_a_fresh_model(cli: Cli, trained: Path) -> None:
    fresh = cli("explore", "--html", "fresh.html", "--text", "abc")
    assert (fresh.status, fresh.output.rpartition(", ")[2]) == (0, "a fresh model of the preset default\n")
    Path("runs").mkdir()
    trained.rename("runs/7")
    newest = cli("explore", "--html", "newest.html", "--text", "the")
    assert (newest.status, newest.output.rpartition(", ")[2]) == (0, "runs/7\n")
    named = cli("explore", "--preset", "tiny", "--html", "named.html", "--text", "abc")
    assert (named.status, named.output.rpartition(", ")[2]) == (0, "a fresh model of the preset tiny\n")


def test_the_seed_decides_the_weights(cli: Cli) -> None:
    losses = []
    for seed in (0, 0, 1):
        assert (
            cli("explore", "--preset", "tiny", "--text", "abc", "--html", "page.html", "--seed", str(seed)).status == 0
        )
        losses.append(answers_in(Path("page.html"))["pass"]["loss"])
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize(
    "arguments",
    [("trained",), ("trained/best",), ("trained/kept/10",), ("--preset", "tiny"), ("--preset", "tiny", "--seed", "3")],
)
def test_the_trace_of_the_same_pass_is_named(cli: Cli, trained: Path, arguments: tuple[str, ...]) -> None:
    text = "the cat" if arguments[0] != "--preset" else 'it\'s "$HOME" `x`\\ --'
    assert cli("explore", *arguments, "--text", text, "--html", "page.html").status == 0
    shown = answers_in(Path("page.html"))["pass"]
    handgrad_, *command = shlex.split(shown["trace_command"])
    assert handgrad_ == "handgrad"
    result = cli(*command)
    assert result.status == 0
    loss = load_file("trace.safetensors")["activations/loss"]
    assert loss == shown["loss"]


def test_what_is_too_large_for_the_file_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handgrad.explorer.export.LARGEST_TENSOR", 256 * 64 - 1)
    result = cli("explore", "--preset", "tiny", "--text", "abc", "--html", "page.html")
    assert result.status == 0
    assert "\ntoo large for the file, and left out: parameters/embedding.token, parameters/" in result.output


# what is refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trained", "--preset", "tiny"], "give a RUN, or --preset NAME for a fresh model: one of the two"),
        (["nowhere"], "nowhere: no such folder"),
        (["file"], "file: not a folder"),
        (["empty"], "empty: holds no model (config.json is missing)"),
        (["--preset", "huge"], "preset: there is no 'huge'; there are tiny, "),
        (["trained", "--text", ""], "the text has 0 tokens; from 2 to 9 can be shown"),
        (["trained", "--text", "a"], "the text has 1 token; "),
        (["trained", "--text", "the cat sat"], "the text has 11 tokens; from 2 to 9 can be shown"),
        (["trained", "--text", "the Cat"], "character 'C' (position 4) "),
    ],
)
@pytest.mark.parametrize("html", [True, False], ids=["file", "live"])
def test_what_cannot_be_explored_is_named(cli: Cli, trained: Path, html: bool, arguments: list[str], said: str) -> None:
    Path("file").write_text("")
    Path("empty").mkdir()
    result = cli("explore", *arguments, *(["--html", "page.html"] if html else ["--no-browser"]))
    assert refusal(result).startswith(said)
    assert sorted(path.name for path in Path().iterdir()) == ["empty", "file", "trained"]


def test_a_file_that_cannot_be_written_is_named(cli: Cli) -> None:
    tiny = ("explore", "--preset", "tiny", "--text", "abc", "--html")
    assert refusal(cli(*tiny, "nowhere/page.html")) == "nowhere/page.html: there is no folder nowhere"
    Path("folder").mkdir()
    assert refusal(cli(*tiny, "folder")) == "folder: is a folder, and no place for a file"
    assert [*Path().iterdir()] == [Path("folder")]


def test_an_option_that_would_change_nothing_is_refused(cli: Cli, trained: Path) -> None:
    assert refusal(cli("explore", trained, "--seed", "3")).startswith("--seed: the weights of trained are there; ")
    assert refusal(cli("trace", trained, "--text", "the", "--seed", "0")).startswith("--seed: the weights of trained ")
    tiny = ("explore", "--preset", "tiny", "--text", "abc")
    assert refusal(cli(*tiny, "--html", "page.html", "--port", "80")) == "--port: not with --html, which serves nothing"
    for option in ("--browser", "--no-browser"):
        said = refusal(cli(*tiny, "--html", "page.html", option))
        assert said == f"{option}: not with --html, which opens nothing"
    Path("runs").mkdir()
    trained.rename("runs/1")
    assert refusal(cli("explore", "--seed", "3")).startswith("--seed: the weights of runs/1 are there; ")


def test_a_trace_goes_where_a_file_can_be(cli: Cli) -> None:
    tiny = ("trace", "--preset", "tiny", "--text", "abc", "--out")
    assert refusal(cli(*tiny, "nowhere/x.safetensors")) == "nowhere/x.safetensors: there is no folder nowhere"
    Path("x.safetensors").mkdir()
    assert refusal(cli(*tiny, "x.safetensors")) == "x.safetensors: is a folder, and no place for a file"


def test_a_port_in_use_is_told(cli: Cli) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refusal(cli("explore", "--preset", "tiny", "--text", "abc", "--port", str(port), "--no-browser"))
    assert said == f"--port: {port}: address already in use"


@pytest.mark.parametrize("arguments", [["--port", "65536"], ["--port", "-1"], ["--seed", "-1"], ["--colour"]])
def test_options_that_are_wrong(cli: Cli, arguments: list[str]) -> None:
    result = cli("explore", "--preset", "tiny", *arguments)
    assert (result.status, result.output) == (2, "")
    assert arguments[0] in result.errors


WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

MISSING, sys.argv = sys.argv[1], ["handgrad", *sys.argv[2:]]
sys.meta_path.insert(0, Missing())
from handgrad.cli import main
main()
"""
"""The command line where this package is not installed."""


@pytest.mark.parametrize("missing", ["starlette", "uvicorn", "latex2mathml"])
def test_without_the_extra_one_line_says_what_to_install(missing: str) -> None:
    def without(*arguments: str) -> Result:
        command = [sys.executable, "-c", WITHOUT, missing, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return Result(done.returncode, done.stdout, done.stderr)

    said = refusal(without("explore", "--preset", "tiny", "--text", "abc"))
    extra = "which the explorer needs: python3 -m pip install 'handgrad[explore]'"
    assert re.fullmatch(rf"{missing}(\.\w+)* is missing, {re.escape(extra)}", said)
    assert without("info", "--help").status == 0
    declared = [each for each in requires("handgrad") or [] if re.search(r"extra == ['\"]explore['\"]", each)]
    assert any(re.match(rf"{missing}\b", each) for each in declared)


def test_help(cli: Cli) -> None:
    result = cli("explore", "--help")
    assert (result.status, result.errors) == (0, "")
    for option in ("RUN", "--preset", "--text", "--html", "--port", "--no-browser", "--seed"):
        assert option in result.output


# the live page


@contextmanager
def live(*arguments: str | Path, browser: str = "--no-browser", **environment: str) -> Iterator[tuple[Any, str, str]]:
    """The command as a process, the title that it tells, and its address."""
    command = [sys.executable, "-m", "handgrad", "explore", *map(str, arguments), browser]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=os.environ | environment)
    try:
        assert process.stdout is not None
        title, address, end = (process.stdout.readline().rstrip("\n") for _ in range(3))
        assert end == "Ctrl-C ends it"
        yield process, title, address
    finally:
        process.kill()
        process.communicate()


def ask(address: str, question: str, fields: dict[str, Any]) -> Any:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}ask/{question}", json.dumps(fields).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        return read_frame(response.read())


def test_the_live_page_until_ctrl_c(trained: Path) -> None:
    with live(trained, "--text", "the cat") as (process, title, address):
        assert title == "trained"
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{22}/", address)
        with urllib.request.urlopen(address, timeout=30) as response:
            assert response.status == 200
            assert b"handgrad explorer" in response.read()
        shown = ask(address, "pass", {}).header
        assert shown["loss"] == handgrad.trace(handgrad.load(trained), "the cat").loss
        assert (shown["text"], shown["checkpoint"], shown["step"]) == ("the cat", "last", 30)
        assert ask(address, "training", {}).header["run"] == "trained"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == ("", "")
        assert process.returncode == 0
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address, timeout=30)


def test_ctrl_c_amid_work_ends_it_too() -> None:
    """A long question is given up; whoever asked it is told."""
    said: list[tuple[int, Any]] = []

    def wait() -> None:
        try:
            ask(address, "flow", {"layers": 48, "text": "x" * 64})
        except urllib.error.HTTPError as error:
            said.append((error.code, json.loads(error.read())))

    with live("--preset", "default", "--text", "x" * 64) as (process, _, address):
        asking = threading.Thread(target=wait)
        asking.start()
        with urllib.request.urlopen(address, timeout=30):
            pass
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        asking.join()
        assert process.returncode == 0
        assert "Traceback" not in errors
        assert said in ([], [(503, {"error": "the explorer has ended"})])


def test_the_port_is_the_one_that_was_asked_for_and_the_browser_opens_it(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program, enough = tmp_path / "browser", tmp_path / "enough"
    told = f'echo "$1" > {tmp_path}/told\nmv {tmp_path}/told {tmp_path}/opened'
    waiting = f"for n in $(seq 1200); do [ -e {enough} ] && exit; sleep 0.05; done"  # and does not come back before
    program.write_text(f"#!/bin/sh\n{told}\n{waiting}\n")
    program.chmod(0o755)
    arguments = ("--preset", "tiny", "--text", "abc", "--port", str(port))
    with live(*arguments, browser="--browser", BROWSER=f"{program} %s") as (process, title, address):
        try:
            assert title == "a fresh model of the preset tiny"
            assert address.startswith(f"http://127.0.0.1:{port}/")
            end = time.monotonic() + 20
            while not (tmp_path / "opened").exists():
                assert time.monotonic() < end
                time.sleep(0.01)
            assert (tmp_path / "opened").read_text().strip() == address
            assert ask(address, "token", {"token": "a"}).header == {"token": 97}
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20) == 0
        finally:
            enough.touch()
        _, errors = process.communicate(timeout=30)
        assert "Traceback" not in errors
