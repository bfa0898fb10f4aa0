"""Split and merge heads

    z[b, h, t, d] = g[h] * x[b, t, h·D + d]              x (B, T, C)    g (H,)    C = H·D
    y             = merge(z)                             y (B, T, C)

Heads are a matter of shape: the C channels are cut into H pieces of D, and the axis of the
heads goes to the front, so that one product serves them all. Merging is the way back. Here
something happens between the two, so that there is something to differentiate: each head is
multiplied by a number of its own.

split and merge are given, and you may call them. Each is the other's inverse, and each only
moves numbers about, which makes its transpose its inverse too.

Question: what is the backward of merge, and what is that of split?
"""

import numpy as np


def split(x, H):
    """(B, T, H·D) to (B, H, T, D)"""
    B, T, C = x.shape
    return x.reshape(B, T, H, C // H).swapaxes(1, 2)


def merge(x):
    """(B, H, T, D) to (B, T, H·D)"""
    B, H, T, D = x.shape
    return x.swapaxes(1, 2).reshape(B, T, H * D)


def heads_forward(x, g):
    x_heads = split(x, len(g))
    return merge(x_heads * g[:, None, None]), (x_heads, g)


def heads_backward(dy, cache):
    x_heads, g = cache
    # Your code, which returns dx, dg:
    dz = split(dy, len(g))
    dx = merge(dz * g[:, None, None])
    dg = (dz * x_heads).sum(axis=(0, 2, 3))
    return dx, dg
