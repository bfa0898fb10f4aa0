"""handgrad info: what a model is, and how it came to be."""

import re
import shutil
from pathlib import Path

import pytest

import handgrad
from handgrad.machine import keep_freed_memory
from handgrad.training import read_metrics

from .conftest import TINY, Cli, Result, settings


def sections(result: Result) -> dict[str, dict[str, str]]:
    """The first two columns of each table, by its title."""
    assert (result.status, result.errors) == (0, "")
    tables = [table.splitlines() for table in result.output.strip().split("\n\n")]
    return {
        title.strip(): {name: rest[0] for name, *rest in (re.split(r"  +", row.strip()) for row in rows) if rest}
        for title, *rows in tables
    }


def test_the_parts_of_a_model_add_up(cli: Cli, trained: Path) -> None:
    """On a run, on its best weights and the fresh ones, and on a copy of the best elsewhere."""
    shutil.copytree(trained / "best", "bare")
    folders = (trained, trained / "best", trained / "kept" / "0", Path("bare"))
    found = {str(folder): sections(cli("info", folder)) for folder in folders}
    for name, tables in found.items():
        architecture, counts, decode, train, process, *training = tables.values()
        assert process["malloc"] == keep_freed_memory()
        assert next(iter(tables)) == f"{name}: architecture"
        assert (architecture["layers"], architecture["width"], architecture["residual"]) == ("1", "8", "true")
        numbers = {part: int(count.replace(",", "")) for part, count in counts.items()}
        total = numbers.pop("all")
        assert sum(numbers.values()) == total == handgrad.load(name).parameters.flat.size
        assert {"token embedding", "position embedding", "attention", "feed_forward", "norms", "head"} == set(numbers)
        for table, first in ((decode, "weights"), (train, "weights")):
            sizes = {part: float(size.removesuffix(" MB")) for part, size in table.items()}
            assert sizes[first] == pytest.approx(4 * total / 1e6, abs=0.005)
            assert sizes.pop("all") == pytest.approx(sum(sizes.values()), abs=0.025)
        assert bool(training) == name.startswith(str(trained))
    made = settings(trained)
    assert f"Memory to train with batches of {made['batch']} × {made['context']}" in found[str(trained)]


def test_a_run_tells_how_it_came_to_be(cli: Cli, trained: Path, finished: Path) -> None:
    entries = [entry for entry in read_metrics(trained) if "validation_loss" in entry]
    best = min(entries, key=lambda entry: float(entry["validation_loss"]))
    training = sections(cli("info", trained))["Training"]
    assert training["steps"] == "30 of 30"
    assert training["tokenizer"] == "chars"
    assert training["preset"] == "default"
    assert training["made by"].startswith("handgrad ")
    assert training["validation loss, last"].startswith(f"{entries[-1]['validation_loss']:.3f} nats, ")
    assert training["validation loss, best"].startswith(f"{best['validation_loss']:.3f} nats, ")
    assert str(finished / "text.txt")[:40] in cli("info", trained).output


def test_a_tokenizer_that_was_there_is_told_in_words(cli: Cli, trained: Path, text: Path) -> None:
    assert cli("data", "prepare", text, "--out", "prepared", "--tokenizer", "bytes").status == 0
    for source, run, told in (
        (["--data", "prepared", *TINY], "a", "that of the prepared data"),
        (["--init", trained, "--data", text, "--steps", "1"], "b", "that of the model"),
    ):
        assert cli("train", *source, "--out", run).status == 0
        assert sections(cli("info", run))["Training"]["tokenizer"] == told


def test_a_run_without_metrics_can_be_looked_at(cli: Cli, trained: Path) -> None:
    """Its step is the checkpoint's."""
    (trained / "metrics.jsonl").unlink()
    for folder, step in ((trained, 30), (trained / "previous", 20)):
        training = sections(cli("info", folder))["Training"]
        assert training["steps"] == f"{step} of 30"
        assert "validation loss, last" not in training
