"""What is asked of the machine: its cores, single-threaded products, and a malloc that keeps what is freed."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from handgrad.machine import cores, keep_freed_memory, single_threaded_blas

GLIBC = platform.libc_ver()[0] == "glibc"
FAULTS = """
import resource
import numpy as np
import handgrad
import handgrad.machine
import handgrad.training

def page_faults():
    counts = []
    for _ in range(21):
        arrays = [np.ones(1 << 20) for _ in range(4)]
        del arrays
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    return counts[-1] - counts[0]

before = page_faults()
{then}
print(before, page_faults())
"""


def told_by(script: str) -> list[int]:
    """The numbers that a Python of its own prints."""
    environment = os.environ | {"NUMPY_MADVISE_HUGEPAGE": "0"}  # large pages would hide most of the faults
    command = [sys.executable, "-c", script]
    return [int(word) for word in subprocess.check_output(command, env=environment, text=True).split()]


@pytest.fixture
def forgotten() -> Iterator[None]:
    """As if malloc had not been asked for anything yet."""
    keep_freed_memory.cache_clear()
    yield
    keep_freed_memory.cache_clear()


@pytest.mark.skipif(not GLIBC, reason="only glibc's malloc is asked to keep what is freed")
@pytest.mark.parametrize(
    "then", ["handgrad.machine.keep_freed_memory()", "handgrad.training.new_trainer('abcd' * 2000, 'tiny')"]
)
def test_no_import_changes_malloc_but_a_trainer_does(then: str) -> None:
    """Arrays of 8 MB are made, written and freed, again and again: pages are new each time, until they are kept."""
    before, after = told_by(FAULTS.format(then=then))
    assert before >= 20
    assert after < before / 20


@pytest.mark.skipif(not GLIBC, reason="elsewhere nothing is set")
def test_what_was_set_is_told(forgotten: None) -> None:
    for name in ("MMAP_MAX", "TRIM_THRESHOLD", "ARENA_MAX"):
        assert name in keep_freed_memory()


def test_without_glibc_nothing_is_set(forgotten: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    monkeypatch.delattr("ctypes.CDLL")  # nor is there anything to set it with
    assert keep_freed_memory() == "as the system has it"


def test_there_is_a_core() -> None:
    assert cores() >= 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which cores a process may use")
def test_only_cores_that_the_process_may_use_count() -> None:
    one = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])"
    assert told_by(f"{one}; from handgrad.machine import cores; print(cores())") == [1]


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


@pytest.mark.skipif(not blas_threads(), reason="threadpoolctl does not know this BLAS")
def test_blas_has_one_thread_within_and_as_many_as_before_after() -> None:
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        with single_threaded_blas():
            assert set(blas_threads()) == {1}
        assert blas_threads() == before
        assert 2 in before
