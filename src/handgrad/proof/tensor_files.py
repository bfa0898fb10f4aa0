"""Files of tensors, our own and other people's: safetensors or npz; and the manifest, where there is one."""

import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401 - teaches NumPy the name bfloat16, which a file may have
import numpy as np
import safetensors.numpy

from ..errors import ConfigError, HandgradError, WeightsError
from ..files import parse_json_object
from ..layers import Array
from ..machine import memory_size
from ..model.weights import METADATA_KEY, open_tensors

SUFFIX = ".safetensors"
USUAL_MEMORY = 1 << 33
"""Bytes, where the system does not tell how much there is."""


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
        return TensorFile(path, read_npz(path), None)
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
        manifest = parse_json_object(text, str(path))
    except ConfigError:
        manifest = {}
    if not isinstance(manifest.get("tensors"), list):
        raise HandgradError(f"{path}: its metadata has no manifest that can be read")
    return manifest


def read_npz(path: Path) -> dict[str, Array]:
    """The arrays of an npz file. What does not have the numbers that it says it has is refused before room is made for
    them, and so is what unpacks to more than the memory holds."""
    if not path.is_file():
        raise HandgradError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > (memory_size() or USUAL_MEMORY) // 4:
                raise HandgradError(f"{path}: unpacks to {unpacked / 1e9:.1f} GB, more than a quarter of the memory")
            for member in archive.infolist():
                _refuse_fewer_numbers(archive, member)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except HandgradError:
        raise
    except Exception as error:  # what zipfile, its decompressors and NumPy raise is no closed list
        raise HandgradError(f"{path}: not a whole npz file: {error}") from None


def _refuse_fewer_numbers(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in read_header:
            raise ValueError(f"{member.filename}: an array of the format {version}")
        shape, _, dtype = read_header[version](file)
    size = math.prod(shape) * max(dtype.itemsize, 1)  # of texts of no length there might be any number
    if size > member.file_size and not dtype.hasobject:  # which NumPy refuses in its words
        raise ValueError(f"{member.filename}: an array of shape {shape} that has not so many numbers")
