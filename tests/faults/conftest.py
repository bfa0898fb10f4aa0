"""A text, the run that was never broken off, the command line in this process, and chance."""

import os
import random
import secrets
from pathlib import Path
from typing import NamedTuple

import jaxtyping
import pytest

from ..cli.conftest import cli
from . import OPTIONS, essence, start

__all__ = ["cli"]
TEXT = "the cat sat on the mat, and the dog lay by the log.\n" * 30


class Unbroken(NamedTuple):
    """A run that the command made in one go."""

    run: Path
    essence: dict[str, bytes]
    begin: list[str]
    """What begins it: the arguments but for --out."""


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the processes that are started; and shapes are checked elsewhere."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    monkeypatch.setattr("handgrad.training.run.SAMPLE_TOKENS", 20)
    monkeypatch.setattr("handgrad.training.run.loss_plot", lambda entries, title: b"")


@pytest.fixture
def generator() -> random.Random:
    seed = int(os.environ.get("HANDGRAD_SEED", secrets.randbelow(1 << 32)))
    print(f"HANDGRAD_SEED={seed} draws the same again")
    return random.Random(seed)


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    folder = tmp_path_factory.mktemp("unbroken")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    begin = ["train", "--data", str(folder / "text.txt"), *OPTIONS]
    output, errors = start(*begin, "--out", "run", folder=folder).communicate()
    assert errors == "", output
    return Unbroken(folder / "run", essence(folder / "run"), begin)
