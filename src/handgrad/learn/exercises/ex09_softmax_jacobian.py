"""The softmax Jacobian, written out

    y[i] = exp(z[i]) / sum over k of exp(z[k])           z, y (N,): one row

Softmax is the first layer here in which every output depends on every input: they share a
denominator. So there is an N×N matrix of derivatives, the Jacobian

    jacobian[i, j] = d y[i] / d z[j]

Differentiate the quotient in two cases, i = j and i ≠ j. Each of them can be written in y
alone, and together they are one line of NumPy.

This one is not a backward yet. You are given y, and write the whole matrix.

Question: the y[i] add up to 1 whatever z is. What must therefore be the sum of each column of
the Jacobian?
"""

import numpy as np


def softmax_row_forward(z):
    exponentials = np.exp(z - z.max())  # a shift cancels, and nothing overflows
    return exponentials / exponentials.sum()


def softmax_jacobian(y):
    # Your code, which returns the jacobian (N, N):
    return np.diag(y) - np.outer(y, y)
