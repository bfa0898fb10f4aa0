"""The causal mask

    scores  = q @ kᵀ / √D                q, k, v, y (B, H, T, D)    scores (B, H, T, T)
    masked  = scores where s <= t, else -∞
    weights = softmax(masked)
    y       = weights @ v

A model that is to predict the next token must not see it: query t sees the keys up to t, its
own among them. There are H heads, and nothing changes by that: each sequence and each head is a
little matrix of its own.

The mask picks scores, and what is not picked has no gradient. Before you write a mask into your
backward, look at what softmax_backward makes of an entry whose weight is exactly 0.

Question: dweights is not 0 where a key was hidden. Why does that do no harm?
"""

import numpy as np
from ex10_softmax import softmax_backward, softmax_forward
from ex17_scale import scale_backward, scale_forward


def causal_attention_forward(q, k, v):
    scores, scale_cache = scale_forward(q, k)
    T = q.shape[-2]
    visible = np.tril(np.ones((T, T), bool))
    weights, _ = softmax_forward(np.where(visible, scores, -np.inf))
    return weights @ v, (scale_cache, weights, v)


def causal_attention_backward(dy, cache):
    scale_cache, weights, v = cache
    # Your code, which returns dq, dk, dv:
    dv = weights.swapaxes(-1, -2) @ dy
    dweights = dy @ v.swapaxes(-1, -2)
    dscores = softmax_backward(dweights, weights)  # 0 where the weight is
    dq, dk = scale_backward(dscores, scale_cache)
    return dq, dk, dv
