"""y = x @ w, over the last axis."""

from typing import NamedTuple

from jaxtyping import Inexact

from .arrays import Array, as_rows


class LinearCache(NamedTuple):
    """What the backward of a product needs: each factor, for the gradient of the other."""

    x: Array
    w: Array


def linear_forward(
    x: Inexact[Array, "*batch C_in"], w: Inexact[Array, "C_in C_out"]
) -> tuple[Inexact[Array, "*batch C_out"], LinearCache]:
    r"""Map each row of x by the matrix w.

    $$ y = x\,w $$

    The leading axes are folded into rows, so that BLAS sees one large product and not B small ones.
    """
    y = as_rows(x).dot(w).reshape(x.shape[:-1] + w.shape[1:])  # on a few rows dot takes half of matmul's time
    return y, LinearCache(x, w)


def linear_backward(
    dy: Inexact[Array, "*batch C_out"], cache: LinearCache
) -> tuple[Inexact[Array, "*batch C_in"], Inexact[Array, "C_in C_out"]]:
    r"""Carry dy to x and to w.

    $$ \mathrm{d}x = \mathrm{d}y\,w^\top $$
    $$ \mathrm{d}w = x^\top \mathrm{d}y $$

    In indices, $y_{no} = \sum_i x_{ni} w_{io}$. So $x_{ni}$ meets row i of w, whose entries run over o: summing over o
    is a product with $w^\top$. And $w_{io}$ is used by every row n: summing over n is a product with $x^\top$. The
    transposes are the chain rule's sums, written as matrix products.
    """
    x, w = cache
    dw = as_rows(x).T @ as_rows(dy)  # y = x @ w, summed over every row that w served
    dx = (as_rows(dy) @ w.T).reshape(x.shape)  # y = x @ w
    return dx, dw
