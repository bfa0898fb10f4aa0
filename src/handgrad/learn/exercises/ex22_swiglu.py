"""SwiGLU

    gate = x @ w_gate                    x (B, T, C)    w_gate, w_up (C, F)
    up   = x @ w_up
    y    = (silu(gate) * up) @ w_down                   w_down (F, C)    y (B, T, C)

The feed-forward layer of today's models: one half of the hidden units opens and closes the
other half. A product gives each of its factors the gradient times the other factor; and x is
used twice.

Everything that you need of the parts you have: linear_backward and silu_backward. The caches of
the three products and of silu are there, and the two factors of the product.

Question: dup is dhidden times which factor: gate, or silu(gate)?
"""

import numpy as np
from ex02_linear import linear_backward, linear_forward
from ex07_silu import silu_backward, silu_forward


def swiglu_forward(x, w_gate, w_up, w_down):
    gate, gate_cache = linear_forward(x, w_gate)
    up, up_cache = linear_forward(x, w_up)
    activated, silu_cache = silu_forward(gate)
    y, down_cache = linear_forward(activated * up, w_down)
    return y, (gate_cache, up_cache, silu_cache, activated, up, down_cache)


def swiglu_backward(dy, cache):
    gate_cache, up_cache, silu_cache, activated, up, down_cache = cache
    # Your code, which returns dx, dw_gate, dw_up, dw_down:
    dhidden, dw_down = linear_backward(dy, down_cache)
    dactivated = dhidden * up
    dup = dhidden * activated
    dgate = silu_backward(dactivated, silu_cache)
    dx_gate, dw_gate = linear_backward(dgate, gate_cache)
    dx_up, dw_up = linear_backward(dup, up_cache)
    return dx_gate + dx_up, dw_gate, dw_up, dw_down
