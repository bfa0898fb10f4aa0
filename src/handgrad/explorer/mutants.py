"""Wrong backwards in the traced pass: where a mistake first shows, how far it spreads, what the check says of it."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np

from ..errors import HandgradError
from ..layers import Array
from ..model import ModelConfig
from ..proof import BAR, MUTATIONS, Mutation, Trace, relative_error
from ..proof.check import largest_entry
from ..proof.lesson import SMALLEST, meets
from ..proof.recording import key_in_trace, record
from .stop import Stop, stoppable
from .tensors import plain


class Wrong(NamedTuple):
    """A cotangent or gradient of the pass with the mistake in it."""

    key: str
    error: float | None
    """Relative to the right one; None where it is not finite."""
    wrong: bool
    """Whether that is beyond the bar of the check."""


def find(name: str) -> Mutation:
    """A mutation of the catalogue by its name."""
    for mutation in MUTATIONS:
        if mutation.name == name:
            return mutation
    raise HandgradError(f"there is no mutation {name!r} in the catalogue")


def met_by(config: ModelConfig, stop: Stop) -> Iterator[tuple[Mutation, bool]]:
    """Each mutation, and whether a model of this config has what it is about: by a small one of the same parts."""
    small = _small(config)
    for mutation in MUTATIONS:
        stop()
        yield mutation, _meets(small, mutation)


def spread(traced: Trace, mutation: Mutation, stop: Stop) -> tuple[list[Wrong], dict[str, Array]]:
    """How wrong everything is that comes back, in the order of the backward pass; and what comes back."""
    with np.errstate(all="ignore"):
        try:
            made = record(traced.case().planted(mutation), "gpt", np.ones(()), stoppable(stop))
        except (ValueError, AttributeError):  # as `meets` has it
            raise HandgradError(f"{mutation.name}: the model has not what the wrong code is about") from None
    made = {key_in_trace(key): x for key, x in made.items()}
    backwards = {key: x for key, x in traced.recorded.items() if not key.startswith("activations/")}
    vanishing = {f"gradients/{name}" for name in traced.case().vanishing}
    scale = largest_entry(traced.gradients)
    errors = {key: error_of(made[key], right, scale if key in vanishing else None) for key, right in backwards.items()}
    return [Wrong(key, plain(error), not error <= BAR) for key, error in errors.items()], made


@np.errstate(all="ignore")
def error_of(made: Array, right: Array, scale: float | None = None) -> float:
    """The relative error; 0 where both are zero throughout, which is no proof, but no difference either."""
    return 0.0 if np.array_equal(made, right) else relative_error(made, right, scale)


def first_wrong(wrongs: Iterable[Wrong]) -> str | None:
    """The key of the first that is wrong on the way down; None where the pass does not meet the mistake."""
    return next((each.key for each in wrongs if each.wrong), None)


@cache
def _meets(small: ModelConfig, mutation: Mutation) -> bool:
    return meets(small, mutation)


@cache
def _small(config: ModelConfig) -> ModelConfig:
    """The same parts in the smallest sizes: some hundred of them run in a second."""
    sizes = {
        "layers": min(config.layers, 2),
        "heads": min(config.heads, 4 if config.key_value_heads else 2),
        "key_value_heads": min(config.key_value_heads, 2),
        "head_width": 6 if config.head_width else 0,  # and not width / heads
    }
    window = {"window": 3, "full_blocks": min(config.full_blocks, 1)} if config.window else {}
    return replace(config, **SMALLEST | sizes | window)
