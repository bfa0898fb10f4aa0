"""A run that is interrupted at random moments, as by a user or a crash, and resumed each time."""

import hashlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from handgrad.training import read_metrics

INTERRUPTS = int(os.environ.get("HANDGRAD_INTERRUPTS", "4"))
STEPS = 4000
SETTINGS = {"layers": 1, "heads": 2, "width": 16, "hidden": 24, "context": 16, "batch": 4, "shards": 1}
TEXT = "the cat sat on the mat, and the dog lay by the log.\n" * 30
SAME = ("model.safetensors", "optimizer.safetensors", "best/model.safetensors", "training.json", "sample.txt")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send a signal to one process")
def test_a_run_interrupted_at_random_moments_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """By turns with SIGINT and SIGKILL; the count is $HANDGRAD_INTERRUPTS. Where a run is over, another begins."""
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    generator = random.Random()
    train(tmp_path, "unbroken").communicate()
    interrupts, runs = 0, ["run-1"]
    while interrupts < INTERRUPTS:
        process = train(tmp_path, runs[-1])
        try:
            process.communicate(timeout=generator.uniform(0.1, 2))
        except subprocess.TimeoutExpired:
            given = signal.SIGINT if interrupts % 2 else signal.SIGKILL
            interrupts += 1
            process.send_signal(given)
            _, errors = process.communicate()
            # 130: before there was anything to save; 0: it was ending anyway
            assert process.returncode in (0, 1, 130, -given), errors
        if process.returncode == 0:
            runs.append(f"run-{len(runs) + 1}")
    process = train(tmp_path, runs[-1])
    output, errors = process.communicate()
    assert (process.returncode, errors) == (0, ""), output
    for run in runs:
        for name in SAME:
            assert digest(tmp_path / run / name) == digest(tmp_path / "unbroken" / name), (run, name)
        assert kept(tmp_path / run) == kept(tmp_path / "unbroken"), run
        assert [entry["step"] for entry in read_metrics(tmp_path / run)] == list(range(1, STEPS + 1))


def train(folder: Path, run: str) -> subprocess.Popen[str]:
    """Begin the run, or go on with it where it has begun."""
    if (folder / run / "training.json").exists():
        arguments = ["--resume", run]
    else:
        settings = [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]
        arguments = ["--out", run, "--data", "text.txt", "--steps", str(STEPS), *settings]
    command = [sys.executable, "-m", "handgrad", "train", *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kept(run: Path) -> dict[Path, str]:
    return {path.relative_to(run): digest(path) for path in run.glob("kept/*/*")}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
