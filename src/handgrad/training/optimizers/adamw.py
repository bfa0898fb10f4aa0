"""AdamW: Adam with weight decay that is decoupled from the gradient."""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from ...layers import Array
from ...model import Shape
from .optimizer import Optimizer, Update

EPSILON = 1e-8
CHUNK = 1 << 17
"""Elements that are updated at a time, so that the dozen passes over them happen in cache."""
KEPT = ("mean", "mean_square")


class AdamW(Optimizer):
    r"""Two running means of the gradient g decide the step of each number.

    $$ m \leftarrow \beta_1 m + (1 - \beta_1)\, g, \qquad v \leftarrow \beta_2 v + (1 - \beta_2)\, g^2 $$
    $$ w \leftarrow w - \eta\,\lambda\, w - \eta\, \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon} $$

    with the learning rate η, the step t from 1, and the decay λ for matrices, 0 for gains and offsets: there are too
    few of them to overfit, and pulling a LayerNorm's gain to 0 would silence it.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019.
    """

    @staticmethod
    def state_shapes(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
        return {f"{kept}/{name}": shape for kept in KEPT for name, shape in shapes.items()}

    def updates(
        self, gradients: Mapping[str, Array], step: int, learning_rate: float, scale: float
    ) -> Iterator[Update]:
        for name, gradient in gradients.items():
            tensors = (self.parameters[name], gradient, *(self.state[f"{kept}/{name}"] for kept in KEPT))
            decay = self.config.weight_decay if gradient.ndim == 2 else 0.0
            for start in range(0, gradient.size, CHUNK):
                weights, *others = (tensor.reshape(-1)[start : start + CHUNK] for tensor in tensors)
                yield partial(self._update, weights, *others, step=step, rate=learning_rate, decay=decay, scale=scale)

    def _update(
        self,
        weights: Array,
        gradient: Array,
        mean: Array,
        mean_square: Array,
        *,
        step: int,
        rate: float,
        decay: float,
        scale: float,
    ) -> None:
        beta_1, beta_2 = self.config.beta_1, self.config.beta_2
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
        work *= rate * correction_2**0.5 / correction_1
        if decay:
            weights *= 1 - rate * decay
        weights -= work
