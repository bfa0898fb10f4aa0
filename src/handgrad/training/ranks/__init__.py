"""The processes that train together: one or, under `mpiexec`, the ranks of MPI."""

import os
import sys
import warnings
from typing import NamedTuple

from ...errors import HandgradError
from .ranks import BEGIN, Ranks

LAUNCHERS = (
    ("PMI_RANK", "PMI_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMIX_RANK", "SLURM_STEP_NUM_TASKS"),
)
"""The variables in which launchers tell a rank and how many there are: MPICH's and Slurm's own, Open MPI's, PMIx's."""

__all__ = ["BEGIN", "Ranks", "join", "launched_rank"]


class _Launched(NamedTuple):
    rank: int
    size: int
    """0 where the launcher does not tell."""


def _launched() -> _Launched | None:
    """What a launcher tells; None where there is none, or none but this process was started. MPI is not asked."""
    for rank, size in LAUNCHERS:
        if os.environ.get(rank, "").isdecimal():
            told = os.environ.get(size, "")
            launched = _Launched(int(os.environ[rank]), int(told) if told.isdecimal() else 0)
            return None if launched.size == 1 else launched
    return None


def launched_rank() -> int | None:
    """This process's number among those that `mpiexec` started; None where it was started alone."""
    launched = _launched()
    return launched and launched.rank


def join() -> Ranks:
    """Join the other ranks, where there are any. Without `mpiexec` MPI is not even imported."""
    launched = _launched()
    if launched is None:
        return Ranks()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a launcher that is another MPI's; which is told below
            from mpi4py import MPI

        from .mpi import MpiRanks
    except (ImportError, RuntimeError) as error:
        raise HandgradError(f"started by mpiexec, but without MPI: {error}; pip install 'handgrad[mpi]'") from None
    size = MPI.COMM_WORLD.size
    if size == 1 < launched.size:
        library = MPI.Get_library_version().splitlines()[0].strip("\0")
        raise HandgradError(
            f"one of {launched.size} ranks, but alone: mpiexec does not belong to mpi4py's MPI, {library}"
        )
    if size & (size - 1):
        near = 1 << size.bit_length() - 1
        raise HandgradError(
            f"{size} ranks, which is no power of two: the tree of shards is halved, and halved again; -n {near} would "
            f"do, or -n {2 * near}"
        )
    try:
        return Ranks() if size == 1 else MpiRanks(MPI.COMM_WORLD)
    except BaseException as error:  # the others wait for this one
        print(f"handgrad: rank {launched.rank}: {error!r}", file=sys.__stderr__, flush=True)
        MPI.COMM_WORLD.Abort(1)
        raise
