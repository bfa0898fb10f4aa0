"""What somebody looks at: the text, what should follow each of its tokens, and which model of the run."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import HandgradError
from ..layers import IGNORE_INDEX

LONGEST_TEXT = 20_000
"""Characters: more than any text has that is short enough to be traced."""


class View(NamedTuple):
    text: str
    targets: tuple[tuple[int, int], ...] = ()
    """Positions whose target is not the token that follows, and their targets; -100 where nothing counts."""
    checkpoint: str = ""
    """By its name on the shelf; empty for the one that was opened."""
    step: int | None = None
    """That of the model, where the run might have gone on in the meantime."""


def read_view(fields: Mapping[str, Any]) -> View:
    """The view that a request tells; a `HandgradError` names the field that is wrong."""
    text = text_of(fields, "text")
    if len(text) > LONGEST_TEXT:
        raise HandgradError(f"text: {len(text):,} characters; at most {LONGEST_TEXT:,} are read")
    targets = fields.get("targets", {})
    if not isinstance(targets, dict):
        raise HandgradError("targets: not an object of positions and tokens")
    pairs = {}
    for position, token in targets.items():
        if not (str(position).isascii() and str(position).isdigit() and len(position) < 6 and type(token) is int):
            raise HandgradError(f"targets: {position!r}: {token!r} is not a position and a token")
        if not (token == IGNORE_INDEX or 0 <= token < 2**31):
            raise HandgradError(f"targets: {token} is no token, and not {IGNORE_INDEX}, which counts nothing")
        pairs[int(position)] = token
    step = fields.get("step_of_model")
    if not (step is None or type(step) is int):
        raise HandgradError("step_of_model: not a whole number")
    return View(text, tuple(sorted(pairs.items())), text_of(fields, "checkpoint", ""), step)


def text_of(fields: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = fields.get(name, default)
    if not isinstance(value, str):
        raise HandgradError(f"{name}: {'missing' if value is None else 'not a text'}")
    return value


def integers_of(fields: Mapping[str, Any], name: str, most: int) -> tuple[int, ...]:
    """A list of at most so many whole numbers; none where it is missing."""
    value = fields.get(name, [])
    if not (isinstance(value, list) and len(value) <= most and all(type(each) is int for each in value)):
        raise HandgradError(f"{name}: not a list of at most {most} whole numbers")
    return tuple(value)


def integer_of(fields: Mapping[str, Any], name: str) -> int:
    """A whole number; 0 where it is missing."""
    value = fields.get(name, 0)
    if type(value) is not int:
        raise HandgradError(f"{name}: not a whole number")
    return value
