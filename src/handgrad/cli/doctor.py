"""handgrad doctor: what is installed here, what it lacks, and whether this machine computes right."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Annotated, Any, NamedTuple

import typer
from rich.table import Table

from ..machine import cores, memory_size
from .terminal import PIPE_WIDTH, make_room, plain_console

GIVES = {
    "data": "Parquet and .zst for handgrad data prepare",
    "explore": "handgrad explore, the page",
    "mpi": "training by several processes: mpiexec -n N handgrad train",
    "parity": "handgrad check --against torch",
}
"""What each extra is for; those for the tests are no user's matter."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""The variables that hold a BLAS to so many threads."""
PATIENCE = 30
"""Seconds that MPI has to say its name."""
ASK_MPI = "import mpi4py; mpi4py.rc.initialize = False; from mpi4py import MPI; print(MPI.Get_library_version())"


class Requirement(NamedTuple):
    """A package that is wanted, at least in this version, and the one that is there."""

    name: str
    at_least: str
    version: str | None

    @property
    def met(self) -> bool:
        return self.version is not None and _numbers(self.version) >= _numbers(self.at_least)

    def __str__(self) -> str:
        if self.version is None:
            return f"{self.name} is missing"
        return f"{self.name} {self.version}" + ("" if self.met else f" (at least {self.at_least} is needed)")


class Check(NamedTuple):
    name: str
    found: str
    passed: bool


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON, for a report of a bug.")] = False,
) -> None:
    """Look at this installation: versions, BLAS, cores, MPI, each extra; and check that this machine computes right.

    Warnings tell what costs speed. Ends with status 1 where a check fails: a product of matrices that is not exact, a
    gradient that is not what the complex step says, a package that handgrad needs and that is missing or too old.
    """
    checks = list(_checks())
    report = {
        "handgrad": metadata.version("handgrad"),
        "python": f"{platform.python_implementation()} {platform.python_version()}, {sys.executable}",
        "system": platform.platform(),
        "processors": f"{cores()} of {os.cpu_count()}",
        "memory": f"{size / 1e9:.1f} GB" if (size := memory_size()) else "unknown",
        "numpy": _version("numpy") or "missing",
        "blas": "; ".join(map(_in_words, _blas())) or "unknown to threadpoolctl",
        "mpi": _mpi(),
        "mpiexec": shutil.which("mpiexec") or "not on the path",
    }
    extras = {extra: [each for each, of in _requirements() if of == extra] for extra in GIVES}
    warnings = list(_warnings(report))
    good = all(check.passed for check in checks)
    if as_json:
        told = {extra: {each.name: each.version for each in wanted} for extra, wanted in extras.items()}
        found = [check._asdict() for check in checks]
        print(json.dumps({**report, "extras": told, "checks": found, "warnings": warnings}, indent=2))
    else:
        _show(report, extras, checks, warnings)
    raise typer.Exit(0 if good else 1)


def _show(
    report: dict[str, str], extras: dict[str, list[Requirement]], checks: list[Check], warnings: list[str]
) -> None:
    console = plain_console()
    make_room(console, pipe=PIPE_WIDTH)
    table = Table.grid("", "", padding=(0, 2))
    names = {"python": "Python", "numpy": "NumPy", "blas": "BLAS", "mpi": "MPI"}
    for name, value in report.items():
        table.add_row(names.get(name, name), value)
    console.print(table, "")
    table = Table("extra", "", box=None, header_style="bold", pad_edge=False)
    for extra, wanted in extras.items():
        there = all(each.met for each in wanted)
        packages = ", ".join(str(each) for each in wanted if there or not each.met)
        table.add_row(extra, f"{GIVES[extra]}: {packages}")
        if not there:
            table.add_row("", f"python3 -m pip install 'handgrad[{extra}]'")
    console.print(table, "")
    table = Table("check", "", "", box=None, header_style="bold", pad_edge=False)
    for check in checks:
        table.add_row(check.name, check.found, "good" if check.passed else "WRONG", style="" if check.passed else "red")
    console.print(table, "")
    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow")
    failed = sum(not check.passed for check in checks)
    console.print(f"{failed} of {len(checks)} checks failed" if failed else f"all {len(checks)} checks are good")


def _checks() -> Iterator[Check]:
    """Packages, products and a gradient. What cannot even be computed is a check that fails."""
    unmet = [each for each, extra in _requirements() if not extra and not each.met]
    yield Check("packages that handgrad needs", ", ".join(map(str, unmet)) or "all there", not unmet)
    for name, check in (("product of matrices", _product), ("gradient of a block", _gradient)):
        try:
            yield Check(name, *check())
        except Exception as error:  # whatever is broken, that is what was asked for
            yield Check(name, f"{type(error).__name__}: {error}", False)


