"""The scale

    scores = q @ kᵀ / √D                 q (*, T, D)    k (*, S, D)    scores (*, T, S)

The dot product of two vectors of D independent entries, each of mean 0 and variance 1, has
variance D. The division brings it back to 1: with scores that are too large softmax puts all
weight on one key, and its gradient vanishes.

A constant factor in the forward is the same factor in the backward, in every gradient that
passes it, and in none of them twice. It is often forgotten, and as often applied twice, since
the loss falls all the same.

The star stands for any axes in front, as in exercise 10: B, or B and H, or none.

Question: two gradients leave this function. How many of them carry the factor?
"""

import numpy as np


def scale_forward(q, k):
    scores = q @ k.swapaxes(-1, -2) / q.shape[-1] ** 0.5
    return scores, (q, k)


def scale_backward(dscores, cache):
    q, k = cache
    # Your code, which returns dq, dk:
    dproduct = dscores / q.shape[-1] ** 0.5
    return dproduct @ k, dproduct.swapaxes(-1, -2) @ q
