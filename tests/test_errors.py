"""Errors are lines that can be read, whatever the file holds that they speak of."""

from handgrad.errors import LONGEST, HandgradError, counted


def test_a_long_value_loses_its_middle() -> None:
    text = str(HandgradError(f"run/config.json: {'9' * 100_000} is not a number"))
    assert len(text) < LONGEST
    assert text.startswith("run/config.json: 999")
    assert text.endswith("999 is not a number")


def test_what_does_not_print_does_not_make_a_line_longer_either() -> None:
    assert len(str(HandgradError("\0" * 10_000))) < LONGEST


def test_a_line_of_the_usual_length_stays_as_it_is() -> None:
    for length in (0, 1, LONGEST - 1, LONGEST):
        assert str(HandgradError("x" * length)) == "x" * length


def test_one_is_not_several() -> None:
    assert [counted(n, "token") for n in (0, 1, 2, 1000)] == ["0 tokens", "1 token", "2 tokens", "1,000 tokens"]
    assert [counted(n, "axis", "axes") for n in (1, 2)] == ["1 axis", "2 axes"]
