"""y = gamma * x_hat + beta,   x_hat = (x - mean(x)) / sqrt(var(x) + epsilon), over the last axis."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Inexact

from .arrays import Array, column_sums, row_means


class LayerNormCache(NamedTuple):
    """What LayerNorm's backward needs: the rows it normalised, what they were divided by, and the gain."""

    x_hat: Array
    inverse_std: Array
    """(*batch, 1): 1 / sqrt(var(x) + epsilon)."""
    gamma: Array
    has_offset: bool
    """Whether there was a beta."""


def layer_norm_forward(
    x: Inexact[Array, "*batch C"],
    gamma: Inexact[Array, "C"],
    beta: Inexact[Array, "C"] | None = None,
    *,
    epsilon: float = 1e-5,
) -> tuple[Inexact[Array, "*batch C"], LayerNormCache]:
    r"""Bring each row of x to mean 0 and variance 1, then give it a learned scale and offset (none if beta is None).

    $$ y = \gamma \odot \hat x + \beta, \qquad \hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}, \qquad
       \mu = \tfrac1C \sum_c x_c, \qquad \sigma^2 = \tfrac1C \sum_c (x_c - \mu)^2 $$

    Source: Ba, Kiros, Hinton, "Layer Normalization", 2016. The variance is the biased one, over C.
    """
    centred = x - row_means(x)
    variance = row_means(centred * centred)  # not |centred|²: an analytic function, so that the complex step holds
    # + 0 · variance, which is nan where it overflowed: 1/∞ would make such rows 0, and nobody would know
    inverse_std = 1 / np.sqrt(variance + epsilon) + 0 * variance  # (*batch, 1)
    x_hat = np.multiply(centred, inverse_std, out=centred)
    y = x_hat * gamma
    if beta is not None:
        y += beta
    return y, LayerNormCache(x_hat, inverse_std, gamma, beta is not None)


def layer_norm_backward(
    dy: Inexact[Array, "*batch C"], cache: LayerNormCache
) -> tuple[Inexact[Array, "*batch C"], Inexact[Array, "C"], Inexact[Array, "C"] | None]:
    r"""Carry dy to x by three routes, and to gamma and beta: None where there was no beta.

    $$ \mathrm{d}x = \frac{1}{\sqrt{\sigma^2 + \epsilon}}
       \left( \mathrm{d}\hat x - \langle \mathrm{d}\hat x \rangle
              - \hat x \, \langle \mathrm{d}\hat x \odot \hat x \rangle \right), \qquad
       \mathrm{d}\hat x = \mathrm{d}y \odot \gamma, \qquad \langle\cdot\rangle \text{ the mean over a row} $$
    $$ \mathrm{d}\gamma = \sum_{\mathrm{rows}} \mathrm{d}y \odot \hat x $$
    $$ \mathrm{d}\beta = \sum_{\mathrm{rows}} \mathrm{d}y $$

    Each $x_c$ reaches the output directly, through the mean, and through the variance: one term for each route.
    Geometrically, $\hat x$ cannot move along the vector of ones (the mean is removed) nor along itself (the length is
    fixed, up to epsilon), so the backward takes both components out of the gradient, and divides by what the forward
    divided by.
    """
    x_hat, inverse_std, gamma, has_offset = cache
    dbeta = column_sums(dy) if has_offset else None  # y = x_hat * gamma + beta
    dgamma = column_sums(dy * x_hat)
    dx_hat = dy * gamma
    dx_hat_x_hat = dx_hat * x_hat
    through_mean, through_variance = row_means(dx_hat), row_means(dx_hat_x_hat)
    dx = np.subtract(dx_hat, through_mean, out=dx_hat)
    dx -= np.multiply(x_hat, through_variance, out=dx_hat_x_hat)
    dx *= inverse_std
    return dx, dgamma, dbeta
