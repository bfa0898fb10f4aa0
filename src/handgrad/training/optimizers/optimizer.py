"""What the optimizers have in common: a state that checkpoints keep, and work that threads can share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from ...layers import Array
from ...machine import single_threaded_blas
from ...model import GPTParameters, Parameters, Shape, leaves
from ..config import TrainingConfig

Update = Callable[[], None]
"""A part of a step that knows nothing of the other parts."""


def in_order(updates: Sequence[Update]) -> None:
    with np.errstate(all="ignore"):  # what overflows is found in the next step, and named
        for update in updates:
            update()


class Optimizer(ABC):
    """Updates parameters in place, from their gradients and from what it keeps of earlier ones."""

    def __init__(self, parameters: Parameters, config: TrainingConfig) -> None:
        self.parameters = parameters
        self.config = config
        self.steps = 0
        shapes = self.state_shapes({name: tensor.shape for name, tensor in parameters.items()})
        self.state = {name: np.zeros(shape, parameters.flat.dtype) for name, shape in shapes.items()}
        """All that a step depends on besides the weights and its number; 0 in the beginning."""

    @staticmethod
    @abstractmethod
    def state_shapes(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
        """What is kept for parameters of these shapes: the tensors of `state`, by name."""

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
        named = dict(zip(self.parameters, leaves(gradients), strict=True))
        with single_threaded_blas():  # on several threads Muon's products would round differently
            share(list(self.updates(named, self.steps + 1, learning_rate, scale)))
        self.steps += 1
