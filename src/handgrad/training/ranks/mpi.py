"""Several processes that train together: the ranks of MPI, by mpi4py.

Rank 0 leads: it has the run's folder, tells the others what comes next, and does it with them; they follow. Each works
on a block of the shards, and owns a portion of each part of the model. A step:

1. The backward pass comes down on each rank. As soon as its shards' sum of a part is there, it goes to the part's
   owners, while the pass goes on below: a non-blocking all-to-all. Each owner adds what comes by the upper part of the
   tree, so that all is summed as in one process, bit for bit.
2. The norm of all gradients is made of the squares of each row, by the row's owner.
3. Each owner updates its portion, part by part, while those that are updated travel to everybody: an all-gather.

A rank sends (ranks - 1) / ranks of the gradient, and as much of the weights; less is not possible. Both exchanges are
made of messages: MPICH's own for unequal counts (Ialltoallv) moves 16 KB whenever it is polled, a message all at once.
"""

import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from traceback import format_exception
from types import TracebackType
from typing import Any

import numpy as np
from mpi4py import MPI

from ...errors import HandgradError, TrainingError, as_told
from ...layers import Array
from ...machine import processors, single_threaded_blas
from ...model import GPTParameters, Parameters, Shape, leaves
from ..optimizers import Optimizer
from ..shards import Gradients
from .exchange import Exchange, SharedSum
from .lifeline import Lifeline, start_watching
from .ownership import Ownership, share_out
from .ranks import BEGIN, Ranks, Share, Traffic

pause: Callable[[], None] = getattr(os, "sched_yield", lambda: time.sleep(0))  # a sleep of 0 takes 50 µs on Linux
Move = Callable[[Array, int, int], MPI.Request]
SPIN = 1e-3
"""Seconds that a rank that waits only yields between polls; later it naps."""
GATHERED = 1 << 14
"""The tag of numbers that all ranks gather; parts and tensors of a state have lower ones."""
NAPS = 5e-5, 1e-3
"""The first, and the longest, in seconds."""
LOOK_EVERY = 0.1
"""Seconds of waiting after which it is asked whether a rank was lost."""


