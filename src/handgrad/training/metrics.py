"""metrics.jsonl: a line for every update, and what is drawn and written from it."""

import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..files import naming, write_atomically
from ..settings import LARGEST
from .trainer import Progress

METRICS_FILE = "metrics.jsonl"
SAMPLE_FILE = "sample.txt"

Entry = dict[str, Any]
"""A line of metrics.jsonl: `step`, `loss` and the rest, by their names."""
_NUMBERS = ("loss", "gradient_norm", "learning_rate", "seconds", "tokens_per_second")
_OF_AN_EVALUATION = frozenset({"validation_loss", "bits_per_character", "sample"})


def to_entry(progress: Progress, sample: str = "") -> Entry:
    """What a line of the file holds; after an evaluation also a sample of what the model writes then."""
    fields = progress._asdict()
    evaluation = fields.pop("validation")
    if evaluation is None:
        return fields
    return fields | {
        "validation_loss": evaluation.loss,
        "bits_per_character": evaluation.bits_per_character,
        "sample": sample,
    }


def evaluations(entries: Iterable[Entry]) -> list[Entry]:
    """The entries of steps that an evaluation followed."""
    return [entry for entry in entries if "validation_loss" in entry]


def best_of(evaluated: Sequence[Entry]) -> Entry:
    """The entry with the lowest validation loss."""
    return min(evaluated, key=lambda entry: float(entry["validation_loss"]))


def smoothed(entries: Iterable[Entry]) -> list[float]:
    """The batches' losses as running means: each weighs a tenth of the mean up to it."""
    return list(itertools.accumulate((float(entry["loss"]) for entry in entries), _smooth))


def _smooth(mean: float, loss: float) -> float:
    return 0.9 * mean + 0.1 * loss


class Metrics:
    """The file, and its entries. A line is written at once, so that a run that is killed has told all it knew."""

    def __init__(self, folder: Path, until: int) -> None:
        """Go on after step `until`: what a run wrote beyond its last checkpoint, it will write again."""
        self.path = folder / METRICS_FILE
        self.entries = [entry for entry in read_metrics(folder) if entry["step"] <= until]
        self.loss = (smoothed(self.entries) or [math.nan])[-1]
        """The batches' losses, smoothed."""
        self._begun = False

    def append(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.loss = entry["loss"] if math.isnan(self.loss) else _smooth(self.loss, entry["loss"])
        if not self._begun:  # now what stands beyond `until` gives way, and not before
            write_atomically(self.path, "".join(map(_line, self.entries)))
            self._begun = True
            return
        with naming(self.path), self.path.open("ab") as file:  # unbuffered, a full disk takes a part in silence
            file.write(_line(entry).encode())

    def flush(self) -> None:
        """Make the lines last through a power cut."""
        if self._begun:
            with naming(self.path), self.path.open("ab") as file:
                os.fsync(file.fileno())


def read_metrics(folder: Path) -> list[Entry]:
    """The entries in their order; a line that was not finished, or is damaged, is passed over."""
    path = folder / METRICS_FILE
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", errors="replace") as file:
        return list(_entries(file))


def follow_metrics(folder: Path) -> Iterator[list[Entry]]:
    """All entries, now and each time that it is asked again; only what is new is read."""
    path, entries, place, inode = folder / METRICS_FILE, list[Entry](), 0, -1
    while True:
        if path.is_file():
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != inode or status.st_size < place:  # written anew by a run that went on
                    entries, place, inode = [], 0, status.st_ino
                file.seek(place)
                whole, newline, _ = file.read().rpartition(b"\n")
            place += len(whole) + len(newline)
            entries += _entries(whole.decode(errors="replace").split("\n"))
        yield entries


def samples(entries: Iterable[Entry]) -> str:
    """What the model wrote after each evaluation, the last one last."""
    return "\n".join(
        f"---- step {entry['step']:,}, validation loss {entry['validation_loss']:.3f} nats, "
        f"{entry['bits_per_character']:.3f} bits a character ----\n{entry['sample']}\n"
        for entry in evaluations(entries)
    )


def _line(entry: Entry) -> str:
    return json.dumps(entry) + "\n"


def _entries(lines: Iterable[str]) -> Iterator[Entry]:
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and _is_one(entry):
            yield entry


def _is_one(entry: Entry) -> bool:
    """Whether all is there, of its kind, and finite."""
    evaluated = not _OF_AN_EVALUATION.isdisjoint(entry)
    numbers = (*_NUMBERS, *(("validation_loss", "bits_per_character") if evaluated else ()))
    return (
        type(entry.get("step")) is int
        and 0 < entry["step"] < LARGEST
        and all(is_a_number(entry.get(name)) for name in numbers)
        and (not evaluated or type(entry.get("sample")) is str)
    )


def is_a_number(value: Any) -> bool:
    """Whether it is finite, and one that floats have."""
    return (type(value) is float and math.isfinite(value)) or (type(value) is int and abs(value) < LARGEST)
