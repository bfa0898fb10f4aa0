"""What the machine has, and how its libraries are to behave: cores, BLAS, and the C library's malloc."""

import ctypes
import os
import platform
import sys
from contextlib import AbstractContextManager
from functools import lru_cache

from threadpoolctl import ThreadpoolController

MALLOC = {"MMAP_MAX": (-4, 0), "TRIM_THRESHOLD": (-1, -1), "ARENA_MAX": (-8, 1)}
"""glibc's parameters: the number that <malloc.h> gives each, and the value that it gets here.

Never a mapping of its own for a large array, never give memory back; and one arena, so that what one thread has freed
serves the others too.
"""


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
def _controller() -> ThreadpoolController:
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
