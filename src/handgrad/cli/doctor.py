"""handgrad doctor: what is installed here, what it lacks, and whether this machine computes right."""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module, metadata
from typing import Annotated, Any, NamedTuple

import typer
from packaging.requirements import Requirement
from packaging.version import InvalidVersion
from rich.table import Table

from ..errors import counted, installing
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
NO_BLAS = "NumPy or threadpoolctl cannot be imported"
ASK_MPI = "import mpi4py; mpi4py.rc.initialize = False; from mpi4py import MPI; print(MPI.Get_library_version())"


class Package(NamedTuple):
    """One that is wanted, by handgrad itself or by an extra of it, and the version that is there."""

    wanted: Requirement
    extra: str
    version: str | None

    @property
    def met(self) -> bool:
        try:
            return self.version is not None and self.wanted.specifier.contains(self.version, prereleases=True)
        except InvalidVersion:
            return False

    def __str__(self) -> str:
        if self.version is None:
            return f"{self.wanted.name} is missing"
        return f"{self.wanted.name} {self.version}" + ("" if self.met else f" ({self.wanted.specifier} is needed)")


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
    packages = _packages()
    checks = list(_checks(packages))
    blas = _blas()
    mpi4py = _version("mpi4py")
    mpi = _mpi() if mpi4py else ""
    mpiexec = shutil.which("mpiexec")
    report = {
        "handgrad": _version("handgrad") or "not installed",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
        "processors": f"{cores()} of {os.cpu_count()}",
        "memory": f"{size / 1e9:.1f} GB" if (size := memory_size()) else "unknown",
        "numpy": _version("numpy") or "missing",
        "blas": "; ".join(map(_in_words, blas)) or "unknown to threadpoolctl" if blas is not None else NO_BLAS,
        "mpi": f"{mpi or 'no MPI that it can use'}, mpi4py {mpi4py}" if mpi4py else "mpi4py is missing",
        "mpiexec": "on the path" if mpiexec else "not on the path",
    }
    extras = {extra: [each for each in packages if each.extra == extra] for extra in GIVES} if packages else {}
    warnings = list(_warnings(blas, mpi, mpiexec))
    good = all(check.passed for check in checks)
    if as_json:
        paths = {"python": sys.executable, "mpiexec": mpiexec}
        told = {extra: {each.wanted.name: each.version for each in wanted} for extra, wanted in extras.items()}
        found = [check._asdict() for check in checks]
        whole = {**report, "paths": paths, "extras": told, "checks": found, "warnings": warnings}
        print(json.dumps(whole, indent=2))
    else:
        _show(report, extras, checks, warnings)
    raise typer.Exit(0 if good else 1)


def _show(report: dict[str, str], extras: dict[str, list[Package]], checks: list[Check], warnings: list[str]) -> None:
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
            table.add_row("", installing(extra))
    if extras:
        console.print(table, "")
    table = Table("check", "", "", box=None, header_style="bold", pad_edge=False)
    for check in checks:
        table.add_row(check.name, check.found, "good" if check.passed else "WRONG", style="" if check.passed else "red")
    console.print(table, "")
    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow")
    failed = sum(not check.passed for check in checks)
    console.print(f"{failed} of {len(checks)} checks failed" if failed else f"all {len(checks)} checks are good")


def _checks(packages: list[Package]) -> Iterator[Check]:
    """Packages, products and a gradient. What cannot even be computed is a check that fails."""
    wrong = list(filter(None, map(_fault, packages))) if packages else ["unknown, since handgrad is not installed"]
    yield Check("packages that handgrad needs", ", ".join(wrong) or "all there", not wrong)
    for name, check in (("product of matrices", _product), ("gradient of a block", _gradient)):
        try:
            yield Check(name, *check())
        except Exception as error:  # whatever is broken, that is what was asked for
            yield Check(name, _named(error), False)


def _fault(package: Package) -> str | None:
    """What is wrong with a package, where handgrad cannot do without it."""
    if package.extra:
        return None
    if not package.met:
        return str(package)
    try:
        import_module(package.wanted.name.replace("-", "_"))
    except Exception as error:  # a library of the system may be missing, or another package too old
        return f"{package} cannot be imported ({_named(error)})"
    return None


def _named(error: Exception) -> str:
    """An error's kind, and the first line of what it says: NumPy's own says much."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


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


def _packages() -> list[Package]:
    """What handgrad's own metadata list for this system; nothing where there are none, as for a source on the path."""
    try:
        lines = metadata.requires("handgrad") or []
    except metadata.PackageNotFoundError:
        return []
    found = []
    for wanted in map(Requirement, lines):
        by = (extra for extra in ("", *GIVES) if wanted.marker is None or wanted.marker.evaluate({"extra": extra}))
        if (extra := next(by, None)) is not None:
            found.append(Package(wanted, extra, _version(wanted.name)))
    return found


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _blas() -> list[dict[str, Any]] | None:
    """What threadpoolctl knows of the BLAS that NumPy has loaded; None where one of the two cannot be imported."""
    try:
        import numpy  # noqa: F401 - which loads it
        from threadpoolctl import threadpool_info

        return [found for found in threadpool_info() if found["user_api"] == "blas"]
    except Exception:  # what is wrong is told by the checks
        return None


def _in_words(blas: dict[str, Any]) -> str:
    parts = [f"{blas['internal_api']} {blas['version']}", blas.get("architecture")]
    return ", ".join([*filter(None, parts), counted(blas["num_threads"], "thread")])


def _mpi() -> str:
    """MPI's name for itself, asked in a process of its own: one that does not fit may end the process that asks."""
    return _told(sys.executable, "-c", ASK_MPI).split(",")[0].replace(" Version:", "")


def _told(*command: str) -> str:
    """The first line that a command prints; empty where it fails or does not answer."""
    try:
        asked = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return " ".join(asked.stdout.decode(errors="replace").strip().partition("\n")[0].strip("\0").split())


def _warnings(blas: list[dict[str, Any]] | None, mpi: str, mpiexec: str | None) -> Iterator[str]:
    """What costs speed, or a command."""
    for each in blas or []:
        if each["num_threads"] < cores():
            why = " ".join(f"{name}={os.environ[name]}" for name in THREADS if name in os.environ)
            yield (
                f"{each['internal_api']} uses {each['num_threads']} of {cores()} cores{f' ({why})' if why else ''}: "
                "generate and check are slower; training has threads of its own"
            )
    if blas == []:
        yield "threads of this BLAS cannot be held to one a shard, so those of training may get in each other's way"
    if sys.flags.optimize >= 2:
        yield "python -OO (or PYTHONOPTIMIZE=2) strips the docstrings: no formulas, so no trace and no explore"
    if mpi and mpiexec and _is_of_another_mpi(mpiexec, mpi):
        yield "the mpiexec on the path belongs to another MPI than mpi4py's: each of its processes would train alone"


def _is_of_another_mpi(mpiexec: str, mpi: str) -> bool:
    """Whether a launcher is not of this kind of MPI; where it does not tell its name, it is taken to be."""
    told = _told(mpiexec, "--version")
    is_open = "Open MPI" in told or "OpenRTE" in told
    return bool(told) and is_open != ("Open MPI" in mpi)
