"""The proof on the spot: one number of the pass is moved, and the model runs again."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..errors import HandgradError
from ..layers import Array
from ..proof import Case, Trace
from ..proof.derivative import COMPLEX_STEP
from .stop import Stop
from .tensors import KINDS, finite_of, plain, told

DECADES = (-9, 1)
"""The steps of a sweep, in powers of ten of the tensor's usual size."""
STEPS, FEW_STEPS = 16, 4
"""How many of each sign: a few to each decade, or fewer where each takes long."""
LARGE = 10_000_000
"""Entries of all parameters from which a pass takes long."""


class Nudged(NamedTuple):
    """What the loss does when one entry of a tensor moves, all in float64; None where a number is not finite."""

    value: float | str
    gradient: float | str
    """What the backward says of this entry. Both are words where they are not finite: -inf is what a mask leaves."""
    complex_step: float | None
    """Im loss(x + ih)/h with h = 1e-30: the derivative without a backward; None where nobody asked for it."""
    loss: float | None
    unit: float
    """The tensor's root mean square, of which the steps are multiples: what a small step is depends on it."""
    steps: list[float]
    losses: list[float | None]
    """The loss after each step."""


def nudge(
    traced: Trace,
    key: str,
    index: tuple[int, ...],
    step: float | None,
    stop: Stop,
    comes_back: Mapping[str, Array] | None = None,
) -> Nudged:
    """Move an entry of `activations/NAME` or `parameters/NAME` by one step, or by the steps of a sweep.

    The pass is otherwise the traced one: a tap replaces the activation, and what follows is computed from it.
    `comes_back` has the cotangents and gradients of another backward than the trace's.
    """
    kind, _, name = key.partition("/")
    tensors = {"activations": traced.activations, "parameters": traced.parameters}.get(kind, {})
    if name not in tensors or name == "loss":
        raise HandgradError(f"{key}: no activation and no parameter that can be moved")
    x, gradient = tensors[name], (comes_back or traced.recorded)[f"{KINDS[kind]}/{name}"]
    if len(index) != x.ndim or not all(0 <= at < size for at, size in zip(index, x.shape, strict=True)):
        raise HandgradError(f"{key}: there is no entry {index} in the shape {x.shape}")
    finite = finite_of(x)
    with np.errstate(over="ignore"):
        unit = plain(np.sqrt(np.mean(finite * finite))) if finite.size else None
    unit = unit or 1.0
    case = traced.case()

    def loss(by: complex) -> complex:
        stop()
        return complex(_moved(case, kind, name, index, by))

    with np.errstate(all="ignore"):
        exact = loss(1j * COMPLEX_STEP).imag / COMPLEX_STEP if step is None else None
        large = sum(x.size for x in traced.parameters.values()) > LARGE
        steps = sweep(unit, FEW_STEPS if large else STEPS) if step is None else [step]
        losses = [plain(loss(by).real) for by in steps]
    exact = None if exact is None else plain(exact)
    return Nudged(told(x[index]), told(gradient[index]), exact, plain(traced.loss), unit, steps, losses)


def sweep(unit: float, steps: int = STEPS) -> list[float]:
    """Steps from tiny to large, so many of both signs, in ascending order."""
    upwards = unit * np.logspace(*DECADES, steps)
    return [*(-upwards[::-1]).tolist(), *upwards.tolist()]


def _moved(case: Case, kind: str, name: str, index: tuple[int, ...], by: complex) -> Array:
    """The loss where this entry is larger by so much."""
    dtype = complex if isinstance(by, complex) else float

    def larger(x: Array) -> Array:
        x = x.astype(dtype)
        x[index] += by
        return x

    def tap(seen: str, x: Array) -> Array:
        return larger(x) if kind == "activations" and seen == name else x

    moved = {name: larger(case.inputs[name])} if kind == "parameters" else {}
    if dtype is complex:  # all of one dtype: what the layers are given
        moved = {other: x.astype(complex) for other, x in case.inputs.items()} | moved
    return case.run(moved, tap)[0]
