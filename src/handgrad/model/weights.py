"""Weights on disk: a safetensors file with one tensor for each parameter name."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from ..errors import WeightsError, counted, listed
from ..layers import Array
from .config import ModelConfig
from .parameters import Parameters, Shape, named_shapes

METADATA_KEY = "handgrad"
LFS_POINTER = b"version https://git-lfs"
DTYPES = {"F32": np.float32, "F64": np.float64}


def tensors_to_bytes(tensors: Mapping[str, Array], metadata: str | None = None) -> bytes:
    """A safetensors file with every tensor under its name; the same bytes each time.

    The metadata is one text under one key: the library does not keep the order of several.
    """
    contiguous = {name: np.ascontiguousarray(x) for name, x in tensors.items()}
    return safetensors.numpy.save(contiguous, None if metadata is None else {METADATA_KEY: metadata})


def load_metadata(path: Path) -> str:
    """The metadata that `tensors_to_bytes` wrote; empty where there is none."""
    with open_tensors(path) as file:
        return str((file.metadata() or {}).get(METADATA_KEY, ""))


def load_parameters(path: Path, config: ModelConfig) -> Parameters:
    """Read the tensors of a config, in the dtype of the file.

    A `WeightsError` names the tensor that is missing, not expected, of another shape than the config says, or not
    finite.
    """
    with open_tensors(path) as file:
        count = len(file.keys())
        if config.layers > count:  # before a table of the config's size is made
            raise WeightsError(f"{path}: {counted(count, 'tensor')}: too few for layers: {config.layers}")
        dtype = _compare(path, file, named_shapes(config))
        parameters = Parameters(config, dtype=dtype)
        _read(path, file, parameters)
        return parameters


def load_tensors(path: Path, targets: Mapping[str, Array]) -> None:
    """Read tensors into these arrays; a `WeightsError` names what is missing, not expected, or of another kind."""
    with open_tensors(path) as file:
        dtype = _compare(path, file, {name: x.shape for name, x in targets.items()})
        if wrong := [x.dtype for x in targets.values() if x.dtype != dtype]:
            raise WeightsError(f"{path}: tensors of {dtype}; expected {wrong[0]}")
        _read(path, file, targets)


def require_finite(x: Array, path: Path, name: str) -> Array:
    """The tensor itself; a `WeightsError` where it holds nan or infinity, which would spread to all that follows."""
    if not np.isfinite(x).all():
        raise WeightsError(f"{path}: {name} has {'nan' if np.isnan(x).any() else 'infinity'} among its numbers")
    return x


@contextmanager
def open_tensors(path: Path) -> Iterator[Any]:
    """A safetensors file, open to be read; a `WeightsError` says why it cannot be, then or while it is read."""
    if not path.is_file():
        raise WeightsError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    try:
        with path.open("rb") as start:
            if start.read(len(LFS_POINTER)) == LFS_POINTER:
                raise WeightsError(f"{path}: stands for a file in Git LFS; `git lfs pull` in its folder fetches that")
        with safetensors.safe_open(path, framework="numpy") as file:
            yield file
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{path}: not a whole safetensors file: {error}") from None
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror or error}") from None


def _compare(path: Path, file: Any, expected: Mapping[str, Shape]) -> np.dtype[Any]:
    """The dtype of all tensors; what differs from the shapes is refused, before anything of their size is allocated."""
    names = list(file.keys())
    found = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    dtypes = {file.get_slice(name).get_dtype() for name in names}
    if missing := expected.keys() - found.keys():
        raise WeightsError(f"{path}: missing tensor {listed(missing)}")
    if extra := found.keys() - expected.keys():
        raise WeightsError(f"{path}: unexpected tensor {listed(extra)}")
    for name, shape in expected.items():
        if found[name] != shape:
            raise WeightsError(f"{path}: {name} has shape {found[name]}; the config says {shape}")
    if len(dtypes) != 1 or not dtypes <= DTYPES.keys():
        raise WeightsError(f"{path}: tensors of dtype {listed(dtypes)}; expected all F32 or all F64")
    return np.dtype(DTYPES[min(dtypes)])


def _read(path: Path, file: Any, targets: Mapping[str, Array]) -> None:
    for name, target in targets.items():
        target[...] = require_finite(file.get_tensor(name), path, name)