class MpiRanks(Ranks):
    """A rank, and what it does with the others: all of them the same, in the same order."""

    def __init__(self, world: MPI.Comm) -> None:
        self._world = world.Dup()  # messages of others, who use the same world, are not ours
        self.rank, self.size = world.rank, world.size
        machine = world.Split_type(MPI.COMM_TYPE_SHARED)
        self.neighbours = machine.size
        self._processors = len(set().union(*machine.allgather(processors())))
        address = start_watching(self.neighbours == self.size) if self.rank == 0 else None
        self._lifeline = Lifeline(world.bcast(address), self.rank)
        self._lock = threading.Lock()
        """Threads call MPI one at a time."""
        self._together = False
        """Whether the ranks are amid something, and would wait for each other."""
        self._trainer = 0
        """The number of the one that was made last."""
        self._parameters: Parameters
        self.ownership = Ownership({}, {}, 0)
        self._sent, self._seconds = 0, 0.0
        self.wait([self._world.Ibarrier()])  # until all hold the lifeline

    @property
    def traffic(self) -> Traffic:
        return Traffic(self._sent, self._seconds)

    @property
    def cores(self) -> int:
        return max(1, self._processors // self.neighbours)

    def block(self, shards: int) -> range:
        each = shards // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    def own(self, parameters: Parameters, optimizer: type[Optimizer]) -> Mapping[str, Array]:
        self._parameters = parameters
        self.ownership = share_out({name: x.shape for name, x in parameters.items()}, optimizer, self.size)
        return {name: parameters[name][rows] for name, rows in self.ownership.all_rows(self.rank).items()}

    def begin(self, make: Callable[[], tuple[Any, ...]]) -> int:
        self._together = True
        if self.rank == 0:  # the others have heard so much when they make their trainer
            self.broadcast((BEGIN, make()))
        self.wait([self._world.Ibcast(self._parameters.flat)])
        self._together = False
        self._trainer += 1
        return self._trainer

    @contextmanager
    def together(self, trainer: int, command: str, *arguments: Any) -> Iterator[None]:
        if trainer != self._trainer:
            raise HandgradError("ranks train together with one trainer at a time, the one that was made last")
        self._together = True
        if self.rank == 0:
            self.broadcast((command, arguments))
        try:
            yield
        except TrainingError:
            self._together = False
            raise
        self._together = False

    def commands(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        while (told := self.broadcast()) is not None:
            yield told

    def gather(self, values: Array, counts: Sequence[int]) -> list[Array]:
        found = [values if rank == self.rank else np.empty(count) for rank, count in enumerate(counts)]
        self.wait(self._give_to_all(values, found, GATHERED))
        return found

    def gradients(self) -> SharedSum:
        return SharedSum(self)

    def update(self, optimizer: Optimizer, gradients: Any, rate: float, scale: float, share: Share) -> None:
        requests = list[MPI.Request]()
        with single_threaded_blas():
            for tag, part in enumerate(self.ownership.cuts):
                optimizer.update(gradients.owned(part), rate, scale, share)
                portions = self._portions(part, self._parameters.flat)
                requests += self._give_to_all(portions[self.rank], portions, tag)
                self._sent += portions[self.rank].nbytes * (self.size - 1)
                self.is_done(requests)
        self.wait(requests)
        optimizer.steps += 1

    def tree(self, portions: Mapping[str, Array]) -> GPTParameters:
        """What all ranks have of the parts, of which these are this rank's portions."""
        flat = np.empty_like(self._parameters.flat)
        for tag, (part, mine) in enumerate(portions.items()):
            everybodys = self._portions(part, flat)
            everybodys[self.rank][...] = mine
            self.wait(self._give_to_all(mine, everybodys, tag))
        return Parameters(self._parameters.config, flat).tree

    def _portions(self, part: str, flat: Array) -> list[Array]:
        """What each rank owns of a part, in a vector that is laid out as the parameters."""
        cuts = np.array(self.ownership.cuts[part])
        return np.split(flat[cuts[0] : cuts[-1]], cuts[1:-1] - cuts[0])

    def whole(self, optimizer: Optimizer) -> Mapping[str, Array]:
        if self.rank:
            return {}
        dtype = self._parameters.flat.dtype
        return {name: np.zeros(shape, dtype) for name, shape in self._state_shapes(optimizer).items()}

    def collect(self, optimizer: Optimizer) -> Mapping[str, Array]:
        state = self.whole(optimizer)
        self._move(optimizer, state, self._world.Isend, self._world.Irecv)
        return state

    def deal(self, optimizer: Optimizer, state: Mapping[str, Array]) -> None:
        optimizer.steps = self.broadcast(optimizer.steps)
        self._move(optimizer, state, self._world.Irecv, self._world.Isend)

    def _state_shapes(self, optimizer: Optimizer) -> dict[str, Shape]:
        return optimizer.state_shapes({name: place.shape for name, place in self.ownership.places.items()})

    def _move(self, optimizer: Optimizer, state: Mapping[str, Array], mine: Move, theirs: Move) -> None:
        """Move the optimizer's state between the leader, who has it whole for now, and the owners of its rows."""
        tags = {name: tag for tag, name in enumerate(self._state_shapes(optimizer))}
        requests = [mine(tensor, 0, tags[name]) for name, tensor in optimizer.state.items()]
        for rank in range(self.size) if self.rank == 0 else ():
            rows = self.ownership.all_rows(rank)
            shares = {name: rows.get(name.partition("/")[2]) for name in state}  # mean/blocks.0.attention.w_q
            requests += [theirs(state[name][share], rank, tags[name]) for name, share in shares.items() if share]
        self.wait(requests)

    def advise(self, advice: str) -> None:
        self._lifeline.advise(advice)

    def broadcast(self, value: Any = None) -> Any:
        """What the leader has."""
        content = np.frombuffer(pickle.dumps(value) if self.rank == 0 else b"", np.uint8)
        size = np.array([content.size])
        self.wait([self._world.Ibcast(size)])
        content = content if self.rank == 0 else np.empty(size[0], np.uint8)
        self.wait([self._world.Ibcast(content)])
        return value if self.rank == 0 else pickle.loads(content.tobytes())

    def exchange(self, part: str, gradients: Gradients) -> Exchange:
        """Send a part's gradients to their owners, and expect this rank's portion of it from the others."""
        begun, cuts = time.perf_counter(), np.array(self.ownership.cuts[part])
        packed = np.empty(cuts[-1] - cuts[0], self._parameters.flat.dtype)
        start = 0
        for leaf in leaves(gradients):
            packed[start : start + leaf.size].reshape(leaf.shape)[...] = leaf
            start += leaf.size
        outgoing = np.split(packed, cuts[1:-1] - cuts[0])
        incoming = np.empty((self.size, outgoing[self.rank].size), packed.dtype)
        incoming[self.rank] = outgoing[self.rank]
        requests = self._swap(outgoing, list(incoming), [*self.ownership.cuts].index(part))
        with self._lock:
            self._sent += packed.nbytes - incoming[self.rank].nbytes
            self._seconds += time.perf_counter() - begun
        return Exchange(part, incoming, requests)

    def _give_to_all(self, mine: Array, theirs: Sequence[Array], tag: int) -> list[MPI.Request]:
        return self._swap([mine] * self.size, theirs, tag)

    def _swap(self, outgoing: Sequence[Array], incoming: Sequence[Array], tag: int) -> list[MPI.Request]:
        """Send each other rank its own array, and receive one from it; empty ones need not travel."""
        others = [rank for rank in range(self.size) if rank != self.rank]
        with self._lock:
            requests = [self._world.Irecv(incoming[rank], rank, tag) for rank in others if incoming[rank].size]
            return requests + [self._world.Isend(outgoing[rank], rank, tag) for rank in others if outgoing[rank].size]

    def is_done(self, requests: list[MPI.Request]) -> bool:
        """Whether these have ended; some libraries move data only when they are asked."""
        with self._lock:
            return MPI.Request.Testall(requests)

    def wait(self, requests: list[MPI.Request]) -> None:
        """Until all have ended, or a rank is lost; after a while with naps, which leave others the processor."""
        begun = looked = time.perf_counter()
        nap = NAPS[0]
        while not self.is_done(requests):
            now = time.perf_counter()
            if now - begun < SPIN:
                pause()
                continue
            time.sleep(nap)
            nap = min(1.02 * nap, NAPS[1])
            if now - looked > LOOK_EVERY:
                self._lifeline.check()
                looked = now
        self._seconds += time.perf_counter() - begun

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Let the others go. Where they wait for what will not come, end this process, of which they will hear."""
        if error and (self._together or self.rank):
            self._abandon(error)
        try:
            if self.rank == 0:
                self.broadcast(None)
        except BaseException as interrupt:
            self._abandon(interrupt)
        self._lifeline.close()

    def _abandon(self, error: BaseException) -> None:
        unexpected = "stopped at once" if isinstance(error, KeyboardInterrupt) else "".join(format_exception(error))
        message, status = as_told(error) or (unexpected, 1)
        print(f"handgrad: rank {self.rank}: {message}", file=sys.__stderr__, flush=True)
        sys.stdout.flush()
        os._exit(status)
