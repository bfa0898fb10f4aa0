"""Ranks of MPI, started by mpiexec."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

needs_mpi = pytest.mark.skipif(
    not (shutil.which("mpiexec") and importlib.util.find_spec("mpi4py")),
    reason="there is no mpiexec, or no mpi4py: python3 -m pip install 'handgrad[mpi]'",
)
PATIENCE = 300
"""Seconds, after which ranks count as waiting for ever."""


def start_ranks(count: int, *command: str | Path, folder: Path, options: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start so many processes of this Python."""
    return subprocess.Popen(
        ["mpiexec", *options, "-n", str(count), sys.executable, *map(str, command)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_ranks(count: int, *command: str | Path, folder: Path) -> tuple[int, str, str]:
    """Their status, output and errors."""
    with start_ranks(count, *command, folder=folder) as process:
        try:
            output, errors = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    return process.returncode, output, errors
