"""Real processes that are killed and that race, disks that are really full, bits that flip."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from handgrad.files import CHECKSUMS_FILE, PART
from handgrad.training import read_metrics
from handgrad.training.checkpoint import FILES, PREVIOUS, damage_of

STEPS, EVERY = 8, 2
"""Updates of a run, and how many there are between its evaluations."""
SETTINGS: dict[str, Any] = {
    "layers": 1,
    "heads": 2,
    "width": 8,
    "hidden": 12,
    "context": 8,
    "batch": 4,
    "shards": 1,
    "steps": STEPS,
    "evaluations": STEPS // EVERY,
    "learning_rate": 1e-2,
    "keep": True,
}
OPTIONS = [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={json.dumps(value)}")]
HURRY = (
    "import handgrad.training.run as run; run.SAMPLE_TOKENS, run.loss_plot = 20, lambda entries, title: b''; "
    "from handgrad.cli import main"
)
"""The command line, without what takes long: pictures, and long samples."""


def start(*arguments: str | Path, folder: Path) -> subprocess.Popen[str]:
    """Start a command in a process of its own."""
    command = [sys.executable, "-c", f"{HURRY}; main()", *map(str, arguments)]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def essence(run: Path) -> dict[str, bytes]:
    """The files of a run by name, but for those that show how long it took, and the checkpoint before the last."""
    paths = {str(path.relative_to(run)): path for path in run.rglob("*") if path.is_file()}
    others = ("metrics.jsonl", "loss.svg", ".lock")
    return {
        name: path.read_bytes()
        for name, path in paths.items()
        if name not in others and not name.startswith(PREVIOUS + os.sep)
    }


def require_same(run: Path, unbroken: dict[str, bytes], count: int = STEPS) -> None:
    """The run is complete, and has the bytes of one that was never broken off."""
    found = essence(run)
    different = sorted(name for name in found.keys() | unbroken.keys() if found.get(name) != unbroken.get(name))
    assert not different, different
    steps = [entry["step"] for entry in read_metrics(run)]
    assert steps == list(range(1, count + 1)), steps


def model_folders(run: Path) -> list[Path]:
    """Where a run keeps models: its own folder, and those within that are there by now."""
    within = [run / "best", run / PREVIOUS, *run.glob("kept/*")]
    return [run, *(folder for folder in within if folder.is_dir())]


def being_written(run: Path) -> set[str]:
    """What is there only while a model or a checkpoint is written: parts of files, folders without checksums."""
    found = set()
    for folder in model_folders(run):
        try:
            names = os.listdir(folder)  # noqa: PTH208 - the watched process leaves little time
        except FileNotFoundError:
            continue
        parts = [name for name in names if name.endswith(PART)]
        found |= {f"{folder}/{name}" for name in parts if name[1:].startswith((*FILES, CHECKSUMS_FILE))}
        if folder != run and CHECKSUMS_FILE not in names:
            found.add(str(folder))
    return found


def is_inside_a_write(run: Path) -> bool:
    """Whether a write was broken off: what it had begun is there, or checksums and files do not fit."""
    listed = [folder for folder in model_folders(run) if (folder / CHECKSUMS_FILE).exists()]
    return bool(being_written(run)) or any(damage_of(folder, ()) for folder in listed)


def flip_a_bit(path: Path, generator: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    path.write_bytes(content)
