"""What the machine has, how its libraries are to behave (BLAS, and the C library's malloc), and what launched us."""

import ctypes
import os
import platform
import sys
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

MALLOC = {"MMAP_MAX": (-4, 0), "TRIM_THRESHOLD": (-1, -1), "ARENA_MAX": (-8, 1)}
"""glibc's parameters: the number that <malloc.h> gives each, and the value that it gets here.

Never a mapping of its own for a large array, never give memory back; and one arena, so that what one thread has freed
serves the others too.
"""
LAUNCHERS = (
    ("PMI_RANK", "PMI_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMIX_RANK", "SLURM_STEP_NUM_TASKS"),
)
"""The variables in which launchers tell a rank and how many there are: MPICH's and Slurm's own, Open MPI's, PMIx's."""


class Launched(NamedTuple):
    rank: int
    size: int
    """0 where the launcher does not tell."""


def launched() -> Launched | None:
    """What a launcher tells; None where there is none, or none but this process was started. MPI is not asked."""
    for rank, size in LAUNCHERS:
        if os.environ.get(rank, "").isdecimal():
            told = os.environ.get(size, "")
            start = Launched(int(os.environ[rank]), int(told) if told.isdecimal() else 0)
            return None if start.size == 1 else start
    return None


def launched_rank() -> int | None:
    """This process's number among those that `mpiexec` started; None where it was started alone."""
    start = launched()
    return start and start.rank


def processors() -> set[int]:
    """The numbers of the processors that this process may use; where the system does not tell, of all there are."""
    return os.sched_getaffinity(0) if sys.platform == "linux" else set(range(os.cpu_count() or 1))


def cores() -> int:
    """How many processors this process may use."""
    return len(processors())


def memory_size() -> int | None:
    """The machine's memory in bytes, where the system tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):
        return None


@lru_cache(maxsize=1)
def _controller() -> "ThreadpoolController":
    from threadpoolctl import ThreadpoolController  # as late as this: `handgrad --help` has no use for it

    return ThreadpoolController()


def single_threaded_blas() -> AbstractContextManager[object]:
    """A context in which each product runs on the thread that asks for it, as far as threadpoolctl knows the BLAS.

    For where we bring threads of our own: BLAS's would get in their way, and in other numbers round differently.
    """
    limit: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return limit


@lru_cache(maxsize=1)
def keep_freed_memory() -> str:
    """Have the C library keep memory that is freed, for the next array; and say what was set.

    A step makes and frees thousands of arrays. Large ones glibc would take from the system and give back each time, and
    the system clears every page of them anew: tens of thousands of page faults a step. From here on the process never
    shrinks, so this is for a program or a trainer to decide, and nothing that an import does. Elsewhere than with glibc
    nothing is set.
    """
    if platform.libc_ver()[0] != "glibc":
        return "as the system has it"
    mallopt = ctypes.CDLL(None).mallopt
    done = [f"{name} {value}" for name, (number, value) in MALLOC.items() if mallopt(number, value)]
    return f"keeps what is freed ({', '.join(done)})"
