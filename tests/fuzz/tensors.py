"""Files of tensors, spoilt: safetensors and npz."""

import io
import json
import math
import zipfile
from collections.abc import Mapping

import numpy as np
import safetensors.numpy

from handgrad.layers import Array

from .chance import TEXTS, Chance
from .text import as_json, spoilt_bytes, spoilt_json, spoilt_tree

DTYPES = ["float32", "float64", "float16", "int32", "int64", "uint8", "bool"]
SHAPES: list[tuple[int, ...]] = [(), (0,), (1,), (3,), (2, 3), (1, 0, 4), (1,) * 20, (4096,)]
SPECIAL = [math.nan, math.inf, -math.inf, 1e38, 1e-40, 0.0]
# fmt: off
DESCRIPTIONS = [
    "'<f8'", "'|O'", "'<U999999999'", "'<f16'", "'<c16'", "'|V8'", "[('a', '<f8')]", "'<M8[ns]'", "'|S0'", "1",
]
NPY_SHAPES = [
    "(3,)", "()", "(0,)", "(20000000,)", "(1000000000000,)", "(9223372036854775807,)", "(-1,)", "3", "('a',)",
    "(0, 9223372036854775807)", "(2147483648, 2147483648, 4)", f"({'1,' * 70})", "(True,)", "((1,),)", "(10**9,)",
    "(1.5,)",
]
# fmt: on
MEMBERS = ["", "a", ".npy", "../a.npy", "/a.npy", "a.npy", "a.npy/", "\x00.npy", "ß.npy", "x" * 300 + ".npy"]


def spoilt_tensors(chance: Chance, valid: Mapping[str, Array]) -> dict[str, Array]:
    """Tensors of which some are gone, or of another name, shape, dtype or content."""
    tensors = dict(valid)
    for _ in range(1 + chance.below(3)):
        if not tensors:
            break
        name = chance.of(list(tensors))
        x = tensors[name]
        match chance.below(7):
            case 0:
                del tensors[name]
            case 1:
                tensors[chance.of([*TEXTS, *tensors])] = tensors.pop(name)
            case 2:
                with np.errstate(all="ignore"):
                    tensors[name] = x.astype(chance.of(DTYPES))
            case 3:
                tensors[name] = np.zeros(chance.of(SHAPES), x.dtype)
            case 4:
                tensors[name] = np.ascontiguousarray(x.T) if chance.below(2) else x[..., None]
            case 5 if x.size and x.dtype.kind == "f":
                tensors[name] = x.copy()
                with np.errstate(all="ignore"):
                    tensors[name].flat[chance.below(x.size)] = chance.of(SPECIAL)
            case _:
                tensors[f"{name}.{chance.below(4)}"] = x
    return tensors


def spoilt_safetensors(chance: Chance, valid: bytes) -> bytes:
    """Spoilt are the tensors, the metadata (as what they are: JSON), the header, its length, or the bytes."""
    length = int.from_bytes(valid[:8], "little")
    header, body = json.loads(valid[8 : 8 + length]), valid[8 + length :]
    metadata = header.get("__metadata__")
    match chance.below(8):
        case 0 | 1:
            tensors = dict(sorted(safetensors.numpy.load(valid).items()))
            return safetensors.numpy.save(spoilt_tensors(chance, tensors), metadata)
        case 2 | 3 if metadata:
            key, text = next(iter(metadata.items()))
            header["__metadata__"] = {key: spoilt_json(chance, text.encode()).decode(errors="replace")}
            return _safetensors(json.dumps(header).encode(), body)
        case 6:
            wrong = chance.of([0, 1, length - 1, length + 1, 10**8, 10**8 + 1, 2**63, 2**64 - 1])
            return wrong.to_bytes(8, "little") + valid[8:]
        case 7:
            return spoilt_bytes(chance, valid)
        case _:
            return _safetensors(as_json(chance, spoilt_tree(chance, header)), body)


def _safetensors(header: bytes, body: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + body


def spoilt_npz(chance: Chance, valid: bytes) -> bytes:
    """Spoilt are the tensors, the header of an array, a member of the archive, or the bytes."""
    with np.load(io.BytesIO(valid)) as file:
        tensors = {name: file[name] for name in file.files}
    kind = chance.below(6)
    if kind == 5:
        return spoilt_bytes(chance, valid)
    if kind <= 1:
        tensors = spoilt_tensors(chance, tensors)
    members = {f"{name}.npy": _npy(x) for name, x in tensors.items()}
    if kind >= 2:
        name = chance.of(sorted(members))
        descr = chance.of(DESCRIPTIONS) if chance.below(2) else DESCRIPTIONS[0]
        header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {chance.of(NPY_SHAPES)}}}\n"
        content = _npy_of(chance.of([1, 1, 1, 2, 3, 9]), header.encode(), bytes(chance.of([0, 8, 24, 30, 3_000_000])))
        members[name] = content
        if kind == 4:
            members[chance.of(MEMBERS)] = spoilt_bytes(chance, members.pop(name))
    return zipped(members, deflated=chance.below(2) == 1)


def zipped(members: Mapping[str, bytes], deflated: bool) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()


def _npy(x: Array) -> bytes:
    file = io.BytesIO()
    np.save(file, x)
    return file.getvalue()


def _npy_of(version: int, header: bytes, body: bytes) -> bytes:
    size = len(header).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + body
