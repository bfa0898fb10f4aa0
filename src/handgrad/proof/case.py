"""A case: a forward and its backward, at a point."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ..layers import Array, Tap, no_tap
from .mutations.mutation import Mutation

Tensors = Mapping[str, Array]


class Case(NamedTuple):
    """A forward and its backward, at a point."""

    forward: Callable[..., tuple[Array, Any]]
    backward: Callable[..., Array | Sequence[Array]]
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
        """The numbers among what is given; of a model's config only the heads, which neither shapes nor names say."""
        config = self.given.get("config")
        heads = {"heads": config.heads} if config else {}
        return heads | {name: x for name, x in self.given.items() if isinstance(x, int | float)}

    def run(self, inputs: Tensors | None = None, tap: Tap = no_tap) -> tuple[Array, Any]:
        """The forward at its own inputs, or with some of them replaced: (y, cache)."""
        return self.forward(**self.inputs | dict(inputs or {}), **self.given, **_tapped(self.forward, tap))

    def planted(self, mutation: Mutation) -> "Case":
        """The same with a wrong backward in it, wherever it is called."""
        return self._replace(forward=mutation.planted(self.forward), backward=mutation.planted(self.backward))

    def gradients(self, dy: Array, cache: Any, tap: Tap = no_tap) -> dict[str, Array]:
        """What the backward returns, by the name of the input."""
        gradients = self.backward(dy, cache, **_tapped(self.backward, tap))
        return dict(zip(self.inputs, [gradients] if isinstance(gradients, np.ndarray) else gradients, strict=True))


def _tapped(function: Callable[..., Any], tap: Tap) -> dict[str, Tap]:
    return {"tap": tap} if "tap" in inspect.signature(function).parameters else {}
