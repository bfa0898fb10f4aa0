"""What all contenders of a benchmark are given: a folder with settings, weights and tokens."""

import json
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

PLAN, WEIGHTS, TOKENS, BATCHES = "plan.json", "model.safetensors", "tokens.npy", "batches.npy"
HELD_OUT = "held_out.npy"

Turn = dict[str, Any]
"""What a contender tells of its turn: `seconds`, `peak` (bytes), and what else its benchmark asks for."""


class AbsentError(Exception):
    """A contender takes no part, since what it needs is not there."""


def write_plan(folder: Path, **settings: Any) -> None:
    (folder / PLAN).write_text(json.dumps(settings), encoding="utf-8")


def read_plan(folder: Path) -> SimpleNamespace:
    """The settings by name; `model` and `training` are again settings by name."""
    text = (folder / PLAN).read_text(encoding="utf-8")
    plan: SimpleNamespace = json.loads(text, object_hook=lambda fields: SimpleNamespace(**fields))
    return plan


def attention_inputs(plan: SimpleNamespace) -> list[np.ndarray]:
    """q, k, v and dy, each (B, H, T, D): heads cut out of rows, as they are in a model."""
    generator = np.random.default_rng(0)
    shape = (plan.batch, plan.context, plan.heads, plan.width // plan.heads)
    return [generator.standard_normal(shape, np.float32).swapaxes(1, 2) for _ in range(4)]


def projections(arrays: Iterable[np.ndarray]) -> list[float]:
    """Of each on a random direction of its own, as a share of its norm."""
    generator = np.random.default_rng(1)
    return [float((x * generator.standard_normal(x.shape)).sum() / (np.linalg.norm(x) or 1)) for x in arrays]


def schedule(steps: int, evaluations: int, part: float) -> tuple[int, set[int]]:
    """The first part of a run's steps, and those of them that are followed by an evaluation; the last one always is."""
    made = max(1, round(steps * part))
    return made, {round(steps * n / evaluations) for n in range(1, evaluations + 1)} & set(range(made)) | {made}
