"""A small model of every kind, and its traced pass."""

from functools import cache
from typing import Any

from handgrad.model import Model
from handgrad.proof import Trace, trace
from handgrad.proof.making import FAMILIES

from .conftest import TEXT, model_of

KINDS: dict[str, dict[str, Any]] = {
    **{family: {"family": family} for family in FAMILIES},
    "qwen3": {"family": "qwen3", "head_width": 6},  # with one pair alone there are no neighbours to pair
    "no norm": {"norm": "none"},
    "no residual": {"residual": False},
    "tied, no norm": {"norm": "none", "tied": True, "score_scale": False},
}


@cache
def model_of_kind(kind: str) -> Model:
    return model_of(**KINDS[kind])


@cache
def traced_of_kind(kind: str) -> Trace:
    return trace(model_of_kind(kind), TEXT)


def go_on() -> None:
    """The `stop` of who waits for the answer."""
