"""The sources as units, however many files there are."""

from pathlib import Path
from typing import Any

import pytest

from handgrad.training.prepared.manifest import Options, Source
from handgrad.training.prepared.units import Position, units

OPTIONS = Options("bytes", None, "text", 0.2)


class Counting(Source):
    """A source that counts how often it is asked for its bytes."""

    asked = 0

    @property
    def bytes(self) -> int:
        Counting.asked += 1
        return self[1]


def sources_in(folder: Path, count: int) -> list[Source]:
    found = list[Source]()
    for n in range(count):
        path = folder / f"{n:03}.txt"
        path.write_text(f"the file {n}\n" * 3)
        status = path.stat()
        found.append(Counting(str(path), status.st_size, status.st_mtime_ns))
    return found


def test_the_work_for_a_file_does_not_grow_with_their_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = 0

    def spied(done: tuple[Source, ...], *more: Any, **others: Any) -> Position:
        nonlocal copied
        copied += len(done)
        return Position(done, *more, **others)

    monkeypatch.setattr("handgrad.training.prepared.units.Position", spied)
    monkeypatch.setattr(Counting, "asked", 0)
    sources = sources_in(tmp_path, 200)
    for unit in units(OPTIONS, sources, Position(), whole=True):
        last = unit
    assert last.bytes == sum(source[1] for source in sources)
    assert [source.path for source in last.after().done] == [source.path for source in sources]
    assert copied == 200
    assert Counting.asked < 10 * 200


def test_a_position_is_that_after_its_unit_also_when_it_is_asked_for_later(tmp_path: Path) -> None:
    sources = sources_in(tmp_path, 5)
    at_once, later = [], []
    for unit in units(OPTIONS, sources, Position(), whole=True):
        at_once.append(unit.after())
        later.append(unit.after)
    assert [after() for after in later] == at_once
    assert [len(position.done) for position in at_once] == [0, 1, 2, 3, 4, 5]
    for begin, taken in zip(at_once, range(1, 7), strict=True):
        rest = list(units(OPTIONS, sources, begin, whole=True))
        assert [unit.after() for unit in rest] == at_once[taken:] or taken == 6
