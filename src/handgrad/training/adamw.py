"""AdamW: Adam with weight decay that is decoupled from the gradient."""

import numpy as np

from ..layers import Array
from ..model import Parameters
from .config import TrainingConfig

EPSILON = 1e-8
CHUNK = 1 << 16
"""Elements that are updated at a time, so that the dozen passes over them happen in cache."""


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

    def step(self, gradients: Parameters, learning_rate: float, scale: float = 1.0) -> None:
        """One update with `scale` times the gradients (the clip), which are not written to."""
        total, matrices = self.parameters.flat.size, self.parameters.matrices.size
        for start, end, decay in ((0, matrices, self.config.weight_decay), (matrices, total, 0.0)):
            for chunk in (slice(at, min(at + CHUNK, end)) for at in range(start, end, CHUNK)):
                self._update(chunk, gradients.flat[chunk] * scale, learning_rate, decay)
        self.steps += 1

    def _update(self, chunk: slice, gradient: Array, learning_rate: float, decay: float) -> None:
        """Update one chunk of the flat vectors. `gradient` is ours to write to: it becomes the update."""
        beta_1, beta_2 = self.config.beta_1, self.config.beta_2
        step = self.steps + 1
        correction_1, correction_2 = 1 - beta_1**step, 1 - beta_2**step
        weights, mean, mean_square = (x.flat[chunk] for x in (self.parameters, self.mean, self.mean_square))
        mean *= beta_1
        mean += gradient * (1 - beta_1)
        gradient *= gradient
        gradient *= 1 - beta_2
        mean_square *= beta_2
        mean_square += gradient
        update = np.sqrt(mean_square, out=gradient)
        # m/c1 / (√(v/c2) + ε)  =  (√c2/c1) · m / (√v + ε√c2): the corrections become two numbers
        update += EPSILON * correction_2**0.5
        np.divide(mean, update, out=update)
        update *= learning_rate * correction_2**0.5 / correction_1
        weights *= 1 - learning_rate * decay
        weights -= update
