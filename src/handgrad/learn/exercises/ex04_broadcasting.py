"""Broadcasting

    y = x * s        x (B, T, C)    s (T, 1)    y (B, T, C)

Each position t is scaled by a number of its own, s[t, 0], the same one in every sequence and in
every channel. NumPy puts missing axes in front (s has no B) and stretches axes of length 1 (its
last one).

The rule behind every broadcast: what was copied forwards is summed backwards, and the sum keeps
the shape that the thing had before it was copied.

Question: over which axes was s copied, and which of them must still be there, with length 1, in
ds?
"""

import numpy as np


def broadcasting_forward(x, s):
    return x * s, (x, s)


def broadcasting_backward(dy, cache):
    x, s = cache
    # Your code, which returns dx, ds:
    dx = dy * s
    ds = (dy * x).sum(axis=(0, 2))[:, None]  # a sum for each t, as the column that s is
    return dx, ds
