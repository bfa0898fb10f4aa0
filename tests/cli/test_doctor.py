"""handgrad doctor: what is there, what is missing, and that what is broken is found."""

import json
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from handgrad.cli import doctor
from handgrad.layers.arrays import row_means

from .conftest import Cli
from .test_cli import without_variance_route

GRADIENT = doctor._gradient


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of tests that run side by side each has one thread of BLAS, which is no warning here; and with the checks of
    shapes a gradient takes its time."""
    monkeypatch.setattr(doctor, "cores", lambda: 1)
    monkeypatch.setattr(doctor, "_gradient", lambda: ("right", True))


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make packages seem to be missing."""

    def hide(*names: str) -> None:
        version = doctor._version
        monkeypatch.setattr(doctor, "_version", lambda name: None if name in names else version(name))

    return hide


def test_it_shows_versions_extras_and_checks(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_gradient", GRADIENT)
    result = cli("doctor")
    assert (result.status, result.errors) == (0, "")
    for word in ("handgrad", "Python", "NumPy", "BLAS", "MPI", "mpiexec", np.__version__, *doctor.GIVES):
        assert word in result.output
    assert "exact in float32 and float64" in result.output
    assert "from the complex step" in result.output
    assert result.output.endswith("all 3 checks are good\n")
    assert sys.executable not in result.output  # it is for a public report


def test_as_json(cli: Cli) -> None:
    report = json.loads(cli("doctor", "--json").output)
    assert report["numpy"] == np.__version__
    assert [check["passed"] for check in report["checks"]] == [True] * 3
    assert report["paths"]["python"] == sys.executable
    assert report["extras"]["explore"].keys() == {"latex2mathml", "starlette", "uvicorn"}


def test_every_extra_is_there_but_that_of_the_tests() -> None:
    content = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text(encoding="utf-8"))
    assert doctor.GIVES.keys() == content["project"]["optional-dependencies"].keys() - {"test"}


def test_a_plain_install_is_healthy_and_told_what_it_lacks(cli: Cli, without: Any) -> None:
    without("pyarrow", "zstandard", "latex2mathml", "starlette", "uvicorn", "mpi4py", "mpich", "torch", "transformers")
    result = cli("doctor")
    assert result.status == 0
    assert "pyarrow is missing, zstandard is missing" in result.output
    for extra in doctor.GIVES:
        assert f"python3 -m pip install 'handgrad[{extra}]'" in result.output


def test_what_handgrad_needs_and_is_old_or_missing_ends_it_with_1(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"numpy": "1.26.4", "rich": None}
    version = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: versions.get(name, version(name)))
    result = cli("doctor")
    assert result.status == 1
    assert "numpy 1.26.4 (>=2.0 is needed), rich is missing" in result.output
    assert result.output.endswith("1 of 3 checks failed\n")


