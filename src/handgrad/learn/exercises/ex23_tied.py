"""Tied weights

    x      = table[tokens]               tokens (B, T)    table (V, C)    x (B, T, C)
    logits = x @ tableᵀ                  logits (B, T, V)

GPT-2 has one table for both ends: a token's row is what it is read as, and what it is
recognised by. (In a model there are blocks between the two, which are left out here.) The table
is used in two places, and asked for something in both.

x was made of the table, too: the gradient of the head goes on, through x, to the rows that were
looked up.

Question: at the head, even the rows of tokens that did not occur have a gradient. Why?
"""

import numpy as np
from ex12_embedding import embedding_backward, embedding_forward


def tied_forward(tokens, table):
    x, embedding_cache = embedding_forward(tokens, table)
    return x @ table.T, (x, table, embedding_cache)


def tied_backward(dlogits, cache):
    x, table, embedding_cache = cache
    # Your code, which returns dtable:
    V, C = table.shape
    of_head = dlogits.reshape(-1, V).T @ x.reshape(-1, C)  # logits = x @ tableᵀ
    dx = dlogits @ table
    return of_head + embedding_backward(dx, embedding_cache)
