"""What the explorer answers: a header of JSON, and arrays of floating-point numbers as they are in memory.

A frame is the header's length in bytes (four bytes, little-endian), the header, zeros up to a multiple of eight, and
the arrays one after another, little-endian float64, row by row. The header's `arrays` says of each its name and shape.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..layers import Array

ALIGNMENT = 8
DTYPE = np.dtype("<f8")


def dicts(tuples: Iterable[Any]) -> list[dict[str, Any]]:
    """Named tuples as JSON has them."""
    return [each._asdict() for each in tuples]


class Reply(NamedTuple):
    header: dict[str, Any]
    arrays: Mapping[str, Array] = {}

    def frame(self) -> bytes:
        arrays = {name: np.asarray(x, DTYPE) for name, x in self.arrays.items()}
        listed = [{"name": name, "shape": x.shape} for name, x in arrays.items()]
        header = json.dumps({**self.header, "arrays": listed}, allow_nan=False).encode()
        padding = bytes(-(4 + len(header)) % ALIGNMENT)
        length = len(header).to_bytes(4, "little")
        return b"".join([length, header, padding, *(x.tobytes() for x in arrays.values())])


def read_frame(frame: bytes) -> Reply:
    """The header and the arrays again."""
    length = int.from_bytes(frame[:4], "little")
    header = json.loads(frame[4 : 4 + length])
    place = 4 + length + -(4 + length) % ALIGNMENT
    arrays = {}
    for each in header.pop("arrays"):
        count = int(np.prod(each["shape"], dtype=int))
        arrays[each["name"]] = np.frombuffer(frame, DTYPE, count, place).reshape(each["shape"])
        place += count * DTYPE.itemsize
    return Reply(header, arrays)
