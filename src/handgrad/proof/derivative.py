"""Derivatives of a function by evaluating it: the witnesses that a hand-written backward is held against."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Real

from ..layers import Array

COMPLEX_STEP = 1e-30
CENTRAL_STEP = 6e-6
"""The cube root of float64's epsilon, where the error of the formula (h²) meets that of the rounding (epsilon / h)."""

Scalar = Any
"""A Python or NumPy number, or an array of shape ()."""


def complex_step(f: Callable[[Array], Scalar], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""The gradient of f at x, entry by entry.

    $$ \frac{\partial f}{\partial x_k} = \frac{\mathrm{Im}\, f(x + i h\, e_k)}{h} + O(h^2) $$

    f must be analytic and run in complex128. Unlike a difference, nothing is subtracted, so nothing cancels: h can be
    1e-30, which puts the formula's error far below rounding, and the result is exact to about 1e-15.

    Source: Squire and Trapp, "Using complex variables to estimate derivatives of real functions", 1998.
    """
    z = x.astype(np.complex128)
    gradient = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        z[index] = x[index] + 1j * COMPLEX_STEP
        gradient[index] = _imaginary(f(z)) / COMPLEX_STEP
        z[index] = x[index]
    return gradient


def complex_step_along(
    f: Callable[[Array], Scalar], x: Float[Array, "*shape"], direction: Float[Array, "*shape"]
) -> float:
    r"""The derivative of f at x along a direction v, in one evaluation: $\mathrm{Im}\, f(x + i h v) / h$.

    It should equal the sum of gradient times direction. With a random direction a wrong entry anywhere shows: the way
    to check a tensor that has too many entries to visit one by one.
    """
    return _imaginary(f(x + 1j * COMPLEX_STEP * direction)) / COMPLEX_STEP


def _imaginary(value: Scalar) -> float:
    """The imaginary part; a real value shows that f dropped it (by `abs`, say), and then it says nothing of f."""
    if not np.iscomplexobj(value):
        raise TypeError(f"f is not analytic: it made a real number, {value}, of complex ones")
    return float(value.imag)


def central_difference(
    f: Callable[[Array], Scalar], x: Real[Array, "*shape"], step: float = CENTRAL_STEP
) -> Float[Array, "*shape"]:
    r"""The gradient of f at x, entry by entry, for a function that knows real numbers only.

    $$ \frac{\partial f}{\partial x_k} = \frac{f(x + h e_k) - f(x - h e_k)}{2h} + O(h^2) $$

    Good to about 1e-10 of f's own size: the two values agree in most of their digits, and the difference keeps the
    rest.
    """
    moved = x.astype(np.float64)
    gradient = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        at = moved[index]
        moved[index] = at + step
        above = f(moved)
        moved[index] = at - step
        below = f(moved)
        moved[index] = at
        gradient[index] = (above - below) / (2 * step)
    return gradient


def relative_error(computed: Array, reference: Array, scale: float | None = None) -> float:
    """max |computed - reference| / max |reference|: 0 where they agree, about 1 where they have nothing in common.

    Infinite where the shapes differ, the reference is all zero, or anything is not finite: such a comparison proves
    nothing, and must not pass. `scale` takes the place of max |reference| where that is only what rounding left.
    """
    if computed.shape != reference.shape:
        return float("inf")
    scale = float(np.max(np.abs(reference), initial=0)) if scale is None else scale
    error = float(np.max(np.abs(computed - reference), initial=0))
    return error / scale if scale > 0 and np.isfinite(error) and np.isfinite(scale) else float("inf")
