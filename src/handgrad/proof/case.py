"""A case: a forward and its backward, at a point."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ..layers import Array, Rotary, Tap, no_tap
from ..model import ModelConfig
from .mutations.mutation import Mutation

Tensors = Mapping[str, Array]


class Case(NamedTuple):
    """A forward and its backward, at a point."""

    forward: Callable[..., tuple[Array, Any]]
    backward: Callable[..., Array | Sequence[Array | None]]
    inputs: dict[str, Array]
    """What the backward gives the gradients of, in its order; the forward takes them by these names."""
    given: Mapping[str, Any] = MappingProxyType({})
    """What else the forward takes: tokens, targets, the number of heads."""
    output: str = "y"
    """What the forward's value is called."""

    @property
    def integers(self) -> dict[str, Array]:
        """The arrays among what is given: tokens and targets."""
        return {name: x for name, x in self.given.items() if isinstance(x, np.ndarray)}

    @property
    def settings(self) -> dict[str, float | int]:
        """The numbers among what is given; of a model's config what neither shapes nor names of its parameters say."""
        config = self.given.get("config")
        given = _given_by(config) if config else self.given
        given = {name: x for name, x in given.items() if name != "rotary"} | _numbers_of(given.get("rotary"))
        return {name: x for name, x in given.items() if isinstance(x, int | float)}

    @property
    def vanishing(self) -> frozenset[str]:
        """The inputs whose gradient is zero by mathematics, and else only what rounding leaves.

        A bias of all keys adds one number to all scores of a query, which softmax does not see; unless keys are
        normalised or turned before they meet the queries.
        """
        config = self.given.get("config")
        rotary = config.rotary if config else self.given.get("rotary")
        blind = rotary is None and not any(name.endswith("gamma_k") for name in self.inputs)
        return frozenset(name for name in self.inputs if blind and name.rpartition(".")[2] == "b_k")

    def run(self, inputs: Tensors | None = None, tap: Tap = no_tap) -> tuple[Array, Any]:
        """The forward at its own inputs, or with some of them replaced: (y, cache)."""
        return self.forward(**self.inputs | dict(inputs or {}), **self.given, **_tapped(self.forward, tap))

    def planted(self, mutation: Mutation) -> "Case":
        """The same with a wrong backward in it, wherever it is called."""
        return self._replace(forward=mutation.planted(self.forward), backward=mutation.planted(self.backward))

    def gradients(self, dy: Array, cache: Any, tap: Tap = no_tap) -> dict[str, Array]:
        """What the backward returns, by the name of the input."""
        gradients = self.backward(dy, cache, **_tapped(self.backward, tap))
        gradients = [gradients] if isinstance(gradients, np.ndarray) else gradients
        return dict(zip(self.inputs, (dx for dx in gradients if dx is not None), strict=True))


def _given_by(config: ModelConfig) -> dict[str, Any]:
    """What a block gives its attention, and which norm it is that has a gain alone; what is as usual is left out."""
    usual = ModelConfig(layers=1, heads=1, width=1, hidden=1, context=1, vocabulary=1)
    fields = {"window": "window", "full_blocks": "full_blocks", "epsilon": "norm_epsilon"}
    unusual = {name: x for name, field in fields.items() if (x := getattr(config, field)) != getattr(usual, field)}
    scale = {} if config.score_scale else {"scale": 1.0}
    centred = {"centred": 1} if config.norm == "layer" and not config.bias else {}
    return {"heads": config.heads, "rotary": config.rotary} | unusual | scale | centred


def given_of(settings: Mapping[str, float | int]) -> dict[str, Any]:
    """What a layer's settings came from: the numbers of a rotation are one thing again."""
    rotary = {name: x for name, x in settings.items() if name in Rotary._fields}
    others = {name: x for name, x in settings.items() if name not in rotary}
    return others | ({"rotary": Rotary(**rotary)} if rotary else {})  # type: ignore[arg-type]


def _numbers_of(rotary: Rotary | None) -> dict[str, float | int]:
    return rotary._asdict() if rotary else {}


def _tapped(function: Callable[..., Any], tap: Tap) -> dict[str, Tap]:
    return {"tap": tap} if "tap" in inspect.signature(function).parameters else {}
