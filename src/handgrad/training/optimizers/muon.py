r"""Muon: momentum, made orthogonal, for the matrices within blocks; AdamW for all else."""

import math
from collections.abc import Iterator, Mapping
from functools import partial

from ...layers import Array
from ...model import Shape
from .adamw import AdamW
from .optimizer import Update
from .orthogonal import orthogonalised

ADAMW_SIZE = 0.2
"""Root mean square of the numbers in a usual update of AdamW, over its learning rate."""


class Muon(AdamW):
    r"""Each matrix of a block moves along its momentum, made orthogonal; the other parameters are AdamW's.

    Of all changes of one spectral norm (the most that a matrix does to a vector) that is the one with most of the
    momentum in it; docs/measured/recipe.md derives it. All directions move alike, also those that a few large ones
    would drown.

    $$ m \leftarrow \mu\, m + (1 - \mu)\, g, \qquad O = \mathrm{orthogonalised}(\mu\, m + (1 - \mu)\, g) $$
    $$ w \leftarrow w - \eta\,\lambda\, w - 0.2\,\eta\,\sqrt{\max(M, N)}\; O $$

    with the momentum μ, the learning rate η and the decay λ. A full orthogonal O of shape (M, N) has entries of root
    mean square $1/\sqrt{\max(M, N)}$, those of AdamW's update have 0.2 in practice: with this factor the two kinds of
    parameters move alike at one learning rate. Embeddings and head stay with AdamW: their rows or columns are tokens,
    looked up or scored one by one, and no map of vectors.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; Bernstein and Newhouse, "Old
    Optimizer, New Norm", 2024, for the spectral norm; Liu et al., "Muon is Scalable for LLM Training", 2025, for the
    factor.
    """

    @staticmethod
    def state_shapes(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
        """Half of what AdamW keeps: one running mean for each matrix, not two."""
        momentum = {f"momentum/{name}": shape for name, shape in shapes.items() if _is_inner_matrix(name, shape)}
        others = {name: shape for name, shape in shapes.items() if not _is_inner_matrix(name, shape)}
        return momentum | AdamW.state_shapes(others)

    @staticmethod
    def has_one_owner(name: str, shape: Shape) -> bool:
        return _is_inner_matrix(name, shape)

    @staticmethod
    def cost(name: str, shape: Shape) -> float:
        """The products of an iteration take some 16 times as many operations as the matrix has numbers, and rows."""
        return math.prod(shape) * (1 + min(shape) / 8 if _is_inner_matrix(name, shape) else 1.0)

    def updates(
        self, gradients: Mapping[str, Array], step: int, learning_rate: float, scale: float
    ) -> Iterator[Update]:
        others = {}
        for name, gradient in gradients.items():
            if _is_inner_matrix(name, gradient.shape):
                tensors = self.parameters[name], gradient, self.state[f"momentum/{name}"]
                yield partial(self._orthogonal_update, *tensors, rate=learning_rate, scale=scale)
            else:
                others[name] = gradient
        yield from super().updates(others, step, learning_rate, scale)

    def _orthogonal_update(
        self, weights: Array, gradient: Array, momentum: Array, *, rate: float, scale: float
    ) -> None:
        mu = self.config.momentum
        new = gradient * (scale * (1 - mu))
        momentum *= mu
        momentum += new
        new += mu * momentum  # Nesterov: what the mean would be if the next gradient were this one again
        change = orthogonalised(new)
        change *= ADAMW_SIZE * rate * max(weights.shape) ** 0.5
        weights *= 1 - rate * self.config.weight_decay
        weights -= change


def _is_inner_matrix(name: str, shape: Shape) -> bool:
    """Whether this parameter is a matrix within a block."""
    return name.startswith("blocks.") and len(shape) == 2
