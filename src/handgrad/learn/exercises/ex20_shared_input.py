"""One input, three paths

    q = x @ w_q          x (B, T, C)    w_q, w_k, w_v (C, F)    q, k, v (B, T, F)
    k = x @ w_k
    v = x @ w_v

Queries, keys and values are three views of the same x. Each of the three has its matrix, and
each matrix its gradient, as in exercise 2. But x is one array that was used three times.

Two mistakes are made here again and again: an `=` where a `+=` is due, and a copied line in
which one name was not changed. Both train.

Question: by how many paths does a change of x reach the loss?
"""

import numpy as np
from ex02_linear import linear_backward


def shared_input_forward(x, w_q, w_k, w_v):
    return (x @ w_q, x @ w_k, x @ w_v), (x, w_q, w_k, w_v)


def shared_input_backward(dq, dk, dv, cache):
    x, w_q, w_k, w_v = cache
    # Your code, which returns dx, dw_q, dw_k, dw_v:
    dx_q, dw_q = linear_backward(dq, (x, w_q))
    dx_k, dw_k = linear_backward(dk, (x, w_k))
    dx_v, dw_v = linear_backward(dv, (x, w_v))
    return dx_q + dx_k + dx_v, dw_q, dw_k, dw_v