def test_a_wrong_gradient_ends_it_with_1(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_gradient", GRADIENT)
    monkeypatch.setattr("handgrad.layers.layer_norm.row_means", without_variance_route(row_means))
    result = cli("doctor")
    assert result.status == 1
    assert "WRONG" in result.output


def test_a_wrong_product_ends_it_with_1(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numpy.einsum", lambda *_: np.zeros((257, 67)))
    result = cli("doctor", "--json")
    assert result.status == 1
    assert [check["found"] for check in json.loads(result.output)["checks"]][1] == "not exact in float32 and float64"


def test_what_cannot_be_computed_is_a_failed_check(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_gradient", lambda: 1 / 0)
    result = cli("doctor")
    assert result.status == 1
    assert "ZeroDivisionError: division by zero" in result.output


def test_fewer_threads_than_cores_are_a_warning(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    blas = {"user_api": "blas", "internal_api": "openblas", "version": "1.2", "num_threads": 1}
    monkeypatch.setattr(doctor, "_blas", lambda: [blas])
    monkeypatch.setattr(doctor, "cores", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    result = cli("doctor")
    assert result.status == 0
    assert "warning: openblas uses 1 of 4 cores (" in result.output
    assert "OMP_NUM_THREADS=1" in result.output


def test_no_known_blas_and_no_docstrings_are_warnings(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_blas", list)
    monkeypatch.setattr(doctor, "sys", SimpleNamespace(flags=SimpleNamespace(optimize=2), executable=""))
    warnings = json.loads(cli("doctor", "--json").output)["warnings"]
    assert [warning.split(" (")[0] for warning in warnings] == [
        "threads of this BLAS cannot be held to one a shard, so those of training may get in each other's way",
        "python -OO",
    ]


@pytest.mark.parametrize(
    ("version", "met"),
    [
        ("2.4.1", True),
        ("2.0", True),
        ("10.0+cpu", True),
        ("2.1rc1", True),
        ("2.0rc1", False),
        ("1.99", False),
        ("?", False),
    ],
)
def test_versions_are_compared_as_versions(version: str, met: bool, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        metadata, "requires", lambda _: ["numpy>=2.0; python_version > '3'", "rich; sys_platform == 'x'"]
    )
    monkeypatch.setattr(doctor, "_version", lambda name: {"numpy": version}.get(name))
    assert (cli("doctor").status == 0) is met


def test_handgrad_that_is_not_installed_is_a_failed_check(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", missing)
    monkeypatch.setattr(metadata, "version", missing)
    result = cli("doctor")
    assert (result.status, result.errors) == (1, "")
    assert "unknown, since handgrad is not installed" in result.output
    assert result.output.endswith("1 of 3 checks failed\n")


@pytest.mark.parametrize("name", ["numpy", "threadpoolctl", "ml_dtypes"])
@pytest.mark.parametrize("error", [ImportError, RuntimeError])
def test_what_is_there_but_cannot_be_imported_is_a_failed_check(
    name: str, error: type[Exception], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def find_spec(self, asked: str, path: object, target: object = None) -> None:
            if asked == name:
                raise error("\nno libgfortran\nand much more")

    monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    result = cli("doctor")
    assert result.status == 1
    assert f"cannot be imported ({error.__name__}: no libgfortran)" in result.output
    assert ("NumPy or threadpoolctl cannot be imported" in result.output) is (name != "ml_dtypes")
    assert "threads of this BLAS cannot be held" not in result.output


@pytest.mark.parametrize(
    ("library", "launcher", "fits"),
    [
        ("MPICH Version: 5.0.2", "HYDRA build details:", True),
        ("MPICH Version: 5.0.2", "mpiexec (OpenRTE) 4.1.4", False),
        ("Open MPI v5.0.1, package: ...", "mpiexec (Open MPI) 5.0.1", True),
        ("Open MPI v5.0.1, package: ...", "HYDRA build details:", False),
        ("Intel(R) MPI Library 2021.11", "Intel(R) MPI Library for Linux", True),
        ("Open MPI v5.0.1, package: ...", "", True),
    ],
)
def test_an_mpiexec_of_another_mpi_is_a_warning(
    library: str, launcher: str, fits: bool, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_told", lambda *command: launcher if command[-1] == "--version" else library)
    monkeypatch.setattr(doctor, "_version", lambda _: "99")
    monkeypatch.setattr("shutil.which", lambda _: "/opt/mpiexec")
    warnings = json.loads(cli("doctor", "--json").output)["warnings"]
    other = "the mpiexec on the path belongs to another MPI than mpi4py's: each of its processes would train alone"
    assert warnings == ([] if fits else [other])


def test_an_mpi_that_cannot_be_used_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ASK_MPI", "import sys; sys.exit('no libmpi')")
    monkeypatch.setattr(doctor, "_version", lambda _: "99")
    assert json.loads(cli("doctor", "--json").output)["mpi"] == "no MPI that it can use, mpi4py 99"


def test_a_name_that_is_not_utf_8_is_told_as_well_as_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys; sys.stdout.buffer.write(b'caf\\xe9 MPI\\n')"
    assert doctor._told(sys.executable, "-c", code) == "caf\ufffd MPI"
