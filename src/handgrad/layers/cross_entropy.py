"""loss = mean of -log(softmax(logits)[target]), over the targets that count."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Inexact, Integer

from .arrays import Array, row_sums

IGNORE_INDEX = -100  # the value that PyTorch and its ecosystem mark padding with


class CrossEntropyCache(NamedTuple):
    """What cross-entropy's backward needs: the probabilities, and the targets that they are held against."""

    probabilities: Array
    targets: Array
    """0 where the target does not count."""
    counted: Array
    """Whether each target counts."""
    divisor: int
    """How many of them count; 1 where none does."""


def cross_entropy_forward(
    logits: Inexact[Array, "*batch V"], targets: Integer[Array, "*batch"], *, ignore_index: int = IGNORE_INDEX
) -> tuple[Inexact[Array, ""], CrossEntropyCache]:
    r"""The average surprise, in nats, at the targets; positions whose target is `ignore_index` do not count.

    $$ \mathrm{loss} = \frac{1}{N} \sum_{n\ \mathrm{counted}}
       \left( \log \sum_v e^{z_{nv}} - z_{n,\mathrm{target}_n} \right) $$

    with z the logits and N the number of counted targets. Softmax and logarithm are one step here, because
    $\log(e^z / \sum e^z)$ taken in two would underflow to $\log 0$ for an improbable target. Targets are integers from
    0 to V - 1, or `ignore_index`. Where no target counts the loss is 0.
    """
    counted = targets != ignore_index
    divisor = max(1, int(np.count_nonzero(counted)))
    targets = np.where(counted, targets, 0)  # an ignored position may hold no valid index; any row's entry will do
    shifted = logits - logits.real.max(axis=-1, keepdims=True)  # cancels in the difference below, as in softmax
    at_target = np.take_along_axis(shifted, targets[..., None], axis=-1)
    exponentials = np.exp(shifted, out=shifted)
    totals = row_sums(exponentials)
    surprise = np.log(totals) - at_target  # (*batch, 1)
    loss = np.asarray((surprise[..., 0] * counted).sum() / divisor)
    probabilities = np.divide(exponentials, totals, out=exponentials)
    return loss, CrossEntropyCache(probabilities, targets, counted, divisor)


def cross_entropy_backward(dloss: Inexact[Array, ""], cache: CrossEntropyCache) -> Inexact[Array, "*batch V"]:
    r"""Probability minus truth.

    $$ \mathrm{d}\mathrm{logits}_{nv} = \frac{\mathrm{d}\mathrm{loss}}{N}
       \left( \mathrm{softmax}(\mathrm{logits}_n)_v - [v = \mathrm{target}_n] \right) $$

    and 0 in the rows that do not count. Softmax's Jacobian times the logarithm's 1/p collapses to this difference: each
    row sums to zero, and there is nothing to divide by a probability.
    """
    probabilities, targets, counted, divisor = cache
    dsurprise = (counted * np.asarray(dloss / divisor, probabilities.dtype))[..., None]  # the mean over the counted
    dlogits: Array = probabilities * dsurprise  # + log Σ exp(logits)
    at_target = np.take_along_axis(dlogits, targets[..., None], axis=-1)
    np.put_along_axis(dlogits, targets[..., None], at_target - dsurprise, axis=-1)  # - logits[target]
    return dlogits
