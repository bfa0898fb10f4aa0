"""The processes that train together: one or, under `mpiexec`, the ranks of MPI."""

import sys
import warnings

from ...errors import HandgradError, installing
from ...machine import launched
from .ranks import BEGIN, Ranks

__all__ = ["BEGIN", "Ranks", "join"]


def join() -> Ranks:
    """Join the other ranks, where there are any. Without `mpiexec` MPI is not even imported."""
    start = launched()
    if start is None:
        return Ranks()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a launcher that is another MPI's; which is told below
            from mpi4py import MPI

        from .mpi import MpiRanks
    except (ImportError, RuntimeError) as error:
        raise HandgradError(f"started by mpiexec, but without MPI: {error}; {installing('mpi')}") from None
    size = MPI.COMM_WORLD.size
    if size == 1 < start.size:
        library = MPI.Get_library_version().splitlines()[0].strip("\0")
        raise HandgradError(f"one of {start.size} ranks, but alone: mpiexec does not belong to mpi4py's MPI, {library}")
    if size & (size - 1):
        near = 1 << size.bit_length() - 1
        raise HandgradError(
            f"{size} ranks, which is no power of two: the tree of shards is halved, and halved again; -n {near} would "
            f"do, or -n {2 * near}"
        )
    try:
        return Ranks() if size == 1 else MpiRanks(MPI.COMM_WORLD)
    except BaseException as error:  # the others wait for this one
        print(f"handgrad: rank {start.rank}: {error!r}", file=sys.__stderr__, flush=True)
        MPI.COMM_WORLD.Abort(1)
        raise
