"""The lifeline without MPI: processes that hold it, end with and without a goodbye, or never had the right word."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from handgrad.training.ranks import lifeline
from handgrad.training.ranks.lifeline import Lifeline

HOLD = """
import sys, time
from handgrad.training.ranks.lifeline import Lifeline
line = Lifeline((sys.argv[1], int(sys.argv[2]), sys.argv[3]), int(sys.argv[4]))
if sys.argv[4] == "0":
    line.advise("; go on\\n with  this")
print("here", flush=True)
for word in sys.stdin:
    if word == "goodbye\\n":
        line.close()
        break
    line.check()
    print("well", flush=True)
"""
SECRET = "word"


@contextmanager
def watching() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The process that watches, and its port."""
    command = [sys.executable, "-I", "-S", str(Path(lifeline.__file__)), "127.0.0.1", SECRET]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


@contextmanager
def holding(port: int, rank: int, secret: str = SECRET) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lifeline."""
    command = [sys.executable, "-c", HOLD, "127.0.0.1", str(port), secret, str(rank)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        try:
            yield process
        finally:
            process.kill()


def ask(process: subprocess.Popen[str]) -> str:
    """What a process says that looks at its lifeline; nothing where that ends it."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("look\n")
    process.stdin.flush()
    return process.stdout.readline()


def test_whoever_ends_without_a_goodbye_is_named_and_the_others_end() -> None:
    with watching() as (watch, port), holding(port, 0) as zero, holding(port, 1) as one, holding(port, 2) as two:
        assert [ask(each) for each in (zero, one, two)] == ["well\n"] * 3
        one.kill()
        assert watch.wait(30) == 0
        assert watch.stderr is not None
        host = socket.gethostname()
        assert watch.stderr.read() == (
            f"handgrad: rank 1 on {host} has ended before its time, so the others end too; go on with this\n"
        )
        assert [ask(zero), ask(two)] == ["", ""]
        assert [zero.wait(30), two.wait(30)] == [1, 1]


def test_after_all_goodbyes_nothing_is_said() -> None:
    with watching() as (watch, port), holding(port, 0) as zero, holding(port, 1) as one:
        for each in (zero, one):
            assert ask(each) == "well\n"
            each.communicate("goodbye\n", timeout=30)
        assert watch.wait(30) == 0
        assert watch.stderr is not None
        assert watch.stderr.read() == ""


def test_a_watch_that_is_killed_takes_nobody_along() -> None:
    with watching() as (watch, port), holding(port, 0) as zero:
        watch.kill()
        watch.wait(30)
        assert [ask(zero), ask(zero)] == ["well\n", "well\n"]


def test_a_stranger_is_not_listened_to() -> None:
    with watching() as (watch, port), holding(port, 0) as zero:
        with holding(port, 7, secret="guess") as stranger:
            stranger.kill()
        with socket.create_connection(("127.0.0.1", port)) as line:
            line.sendall(b"\xff" * 300)
        time.sleep(0.2)
        assert ask(zero) == "well\n"
        assert watch.poll() is None


def test_without_a_watch_a_rank_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for line in (Lifeline(None, 0), Lifeline(("127.0.0.1", port, SECRET), 0)):
        line.advise("nothing")
        line.check()
        line.close()
        assert line._line is None
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert lifeline.start_watching(on_one_machine=True) is None
