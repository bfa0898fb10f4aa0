r"""The orthogonal matrix nearest to a matrix, by matrix products alone: the Newton-Schulz iteration.

With the singular value decomposition $X = U S V^\top$ it is $U V^\top$. A decomposition is slow, products are fast; and
an odd polynomial of a matrix takes only products, and maps nothing but the singular values, since between its factors
$V^\top V$ and $U^\top U$ are 1:

$$ p(X) = a X + b\,(X X^\top) X + c\,(X X^\top)^2 X = U\, (a S + b S^3 + c S^5)\, V^\top $$

So what is left is to bring the numbers between 0 and 1 near to 1 by such polynomials, one after the other.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024, who chose one quintic by hand;
Amsel et al., "The Polar Express", 2025, for the best ones.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ...layers import Array

SMALLEST = 1e-2
"""The singular value, as a share of the Frobenius norm, from which on a direction is wholly brought near 1."""
ITERATIONS = 4
EXCHANGES = 10
"""More than enough: the digits double at each."""


class Quintic(NamedTuple):
    """The odd polynomial a x + b x³ + c x⁵."""

    a: float
    b: float
    c: float


def best_quintic(low: float, high: float) -> tuple[Quintic, float]:
    r"""The odd polynomial of degree 5 that is nearest to 1 all over [low, high], and how far it is from 1 at most.

    By Chebyshev's theorem, which holds for x, x³ and x⁵ where low is above 0, it is the one whose distance from 1 is
    largest at four points, with signs that alternate; p' has two zeros there, so the ends are among the four:

    $$ p(x_i) = 1 - (-1)^i\,\varepsilon, \qquad x_0 = \mathrm{low} < x_1 < x_2 < x_3 = \mathrm{high} $$

    Remez' exchange finds it: for four points these are linear equations for a, b, c and ε; their solution has its
    extremes elsewhere, where $p' = a + 3 b x^2 + 5 c x^4$ is 0; these are the next points.
    """
    signs = np.array([1.0, -1.0, 1.0, -1.0])
    inner = np.array([3 * low + high, low + 3 * high]) / 4
    for _ in range(EXCHANGES):
        points = np.array([low, *inner, high])
        a, b, c, error = np.linalg.solve(np.stack([points, points**3, points**5, signs], axis=1), np.ones(4))
        root = np.sqrt(9 * b * b - 20 * a * c)
        inner = np.sqrt((-3 * b + np.array([-root, root])) / (10 * c))
    return Quintic(float(a), float(b), float(c)), float(error)


def best_quintics(smallest: float, iterations: int) -> tuple[Quintic, ...]:
    r"""The polynomials that, applied one after the other, bring [smallest, 1] nearest to 1.

    The first maps the interval to $[1 - \varepsilon, 1 + \varepsilon]$, the next starts from there: it is best to be
    greedy. Near 1 they become Taylor's, (15 x - 10 x³ + 3 x⁵) / 8, which triples the digits; the first is four times as
    steep at 0. Once the distance is near rounding, no further one can be found.
    """
    low, high, found = smallest, 1.0, []
    for _ in range(iterations):
        quintic, error = best_quintic(low, high)
        found.append(quintic)
        low, high = 1 - error, 1 + error
    return tuple(found)


QUINTICS = best_quintics(SMALLEST, ITERATIONS)


def orthogonalised(x: Float[Array, "M N"]) -> Float[Array, "M N"]:
    r"""Nearly $U V^\top$, where $x = U S V^\top$: the singular values are brought near 1, and 0 stays 0.

    The Frobenius norm, by which x is divided first, is at least its largest singular value. Products are taken on the
    shorter side.
    """
    tall = x.shape[0] > x.shape[1]
    y = x.T if tall else x
    y = y / (np.abs(y).max() or 1.0)  # so that no square is too small or too large
    y /= np.linalg.norm(y) or 1.0
    for a, b, c in QUINTICS:
        gram = y @ y.T  # a product with its own transpose takes BLAS half the work; gram is its own transpose, too
        factor = gram @ gram.T
        factor *= c
        factor += np.multiply(gram, b, out=gram)
        change = factor @ y
        y *= a
        y += change
    return np.asarray(y.T if tall else y)
