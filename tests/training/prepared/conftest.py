"""A text of many words, and a way to prepare it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handgrad.training.prepared import PreparedText, make_plan, prepare

WORDS = [
    *("the", "cat", "sat", "on", "a", "mat", "and", "dogs", "lay", "by", "12", "logs,"),
    *("größer", "(it's)", "漢字", "🐈", "x", "+=", "y[1:]", "Don't"),
]

Preparing = Callable[..., PreparedText]


def text_of(words: int, seed: int = 0) -> str:
    generator = np.random.default_rng(seed)
    ends = np.array([" ", " ", " ", " ", "\n", ".\n\n", "  ", "\t", " \n "])
    return "".join(
        WORDS[word] + str(ends[end])
        for word, end in zip(generator.integers(len(WORDS), size=words), generator.integers(9, size=words), strict=True)
    )


def text_files(folder: Path, *words: int) -> list[Path]:
    paths = [folder / f"{n}.txt" for n in range(len(words))]
    for seed, (path, count) in enumerate(zip(paths, words, strict=True)):
        path.write_text(text_of(count, seed), encoding="utf-8", newline="")
    return paths


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks, pieces, sections and shards so small that a short text has many."""
    for name, value in {
        "formats.BLOCK": 100,
        "formats.PACKED_BLOCK": 10,
        "sections.SECTION": 700,
        "sections.BATCH": 300,
        "stream.PIECE": 60,
        "stream.LONGEST_PIECE": 400,
        "tokenizing.AT_ONCE": 200,
        "writer.SHARD": 400,
    }.items():
        monkeypatch.setattr(f"handgrad.training.prepared.{name}", value)


@pytest.fixture
def preparing(tmp_path: Path) -> Preparing:
    """Prepare sources in a folder of their own."""

    def run(*sources: Path, out: str = "prepared", told: Any = lambda what, done: None, **options: Any) -> PreparedText:
        prepare(make_plan(list(map(str, sources)), tmp_path / out, **options), tmp_path / out, told)
        return PreparedText(tmp_path / out)

    return run
