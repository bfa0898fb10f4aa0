"""The embedding: scatter-add

    y[b, t] = table[tokens[b, t]]        tokens (B, T)    table (V, C)    y (B, T, C)

Each token, an integer below V, picks a row of the table. The backward sends each position's
gradient to the row that it came from; rows of tokens that did not occur get zeros.

In NumPy, `dtable[tokens] = dy` looks right, and so does `dtable[tokens] += dy`. Try both with
tokens = [3, 3], and then find the function of NumPy that is made for this.

Question: tokens = [3, 3]. What is row 3 of dtable?
"""

import numpy as np


def embedding_forward(tokens, table):
    return table[tokens], (tokens, table.shape)


def embedding_backward(dy, cache):
    tokens, shape = cache
    # Your code, which returns dtable:
    dtable = np.zeros(shape)
    np.add.at(dtable, tokens, dy)
    return dtable
