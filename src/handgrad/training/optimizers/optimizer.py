"""What the optimizers have in common: a state that checkpoints keep, and work that threads can share."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from ...layers import Array
from ...machine import single_threaded_blas
from ...model import GPTParameters, Shape, leaves
from ..config import TrainingConfig

Update = Callable[[], None]
"""A part of a step that knows nothing of the other parts."""


def in_order(updates: Sequence[Update]) -> None:
    """All of them, one after another, on this thread."""
    with np.errstate(all="ignore"):  # what overflows is found in the next step, and named
        for update in updates:
            update()


class Optimizer(ABC):
    """Updates parameters in place, from their gradients and from what it keeps of earlier ones."""

    def __init__(self, parameters: Mapping[str, Array], config: TrainingConfig) -> None:
        self.parameters = parameters
        self.config = config
        self.steps = 0
        shapes = self.state_shapes({name: tensor.shape for name, tensor in parameters.items()})
        (dtype,) = {tensor.dtype for tensor in parameters.values()} or {np.dtype(np.float32)}
        self.state = {name: np.zeros(shape, dtype) for name, shape in shapes.items()}
        """All that a step depends on besides the weights and its number; 0 in the beginning."""

    @staticmethod
    @abstractmethod
    def state_shapes(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
        """What is kept for parameters of these shapes: the tensors of `state`, by name."""

    @staticmethod
    def has_one_owner(name: str, shape: Shape) -> bool:
        """Whether the update of a parameter takes the whole of it at once."""
        return False

    @staticmethod
    def cost(name: str, shape: Shape) -> float:
        """About how long the update of a parameter takes; a number in AdamW is 1."""
        return float(math.prod(shape))

    @abstractmethod
    def updates(
        self, gradients: Mapping[str, Array], step: int, learning_rate: float, scale: float
    ) -> Iterator[Update]:
        """The parts of update `step`, counted from 1, with `scale` times these gradients."""

    def step(
        self,
        gradients: GPTParameters,
        learning_rate: float,
        scale: float = 1.0,
        share: Callable[[Sequence[Update]], None] = in_order,
    ) -> None:
        """One update with `scale` times the gradients (the clip), which are not written to.

        Its parts know nothing of each other: `share` may give them to threads, and no bit changes.
        """
        with single_threaded_blas():  # on several threads Muon's products would round differently
            self.update(dict(zip(self.parameters, leaves(gradients), strict=True)), learning_rate, scale, share)
        self.steps += 1

    def update(
        self,
        gradients: Mapping[str, Array],
        learning_rate: float,
        scale: float,
        share: Callable[[Sequence[Update]], None],
    ) -> None:
        """What the update under way does to these parameters."""
        share(list(self.updates(gradients, self.steps + 1, learning_rate, scale)))
