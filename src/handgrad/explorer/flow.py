"""How signals and gradients keep their size through the depth; and how they do not where a choice is left out."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..model import Model, ModelConfig, initial_parameters
from ..proof import Trace, trace
from .stop import Stop, stoppable
from .tensors import plain

WITHOUT: dict[str, tuple[str, dict[str, Any]]] = {
    "norm": ("without the norm before each layer", {"norm": "none"}),
    "init": ("without 1/√N: weights of variance 1", {"init": "unit"}),
    "scale": ("without 1/√D in the scores", {"score_scale": False}),
    "residual": ("without residuals", {"residual": False}),
}
"""By its name, what is left out of a fresh model: in words, and as fields of its config."""
AS_IT_IS, FRESH = "as it is", "fresh, with all of them"


class Point(NamedTuple):
    """A tensor on the way, forwards and backwards."""

    name: str
    std: float | None
    """Of the activation."""
    norm: float | None
    """Of its cotangent."""


class Course(NamedTuple):
    """A pass through one model; None where a number is not finite."""

    key: str
    title: str
    loss: float | None
    points: list[Point]
    sharpest: list[float | None]
    """Of each block: the largest weight of attention in a row, the mean over the rows that see more than one key."""


def choices(config: ModelConfig) -> dict[str, str]:
    """What can be shown, by its key, in words; what the model itself goes without cannot be left out."""
    without = {key: title for key, (title, fields) in WITHOUT.items() if replace(config, **fields) != config}
    return {"trained": AS_IT_IS, "fresh": FRESH, **without}


def course_of(key: str, model: Model, traced: Trace, layers: int, stop: Stop, seed: int = 0) -> Course:
    """The traced pass; or the same text through a fresh model of so many blocks, as configured or with one of the
    choices left out."""
    if key == "trained":
        return _course(key, AS_IT_IS, traced)
    title, fields = WITHOUT.get(key, (FRESH, {}))
    config = replace(model.config, layers=layers, **fields)
    fresh = Model(config, initial_parameters(config, seed), model.tokenizer)
    with np.errstate(all="ignore"):
        return _course(key, title, trace(fresh, traced.tokens, traced.targets, through=stoppable(stop)))


@np.errstate(all="ignore")
def _course(key: str, title: str, traced: Trace) -> Course:
    points = [
        Point(name, plain(x.std()), plain(np.linalg.norm(traced.cotangents[name])))
        for name, x in traced.activations.items()
        if name != "loss" and not name.endswith("masked_scores")
    ]
    sharpest = [
        plain(x[:, :, 1:].max(axis=-1).mean()) if x.shape[2] > 1 else None
        for name, x in traced.activations.items()
        if name.endswith("attention.weights")
    ]
    return Course(key, title, plain(traced.loss), points, sharpest)
