"""What a request is about: each field that is wrong is refused by its name."""

from typing import Any

import pytest

from handgrad.errors import HandgradError
from handgrad.explorer.view import LONGEST_TEXT, View, integer_of, integers_of, read_view, text_of


def test_a_view_is_read() -> None:
    assert read_view({"text": "abc"}) == View("abc", (), "", None)
    assert read_view({"text": "abc", "step_of_model": 0}) == View("abc", (), "", 0)
    assert read_view({"text": "abc", "step_of_model": None}).step is None
    fields = {"text": "", "targets": {"7": -100, "0": 3, "00012": 2**31 - 1}, "checkpoint": "best", "more": None}
    assert read_view(fields) == View("", ((0, 3), (7, -100), (12, 2**31 - 1)), "best")
    assert read_view({"text": "x" * LONGEST_TEXT}).text == "x" * LONGEST_TEXT


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"text": None}, "text: missing"),
        *(({"text": x}, "text: not a text") for x in (1, True, ["a"], ())),
        ({"text": "x" * (LONGEST_TEXT + 1)}, "text: 20,001 characters; at most 20,000 are read"),
        *(({"targets": x}, "targets: not an object of positions and tokens") for x in (None, 1, "0:1", [[0, 1]], True)),
        *(({"targets": {x: 1}}, f"targets: {x!r}: 1 is not") for x in ("", "-1", "1.0", " 1", "x", "٣", "²", "123456")),
        *(({"targets": {"1": x}}, f"targets: '1': {x!r} is not") for x in ("1", 1.0, True, None, [1])),
        *(({"targets": {"1": x}}, f"targets: {x} is no token") for x in (-1, -99, -101, 2**31, 10**40)),
        ({"checkpoint": 3}, "checkpoint: not a text"),
        ({"checkpoint": None}, "checkpoint: missing"),
        *(({"step_of_model": x}, "step_of_model: not a whole number") for x in (True, 1.0, "1", [1], float("nan"))),
    ],
)
def test_a_field_that_is_wrong_is_named(fields: dict[str, Any], wrong: str) -> None:
    with pytest.raises(HandgradError) as raised:
        read_view({"text": "abc"} | fields)
    assert str(raised.value).startswith(wrong)


def test_a_view_has_a_text() -> None:
    with pytest.raises(HandgradError, match=r"^text: missing$"):
        read_view({})


def test_texts_and_whole_numbers() -> None:
    assert text_of({"a": ""}, "a") == ""
    assert text_of({}, "a", "b") == "b"
    assert integers_of({"a": [1, -2, 10**30]}, "a", 3) == (1, -2, 10**30)
    assert integers_of({}, "a", 3) == ()
    for x in ([1, 2, 3, 4], [1.0], [True], ["1"], "12", (1,), None, 1, {"0": 1}, [[1]]):
        with pytest.raises(HandgradError, match=r"^a: not a list of at most 3 whole numbers$"):
            integers_of({"a": x}, "a", 3)
    assert (integer_of({"a": -3}, "a"), integer_of({}, "a")) == (-3, 0)
    for y in (True, 1.0, "1", None, [1], float("nan")):
        with pytest.raises(HandgradError, match=r"^a: not a whole number$"):
            integer_of({"a": y}, "a")
