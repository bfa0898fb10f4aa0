"""Attention's backward from its output alone

    weights = exp(masked - logsumexp)    masked: the scores of exercise 18, -∞ where s > t
    y       = weights @ v                q, k, v, y (B, H, T, D)    logsumexp (B, H, T, 1)

The weights are T×T, and for long texts nobody can keep them. FlashAttention keeps two things
for each query: y, and logsumexp, the logarithm of the sum of exp(masked) over its keys. From
these the weights can be made again, tile by tile, by the first line above.

Softmax's backward needs one number for each query,

    delta[t] = sum over s of  dweights[t, s] * weights[t, s]

a sum over all keys, of which no tile has more than a few. But delta can be had without any
weights, from dy and y: rowsum(dO ∘ O) in the paper, which calls it D. (Here there is but one
tile, and the grader cannot see how you get delta: find it from y all the same.)

Question: put dweights[t, s] = dy[t] · v[s] into delta[t]. What is the sum over s of
weights[t, s] * v[s]?
"""

import numpy as np


def masked_scores(q, k):
    T, D = q.shape[-2:]
    return np.where(np.tril(np.ones((T, T), bool)), q @ k.swapaxes(-1, -2) / D**0.5, -np.inf)


def attention_from_output_forward(q, k, v):
    masked = masked_scores(q, k)
    largest = masked.max(axis=-1, keepdims=True)
    logsumexp = largest + np.log(np.exp(masked - largest).sum(axis=-1, keepdims=True))
    y = np.exp(masked - logsumexp) @ v
    return y, (q, k, v, y, logsumexp)


def attention_from_output_backward(dy, cache):
    q, k, v, y, logsumexp = cache
    scale = q.shape[-1] ** -0.5
    # Your code, which returns dq, dk, dv:
    weights = np.exp(masked_scores(q, k) - logsumexp)
    dv = weights.swapaxes(-1, -2) @ dy
    delta = (dy * y).sum(axis=-1, keepdims=True)
    dscores = weights * (dy @ v.swapaxes(-1, -2) - delta)
    return scale * dscores @ k, scale * dscores.swapaxes(-1, -2) @ q, dv
