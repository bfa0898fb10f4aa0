"""Grouped queries

    y = causal attention of  q (B, H, T, D)  with  k, v (B, G, T, D)

Keys and values are what a model must keep while it writes, so today's models have fewer heads
of them: G, each of which serves H/G neighbouring heads of queries. In the forward each head of
k and v is repeated for its queries:

    np.repeat(k, H // G, axis=1):   k0 k0 k0 k1 k1 k1    for H = 6, G = 2

A head of keys that was copied H/G times: that is broadcasting once more.

Question: which heads of the repeated dk belong to the head g of k, and what becomes of them?
"""

import numpy as np
from ex18_causal_attention import causal_attention_backward, causal_attention_forward


def grouped_queries_forward(q, k, v):
    H, G = q.shape[1], k.shape[1]
    repeated = [np.repeat(x, H // G, axis=1) for x in (k, v)]
    y, attention_cache = causal_attention_forward(q, *repeated)
    return y, (attention_cache, G)


def grouped_queries_backward(dy, cache):
    attention_cache, G = cache
    # Your code, which returns dq, dk, dv:
    dq, *drepeated = causal_attention_backward(dy, attention_cache)
    B, H, T, D = dq.shape
    dk, dv = (dx.reshape(B, G, H // G, T, D).sum(axis=2) for dx in drepeated)
    return dq, dk, dv
