"""AdamW: Adam with weight decay that is decoupled from the gradient."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..layers import Array
from ..model import GPTParameters, Parameters, leaves
from .config import TrainingConfig

EPSILON = 1e-8
CHUNK = 1 << 17
"""Elements that are updated at a time, so that the dozen passes over them happen in cache."""


class Chunk(NamedTuple):
    """Entries of one tensor, all views of one dimension."""

    decays: bool
    weights: Array
    gradient: Array
    mean: Array
    mean_square: Array


def in_order(work: Callable[[Chunk], None], chunks: list[Chunk]) -> None:
    for chunk in chunks:
        work(chunk)


class AdamW:
    r"""Updates parameters in place, from their gradients and two running means.

    $$ m \leftarrow \beta_1 m + (1 - \beta_1)\, g, \qquad v \leftarrow \beta_2 v + (1 - \beta_2)\, g^2 $$
    $$ w \leftarrow w - \eta\,\lambda\, w - \eta\, \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon} $$

    with the learning rate η, the step t from 1, and the decay λ for matrices, 0 for gains and offsets: there are too
    few of them to overfit, and pulling a LayerNorm's gain to 0 would silence it.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019.
    """

    def __init__(self, parameters: Parameters, config: TrainingConfig) -> None:
        self.parameters = parameters
        self.config = config
        self.mean = Parameters(parameters.config, dtype=parameters.flat.dtype)
        self.mean_square = Parameters(parameters.config, dtype=parameters.flat.dtype)
        self.steps = 0

    def step(
        self,
        gradients: GPTParameters,
        learning_rate: float,
        scale: float = 1.0,
        for_each: Callable[[Callable[[Chunk], None], list[Chunk]], None] = in_order,
    ) -> None:
        """One update with `scale` times the gradients (the clip), which are not written to.

        Chunks know nothing of each other: `for_each` may share them out to threads, and no bit changes.
        """
        trees = (self.parameters.tree, gradients, self.mean.tree, self.mean_square.tree)
        chunks = [
            Chunk(tensors[0].ndim == 2, *(leaf.reshape(-1)[start : start + CHUNK] for leaf in tensors))
            for tensors in zip(*map(leaves, trees), strict=True)
            for start in range(0, tensors[0].size, CHUNK)
        ]

        def update(chunk: Chunk) -> None:
            with np.errstate(all="ignore"):  # what overflows is found in the next step, and named
                self._update(chunk, learning_rate, scale)

        for_each(update, chunks)
        self.steps += 1

    def _update(self, chunk: Chunk, learning_rate: float, scale: float) -> None:
        decays, weights, gradient, mean, mean_square = chunk
        beta_1, beta_2 = self.config.beta_1, self.config.beta_2
        step = self.steps + 1
        correction_1, correction_2 = 1 - beta_1**step, 1 - beta_2**step
        work = gradient * (scale * (1 - beta_1))
        mean *= beta_1
        mean += work
        np.multiply(gradient, scale * (1 - beta_2) ** 0.5, out=work)
        work *= work
        mean_square *= beta_2
        mean_square += work
        # m/c1 / (√(v/c2) + ε)  =  (√c2/c1) · m / (√v + ε√c2): the corrections become two numbers
        np.sqrt(mean_square, out=work)
        work += EPSILON * correction_2**0.5
        np.divide(mean, work, out=work)
        work *= learning_rate * correction_2**0.5 / correction_1
        if decays:
            weights *= 1 - learning_rate * self.config.weight_decay
        weights -= work
