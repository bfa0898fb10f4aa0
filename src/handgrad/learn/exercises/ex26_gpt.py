"""A GPT

    x      = token[tokens] + position[:T]                tokens, targets (B, T)    x (B, T, C)
    x      = block(x), one after the other
    logits = layer_norm(x) @ w_lm                        logits (B, T, V)
    loss   = cross_entropy(logits, targets)

p["blocks"] is a list of blocks' parameters; here there are two. Return dp in the form of p:
token, position, gamma, beta and w_lm, and a list of blocks in the order of the forward, though
you will meet the last one first.

position (context, C) is one table for all sequences, and T may be shorter than the context.

Question: what is the gradient of the rows of position that were not used?
"""

import numpy as np
from ex02_linear import linear_backward, linear_forward
from ex11_cross_entropy import cross_entropy_backward, cross_entropy_forward
from ex12_embedding import embedding_backward, embedding_forward
from ex14_layer_norm import layer_norm_backward, layer_norm_forward
from ex25_block import block_backward, block_forward


def gpt_forward(tokens, targets, p, H):
    x, embedding = embedding_forward(tokens, p["token"])
    x = x + p["position"][: tokens.shape[1]]
    blocks = []
    for block in p["blocks"]:
        x, cache = block_forward(x, block, H)
        blocks.append(cache)
    normed, norm = layer_norm_forward(x, p["gamma"], p["beta"])
    logits, head = linear_forward(normed, p["w_lm"])
    loss, entropy = cross_entropy_forward(logits, targets)
    return loss, (embedding, p["position"].shape, blocks, norm, head, entropy)


def gpt_backward(dloss, cache):
    embedding, shape_of_position, blocks, norm, head, entropy = cache
    dp = {"blocks": []}
    # Your code, which returns dp:
    dlogits = cross_entropy_backward(dloss, entropy)
    dnormed, dp["w_lm"] = linear_backward(dlogits, head)
    dx, dp["gamma"], dp["beta"] = layer_norm_backward(dnormed, norm)
    for block in reversed(blocks):
        dx, dblock = block_backward(dx, block)
        dp["blocks"].insert(0, dblock)
    dp["position"] = np.zeros(shape_of_position)
    dp["position"][: dx.shape[1]] = dx.sum(axis=0)
    dp["token"] = embedding_backward(dx, embedding)
    return dp
