"""What all contenders of a benchmark are given: a folder with settings, weights and tokens."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

PLAN, WEIGHTS, TOKENS, BATCHES = "plan.json", "model.safetensors", "tokens.npy", "batches.npy"


def write_plan(folder: Path, **settings: Any) -> None:
    (folder / PLAN).write_text(json.dumps(settings), encoding="utf-8")


def read_plan(folder: Path) -> SimpleNamespace:
    """The settings by name; `model` is another of the kind."""
    return json.loads((folder / PLAN).read_text(encoding="utf-8"), object_hook=lambda fields: SimpleNamespace(**fields))
