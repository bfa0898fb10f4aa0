"""y = x + b: one vector, added to every row."""

from typing import NamedTuple

from jaxtyping import Inexact

from .arrays import Array, column_sums


class BiasCache(NamedTuple):
    """No number: the gradients of a sum need neither of its terms."""

    given: bool
    """Whether there was a b."""


def bias_forward(
    x: Inexact[Array, "*batch C"], b: Inexact[Array, "C"] | None
) -> tuple[Inexact[Array, "*batch C"], BiasCache]:
    r"""Add b to each row of x; where there is none, y is x.

    $$ y = x + b $$
    """
    return (x, BiasCache(False)) if b is None else (x + b, BiasCache(True))


def bias_backward(
    dy: Inexact[Array, "*batch C"], cache: BiasCache
) -> tuple[Inexact[Array, "*batch C"], Inexact[Array, "C"] | None]:
    r"""A sum passes its gradient to both terms; b was used by every row, so its own adds up over them.

    $$ \mathrm{d}x = \mathrm{d}y $$
    $$ \mathrm{d}b = \sum_{\mathrm{rows}} \mathrm{d}y $$
    """
    return dy, column_sums(dy) if cache.given else None  # y = x + b, broadcast over the rows
