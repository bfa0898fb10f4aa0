"""Files of tensors that other people made: what they say of themselves is held against what they hold."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from handgrad.errors import HandgradError
from handgrad.proof.tensor_files import read_npz

HEADER = "{{'descr': '<f8', 'fortran_order': False, 'shape': {}}}\n"


def write(path: Path, header: str, body: bytes, version: int = 1) -> None:
    text = header.encode()
    size = len(text).to_bytes(2 if version == 1 else 4, "little")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY" + bytes([version, 0]) + size + text + body)


@pytest.mark.parametrize("version", [1, 2])
def test_arrays_are_read(version: int, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write(path, HEADER.format("(2, 1)"), np.array([3.0, 4.0]).tobytes(), version)
    np.testing.assert_array_equal(read_npz(path)["a"], [[3.0], [4.0]])
    np.savez_compressed(path, x=np.zeros((1000, 1000)), y=np.array(7))
    assert {name: x.shape for name, x in read_npz(path).items()} == {"x": (1000, 1000), "y": ()}


@pytest.mark.parametrize(
    "shape", ["(1000,)", "(1000000000000,)", "(2147483648, 2147483648, 4)", "(9223372036854775807, 2)"]
)
def test_no_room_is_made_for_numbers_that_are_not_there(shape: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write(path, HEADER.format(shape), bytes(16))
    with pytest.raises(
        HandgradError, match=r"a.npz: not a whole npz file: a.npy: an array of shape .* not so many numbers$"
    ):
        read_npz(path)


def test_texts_of_no_length_are_numbers_too(tmp_path: Path) -> None:
    """They take no room, until they become something else."""
    path = tmp_path / "a.npz"
    header = HEADER.format("(9223372036854775807,)")
    write(path, header.replace("<f8", "|S0"), bytes(16))
    with pytest.raises(HandgradError, match=r"a.npy: an array of shape .* not so many numbers$"):
        read_npz(path)


@pytest.mark.parametrize("header", ["(", "{'descr': ", "{}", "[1]", HEADER.format("'a'"), "\0" * 60, "x" * 20_000])
def test_a_header_that_is_none(header: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write(path, header, bytes(8))
    with pytest.raises(HandgradError, match=r"a.npz: not a whole npz file: "):
        read_npz(path)


def test_a_version_that_we_do_not_know(tmp_path: Path) -> None:
    write(tmp_path / "a.npz", HEADER.format("(1,)"), bytes(8), version=9)
    with pytest.raises(HandgradError, match=r"a.npy: an array of the format \(9, 0\)$"):
        read_npz(tmp_path / "a.npz")


def test_what_unpacks_to_more_than_the_memory_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not what is only packed well, as a gradient that is mostly zeros."""
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros(1_000_000))
    assert path.stat().st_size < 10_000
    assert read_npz(path)["x"].shape == (1_000_000,)
    monkeypatch.setattr("handgrad.proof.tensor_files.memory_size", lambda: 30_000_000)
    with pytest.raises(HandgradError, match=r"a.npz: unpacks to 0.0 GB, more than a quarter of the memory$"):
        read_npz(path)


def test_objects_are_refused_as_such(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([None] * 1000))
    with pytest.raises(HandgradError, match=r"a.npz: not a whole npz file: Object arrays cannot be loaded"):
        read_npz(tmp_path / "a.npz")
