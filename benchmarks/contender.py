"""The child process of a contender: `python -m benchmarks.contender module:function FOLDER`.

It makes itself ready and says so, then answers each line that it reads with a turn, as a line of JSON.
"""

import importlib
import json
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

from .plan import AbsentError


def resident() -> tuple[int, int]:
    """The memory that this process holds, and the most that it held since `forget_peak`, in bytes."""
    try:
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(status["VmRSS"].split()[0]) * 1024, int(status["VmHWM"].split()[0]) * 1024
    except OSError:  # not Linux: the most since the beginning stands for both
        unit = 1 if sys.platform == "darwin" else 1024
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,) * 2


def forget_peak() -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears of it, and ends this
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is for people

    def answer(**content: object) -> None:
        print(json.dumps(content), file=answers, flush=True)

    function, folder = sys.argv[1:]
    module, _, name = function.partition(":")
    try:
        make_ready = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "transformers"):
            raise
        answer(absent=f"{error.name} is not installed")
        return
    libraries, _ = resident()
    try:
        turn = make_ready(Path(folder))
    except AbsentError as error:
        answer(absent=str(error))
        return
    answer(ready=True)
    for number, _line in enumerate(sys.stdin):
        result = turn()
        answer(**result, peak=resident()[1], libraries=libraries)
        if number == 0:
            forget_peak()  # reading weights, and compiling, are no part of a step


main()
