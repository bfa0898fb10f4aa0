"""RMSNorm

    x_hat = x / √(mean of x² + ε)                        over the last axis
    y     = gamma * x_hat                                x, y (B, T, C)    gamma (C,)

What Llama, Mistral and Qwen have in the place of LayerNorm. No mean is taken off and no offset
added, so that one of the three routes is gone.

The cache holds x_hat, 1 / √(mean of x² + ε), called inverse_rms, (B, T, 1), and gamma.

Question: which of LayerNorm's two means over a row is left, and why not the other?
"""

import numpy as np


def rms_norm_forward(x, gamma):
    inverse_rms = 1 / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-5)
    x_hat = x * inverse_rms
    return x_hat * gamma, (x_hat, inverse_rms, gamma)


def rms_norm_backward(dy, cache):
    x_hat, inverse_rms, gamma = cache
    # Your code, which returns dx, dgamma:
    dgamma = (dy * x_hat).sum(axis=(0, 1))
    dx_hat = dy * gamma
    dx = inverse_rms * (dx_hat - x_hat * (dx_hat * x_hat).mean(axis=-1, keepdims=True))
    return dx, dgamma
