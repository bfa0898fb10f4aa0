"""The block

    h = x + attention(layer_norm(x)) @ w_o               x, h, y (B, T, C)
    y = h + swiglu(layer_norm(h))

All that you have written so far, put together. p has the parameters by their names; return dp
with the same names and shapes. There is no formula left to find: call the backwards of the
parts in reverse order, and add where paths meet.

Take care what each matrix multiplied in the forward. The cache holds more than you need, as
caches do.

Question: which lines of the forward use x, and which use h?
"""

import numpy as np
from ex02_linear import linear_backward
from ex14_layer_norm import layer_norm_backward, layer_norm_forward
from ex18_causal_attention import causal_attention_backward, causal_attention_forward
from ex19_heads import merge, split
from ex20_shared_input import shared_input_backward
from ex22_swiglu import swiglu_backward, swiglu_forward


def block_forward(x, p, H):
    normed, norm_1 = layer_norm_forward(x, p["gamma_1"], p["beta_1"])
    q, k, v = (split(normed @ p[name], H) for name in ("w_q", "w_k", "w_v"))
    context, attention = causal_attention_forward(q, k, v)
    merged = merge(context)
    h = x + merged @ p["w_o"]
    normed_h, norm_2 = layer_norm_forward(h, p["gamma_2"], p["beta_2"])
    fed, feed_forward = swiglu_forward(normed_h, p["w_gate"], p["w_up"], p["w_down"])
    return h + fed, (x, normed, norm_1, attention, merged, h, norm_2, feed_forward, p, H)


def block_backward(dy, cache):
    x, normed, norm_1, attention, merged, h, norm_2, feed_forward, p, H = cache
    dp = {}
    # Your code, which returns dx, dp:
    dnormed_h, dp["w_gate"], dp["w_up"], dp["w_down"] = swiglu_backward(dy, feed_forward)
    dh, dp["gamma_2"], dp["beta_2"] = layer_norm_backward(dnormed_h, norm_2)
    dh = dh + dy
    dmerged, dp["w_o"] = linear_backward(dh, (merged, p["w_o"]))
    dq, dk, dv = (merge(dz) for dz in causal_attention_backward(split(dmerged, H), attention))
    projections = (normed, p["w_q"], p["w_k"], p["w_v"])
    dnormed, dp["w_q"], dp["w_k"], dp["w_v"] = shared_input_backward(dq, dk, dv, projections)
    dx, dp["gamma_1"], dp["beta_1"] = layer_norm_backward(dnormed, norm_1)
    return dx + dh, dp
