"""Where numbers stopped being finite: the first tensor, in the order of the computation."""

import numpy as np

from ..layers import Array, Tap
from ..model import Model, Parameters, loss_backward, loss_forward
from .batches import Batch


class _NotFiniteError(Exception):
    pass


def first_non_finite(model: Model, batch: Batch) -> str | None:
    """What is not finite in the loss and gradients of a batch, in words; None if all is.

    The parameters come first; then, sequence by sequence, which takes little memory, each activation of a forward pass,
    each cotangent of the backward pass, and the gradients.
    """
    if culprit := first_non_finite_parameter(model):
        return culprit
    sequences = (Batch(*(x[n : n + 1] for x in batch)) for n in range(len(batch.tokens)))
    return next(filter(None, (_first_non_finite(model, sequence) for sequence in sequences)), None)


def _first_non_finite(model: Model, batch: Batch) -> str | None:
    with np.errstate(all="ignore"):
        try:
            loss, cache = loss_forward(*batch, model.parameters.tree, model.config, _stop_at("{name} became {value}"))
            tree = loss_backward(np.ones_like(loss), cache, _stop_at("the cotangent of {name} became {value}"))
        except _NotFiniteError as found:
            return str(found)
    for name, gradient in Parameters.from_tree(model.config, tree).items():
        if not np.isfinite(gradient).all():
            return f"the gradient of {name} became {_worst(gradient)}"
    return None


def first_non_finite_parameter(model: Model) -> str | None:
    if np.isfinite(model.parameters.flat).all():
        return None
    name, parameter = next((name, x) for name, x in model.parameters.items() if not np.isfinite(x).all())
    return f"the parameter {name} is {_worst(parameter)}"


def _stop_at(sentence: str) -> Tap:
    """A tap that raises the sentence at the first array that is not finite, but for the mask's minus infinity."""

    def tap(name: str, x: Array) -> Array:
        masked = name.endswith("masked_scores")
        if not (np.isfinite(x) | (np.isneginf(x) if masked else False)).all():
            raise _NotFiniteError(sentence.format(name=name, value=_worst(x)))
        return x

    return tap


def _worst(x: Array) -> str:
    return "nan" if np.isnan(x).any() else "infinite"
