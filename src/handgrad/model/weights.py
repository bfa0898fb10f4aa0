"""Weights on disk: a safetensors file with one tensor for each parameter name."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from ..errors import WeightsError
from ..files import write_atomically
from .config import ModelConfig
from .parameters import Parameters, Shape, named_shapes

DTYPES = {"F32": np.float32, "F64": np.float64}


def save_weights(path: Path, parameters: Parameters) -> None:
    """Write every named tensor; the file appears whole or not at all."""
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in parameters.items()}
    write_atomically(path, safetensors.numpy.save(tensors))


def load_weights(path: Path, config: ModelConfig) -> Parameters:
    """Read the parameters of a config, in the dtype of the file.

    A `WeightsError` names the tensor that is missing, not expected, or of another shape than the config says.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            found = {name: tuple(file.get_slice(name).get_shape()) for name in names}
            dtypes = {file.get_slice(name).get_dtype() for name in names}
            _compare(path, found, dtypes, config)
            parameters = Parameters(config, dtype=DTYPES[dtypes.pop()])
            for name, tensor in parameters.items():
                tensor[...] = file.get_tensor(name)
            return parameters
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{path}: not a whole safetensors file: {error}") from None
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror or error}") from None


def _compare(path: Path, found: dict[str, Shape], dtypes: set[str], config: ModelConfig) -> None:
    """Refuse what differs from the config, before anything of the config's size is allocated."""
    if config.layers > len(found):
        raise WeightsError(f"{path}: {len(found)} tensors are too few for layers: {config.layers}")
    expected = named_shapes(config)
    if missing := expected.keys() - found.keys():
        raise WeightsError(f"{path}: missing tensor {_listed(missing)}")
    if extra := found.keys() - expected.keys():
        raise WeightsError(f"{path}: unexpected tensor {_listed(extra)}")
    for name, shape in expected.items():
        if found[name] != shape:
            raise WeightsError(f"{path}: {name} has shape {found[name]}; the config says {shape}")
    if len(dtypes) != 1 or not dtypes <= DTYPES.keys():
        raise WeightsError(f"{path}: tensors of dtype {_listed(dtypes)}; expected all F32 or all F64")


def _listed(names: Iterable[str], most: int = 3) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:most]) + (f" and {len(ordered) - most} more" if len(ordered) > most else "")
