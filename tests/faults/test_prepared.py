"""Preparing that is killed at random moments, and disks that are full meanwhile."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from handgrad import files
from handgrad.training.prepared import make_plan, prepare, sections, writer

KILLS = int(os.environ.get("HANDGRAD_INTERRUPTS", "6"))
HURRY = (
    "from handgrad.training.prepared import sections, writer; "
    "sections.SECTION, sections.BATCH, writer.SHARD = 1 << 12, 1 << 11, 1 << 11; "
    "from handgrad.cli import main; main()"
)
"""The command line, with many small sections and shards."""
ROWS = 600


def begin(folder: Path, out: str) -> subprocess.Popen[str]:
    options = ["--tokenizer", "bpe", "--vocabulary", "300", "--held-out", "0.2", "--out", out]
    command = [sys.executable, "-c", HURRY, "data", "prepare", "texts", *options]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def write_texts(folder: Path, generator: random.Random) -> None:
    words = ["the", "cat", "sat", "größer", "漢字", "on\n", "a mat.\n\n", "dogs "]
    folder.mkdir()
    for name in ("a.txt", "c.txt"):
        (folder / name).write_text(" ".join(generator.choices(words, k=20_000)), encoding="utf-8")
    rows = [json.dumps({"text": " ".join(generator.choices(words, k=30))}) for _ in range(ROWS)]
    (folder / "b.jsonl").write_text("\n".join(rows), encoding="utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="a killed process's files stay locked for a while")
def test_preparing_that_is_killed_ends_with_the_same_bytes(tmp_path: Path, generator: random.Random) -> None:
    """At three moments each, then left to its end; $HANDGRAD_INTERRUPTS moments in all."""
    write_texts(tmp_path / "texts", generator)
    process = begin(tmp_path, "whole")
    wait_for_a_save(process, tmp_path / "whole", None)
    start = time.monotonic()
    _, errors = process.communicate()
    assert errors == "", errors
    took = time.monotonic() - start
    whole = contents(tmp_path / "whole")
    assert len(whole) > 20
    partly = 0
    for number in range(max(1, KILLS // 3)):
        out = tmp_path / f"out-{number}"
        for _ in range(3):
            before = saved_at(out)
            process = begin(tmp_path, out.name)
            wait_for_a_save(process, out, before)
            time.sleep(generator.uniform(0, 0.3 * took))
            process.kill()
            _, errors = process.communicate()
            assert errors == "", errors
            partly += bool(list(out.glob("training-*.npy"))) and not (out / "manifest.json").exists()
        _, errors = begin(tmp_path, out.name).communicate()
        assert errors == "", errors
        assert contents(out) == whole
    print(f"{partly} of {number * 3 + 3} kills fell between shards")
    assert partly


def saved_at(out: Path) -> int | None:
    """When the progress was last saved; None where there is none."""
    try:
        return (out / "progress.json").stat().st_mtime_ns
    except FileNotFoundError:
        return None


def wait_for_a_save(process: subprocess.Popen[str], out: Path, before: int | None) -> None:
    while process.poll() is None and saved_at(out) == before:
        time.sleep(0.001)


def test_a_full_disk_is_told_and_what_is_there_stays(
    tmp_path: Path, generator: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write of a shard is refused; the same command then ends with the same bytes."""
    write_texts(tmp_path / "texts", generator)
    monkeypatch.setattr(sections, "SECTION", 1 << 12)
    monkeypatch.setattr(writer, "SHARD", 1 << 12)
    real, left = files.write_atomically, [8]

    def refusing(path: Path, content: bytes) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(28, "No space left on device", str(path))
        real(path, content)

    def run(out: str) -> None:
        prepare(make_plan([str(tmp_path / "texts")], tmp_path / out, tokenizer="bytes", share=0.2), tmp_path / out)

    run("whole")
    monkeypatch.setattr(writer, "write_atomically", refusing)
    with pytest.raises(OSError, match="No space left on device"):
        run("again")
    assert (tmp_path / "again" / "progress.json").exists()
    assert list((tmp_path / "again").glob("training-*.npy"))
    run("again")
    assert contents(tmp_path / "again") == contents(tmp_path / "whole")
