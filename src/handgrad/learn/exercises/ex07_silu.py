"""SiLU

    y = x * σ(x)         σ(x) = 1 / (1 + exp(-x))         x, y (B, T, F)

A ramp with a soft foot, the activation inside of SwiGLU. x stands in it twice: once by itself,
and once inside of σ. A product of two things that both depend on x has a derivative of two
terms.

The derivative of σ is σ (1 - σ): no exponential need be taken again.

Question: which of the two terms would be missing if you treated σ(x) as a constant gate?
"""

import numpy as np


def silu_forward(x):
    sigmoid = 1 / (1 + np.exp(-x))
    return x * sigmoid, (x, sigmoid)


def silu_backward(dy, cache):
    x, sigmoid = cache
    # Your code, which returns dx:
    return dy * (sigmoid + x * sigmoid * (1 - sigmoid))
