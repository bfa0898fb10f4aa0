"""What decides how something is spoilt, and the values that hardly anybody expects."""

import copy
import math
import random
import struct
from collections.abc import Sequence
from functools import cache
from typing import Any, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")

# fmt: off
NUMBERS: list[Any] = [
    0, 1, -1, 2, 3, 7, 255, 256, 2**31 - 1, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64, -(2**63),
    10**30, 10**400, 0.0, -0.0, 0.5, 1.0, 1.5, 1e-320, 1e308, -1e308, math.inf, -math.inf, math.nan,
]
TEXTS = [
    "", " ", "\n", "0", "1e9", "null", "handgrad", "gpt2", "llama", "F32", "BF16", "I64", "BOOL", "float64", "all",
    "../x", "/dev/zero", "C:\\x", "a" * 3000, "\x00", "\x1b[2J", "ß漢🐈", "\u202e", "{}", "%s", "*", "**/*",
]
# fmt: on
HOSTILE: list[Any] = [None, True, False, *NUMBERS, *TEXTS, "\ud800", [], {}, [[]], [{}], {"": None}, {"a": {"b": [1]}}]
HOSTILE += [[0] * 300, {str(n): n for n in range(50)}]


class Chance:
    """What is spoilt, and how, by numbers that somebody draws."""

    def below(self, count: int) -> int:
        raise NotImplementedError

    def bytes(self, most: int) -> bytes:
        raise NotImplementedError

    def scalar(self) -> Any:
        """Any whole number, number or text."""
        raise NotImplementedError

    def of(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def one_in(self, count: int) -> bool:
        return self.below(count) == count - 1

    def value(self) -> Any:
        """What JSON can say, and hardly anybody expects."""
        return copy.deepcopy(self.of(HOSTILE)) if self.below(4) else self.scalar()


class Hypothesis(Chance):
    """Numbers that hypothesis draws, and makes smaller as long as the test fails."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw

    def below(self, count: int) -> int:
        return self.draw(_below(count))

    def bytes(self, most: int) -> bytes:
        return self.draw(st.binary(max_size=most))

    def scalar(self) -> Any:
        return self.draw(st.one_of(st.integers(), st.floats(), st.text(max_size=8)))


class Dice(Chance):
    """Numbers of a plain generator: a hundred times as fast."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def below(self, count: int) -> int:
        return self.random.randrange(count)

    def bytes(self, most: int) -> bytes:
        return self.random.randbytes(self.random.randrange(most + 1))

    def scalar(self) -> Any:
        bits = self.random.getrandbits(self.random.choice([8, 31, 64, 200]))
        (number,) = struct.unpack("<d", self.random.randbytes(8))
        text = "".join(
            chr(self.random.choice([self.random.randrange(128), self.random.randrange(0x110000)])) for _ in "text"
        )
        return self.random.choice([bits, -bits, number, text])


@cache
def _below(count: int) -> st.SearchStrategy[int]:
    return st.integers(0, count - 1)
