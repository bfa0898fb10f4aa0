"""Files of tensors, our own and other people's: safetensors or npz; and the manifest, where there is one."""

import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401 - teaches NumPy the name bfloat16, which a file may have
import numpy as np
import safetensors.numpy

from ..errors import HandgradError, WeightsError
from ..layers import Array
from ..model.weights import METADATA_KEY, open_tensors

SUFFIX = ".safetensors"


class TensorFile(NamedTuple):
    path: Path
    tensors: dict[str, Array]
    manifest: dict[str, Any] | None
    """What handgrad wrote of them; none in a file that others made."""


def tensor_file(tensors: Mapping[str, Array], manifest: Mapping[str, Any]) -> bytes:
    """The content of a safetensors file with this manifest in its metadata."""
    contiguous = {key: np.ascontiguousarray(x).reshape(x.shape) for key, x in tensors.items()}
    return safetensors.numpy.save(contiguous, {METADATA_KEY: json.dumps(manifest)})


def read_tensor_file(path: Path) -> TensorFile:
    """All tensors of a file; a `HandgradError` names the file, and the tensor where one cannot be read."""
    if path.suffix == ".npz":
        return TensorFile(path, _read_npz(path), None)
    with open_tensors(path) as file:
        tensors = {}
        for key in file.keys():  # noqa: SIM118 - no mapping
            try:
                tensors[key] = file.get_tensor(key)
            except (TypeError, AttributeError) as error:  # a dtype that NumPy has not
                raise WeightsError(f"{path}: {key}: {error}") from None
        return TensorFile(path, tensors, _manifest(path, (file.metadata() or {}).get(METADATA_KEY)))


def _manifest(path: Path, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError):
        manifest = None
    if not (isinstance(manifest, dict) and isinstance(manifest.get("tensors"), list)):
        raise HandgradError(f"{path}: its metadata has no manifest that can be read")
    return manifest


def _read_npz(path: Path) -> dict[str, Array]:
    if not path.is_file():
        raise HandgradError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (ValueError, TypeError, OSError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise HandgradError(f"{path}: not a whole npz file: {error}") from None
