"""The array type of every signature, and the few reductions that all layers share.

Axes are named by letters throughout: `B` batch, `T` time, `C` width, `H` heads, `D` head width, `F` hidden width,
`V` vocabulary; `*batch` stands for any leading axes. A signature says `Inexact[Array, "B T C"]`: floating point *or*
complex, because every layer also runs in complex128, where the complex step differentiates it. All floating arguments
of one call share one dtype.
"""

from functools import lru_cache
from typing import Any

import numpy as np

Array = np.ndarray


def as_rows(x: Array) -> Array:
    """x as a matrix whose rows are the vectors along the last axis; a view where the memory allows."""
    return x.reshape(-1, x.shape[-1])


def column_sums(x: Array) -> Array:
    """The sum over every axis but the last. As a product with ones: BLAS sums several times as fast as `sum`."""
    rows = as_rows(x)
    sums: Array = _ones(len(rows), x.dtype).dot(rows)
    return sums


def row_sums(x: Array) -> Array:
    """The sum over the last axis, kept with length 1; a product with a vector of ones, as in `column_sums`."""
    sums: Array = as_rows(x).dot(_ones(x.shape[-1], x.dtype)).reshape(*x.shape[:-1], 1)
    return sums


def row_means(x: Array) -> Array:
    """The mean over the last axis, kept with length 1. Divided after the sum, since 1/C is not exact."""
    means: Array = row_sums(x) / x.shape[-1]
    return means


@lru_cache(maxsize=64)
def _ones(count: int, dtype: Any) -> Array:
    ones = np.ones(count, dtype)
    ones.flags.writeable = False
    return ones
