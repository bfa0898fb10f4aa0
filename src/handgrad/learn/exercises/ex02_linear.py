"""The matrix product

    y = x @ w        x (B, T, C)    w (C, F)    y (B, T, F)

A batch of B sequences, each of T positions, each of them a vector of C numbers. All B·T rows
are multiplied by the same matrix w. In indices:

    y[b, t, f] = sum over c of  x[b, t, c] * w[c, f]

dx has the shape of x and dw that of w, always. One way to find them: pick a single x[b, t, c],
and see in which entries of y it takes part, and with what factor. Then the same for a single
w[c, f].

Question: how many entries of y does one entry of w take part in, and what is therefore summed
over?
"""

import numpy as np


def linear_forward(x, w):
    return x @ w, (x, w)


def linear_backward(dy, cache):
    x, w = cache
    # Your code, which returns dx, dw:
    C, F = w.shape
    dx = dy @ w.T  # x[b, t, c] meets w[c, :]: sum over f
    dw = x.reshape(-1, C).T @ dy.reshape(-1, F)  # w[c, f] serves every row: sum over b and t
    return dx, dw
