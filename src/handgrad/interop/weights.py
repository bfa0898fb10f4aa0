"""The tensors of a Hugging Face folder: one safetensors file, or several with an index."""

import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import safetensors.numpy

from ..errors import WeightsError, counted, listed
from ..files import read_json_object
from ..layers import Array
from ..model import WEIGHTS_FILE, ModelConfig, Parameters, named_shapes, open_tensors, require_finite
from .families import Family, Place

INDEX_FILE = "model.safetensors.index.json"
DTYPES: dict[str, Any] = {
    "float64": np.float64,
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
}
READ = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
LISTED = 5
LONGEST_NAME = 255
Shape = tuple[int, ...]


class Found(NamedTuple):
    """A tensor in a file."""

    file: Any
    path: Path
    shape: Shape
    dtype: str


def read_weights(folder: Path, config: ModelConfig, family: Family) -> Parameters:
    """The parameters in float32, or in float64 where any is that; 16-bit numbers become the same ones in float32.

    The files' headers are compared with the config before anything is allocated; then tensor after tensor is read from
    the mapped files. A `WeightsError` lists what is missing, unexpected, or of another shape, or names what is
    not finite.
    """
    with ExitStack() as stack:
        found: dict[str, Found] = {}
        for path in _files(folder):
            file = stack.enter_context(open_tensors(path))
            for name in file.keys():  # noqa: SIM118 - no mapping
                if name in found:
                    raise WeightsError(f"{path}: {name} is in {found[name].path.name} too")
                piece = file.get_slice(name)
                found[name] = Found(file, path, tuple(piece.get_shape()), piece.get_dtype())
        places = _places(config, family, found, folder)
        _refuse_another_head(config, family, found, places)
        wide = any(found[place.tensor].dtype == "F64" for place in places.values())
        parameters = Parameters(config, dtype=np.float64 if wide else np.float32)
        for name, target in parameters.items():
            place = places[name]
            target[...] = require_finite(_read(place, found), found[place.tensor].path, place.tensor)
        return parameters


def weights_to_bytes(parameters: Parameters, family: Family, dtype: str) -> bytes:
    """A safetensors file as transformers reads it, the numbers rounded to this dtype."""
    tensors: dict[str, Array] = {}
    for name, x in parameters.items():
        place = family.place_of(name)
        with np.errstate(over="ignore"):
            rounded = x.astype(DTYPES[dtype])
        if np.isinf(rounded).sum() > np.isinf(x).sum():
            raise WeightsError(f"{name}: {np.abs(x).max():g} is more than {dtype} holds")
        x = rounded.T if place.transposed else rounded
        before = tensors.get(place.tensor)
        tensors[place.tensor] = x if before is None else np.concatenate((before, x), axis=-1)
    return safetensors.numpy.save({name: np.ascontiguousarray(x) for name, x in tensors.items()}, {"format": "pt"})


def _files(folder: Path) -> list[Path]:
    """The one file, or those that the index names."""
    index = folder / INDEX_FILE
    if (folder / WEIGHTS_FILE).exists() or not index.exists():
        if not (folder / WEIGHTS_FILE).exists() and any(folder.glob("*.bin")):
            raise WeightsError(f"{folder}: has no {WEIGHTS_FILE}; a pickle (*.bin) can run code, and is never read")
        return [folder / WEIGHTS_FILE]
    named = read_json_object(index).get("weight_map")
    if not (isinstance(named, dict) and named and all(isinstance(x, str) for x in named.values())):
        raise WeightsError(f"{index}: weight_map is not an object of tensors' names and files")
    for name in sorted(set(named.values())):
        if Path(name).name != name or not name.endswith(".safetensors") or len(name) > LONGEST_NAME:
            raise WeightsError(f"{index}: {name!r} is not the name of a safetensors file beside it")
    return [folder / name for name in sorted(set(named.values()))]


def _places(config: ModelConfig, family: Family, found: Mapping[str, Found], folder: Path) -> dict[str, Place]:
    """Where each parameter is, once it is certain that all are there."""
    if config.layers > len(found):
        raise WeightsError(f"{folder}: {counted(len(found), 'tensor')}: too few for {counted(config.layers, 'layer')}")
    shapes = named_shapes(config)
    places = {name: family.place_of(name) for name in shapes}
    embedding = places["embedding.token"].tensor
    if embedding not in found and embedding.removeprefix(family.prefix) in found:  # saved without the head's class
        places = {
            name: place._replace(tensor=place.tensor.removeprefix(family.prefix)) for name, place in places.items()
        }
    expected = {place.tensor: _their_shape(shapes[name], place) for name, place in places.items()}
    others = found.keys() - expected.keys()
    if config.tied:
        others.discard(family.place_of("head.w_lm").tensor)
    wrong = {
        "missing": [f"{name} {shape}" for name, shape in expected.items() if name not in found],
        "unexpected": [f"{name} {found[name].shape}" for name in others if not re.fullmatch(family.buffers, name)],
        "of another shape": [
            f"{name} {found[name].shape} in place of {shape}"
            for name, shape in expected.items()
            if name in found and found[name].shape != shape
        ],
        "of a dtype that is not supported": [
            f"{name} {found[name].dtype}"
            for name in found.keys() & {*expected, family.place_of("head.w_lm").tensor}
            if found[name].dtype not in READ
        ],
    }
    if any(wrong.values()):
        raise WeightsError(
            f"{folder}: tensors "
            + "; ".join(f"{what}: {listed(names, LISTED)}" for what, names in wrong.items() if names)
        )
    return places


def _their_shape(shape: Shape, place: Place) -> Shape:
    if place.third is not None:
        return (*shape[:-1], 3 * shape[-1])
    return shape[::-1] if place.transposed else shape


def _read(place: Place, found: Mapping[str, Found]) -> Array:
    """A parameter as we have it."""
    file, path, shape, dtype = found[place.tensor]
    try:
        if place.third is None:
            x: Array = file.get_tensor(place.tensor)
            return x.T if place.transposed else x
        width = shape[-1] // 3
        columns = slice(place.third * width, (place.third + 1) * width)
        piece = file.get_slice(place.tensor)
        third: Array = piece[:, columns] if len(shape) == 2 else piece[columns]
        return third
    except (TypeError, AttributeError) as error:  # a dtype that NumPy has not
        raise WeightsError(f"{path}: {place.tensor} ({dtype}): {error}") from None


def _refuse_another_head(
    config: ModelConfig, family: Family, found: Mapping[str, Found], places: Mapping[str, Place]
) -> None:
    """Tied models may have the head in the file all the same, but it must be the embedding."""
    head = family.place_of("head.w_lm").tensor
    if config.tied and head in found:
        embedding = places["embedding.token"].tensor
        if not np.array_equal(_read(Place(head), found), _read(Place(embedding), found), equal_nan=True):
            raise WeightsError(f"{found[head].path}: {head} differs from {embedding}, but tie_word_embeddings is true")
