"""Tokens on the disk are read as an array is."""

import os
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handgrad.errors import DamagedError
from handgrad.training.prepared.tokens import MappedTokens, Shard

SIZES = (5, 1, 40, 17)


def shards(
    folder: Path, dtype: Any = "<u2", sizes: tuple[int, ...] = SIZES
) -> tuple[np.ndarray[Any, Any], list[Shard]]:
    generator = np.random.default_rng(0)
    arrays = [generator.integers(1000, size=size).astype(dtype) for size in sizes]
    found = []
    for n, array in enumerate(arrays):
        np.save(folder / f"{n}.npy", array)
        found.append(Shard(folder / f"{n}.npy", len(array)))
    return np.concatenate(arrays), found


@pytest.mark.parametrize("dtype", ["<u2", "<u4"])
def test_slices_and_places(dtype: str, tmp_path: Path) -> None:
    array, files = shards(tmp_path, dtype)
    tokens = MappedTokens(files, np.dtype(dtype), 1000)
    assert len(tokens) == len(array)
    assert tokens[:].dtype == np.int32
    generator = np.random.default_rng(1)
    for _ in range(200):
        start, stop = generator.integers(-70, 70, size=2).tolist()
        step = (None, 1, 2, -1, -3)[generator.integers(5)]
        for key in (slice(start, stop, step), slice(start, None), slice(None, stop)):
            np.testing.assert_array_equal(tokens[key], array[key])
    for shape in [(), (1,), (7,), (3, 4), (2, 0)]:
        places = generator.integers(len(array), size=shape)
        np.testing.assert_array_equal(tokens[places], array[places])
        assert tokens[places].shape == shape
    np.testing.assert_array_equal(np.asarray(tokens), array)


@pytest.mark.parametrize("place", [-1, sum(SIZES)])
def test_places_that_are_not_there(place: int, tmp_path: Path) -> None:
    _, files = shards(tmp_path)
    with pytest.raises(IndexError, match=rf"^{place} or {place}: not among {sum(SIZES)} tokens$"):
        MappedTokens(files, np.dtype("<u2"), 1000)[np.array([place])]


def test_it_can_be_sent_to_another_process(tmp_path: Path) -> None:
    array, files = shards(tmp_path)
    tokens = MappedTokens(files, np.dtype("<u2"), 1000)
    _ = tokens[:]
    content = pickle.dumps(tokens)
    assert len(content) < 2000
    np.testing.assert_array_equal(pickle.loads(content)[:], array)


def test_a_token_that_is_none_names_the_file(tmp_path: Path) -> None:
    array, files = shards(tmp_path)
    tokens = MappedTokens(files, np.dtype("<u2"), int(array.max()))
    worst = int(np.flatnonzero(array == array.max())[0])
    name = re.escape(str(files[int(np.searchsorted(np.cumsum(SIZES), worst, side="right"))].path))
    with pytest.raises(DamagedError, match=f"^{name}: has a token {array.max()}, but there are {array.max()}"):
        _ = tokens[np.array([worst])]


@pytest.mark.parametrize("damage", ["missing", "short", "long", "dtype", "shape", "empty"])
def test_files_that_are_others_are_refused_on_opening(damage: str, tmp_path: Path) -> None:
    array, files = shards(tmp_path)
    path = files[2].path
    match damage:
        case "missing":
            path.unlink()
        case "short":
            path.write_bytes(path.read_bytes()[:-1])
        case "long":
            path.write_bytes(path.read_bytes() + b"x")
        case "dtype":
            np.save(path, array[:40].astype(np.int16))
        case "shape":
            np.save(path, array[:40].reshape(4, 10))
        case "empty":
            path.write_bytes(b"")
    with pytest.raises(DamagedError, match=re.escape(f"{path}: ")):
        MappedTokens(files, np.dtype("<u2"), 1000)


@pytest.mark.skipif(sys.platform != "linux", reason="where /proc tells it")
def test_pages_that_were_read_are_let_go(tmp_path: Path) -> None:
    _, files = shards(tmp_path, sizes=(1 << 23, 1 << 23))  # 32 MB
    tokens = MappedTokens(files, np.dtype("<u2"), 1000)

    def mapped() -> int:
        """Bytes of files in this process's memory."""
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return 1024 * int(re.findall(r"RssFile:\s+(\d+) kB", status)[0])

    before = mapped()
    for start in range(0, len(tokens), 1 << 20):
        _ = tokens[start : start + (1 << 20)]
    assert mapped() - before < 4 << 20


def test_many_files_take_few_descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr("handgrad.training.prepared.tokens.MOST_MAPS", 5)
    array, files = shards(tmp_path, sizes=(3,) * 90)
    tokens = MappedTokens(files, np.dtype("<u2"), 1000)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 40, hard))
    try:
        for _ in range(3):
            np.testing.assert_array_equal(tokens[:], array)
            np.testing.assert_array_equal(tokens[np.arange(len(array))[::-1]], array[::-1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_files_that_were_read_last_stay_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handgrad.training.prepared.tokens.MOST_MAPS", 2)
    array, files = shards(tmp_path)
    tokens, opened = MappedTokens(files, np.dtype("<u2"), 1000), list[str]()
    real = np.memmap

    def spied(path: Path, *arguments: Any) -> Any:
        opened.append(path.stem)
        return real(path, *arguments)

    monkeypatch.setattr(np, "memmap", spied)
    for place in (0, 5, 0, 6, 0, 5, 60, 60):  # in the files 0, 1, 0, 2, 0, 1, 3, 3
        assert tokens[np.array([place])] == array[place]
    assert "".join(opened) == "01213"
