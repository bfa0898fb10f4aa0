"""The chain rule

    u = w * x + b
    y = u ** 3

Everything is a single number. Further on there is a loss, which you do not see. What you are
given is dy, its derivative with respect to y; what is asked for is dx, dw and db, its
derivatives with respect to x, w and b. That is how all names are read in this course: dname is
the gradient of the loss with respect to name.

A backward goes through the forward's lines in reverse, and multiplies the gradient by the slope
of each. The forward leaves what that needs in its cache.

Question: what is the slope of y in u, and what are those of u in x, w and b?
"""

import numpy as np


def chain_rule_forward(x, w, b):
    u = w * x + b
    y = u**3
    return y, (x, w, u)


def chain_rule_backward(dy, cache):
    x, w, u = cache
    # Your code, which returns dx, dw, db:
    du = dy * 3 * u**2  # y = u ** 3
    dx = du * w  # u = w * x + b
    dw = du * x
    db = du
    return dx, dw, db
