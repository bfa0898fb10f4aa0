"""What a trainer asks of the processes that train together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, NamedTuple, Self

from ...layers import Array
from ...machine import cores
from ...model import Parameters
from ..optimizers import Optimizer, Update
from ..shards import GradientSum

BEGIN = "begin"
Share = Callable[[Sequence[Update]], None]


class Traffic(NamedTuple):
    """Between ranks."""

    sent: int
    """Bytes of gradients and weights that this rank has sent."""
    seconds: float
    """To hand them over and to wait, also for ranks that are slower."""


class Ranks:
    """The processes that train together, as each of them sees them. Here: one, which has all shards, all parameters and
    all of the optimizer's state. `MpiRanks` are several."""

    rank = 0
    size = 1
    neighbours = 1
    """Ranks on this machine, with this one."""

    @property
    def traffic(self) -> Traffic:
        """So far."""
        return Traffic(0, 0.0)

    @property
    def cores(self) -> int:
        """How many processors there are for each rank of this machine."""
        return cores()

    def shards(self, threads: int | None) -> int:
        """As many as all ranks have threads."""
        return self.size * (threads or self.cores)

    def block(self, shards: int) -> range:
        """Which of the shards this rank works on: a node of the tree that sums them."""
        return range(shards)

    def own(self, parameters: Parameters, optimizer: type[Optimizer]) -> Mapping[str, Array]:
        """What this rank updates: parameters, or rows of them."""
        return parameters

    def begin(self, make: Callable[[], tuple[Any, ...]]) -> int:
        """Have the others make the same trainer, from what this makes; its number."""
        return 0

    def commands(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """What the leader does, and the others are to do: `BEGIN` with what it made, or a method of the trainer and
        its arguments."""
        yield from ()

    def together(self, trainer: int, command: str, *arguments: Any) -> AbstractContextManager[None]:
        """All ranks do what follows: the method that this names, of the trainer of this number, with these arguments.

        Only a `TrainingError` may end it, to which all ranks come by the same numbers; any other error ends them all.
        """
        return nullcontext()

    def gather(self, values: Array, counts: Sequence[int]) -> list[Array]:
        """The numbers that each rank has, so many, in the order of the ranks."""
        return [values]

    def gradients(self) -> GradientSum:
        """An empty sum."""
        return GradientSum()

    def update(self, optimizer: Optimizer, gradients: Any, rate: float, scale: float, share: Share) -> None:
        """One update of all parameters, on all ranks."""
        optimizer.step(gradients.tree, rate, scale, share)

    def whole(self, optimizer: Optimizer) -> Mapping[str, Array]:
        """Room for the optimizer's whole state, of which each rank keeps its part; only the leader has it."""
        return optimizer.state

    def collect(self, optimizer: Optimizer) -> Mapping[str, Array]:
        """The whole state of the optimizer."""
        return optimizer.state

    def deal(self, optimizer: Optimizer, state: Mapping[str, Array]) -> None:
        """Give each rank its part of the optimizer's state."""

    def advise(self, advice: str) -> None:
        """What is to be said besides, should a rank be lost."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass
