"""The processes that train together: one alone or, under `mpiexec`, the ranks of MPI."""

import os
import warnings

from ...errors import HandgradError
from .alone import BEGIN, Alone

LAUNCHED = {"PMI_RANK": "PMI_SIZE", "OMPI_COMM_WORLD_RANK": "OMPI_COMM_WORLD_SIZE", "PMIX_RANK": "SLURM_NTASKS"}
"""What launchers tell, each rank's number and how many there are: those of MPICH, of Open MPI, and Slurm."""

__all__ = ["BEGIN", "Alone", "join", "launched_rank"]


def launched_rank() -> int | None:
    """This process's number among those that `mpiexec` started; None where it was started alone. MPI is not asked."""
    return next((int(os.environ[name]) for name in LAUNCHED if os.environ.get(name, "").isdecimal()), None)


def join() -> Alone:
    """Join the other ranks, where there are any. Without `mpiexec` MPI is not even imported."""
    if launched_rank() is None:
        return Alone()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a launcher that is another MPI's; which is told below
            from mpi4py import MPI

        from .mpi import Ranks
    except (ImportError, RuntimeError) as error:
        raise HandgradError(f"started by mpiexec, but without MPI: {error}; pip install 'handgrad[mpi]'") from None
    size, promised = MPI.COMM_WORLD.size, max(int(os.environ.get(name, "1")) for name in LAUNCHED.values())
    if size == 1 < promised:
        library = MPI.Get_library_version().splitlines()[0].strip("\0")
        raise HandgradError(f"one of {promised} ranks, but alone: mpiexec does not belong to mpi4py's MPI, {library}")
    if size & (size - 1):
        raise HandgradError(f"{size} ranks, which is no power of two: the tree of shards is halved, and halved again")
    return Alone() if size == 1 else Ranks(MPI.COMM_WORLD)
