"""y[b, t] = table[tokens[b, t]]: a row of the table for each token."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Inexact, Integer

from .arrays import Array, as_rows


class EmbeddingCache(NamedTuple):
    """What the embedding's backward needs: which rows of the table were read, and how many it has."""

    tokens: Array
    vocabulary: int


def embedding_forward(
    tokens: Integer[Array, "*batch"], table: Inexact[Array, "V C"]
) -> tuple[Inexact[Array, "*batch C"], EmbeddingCache]:
    r"""Look up the row of each token.

    $$ y_n = \mathrm{table}_{\mathrm{tokens}_n} $$

    Tokens are integers from 0 to V - 1 (NumPy would read a negative one from the table's end; the model refuses it).
    """
    return table[tokens], EmbeddingCache(tokens, len(table))


def embedding_backward(dy: Inexact[Array, "*batch C"], cache: EmbeddingCache) -> Inexact[Array, "V C"]:
    r"""Send each position's gradient back to the row it came from (tokens are integers and have none).

    $$ \mathrm{d}\mathrm{table}_v = \sum_{n:\,\mathrm{tokens}_n = v} \mathrm{d}y_n $$

    A token that occurs twice used its row twice, so its gradients add: a scatter-*add*. A plain assignment,
    `dtable[tokens] = dy`, would keep only the last. Sorting brings the rows of a token together and `reduceat` sums
    each run: what `np.add.at` does, in a fraction of its time.
    """
    tokens, vocabulary = cache
    order = np.argsort(tokens, axis=None, kind="stable")
    used, starts = np.unique(tokens.reshape(-1)[order], return_index=True)
    dtable = np.zeros((vocabulary, dy.shape[-1]), dy.dtype)
    dtable[used] = np.add.reduceat(as_rows(dy)[order], starts, axis=0)
    return dtable
