"""Tokens one after the other, with keys and values kept: one text, or several at once."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from handgrad.model import initial_parameters, tensors_to_bytes

from .plan import WEIGHTS, Turn, write_plan
from .rounds import Contest, largest
from .sizes import SIZES, Size

CONTENDERS = {
    "handgrad": "benchmarks.with_handgrad:decode",
    "PyTorch eager": "benchmarks.with_torch:decode",
}
AGREE = 0.01
"""The share of tokens that may differ: where two are all but equally likely, rounding decides, and what follows."""


def contest(name: str, batch: int, threads: int) -> Contest:
    return Contest(
        f"decode {name}, batch {batch}",
        CONTENDERS,
        partial(prepare, size=SIZES[name], batch=batch, threads=threads),
        difference,
        AGREE,
        "tokens",
        per_second=batch,
    )


FOLDER_CONTENDERS = {
    "handgrad": "benchmarks.with_handgrad:decode_folder",
    "transformers": "benchmarks.with_transformers:decode",
}
FOLDER_TOKENS = 200


def folder_contest(model: Path, batch: int, threads: int) -> Contest:
    """A real model, by `generate` of each: the likeliest token each time, from the one that begins a text."""
    plan: dict[str, Any] = {"source": str(model.resolve()), "batch": batch, "tokens": FOLDER_TOKENS, "threads": threads}
    return Contest(
        f"decode {model.name}, batch {batch}",
        FOLDER_CONTENDERS,
        partial(write_plan, **plan),
        difference,
        AGREE,
        "tokens",
        per_second=batch,
    )


def prepare(folder: Path, size: Size, batch: int, threads: int) -> None:
    """The same weights for all; each begins with token 0, takes the likeliest token, and fills the context."""
    (folder / WEIGHTS).write_bytes(tensors_to_bytes(initial_parameters(size.model)))
    write_plan(folder, model=size.model.to_dict(), batch=batch, tokens=size.model.context, threads=threads)


def difference(turns: Mapping[str, list[Turn]]) -> float | None:
    """The largest share of tokens that two contenders chose differently."""
    chosen = [np.array([turn["chosen"] for turn in played]) for played in turns.values()]
    return largest(lambda one, other: float((one != other).mean()), chosen)
