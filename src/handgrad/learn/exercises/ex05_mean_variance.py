"""Mean and variance

    mean[b, t]     = 1/C * sum over c of  x[b, t, c]
    variance[b, t] = 1/C * sum over c of (x[b, t, c] - mean[b, t]) ** 2

    x (B, T, C)    mean (B, T)    variance (B, T)

Two values come out, so two gradients come in, and x is reached by both. The variance contains
the mean, so there is even a third way: x moves the mean, and the mean moves every term of the
variance. Write down the derivative of the variance with respect to the mean before you decide
what that way brings.

Question: what is the sum over c of (x - mean)?
"""

import numpy as np


def mean_variance_forward(x):
    mean = x.mean(axis=-1)
    centred = x - mean[..., None]
    variance = (centred**2).mean(axis=-1)
    return (mean, variance), centred


def mean_variance_backward(dmean, dvariance, cache):
    centred = cache
    C = centred.shape[-1]
    # Your code, which returns dx:
    dx = 2 / C * centred * dvariance[..., None]  # the mean's own way adds up to 0
    dx += dmean[..., None] / C
    return dx
