"""Somebody else's tensors: found under the reference's names or by a mapping, and fit to be compared."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...errors import ConfigError, HandgradError, nearest
from ...files import read_toml
from ...layers import Array
from ..envelope import DTYPES, EPSILON, HIDDEN, deviation
from ..tensor_files import read_tensor_file
from .reference import Reference

MOST = 10
"""Problems that are told."""


class Place(NamedTuple):
    """Where a tensor of the reference is in a foreign file."""

    name: str
    transposed: bool = False
    """Its last two axes are the other way round, as in weights that are (out, in)."""


def read_mapping(path: Path, keys: list[str]) -> dict[str, Place]:
    """A TOML file of lines `"gradients/blocks.*.attention.w_q" = "layers.*.wq.grad"`, spelt out for these keys.

    A star stands for a number, the same one on both sides. In place of the name there may be a table,
    `{ name = "layers.*.wq.grad", transposed = true }`. A `HandgradError` names the line that fits no key.
    """
    places: dict[str, Place] = {}
    for pattern, value in read_toml(path).items():
        place = _place(path, pattern, value)
        fitting = re.compile(re.escape(pattern).replace(r"\*", r"(\d+)"))
        found = [match for key in keys if (match := fitting.fullmatch(key))]
        if not found:
            raise ConfigError(f"{path}: {pattern}: the reference has no such tensor{_near(pattern, keys)}")
        for match in found:
            numbers = iter(match.groups())
            name = re.sub(r"\*", lambda _: next(numbers, "*"), place.name)  # noqa: B023 - used at once
            places[match[0]] = place._replace(name=name)
    return places


def _place(path: Path, pattern: str, value: Any) -> Place:
    match value:
        case str(name) | {"name": str(name)} if isinstance(value, str) or len(value) == 1:
            return Place(name)
        case {"name": str(name), "transposed": bool(transposed)} if len(value) == 2:
            return Place(name, transposed)
    raise ConfigError(f"{path}: {pattern}: {value!r} is neither a name nor {{ name = ..., transposed = true }}")


def read_mine(path: Path, reference: Reference, mapping: Path | None = None) -> tuple[dict[str, Array], str]:
    """The tensors that the file has of the reference's, by its keys, and the coarsest dtype among them.

    A `HandgradError` has a line for each tensor that cannot be compared: one that the reference has not (a mapping says
    that there are others), that a mapping names and the file has not, that is no floating-point tensor, or not finite;
    or tokens, parameters and inputs that are not the reference's, since then nothing can be compared.
    """
    found = read_tensor_file(path).tensors
    if mapping:
        places = read_mapping(mapping, [*reference.tensors, *reference.given])
        problems = [
            f"{key}: {place.name} is not in the file" for key, place in places.items() if place.name not in found
        ]
        mine = {key: x for key, x in found.items() if key in reference.tensors or key in reference.given}
        mine |= {key: _taken(found[place.name], place) for key, place in places.items() if place.name in found}
    else:
        mine, problems = found, []
    problems += _problems(mine, reference)
    if problems:
        more = [f"and {len(problems) - MOST} more"] if len(problems) > MOST else []
        raise HandgradError(*(f"{path}: {problem}" for problem in [*problems[:MOST], *more]))
    mine = {key: mine[key] for key in reference.tensors if key in mine}
    if not mine:
        raise HandgradError(f"{path}: has no tensor of the reference's, such as {next(iter(reference.tensors))}")
    dtype = max((str(x.dtype) for x in mine.values()), key=DTYPES.index)
    return {key: x.astype(np.float64) for key, x in mine.items()}, dtype


def _taken(x: Array, place: Place) -> Array:
    return x.swapaxes(-1, -2) if place.transposed and x.ndim > 1 else x


def _problems(mine: Mapping[str, Array], reference: Reference) -> Iterator[str]:
    known = reference.tensors | reference.given
    for key, x in mine.items():
        if key not in known:
            if key.partition("/")[0] in ("settings", "envelopes"):
                continue  # a kit's own
            yield f"{key}: the reference has no such tensor{_near(key, list(known))}"
        elif key in reference.given:
            if not _same(x, reference.given[key]):
                yield f"{key}: is not the reference's, so that nothing below can be compared"
        elif str(x.dtype) not in DTYPES:
            yield f"{key}: dtype {x.dtype}; expected one of {', '.join(DTYPES)}"
        elif not _finite(x, reference.tensors[key]):
            at = tuple(int(i) for i in np.argwhere(~np.isfinite(x.astype(np.float64)))[0])
            yield f"{key}: {x[at]} at {list(at)}: not finite"


def _same(x: Array, given: Array) -> bool:
    """Whether a given tensor is the same, or rounded to a coarser dtype."""
    if x.dtype.kind in "iub":
        return np.array_equal(x, given)
    return str(x.dtype) in DTYPES and deviation(x.astype(np.float64), given) <= EPSILON.get(str(x.dtype), 0)


def _finite(x: Array, reference: Array) -> bool:
    """Minus infinity is right where the reference has it."""
    wide = x.astype(np.float64)
    if wide.shape == reference.shape:
        return bool((np.isfinite(wide) | (np.isneginf(reference) & (wide <= HIDDEN))).all())
    return bool(np.isfinite(wide).all())


def _near(name: str, names: list[str]) -> str:
    near = nearest(name, names)
    return f"; did you mean {near}?" if near else ""
