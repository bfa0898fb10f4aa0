"""What a run tells of itself: a line for each update, samples, and the picture of its losses."""

import json
import math
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.axes
import numpy as np
import pytest

from handgrad.training import Evaluation, Passage, Progress, follow_metrics, read_metrics
from handgrad.training.metrics import METRICS_FILE, Entry, Metrics, samples, to_entry
from handgrad.training.plot import POINTS, loss_plot

EVALUATION = Evaluation(1.5, Passage(np.arange(5), characters=4, bytes=4))


def entry(step: int, validation_loss: float | None = None) -> Entry:
    evaluation = None if validation_loss is None else EVALUATION._replace(loss=validation_loss)
    return to_entry(Progress(step, 3.0 / step, 0.5, 1e-3, 0.1 * step, 999.5, evaluation), f"sample {step}\nß")


def lines(entries: Sequence[Entry]) -> str:
    return "".join(json.dumps(each) + "\n" for each in entries)


def test_an_entry_is_the_progress() -> None:
    progress = Progress(3, 2.5, 0.5, 1e-3, 7.0, 99.0)
    assert to_entry(progress) == {
        "step": 3,
        "loss": 2.5,
        "gradient_norm": 0.5,
        "learning_rate": 1e-3,
        "seconds": 7.0,
        "tokens_per_second": 99.0,
    }
    assert to_entry(progress._replace(validation=EVALUATION), "what it\nwrites") == to_entry(progress) | {
        "validation_loss": 1.5,
        "bits_per_character": pytest.approx(1.5 / np.log(2)),
        "sample": "what it\nwrites",
    }


def test_entries_are_written_at_once_and_read_as_they_were(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, until=0)
    written = []
    for step in range(1, 6):
        metrics.append(entry(step, 1.0 if step == 4 else None))
        written.append(entry(step, 1.0 if step == 4 else None))
        assert read_metrics(tmp_path) == metrics.entries == written
    assert len((tmp_path / METRICS_FILE).read_text(encoding="utf-8").splitlines()) == 5


@pytest.mark.parametrize("until", [0, 1, 4, 9, 20])
def test_what_a_run_wrote_beyond_its_checkpoint_is_taken_back(until: int, tmp_path: Path) -> None:
    (tmp_path / METRICS_FILE).write_text(lines([entry(step) for step in range(1, 10)]))
    metrics = Metrics(tmp_path, until)
    expected = [entry(step) for step in range(1, min(until, 9) + 1)]
    assert metrics.entries == expected
    assert len(read_metrics(tmp_path)) == 9  # the file is as it was until there is something to tell
    metrics.append(entry(until + 1))
    assert read_metrics(tmp_path) == [*expected, entry(until + 1)]
    assert os.listdir(tmp_path) == [METRICS_FILE]  # noqa: PTH208


@pytest.mark.parametrize("cut", range(0, 120, 7))
def test_a_line_that_was_torn_is_passed_over_and_does_not_spoil_the_next(cut: int, tmp_path: Path) -> None:
    whole = lines([entry(1), entry(2)])
    (tmp_path / METRICS_FILE).write_text(whole + lines([entry(3)])[:cut])
    assert read_metrics(tmp_path) == [entry(1), entry(2)]
    metrics = Metrics(tmp_path, until=2)
    metrics.append(entry(3))
    assert read_metrics(tmp_path) == [entry(1), entry(2), entry(3)]
    assert (tmp_path / METRICS_FILE).read_text() == whole + lines([entry(3)])


GARBAGE = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b"3",
    b"nonsense",
    b"\xff\xfe\x00",
    b"[" * 100_000,
    b"9" * 10_000,
    json.dumps({**entry(1), "step": "1"}).encode(),
    json.dumps({**entry(1), "step": 1.5}).encode(),
    json.dumps({**entry(1), "loss": None}).encode(),
    *(json.dumps({**entry(1), "loss": x}).encode() for x in (math.nan, math.inf, 10**400, 2**63, True, "1")),
    *(json.dumps({**entry(1), "step": x}).encode() for x in (0, -1, 2**63, True)),
    json.dumps({name: value for name, value in entry(1).items() if name != "seconds"}).encode(),
    json.dumps({**entry(1), "validation_loss": 1.0}).encode(),
    json.dumps({**entry(1, 1.0), "sample": None}).encode(),
    json.dumps({**entry(1, 1.0), "bits_per_character": "x"}).encode(),
]