def _product() -> tuple[str, bool]:
    """Whole numbers are exact in every float, in whatever order and by whatever instructions they are summed."""
    import numpy as np

    rng = np.random.default_rng(0)
    a, b = rng.integers(-8, 9, (257, 130)), rng.integers(-8, 9, (130, 67))
    right = np.einsum("ij,jk->ik", a, b)
    wrong = [kind for kind in ("float32", "float64") if not np.array_equal(a.astype(kind) @ b.astype(kind), right)]
    return (f"not exact in {' and '.join(wrong)}" if wrong else "exact in float32 and float64"), not wrong


def _gradient() -> tuple[str, bool]:
    from ..proof import BAR, all_cases, check_case

    worst = max(check_case(all_cases(0)["block"], 0), key=lambda verdict: verdict.error)
    return f"off by {worst.error:.1e} ({worst.tensor}) from the complex step, bar {BAR:.0e}", worst.passed


def _requirements() -> Iterator[tuple[Requirement, str]]:
    """What handgrad's own metadata list, with the extra that wants it; those for other systems are left out."""
    for line in metadata.requires("handgrad") or []:
        wanted, _, marker = line.partition(";")
        name = re.match(r"[\w.-]+", wanted)
        at_least = re.search(r">=\s*([\d.]+)", wanted)
        extra = re.search(r"extra == ['\"](\w+)['\"]", marker)
        if name and not (sys.platform == "win32" and "sys_platform != " in marker):
            found = Requirement(name[0], at_least[1] if at_least else "0", _version(name[0]))
            yield found, extra[1] if extra else ""


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """To compare by: what comes after the numbers (rc1, +cpu) says nothing of what is needed."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def _blas() -> list[dict[str, Any]]:
    """What threadpoolctl knows of the BLAS that NumPy has loaded."""
    try:
        import numpy  # noqa: F401 - which loads it
        from threadpoolctl import threadpool_info
    except ImportError:
        return []
    return [found for found in threadpool_info() if found["user_api"] == "blas"]


def _in_words(blas: dict[str, Any]) -> str:
    threads = blas["num_threads"]
    parts = [f"{blas['internal_api']} {blas['version']}", blas.get("architecture")]
    return ", ".join([*filter(None, parts), f"{threads} thread" + ("s" if threads > 1 else "")])


def _mpi() -> str:
    """MPI's name for itself, asked in a process of its own: one that does not fit may end the process that asks."""
    version = _version("mpi4py")
    if version is None:
        return "mpi4py is missing"
    name = _told(sys.executable, "-c", ASK_MPI)
    return (
        f"{name.split(',')[0].replace(' Version:', '')}, mpi4py {version}"
        if name
        else f"mpi4py {version}, but no MPI that it can use"
    )


def _told(*command: str) -> str:
    """The first line that a command prints; empty where it fails or does not answer."""
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return " ".join(asked.stdout.strip().partition("\n")[0].strip("\0").split())


def _warnings(report: dict[str, str]) -> Iterator[str]:
    """What costs speed, or a command."""
    for blas in _blas():
        if blas["num_threads"] < cores():
            why = " ".join(f"{name}={os.environ[name]}" for name in THREADS if name in os.environ)
            yield (
                f"{blas['internal_api']} uses {blas['num_threads']} of {cores()} cores{f' ({why})' if why else ''}: "
                "generate and check are slower; training has threads of its own"
            )
    if report["blas"].startswith("unknown"):
        yield "threads of this BLAS cannot be held to one a shard, so those of training may get in each other's way"
    if sys.flags.optimize >= 2:
        yield "python -OO (or PYTHONOPTIMIZE=2) strips the docstrings: no formulas, so no trace and no explore"
    if not report["mpi"].startswith("mpi4py") and (other := _other_mpi(report["mpi"])):
        yield f"{other} belongs to another MPI than mpi4py's: each of its processes would train by itself"


def _other_mpi(mpi: str) -> str | None:
    """The mpiexec on the path, where it is not of mpi4py's kind of MPI."""
    mpiexec = shutil.which("mpiexec")
    told = _told(mpiexec, "--version") if mpiexec else ""
    is_open = "Open MPI" in told or "OpenRTE" in told
    return mpiexec if told and is_open != ("Open MPI" in mpi) else None
