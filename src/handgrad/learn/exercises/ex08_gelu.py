"""GELU

    u = √(2/π) * (x + 0.044715 x³)
    y = x/2 * (1 + tanh(u))                              x, y (B, T, F)

GPT-2's activation, in the form with tanh. Now it is the product rule and the chain rule
together: x/2 times something, and that something is a function of u, which is a function of x.
The derivative of tanh(u) is 1 - tanh(u)².

The constants are there, as RATE = √(2/π) and CUBIC = 0.044715.

Question: what is the slope of u in x?
"""

import numpy as np

RATE = np.sqrt(2 / np.pi)
CUBIC = 0.044715


def gelu_forward(x):
    tanh = np.tanh(RATE * (x + CUBIC * x**3))
    return x / 2 * (1 + tanh), (x, tanh)


def gelu_backward(dy, cache):
    x, tanh = cache
    # Your code, which returns dx:
    slope_of_u = RATE * (1 + 3 * CUBIC * x**2)
    return dy * ((1 + tanh) / 2 + x / 2 * (1 - tanh**2) * slope_of_u)
