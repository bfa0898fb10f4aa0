"""Rotary positions

    y[i]       = x[i] * cos[t, i]       - x[i + D/2] * sin[t, i]
    y[i + D/2] = x[i + D/2] * cos[t, i] + x[i] * sin[t, i]

    x, y (B, H, T, D)    cos, sin (T, D/2)    for i below D/2

Queries and keys are turned by an angle that grows with their position t, pair by pair: entry i
and entry i + D/2 are the coordinates of a point in the plane. There are no parameters, but
there is a backward: y is not x.

Each pair is multiplied by a matrix of 2×2. Write it down, and then its transpose.

Question: the transpose of a rotation is a rotation. By which angle?
"""

import numpy as np


def rotary_forward(x):
    T, D = x.shape[-2:]
    angles = np.arange(T)[:, None] * 10_000.0 ** (-np.arange(0, D, 2) / D)
    cos, sin = np.cos(angles), np.sin(angles)
    first, second = np.split(x, 2, axis=-1)
    y = np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return y, (cos, sin)


def rotary_backward(dy, cache):
    cos, sin = cache
    # Your code, which returns dx:
    dfirst, dsecond = np.split(dy, 2, axis=-1)
    return np.concatenate([dfirst * cos + dsecond * sin, dsecond * cos - dfirst * sin], axis=-1)
