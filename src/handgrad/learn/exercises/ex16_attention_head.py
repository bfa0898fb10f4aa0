"""One head of attention

    scores  = q @ kᵀ                     q (B, T, D)    k (B, S, D)    scores (B, T, S)
    weights = softmax(scores)            over the keys, the last axis
    y       = weights @ v                v (B, S, D)    y (B, T, D)

T queries look at S keys. Each query takes an average of the values, weighted by how well the
keys answer it. Two matrix products, with a softmax between them: you have the backward of each.

kᵀ is k.swapaxes(-1, -2), for every sequence by itself. Here no matrix is shared between
sequences, so that nothing is summed over the batch.

Question: v[s] gives to every query t with the weight weights[t, s]. So what is dv[s] a sum
over?
"""

import numpy as np
from ex10_softmax import softmax_backward, softmax_forward


def attention_head_forward(q, k, v):
    weights, _ = softmax_forward(q @ k.swapaxes(-1, -2))
    return weights @ v, (q, k, v, weights)


def attention_head_backward(dy, cache):
    q, k, v, weights = cache
    # Your code, which returns dq, dk, dv:
    dv = weights.swapaxes(-1, -2) @ dy  # y = weights @ v
    dweights = dy @ v.swapaxes(-1, -2)
    dscores = softmax_backward(dweights, weights)
    dq = dscores @ k  # scores = q @ kᵀ
    dk = dscores.swapaxes(-1, -2) @ q
    return dq, dk, dv
