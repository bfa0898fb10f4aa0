"""LayerNorm, in three routes

    x_hat = (x - mean) / √(variance + ε)                 over the last axis
    y     = gamma * x_hat + beta                         x, y (B, T, C)    gamma, beta (C,)

Each row is brought to mean 0 and variance 1, and then given a learned gain and offset. An entry
x[c] reaches x_hat by three routes: directly, through the mean, and through the variance.
Exercise 5 had the last two.

Go from dy to dx_hat first. Then write down one term for each route; they simplify to two means
over the row. What the cache holds is enough: x_hat, 1 / √(variance + ε), called inverse_std,
(B, T, 1), and gamma.

Question: if all of a row is shifted by 1, y stays. So what is the sum of dx over a row?
"""

import numpy as np


def layer_norm_forward(x, gamma, beta):
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    inverse_std = 1 / np.sqrt(variance + 1e-5)
    x_hat = centred * inverse_std
    return x_hat * gamma + beta, (x_hat, inverse_std, gamma)


def layer_norm_backward(dy, cache):
    x_hat, inverse_std, gamma = cache
    # Your code, which returns dx, dgamma, dbeta:
    dgamma = (dy * x_hat).sum(axis=(0, 1))
    dbeta = dy.sum(axis=(0, 1))
    dx_hat = dy * gamma
    through_mean = dx_hat.mean(axis=-1, keepdims=True)
    through_variance = x_hat * (dx_hat * x_hat).mean(axis=-1, keepdims=True)
    dx = inverse_std * (dx_hat - through_mean - through_variance)
    return dx, dgamma, dbeta
