"""What is promised of every input: a value or a clear refusal, in little memory."""

import time
import tracemalloc
import warnings
from pathlib import Path
from typing import NamedTuple

from handgrad.errors import HandgradError

from .readers import Reader
from .valid import Files, write

MULTIPLE = 64
"""Times the input's size is what reading it may take; `[]` alone is an object of 56 bytes in Python."""
LONGEST_LINE = 2000


class Outcome(NamedTuple):
    refusal: str | None
    """What was said; None where there is a value."""
    memory: int
    """Bytes of Python and NumPy at the most."""
    seconds: float


class Broken(AssertionError):
    """The promise."""


def read(reader: Reader, files: Files, folder: Path, measure: bool = True) -> Outcome:
    """Write the files, have them read, and see that the promise is kept. To measure takes time."""
    write(files, folder)
    if measure:
        tracemalloc.start()
    start = time.perf_counter()
    refusal = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            reader.read(folder)
    except HandgradError as error:
        refusal = str(error)
    finally:
        seconds = time.perf_counter() - start
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    size = sum(map(len, files.values()))
    if peak > MULTIPLE * size + reader.room:
        raise Broken(f"{peak:,} bytes of memory for an input of {size:,}")
    if refusal is not None:
        _require_clear(refusal)
    return Outcome(refusal, peak, seconds)


def _require_clear(refusal: str) -> None:
    lines = refusal.split("\n")
    if not all(line.strip() and line.isprintable() for line in lines):
        raise Broken(f"not clear: {refusal!r}")
    if longest := [line for line in lines if len(line) > LONGEST_LINE]:
        raise Broken(f"{len(longest[0]):,} characters are no clear line: {longest[0][:200]!r} ...")
