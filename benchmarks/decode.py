"""Tokens one after the other, with keys and values kept: one text, or several at once."""

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from handgrad.model import initial_parameters, tensors_to_bytes

from .plan import WEIGHTS, Turn, write_plan
from .sizes import Size

CONTENDERS = {
    "handgrad": "benchmarks.with_handgrad:decode",
    "PyTorch eager": "benchmarks.with_torch:decode",
}
AGREE = 0.01
"""The share of tokens that may differ: where two are all but equally likely, rounding decides, and what follows."""


def prepare(folder: Path, size: Size, batch: int, threads: int) -> None:
    """The same weights for all; each begins with token 0, takes the likeliest token, and fills the context."""
    (folder / WEIGHTS).write_bytes(tensors_to_bytes({"": initial_parameters(size.model)}))
    write_plan(folder, model=size.model.to_dict(), batch=batch, tokens=size.model.context, threads=threads)


def difference(turns: Mapping[str, list[Turn]]) -> float | None:
    """The largest share of tokens that two contenders chose differently."""
    chosen = [np.array([turn["chosen"] for turn in played]) for played in turns.values()]
    found = [(one != other).mean() for one, other in itertools.combinations(chosen, 2)]
    return float(np.max(found)) if found else None
