"""How far a right implementation may be from float64 where it keeps its tensors in fewer bits."""

from collections.abc import Iterable, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from ..layers import Array
from .case import Case
from .check import BAR, largest_entry
from .recording import record, zeros_of

STORAGE: dict[str, Any] = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
DTYPES = ("float64", *STORAGE)
MARGIN = 3.0
"""Times the largest error found: another order of summation, another rounding."""
ZERO = 8
"""Epsilons of noise in what is zero by mathematics, such as a difference of two sums over the same numbers."""
EPSILON = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
HIDDEN = -1e4
"""What takes the place of minus infinity in a mask, at the most: some add -1e4, -1e9, or a dtype's lowest number."""

Envelope = Mapping[str, Mapping[str, float]]
"""By the tensor's key, by the dtype: the largest relative error that passes."""


def stored(x: Array, dtype: str) -> Array:
    """x as it comes back from memory of this dtype, in the float32 that everything is computed in; float64 as it is."""
    if dtype == "float64":
        return x
    with np.errstate(over="ignore"):
        return x.astype(STORAGE[dtype]).astype(np.float32)


def deviation(mine: Array, reference: Array) -> float:
    """The relative error max |mine - reference| / max |reference|, of tensors that may hold zeros or a mask.

    Where the reference is all zero, the error is max |mine| itself. Where it is minus infinity (masked scores), mine is
    right at -1e4 or below, and the other entries alone are compared. Infinite where a comparison is impossible.
    """
    if mine.shape != reference.shape:
        return float("inf")
    hidden = np.isneginf(reference)
    if hidden.any():
        if not (mine[hidden] <= HIDDEN).all():
            return float("inf")
        mine, reference = mine[~hidden], reference[~hidden]
    error = float(np.max(np.abs(mine.astype(np.float64) - reference), initial=0))
    return error / (float(np.max(np.abs(reference), initial=0)) or 1.0) if np.isfinite(error) else float("inf")


def envelope(
    draws: Iterable[tuple[Case, Array]], layer: str, dtypes: Iterable[str] = DTYPES, seed: int = 0
) -> Envelope:
    """The largest errors over draws of inputs and cotangents, times `MARGIN`; in float64 the bar of the proof.

    Inputs, cotangents, all that a tap sees and all results are rounded to the dtype; what is computed between them is
    float32, and the inputs are moved by up to an epsilon of float32 first: as much as a right algorithm of another kind
    (another order of summation) may seem to have done. No envelope is narrower than an epsilon
    of the dtype, or where the reference is all zero than `ZERO` of them; of a gradient that is zero by mathematics, but
    made of sums over others, than `ZERO` of them times the largest gradient, where that is below 1.
    """
    generator = np.random.default_rng(seed)
    found: dict[str, dict[str, float]] = {}
    for case, dy in draws:
        zeros = zeros_of(case)
        exact = record(case, layer, dy) | zeros
        largest = largest_entry({key: x for key, x in exact.items() if key.startswith("gradients/")})
        least = {key: 1 if x.any() else ZERO * (min(1, largest) if key in zeros else 1) for key, x in exact.items()}
        for dtype in dtypes:
            if dtype == "float64":
                errors = dict.fromkeys(exact, BAR)
            else:
                rounded = record_in(case, layer, dy, dtype, generator)
                errors = {
                    key: max(MARGIN * deviation(rounded[key], x), EPSILON[dtype] * least[key])
                    for key, x in exact.items()
                }
            for key, error in errors.items():
                known = found.setdefault(key, {})
                known[dtype] = max(known.get(dtype, 0.0), error)
    return found


def record_in(
    case: Case, layer: str, dy: Array, dtype: str, generator: np.random.Generator | None = None
) -> dict[str, Array]:
    """The recording of an implementation that keeps its tensors in this dtype; its inputs moved, with a generator."""
    inputs = {name: stored(x, dtype) for name, x in case.inputs.items()}
    if generator:
        inputs = {name: _moved(x, generator) for name, x in inputs.items()}
    with np.errstate(all="ignore"):  # float16 may overflow: its envelope is then infinite
        return record(case._replace(inputs=inputs), layer, stored(dy, dtype), lambda _, x: stored(x, dtype))


def _moved(x: Array, generator: np.random.Generator) -> Array:
    """Each number moved by up to an epsilon of float32."""
    return (x * (1 + EPSILON["float32"] * generator.uniform(-1, 1, x.shape))).astype(x.dtype)
