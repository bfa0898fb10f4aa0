"""One forward and backward pass of a case with everything that a tap sees kept, in the order of the dataflow."""

from collections.abc import Callable, Iterator

import numpy as np

from ..layers import Array
from .case import Case
from .sites import follows

Through = Callable[[str, Array], Array]
"""A function of a tensor's key and value; its result is kept, and the pass goes on with it."""


def as_it_is(key: str, x: Array) -> Array:
    return x


def record(case: Case, layer: str, dy: Array, through: Through = as_it_is) -> dict[str, Array]:
    """Run the case of this layer with the cotangent dy of its output.

    The tensors by key: `activations/NAME`, then `outputs/NAME`; and back: `cotangents/NAME` and, each right after the
    cotangent that it is made from, `gradients/NAME`. An activation that is the output is there once, as the output.
    """
    forward, backward = _Keeper("activations", through), _Keeper("cotangents", through)
    y, cache = case.run(tap=forward)
    last = next(reversed(forward.kept), None)
    if last is not None and np.array_equal(forward.kept[last], y, equal_nan=True):
        del forward.kept[last]
    else:
        last = None
    y = through(f"outputs/{case.output}", y)
    gradients = {
        name: through(f"gradients/{name}", gradient) for name, gradient in case.gradients(dy, cache, backward).items()
    }
    backward.kept = {case.output: dy} | {name: x for name, x in backward.kept.items() if name != last}
    renamed = {last: case.output} if last else {}
    tensors = {f"activations/{name}": x for name, x in forward.kept.items()}
    tensors[f"outputs/{case.output}"] = y
    for key in _backward_order(backward.kept, {name: follows(case, layer, name) for name in gradients}, renamed):
        kind, _, name = key.partition("/")
        tensors[key] = (backward.kept if kind == "cotangents" else gradients)[name]
    return tensors


def zeros_of(case: Case) -> dict[str, Array]:
    """By its key, 0 for each gradient that is zero by mathematics: what rounding leaves of it is no measure."""
    return {f"gradients/{name}": np.zeros_like(case.inputs[name]) for name in case.vanishing}


def key_in_trace(recorded: str) -> str:
    """In a trace the loss is an activation like the others."""
    return "activations/loss" if recorded == "outputs/loss" else recorded


class _Keeper:
    """A tap that keeps copies, since what it returns is the function's from then on."""

    def __init__(self, kind: str, through: Through) -> None:
        self.kind, self.through = kind, through
        self.kept: dict[str, Array] = {}

    def __call__(self, name: str, x: Array, /) -> Array:
        x = self.through(f"{self.kind}/{name}", x)
        self.kept[name] = x.copy()
        return x


def _backward_order(
    cotangents: dict[str, Array], follows: dict[str, str | None], renamed: dict[str, str]
) -> Iterator[str]:
    """Each cotangent and the gradients made from it; then those of which no site says what they are made from."""
    sources = {name: renamed.get(source, source) if source else None for name, source in follows.items()}
    for cotangent in cotangents:
        yield f"cotangents/{cotangent}"
        yield from (f"gradients/{name}" for name, source in sources.items() if source == cotangent)
    yield from (f"gradients/{name}" for name, source in sources.items() if source not in cotangents)
