"""Frames: what is written is read again, by the library and by who follows the format's description."""

import json
import struct
from typing import Any

import numpy as np
import pytest

from handgrad.explorer.frames import Reply, read_frame

HEADERS: list[dict[str, Any]] = [
    {},
    {"a": 1, "b": [None, True, 1e-300], "c": {"d": "…"}},
    {"title": "a folder of odd bytes: \udcff"},
    {"text": "naïve – 数字 \N{GRINNING FACE} \u2028 \0 </script>"},
    *({"text": "x" * n} for n in range(9)),  # every padding
]


def parsed(frame: bytes) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """By the description alone."""
    (length,) = struct.unpack_from("<I", frame)
    header = json.loads(frame[4 : 4 + length].decode("utf-8"))
    place = 4 + length
    while place % 8:
        assert frame[place] == 0
        place += 1
    numbers = {}
    for each in header.pop("arrays"):
        count = 1
        for size in each["shape"]:
            count *= size
        numbers[each["name"]] = [*struct.unpack_from(f"<{count}d", frame, place)]
        place += struct.calcsize(f"<{count}d")
    assert place == len(frame)
    return header, numbers


@pytest.mark.parametrize("header", HEADERS)
def test_a_frame_is_read_again(header: dict[str, Any]) -> None:
    generator = np.random.default_rng(0)
    arrays = {
        "a matrix": generator.standard_normal((3, 5)),
        "transposed": generator.standard_normal((4, 3)).T,
        "a number": np.array(2.5),
        "nothing": np.zeros((0, 4)),
        "größer": generator.standard_normal((2, 1, 3)).astype(">f8"),
        "odd": np.array([np.nan, np.inf, -np.inf, -0.0]),
        "whole": np.arange(3),
    }
    frame = Reply(header, arrays).frame()
    again, numbers = parsed(frame)
    reply = read_frame(frame)
    assert again == reply.header == header
    assert [*numbers] == [*reply.arrays] == [*arrays]
    for name, x in arrays.items():
        expected = x.astype(np.float64)
        assert reply.arrays[name].dtype == np.float64
        assert reply.arrays[name].shape == x.shape
        np.testing.assert_array_equal(reply.arrays[name], expected)
        np.testing.assert_array_equal(numbers[name], expected.ravel())


def test_the_arrays_begin_at_a_multiple_of_eight() -> None:
    for n in range(16):
        frame = Reply({"text": "é" * n}, {"x": np.array([1.0])}).frame()
        assert len(frame) % 8 == 0
        assert frame[-8:] == struct.pack("<d", 1.0)


@pytest.mark.parametrize("x", [float("nan"), float("inf")])
def test_a_header_has_no_number_that_json_has_not(x: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        Reply({"x": x}).frame()
