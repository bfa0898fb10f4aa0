"""y = gamma * x_hat,   x_hat = x / sqrt(mean(x²) + epsilon), over the last axis."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Inexact

from .arrays import Array, column_sums, row_means


class RmsNormCache(NamedTuple):
    """What RMSNorm's backward needs: the rows it normalised, what they were divided by, and the gain."""

    x_hat: Array
    inverse_rms: Array
    """(*batch, 1): 1 / sqrt(mean(x²) + epsilon)."""
    gamma: Array


def rms_norm_forward(
    x: Inexact[Array, "*batch C"], gamma: Inexact[Array, "C"], *, epsilon: float = 1e-5
) -> tuple[Inexact[Array, "*batch C"], RmsNormCache]:
    r"""Bring each row of x to a mean square of 1, then give it a learned scale.

    $$ y = \gamma \odot \hat x, \qquad \hat x = \frac{x}{\sqrt{\langle x^2 \rangle + \epsilon}}, \qquad
       \langle x^2 \rangle = \tfrac1C \sum_c x_c^2 $$

    LayerNorm without its mean and its offset: cheaper, and models train as well.

    Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.
    """
    mean_square = row_means(x * x)  # not |x|²: an analytic function
    inverse_rms = 1 / np.sqrt(mean_square + epsilon) + 0 * mean_square  # (*batch, 1); as in layer_norm
    x_hat = x * inverse_rms
    return x_hat * gamma, RmsNormCache(x_hat, inverse_rms, gamma)


def rms_norm_backward(
    dy: Inexact[Array, "*batch C"], cache: RmsNormCache
) -> tuple[Inexact[Array, "*batch C"], Inexact[Array, "C"]]:
    r"""Carry dy to x by two routes, and to gamma.

    $$ \mathrm{d}x = \frac{1}{\sqrt{\langle x^2 \rangle + \epsilon}}
       \left( \mathrm{d}\hat x - \hat x \, \langle \mathrm{d}\hat x \odot \hat x \rangle \right), \qquad
       \mathrm{d}\hat x = \mathrm{d}y \odot \gamma, \qquad \langle\cdot\rangle \text{ the mean over a row} $$
    $$ \mathrm{d}\gamma = \sum_{\mathrm{rows}} \mathrm{d}y \odot \hat x $$

    Each $x_c$ reaches the output directly and through the row's length. No mean was taken off, so LayerNorm's third
    route is not there: $\hat x$ cannot move along itself, but along the vector of ones it can.
    """
    x_hat, inverse_rms, gamma = cache
    dgamma = column_sums(dy * x_hat)  # y = x_hat * gamma
    dx_hat = dy * gamma
    through_length = row_means(dx_hat * x_hat)
    dx = np.subtract(dx_hat, x_hat * through_length, out=dx_hat)
    dx *= inverse_rms
    return dx, dgamma
