"""Corpora of growing size: how fast they are prepared, and that training on them takes neither more memory nor time."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from handgrad.training import default_text

from .rounds import ContenderError

WORDS_AT_ONCE = 20_000
PREPARE, LIBRARY, TRAIN = "prepare", "library", "train"


class Row(NamedTuple):
    """Of one size; medians over the rounds."""

    megabytes: int
    learning: float
    """Seconds for the byte pairs."""
    rate: float
    """MB of text a second, tokenized and written to the disk."""
    library: float
    """MB a second of the tokenizer library alone, on the same pieces of the same text in memory."""
    prepare_peak: float
    """MB of the process's memory at most."""
    start: float
    """Seconds until the first step of training, without the imports."""
    step: float
    """Milliseconds."""
    evaluation: float
    """Seconds for the held-out text."""
    train_peak: float
    """MB."""


def write_text(path: Path, size: int, seed: int = 0) -> None:
    """So many bytes of sentences: the default text's words, each as often as there, in random order.

    One word in ten is made anew, out of the halves of two, so that the number of different words grows with the text,
    as it does in texts that people write.
    """
    words = np.array(default_text().split(), dtype=object)
    halves = [sorted({word[: len(word) // 2] for word in words}), sorted({word[len(word) // 2 :] for word in words})]
    generator, count = np.random.default_rng(seed), 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        while count < size:
            drawn = words[generator.integers(len(words), size=WORDS_AT_ONCE)]
            new = np.flatnonzero(generator.random(WORDS_AT_ONCE) < 0.1)
            pairs = (generator.integers(len(half), size=len(new)) for half in halves)
            drawn[new] = [halves[0][one] + halves[1][other] for one, other in zip(*pairs, strict=True)]
            ends = generator.choice([" ", ".\n", "\n\n"], size=WORDS_AT_ONCE, p=[0.91, 0.08, 0.01])
            text = "".join(word + end for word, end in zip(drawn, ends, strict=True))
            count += len(text.encode())
            file.write(text)


def measure(megabytes: int, rounds: int, folder: Path) -> Iterator[str | Row]:
    """What is being done, and at last the figures of one size."""
    yield "writing the text"
    text = folder / "text.txt"
    write_text(text, megabytes * 10**6)
    turns: dict[str, list[dict[str, Any]]] = {PREPARE: [], LIBRARY: [], TRAIN: []}
    for number in range(rounds):
        out = folder / f"prepared-{number}"
        for name in turns:
            yield f"{name}, round {number + 1} of {rounds}"
            turns[name].append(_in_a_process(name, text, out))

    def of(name: str, figure: str) -> float:
        return float(median(turn[figure] for turn in turns[name]))

    yield Row(
        megabytes,
        of(PREPARE, "learning"),
        of(PREPARE, "rate"),
        of(LIBRARY, "rate"),
        of(PREPARE, "peak"),
        of(TRAIN, "start"),
        of(TRAIN, "step"),
        of(TRAIN, "evaluation"),
        of(TRAIN, "peak"),
    )


def _in_a_process(name: str, text: Path, out: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.with_corpus", name, str(text), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ContenderError(f"{name}: status {done.returncode}: {done.stderr.strip()[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