@pytest.mark.parametrize("line", GARBAGE, ids=range(len(GARBAGE)))
def test_a_line_that_is_no_entry_is_passed_over(line: bytes, tmp_path: Path) -> None:
    content = lines([entry(1)]).encode() + line + b"\n" + lines([entry(2, 1.0)]).encode()
    (tmp_path / METRICS_FILE).write_bytes(content)
    expected = [entry(1), entry(2, 1.0)]
    assert read_metrics(tmp_path) == next(follow_metrics(tmp_path)) == Metrics(tmp_path, until=2).entries == expected


def test_without_the_file_there_are_no_entries(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == next(follow_metrics(tmp_path)) == []
    assert Metrics(tmp_path, until=5).entries == []


def test_who_follows_sees_a_file_appear_and_grow(tmp_path: Path) -> None:
    looks = follow_metrics(tmp_path)
    assert list(next(looks)) == []
    metrics = Metrics(tmp_path, until=0)
    assert list(next(looks)) == []
    for step in range(1, 6):
        metrics.append(entry(step, 1.0 if step % 2 else None))
        assert list(next(looks)) == metrics.entries
        assert list(next(looks)) == metrics.entries


def test_who_follows_waits_for_the_end_of_a_line(tmp_path: Path) -> None:
    path, looks = tmp_path / METRICS_FILE, follow_metrics(tmp_path)
    content = json.dumps(entry(2, 1.0), ensure_ascii=False).encode() + b"\n"
    path.write_bytes(lines([entry(1)]).encode())
    for cut in range(0, len(content), 5):
        with path.open("ab") as file:
            assert [each["step"] for each in next(looks)] == [1]
            file.write(content[cut : cut + 5])
    assert list(next(looks)) == [entry(1), entry(2, 1.0)]


def test_who_follows_reads_only_what_is_new(tmp_path: Path) -> None:
    path, looks = tmp_path / METRICS_FILE, follow_metrics(tmp_path)
    path.write_text(lines([entry(1), entry(2)]))
    next(looks)
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.write(b"x" * len(content))
    with path.open("a") as grown:
        grown.write(lines([entry(3)]))
    assert [each["step"] for each in next(looks)] == [1, 2, 3]


@pytest.mark.parametrize("until", [0, 2, 4])
def test_who_follows_sees_that_a_run_went_on_from_an_earlier_step(until: int, tmp_path: Path) -> None:
    """The file is written anew: another one, which may even be longer before it is looked at again."""
    looks = follow_metrics(tmp_path)
    metrics = Metrics(tmp_path, until=0)
    for step in range(1, 5):
        metrics.append(entry(step))
    assert len(next(looks)) == 4
    metrics = Metrics(tmp_path, until)
    for step in range(until + 1, 9):
        metrics.append(entry(step, 7.0))
    assert list(next(looks)) == [entry(step) for step in range(1, until + 1)] + [
        entry(step, 7.0) for step in range(until + 1, 9)
    ]


def test_who_follows_sees_that_a_file_was_cut_short_in_place(tmp_path: Path) -> None:
    path, looks = tmp_path / METRICS_FILE, follow_metrics(tmp_path)
    path.write_text(lines([entry(step) for step in range(1, 5)]))
    assert len(next(looks)) == 4
    path.write_text(lines([entry(9)]))
    assert list(next(looks)) == [entry(9)]


def test_who_follows_keeps_what_it_saw_where_the_file_is_gone(tmp_path: Path) -> None:
    path, looks = tmp_path / METRICS_FILE, follow_metrics(tmp_path)
    path.write_text(lines([entry(1)]))
    next(looks)
    path.unlink()
    assert list(next(looks)) == [entry(1)]


def test_samples_are_those_of_the_evaluations_in_order() -> None:
    assert samples([]) == samples([entry(1)]) == ""
    text = samples([entry(1), entry(2000, 1.25), entry(2001), entry(4000, 1.0)])
    first, last = text.split("\n\n")
    bits = 1.25 / np.log(2)
    assert first.splitlines() == [
        f"---- step 2,000, validation loss 1.250 nats, {bits:.3f} bits a character ----",
        "sample 2000",
        "ß",
    ]
    assert last.splitlines()[0].startswith("---- step 4,000, validation loss 1.000 nats")
    assert text.endswith("\n")


def texts_of(drawn: bytes) -> list[str]:
    """What is written in an SVG, which is whole."""
    root = ElementTree.fromstring(drawn.decode("utf-8"))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return ["".join(element.itertext()).strip() for element in root.iter("{http://www.w3.org/2000/svg}text")]


def curve(count: int, evaluations: int) -> list[Entry]:
    at = {round(count * n / evaluations) for n in range(1, evaluations + 1)} if evaluations else set()
    return [entry(step, 1 + abs(step - count / 2) / count if step in at else None) for step in range(1, count + 1)]


@pytest.mark.parametrize(
    ("count", "evaluations"), [(1, 0), (1, 1), (2, 1), (3, 3), (400, 8), (401, 8), (5000, 20), (5000, 0)]
)
def test_the_losses_are_drawn_whatever_there_is_of_them(count: int, evaluations: int) -> None:
    texts = texts_of(loss_plot(curve(count, evaluations), "runs/1"))
    assert {"runs/1", "step", "loss, nats a token"} <= set(texts)
    assert ("on the held-out text" in texts) == (evaluations > 0)
    size = -(-count // POINTS)
    assert ("in each batch" if size == 1 else f"in batches, the mean of {size}") in texts
    if evaluations:
        best = min(each["validation_loss"] for each in curve(count, evaluations) if "validation_loss" in each)
        assert any(f"{best:.3f} nats" in text for text in texts)


@pytest.mark.parametrize("number", [1e308, -1e308, 5e-324])
def test_losses_that_no_axis_reaches_are_drawn_all_the_same(number: float) -> None:
    """A damaged line may have any that is finite."""
    entries = [entry(step, number if step == 5 else 1.0) | {"loss": number} for step in range(1, 9)]
    assert b"</svg>" in loss_plot([*entries, entry(9, 1.0)], "run")


def test_the_same_losses_are_the_same_bytes() -> None:
    first, again, other = (loss_plot(curve(count, 4), "run") for count in (50, 50, 51))
    assert first == again != other


@pytest.mark.parametrize("count", [1, 399, 400, 401, 1003, 12_345])
def test_each_point_is_the_mean_of_as_many_steps(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    plot = matplotlib.axes.Axes.plot

    def watched(self: Any, x: Any, y: Any, **options: Any) -> Any:
        drawn.append((x, y))
        return plot(self, x, y, **options)

    monkeypatch.setattr(matplotlib.axes.Axes, "plot", watched)
    entries = curve(count, 2)
    loss_plot(entries, "run")
    size = -(-count // POINTS)
    parts = [entries[at : at + size] for at in range(0, count, size)]
    (x, y), (x_evaluated, y_evaluated) = drawn
    assert len(x) <= POINTS
    np.testing.assert_allclose(x, [np.mean([each["step"] for each in part]) for part in parts], rtol=1e-12)
    np.testing.assert_allclose(y, [np.mean([each["loss"] for each in part]) for part in parts], rtol=1e-12)
    evaluated = [each for each in entries if "validation_loss" in each]
    assert list(zip(x_evaluated, y_evaluated, strict=True)) == [
        (each["step"], each["validation_loss"]) for each in evaluated
    ]


@pytest.mark.parametrize(
    "title", ["a <b> & 'c'", "$a_$", "a$b", r"$\frac$", "漢字", "größer \U0001f600", "a\udcffb", ""]
)
def test_a_folder_s_name_is_drawn_as_it_is(title: str) -> None:
    """It is neither markup nor mathematics, and a sign that the font lacks is no reason to warn or to stop."""
    texts = texts_of(loss_plot(curve(3, 1), title))
    if title and title.isprintable():
        assert title in texts
