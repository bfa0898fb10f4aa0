"""Gradient accumulation

A batch that does not fit into memory is cut into parts, and each goes forward and backward by
itself.

    losses[i]       the mean loss over the targets of part i
    gradients[i]    the gradients of losses[i]: a dict of arrays, the same names in each
    counts[i]       how many targets part i has: not the same in each

Return the mean loss over all targets of the whole batch, and its gradients, a dict with the
same names. They must be what the uncut batch would have given, up to rounding.
Write to none of the arrays.

For years widely used trainers took the plain mean of the parts here. It is right only where all
parts count alike.

Question: the sum of the losses over the targets of part i is counts[i] * losses[i]. What is
that of the whole batch?
"""

import numpy as np


def accumulate(losses, gradients, counts):
    # Your code, which returns loss, gradients:
    shares = [count / sum(counts) for count in counts]
    loss = sum(share * part for share, part in zip(shares, losses, strict=True))
    names = gradients[0]
    return loss, {
        name: sum(share * part[name] for share, part in zip(shares, gradients, strict=True)) for name in names
    }
