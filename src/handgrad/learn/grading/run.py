"""Starts a reader's code in a process of its own, under limits, and tells what became of it."""

import ast
import contextlib
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from ...errors import HandgradError, counted
from ...files import naming
from ...layers import Array
from ...proof.tensor_files import read_npz
from ..exercise import FOLDER, Exercise, Question, read_solved

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
CHILD = Path(__file__).with_name("child.py")
STARTING = 50.0
"""Seconds more, in which Python and NumPy start on a machine that does other things."""
WRITTEN_MEGABYTES = 64
PRINTED = 4000
"""Characters of what a reader's code prints that are kept, the first ones."""


class Limits(NamedTuple):
    """What a reader's code may take: seconds for all questions together, and megabytes beside what Python has."""

    seconds: float = 10.0
    megabytes: int = 2048


LIMITS = Limits()


class Outcome(NamedTuple):
    """What became of a reader's file."""

    answers: list[Any] | None
    """What the function returned for each question; None where there is a problem."""
    touched: list[dict[str, Any] | None]
    """For each question, the argument that it wrote to."""
    problem: dict[str, Any]
    """What went wrong: its kind as `problem`, and what there is to say of it."""
    printed: str
    changed: list[str]
    """The forwards of the file that are no longer there as they were given."""


@dataclass(frozen=True)
class Other:
    """What is no number, no array, and no tuple, list or dict of these."""

    kind: str


def run(exercise: Exercise, source: str, questions: Sequence[Question], limits: Limits) -> Outcome:
    """Ask the function of a reader's file all questions."""
    task = {
        "module": exercise.module,
        "function": exercise.function,
        "source": source,
        "complex": exercise.complex_numbers,
        "earlier": {name: text for name, text in all_solved().items() if name < exercise.module},
        "forwards": given_forwards(exercise.module),
        "questions": [question.arguments for question in questions],
        "seconds": limits.seconds,
        "megabytes": limits.megabytes,
        "written_megabytes": WRITTEN_MEGABYTES,
    }
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with naming(folder / "task"):
            (folder / "task").write_bytes(pickle.dumps(task))
        with (folder / "printed").open("wb") as printed:
            status = _run_child(folder, printed, limits.seconds + STARTING)
        return outcome_in(folder, exercise, len(questions), status, limits)


def outcome_in(folder: Path, exercise: Exercise, count: int, status: int | None, limits: Limits) -> Outcome:
    """What a reader's process left in its folder, asked so many questions; `status` is that in which it ended, None
    where it took too long."""
    text = _beginning(folder / "printed")
    if answer := _answer_in(folder):
        try:
            return _told(answer, folder / "answer.npz", count, text)
        except (HandgradError, KeyError, TypeError, AttributeError) as error:  # the reader's code can write it, too
            raise HandgradError(f"{exercise.file}: what its process answered cannot be read: {error!r}") from None
    if not (folder / "stuck").exists():  # it did not come to the reader's code
        why = next(iter(text.splitlines()[-1:]), f"status {status}")
        raise HandgradError(f"the process that runs your code could not be started: {why}")
    return Outcome(None, [], _ended(status, _beginning(folder / "stuck"), exercise.file, limits), text, [])


def _beginning(path: Path) -> str:
    """The first characters of a text, which the reader's code may have removed."""
    try:
        with path.open("rb") as file:
            text = file.read(4 * PRINTED).decode(errors="replace")
    except OSError:
        return ""
    return text if len(text) <= PRINTED else text[:PRINTED] + " ... (cut)"


def _told(answer: dict[str, Any], arrays_file: Path, count: int, printed: str) -> Outcome:
    """What the process wrote down."""
    answers = None
    if "answers" in answer:
        arrays = read_npz(arrays_file)
        answers = [_decoded(each["returned"], arrays) for each in answer["answers"]]
        if len(answers) != count:
            raise HandgradError(f"{counted(len(answers), 'answer')} to {counted(count, 'question')}")
    touched = [each["touched"] for each in answer.get("answers", [])]
    changed = [str(name) for name in answer.get("changed", [])]
    return Outcome(answers, touched, answer if "problem" in answer else {}, printed, changed)


def start(script: Path, *arguments: Path, **options: Any) -> "subprocess.Popen[Any]":
    """A script in a process and a session of its own, apart from the user's settings; `options` are those of `Popen`.

    Its last argument is where NumPy is: not always where Python looks by itself. It has one thread for its products:
    several exercises are graded side by side.
    """
    numpy = Path(np.__file__).parents[1]
    command = [sys.executable, "-I", "-u", "-X", "utf8", str(script), *map(str, (*arguments, numpy))]
    environment = os.environ | dict.fromkeys(THREADS, "1")
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment, start_new_session=True, **options)


@cache
def all_solved() -> dict[str, str]:
    """The solved texts by module."""
    return {path.stem: read_solved(path.stem) for path in sorted(FOLDER.glob("ex*.py"))}


@cache
def given_forwards(module: str) -> dict[str, str]:
    """The code of the forwards of an exercise, by name."""
    functions = (node for node in ast.parse(read_solved(module)).body if isinstance(node, ast.FunctionDef))
    return {node.name: ast.dump(node) for node in functions if node.name.endswith("_forward")}


_running: set["subprocess.Popen[Any]"] = set()


def _run_child(folder: Path, printed: IO[bytes], seconds: float) -> int | None:
    """The status in which the child ended; None where it took too long."""
    process = start(CHILD, folder, stdout=printed, stderr=subprocess.STDOUT, cwd=folder)
    _running.add(process)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        end(process)
        _running.discard(process)


def end(process: "subprocess.Popen[Any]") -> None:
    """Whatever is left of it, and, but for Windows, of what it started: its group, which outlives it."""
    if sys.platform == "win32":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def end_all() -> None:
    """All that are running, in other threads: their time need not be waited for."""
    for process in tuple(_running):
        end(process)


def _answer_in(folder: Path) -> dict[str, Any] | None:
    try:
        answer = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _decoded(value: dict[str, Any], arrays: Mapping[str, Array]) -> Any:
    if "array" in value:
        return arrays[value["array"]]
    if "items" in value:
        items = [_decoded(item, arrays) for item in value["items"]]
        return items if value["kind"] == "list" else tuple(items)
    if "dict" in value:
        return {name: _decoded(item, arrays) for name, item in value["dict"].items()}
    return Other(value["other"])


def _ended(status: int | None, stuck: str, file: str, limits: Limits) -> dict[str, Any]:
    """Why a process ended without an answer: its time was up, or it was no longer there."""
    line = next(iter(re.findall(rf'File "{re.escape(file)}", line (\d+)', stuck)), None)
    at = {"line": int(line)} if line else {}
    if status is None or "Timeout" in stuck:
        return {"problem": "time", "seconds": limits.seconds, **at}
    return {"problem": "crash", "how": f"with status {status}" if status >= 0 else f"by {_signal(-status)}", **at}


def _signal(number: int) -> str:
    try:
        return f"the signal {signal.Signals(number).name}"
    except ValueError:
        return f"signal {number}"
