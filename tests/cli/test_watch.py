"""handgrad watch: a run, from another terminal."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock

from handgrad.training import read_metrics

from .conftest import Cli, line


def interrupt(run: Path, until: int) -> None:
    """Leave of the metrics what a run had told by then."""
    path = run / "metrics.jsonl"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True)[:until]))


def test_a_complete_run_is_told_in_lines(cli: Cli, trained: Path) -> None:
    for options in ([], ["--once"], ["--every", "0.1"]):
        result = cli("watch", trained, *options)
        assert (result.status, result.errors) == (0, "")
        *evaluations, last = result.output.splitlines()
        assert [line.split("  loss ")[0] for line in evaluations] == ["step 10/30", "step 20/30", "step 30/30"]
        loss, entries = np.nan, iter(read_metrics(trained))
        for told in evaluations:
            for entry in entries:
                loss = entry["loss"] if np.isnan(loss) else 0.9 * loss + 0.1 * entry["loss"]
                if "sample" in entry:
                    break
            assert told.endswith(f"loss {loss:.3f}  validation {entry['validation_loss']:.3f}")
        assert re.fullmatch(r"complete: 30 steps in 0:00:\d\d", last)


def test_one_look_has_no_seconds_to_the_next(cli: Cli, trained: Path) -> None:
    assert line(cli("watch", trained, "--once", "--every", "2")) == "--every: not with --once, which looks once"


def test_an_interrupted_run_says_where_it_stands_and_how_to_go_on(cli: Cli, trained: Path) -> None:
    interrupt(trained, 14)
    result = cli("watch", trained)
    *evaluations, last = result.output.splitlines()
    assert (result.status, len(evaluations)) == (0, 1)
    assert last.startswith("not running: stands at step 14 of 30; handgrad train --resume")
    (trained / "metrics.jsonl").unlink()
    assert cli("watch", trained, "--once").output.startswith("not running: stands at step 0 of 30")


def test_a_live_run_says_how_fast_it_is_and_what_is_left(
    cli: Cli, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("handgrad.cli.watch.time")  # who looks once does not wait
    interrupt(trained, 14)
    with FileLock(trained / ".lock"):
        result = cli("watch", trained, "--once")
        assert result.status == 0
        last = result.output.splitlines()[-1]
        assert re.fullmatch(r"training: step 14 of 30, [\d,]+ tokens/s, \d:\d\d:\d\d left", last)
        interrupt(trained, 0)
        assert cli("watch", trained, "--once").output == "training: has not finished a step of 30 yet\n"


@pytest.mark.parametrize("field", ["seconds", "loss", "tokens_per_second", "validation_loss"])
def test_watch_shows_any_finite_number(field: str, cli: Cli, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged line may have it."""
    path = trained / "metrics.jsonl"
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    for entry, number in zip(entries[-4:], (-1e308, 1e308, 1e300, 1e308), strict=True):
        entry[field] = number
        entry["step"] += 10**15 * (field == "seconds")
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    for terminal in (False, True):
        monkeypatch.setattr("rich.console.Console.is_terminal", terminal)
        result = cli("watch", trained, "--once")
        assert (result.status, result.errors) == (0, "")
        assert result.output


def test_watching_ends_with_the_run_and_tells_each_evaluation_once(
    cli: Cli, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = trained / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    interrupt(trained, 5)
    lock = FileLock(trained / ".lock")
    written, waited = 5, []

    def meanwhile(seconds: float) -> None:
        """What the run does while the watcher sleeps: four updates at a time, and then it lets go."""
        nonlocal written
        waited.append(seconds)
        assert len(waited) < 20
        with path.open("a") as file:
            file.writelines(lines[written : written + 4])
        written += 4
        if written >= len(lines):
            lock.release()

    monkeypatch.setattr("handgrad.cli.watch.time", SimpleNamespace(sleep=meanwhile))
    lock.acquire()
    try:
        result = cli("watch", trained, "--every", "0.25")
    finally:
        lock.release()
    assert result.status == 0
    assert [line.split("  ")[0] for line in result.output.splitlines()[:-1]] == [
        "step 10/30",
        "step 20/30",
        "step 30/30",
    ]
    assert result.output.splitlines()[-1].startswith("complete: 30 steps")
    assert waited == [0.25] * 7


def test_a_terminal_is_shown_a_picture(cli: Cli, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    for until in (30, 12, 1, 0):
        interrupt(trained, until)
        result = cli("watch", trained, "--once")
        assert (result.status, result.errors) == (0, "")
        plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", result.output).rpartition("\r")[2]  # drawn again and again
        entries = [entry for entry in read_metrics(trained) if "sample" in entry]
        best = min((entry["validation_loss"] for entry in entries), default=None)
        assert str(trained) in plain
        assert len(re.findall(r"loss  [▁▂▃▄▅▆▇█]+  \d\.\d{3}", plain)) == (until > 0)
        assert len(re.findall(r"\d\.\d{3} +best", plain)) == len(re.findall(r"validation loss", plain)) == bool(entries)
        if best is not None:
            assert re.search(rf"{best:.3f} +\d\.\d{{3}} +best", plain)
            assert entries[-1]["sample"].splitlines()[0].strip() in plain


def test_what_is_not_a_run_cannot_be_watched(cli: Cli, trained: Path, text: Path) -> None:
    for folder in (trained / "best", Path("nowhere"), text):
        assert line(cli("watch", folder)) == f"{folder}: holds no run (training.json is missing)"
