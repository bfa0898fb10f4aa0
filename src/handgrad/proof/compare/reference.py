"""A trace or a kit's case, read back as what it is: a pass that can be run again."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ...errors import ConfigError, HandgradError, counted
from ...layers import Array
from ...model import ModelConfig
from ..case import Case, given_of
from ..cases import all_cases
from ..check import BAR
from ..envelope import DTYPES, Envelope, deviation, envelope
from ..mutations import Mutation
from ..recording import Through, as_it_is, key_in_trace, record, zeros_of
from ..tensor_files import TensorFile, read_tensor_file

TRACE_DRAWS = 8
"""Of moved parameters, over which the envelope of a trace is measured."""
COMPARED = ("activations", "outputs", "cotangents", "gradients")


class Reference(NamedTuple):
    """What a file is held against: the tensors of a trace or of a kit's case, and the case that makes them."""

    kind: Literal["trace", "kit"]
    layer: str
    case: Case
    dy: Array
    """The cotangent of the case's output."""
    given: dict[str, Array]
    """By key: tokens, targets, parameters or inputs."""
    tensors: dict[str, Array]
    """By key in the order of the dataflow: what is compared."""
    axes: dict[str, list[str]]
    """The names of each tensor's axes, by key."""
    kept: Envelope
    """The envelope that a kit's case brings with it."""

    @property
    def dtype(self) -> str:
        """What the tensors were kept in."""
        return str(next(iter(self.tensors.values())).dtype)

    def run(self, through: Through = as_it_is, mutation: Mutation | None = None) -> dict[str, Array]:
        """The pass in float64 once more, perhaps with a wrong backward in it; by the keys of the file."""
        case = self.case.planted(mutation) if mutation else self.case
        recorded = record(case, self.layer, self.dy, lambda key, x: through(self._key(key), x))
        return {self._key(key): x for key, x in recorded.items()}

    def envelope(self, dtype: str) -> dict[str, float]:
        """The largest error that passes, by key, in this dtype."""
        if dtype == "float64":
            return dict.fromkeys(self.tensors, BAR)
        if self.kind == "kit":
            return {key: self.kept[key][dtype] for key in self.tensors}
        measured = envelope([(self.case, self.dy)] * TRACE_DRAWS, self.layer, [dtype])
        return {self._key(key): errors[dtype] for key, errors in measured.items()}

    def _key(self, recorded: str) -> str:
        return key_in_trace(recorded) if self.kind == "trace" else recorded


def read_reference(path: Path) -> Reference:
    """Read a file that handgrad wrote; a `HandgradError` says why it is none, or names the tensor that is not right."""
    file = read_tensor_file(path)
    if file.manifest is None:
        raise HandgradError(f"{path}: no reference: neither `handgrad trace` nor `handgrad kit` wrote it")
    try:
        reference = _reference(file, file.manifest)
        zeros = zeros_of(reference.case)
        again = reference.run() | zeros
        allowed = reference.envelope(reference.dtype)
        for key, x in reference.tensors.items():
            if len(reference.axes[key]) != x.ndim:
                named = len(reference.axes[key])
                raise HandgradError(f"{path}: {key}: {counted(x.ndim, 'axis', 'axes')}, but the manifest names {named}")
            if not deviation(x, again[key]) <= allowed[key]:
                raise HandgradError(f"{path}: {key} is not what handgrad makes of the file's inputs: it was changed")
    except ConfigError as error:
        raise HandgradError(f"{path}: config: {error}") from None
    except HandgradError:
        raise
    except Exception as error:  # a manifest or tensors that somebody changed can be wrong in any way
        raise HandgradError(f"{path}: its manifest does not fit its tensors: {error!r}") from None
    return reference._replace(tensors=reference.tensors | zeros)


def _reference(file: TensorFile, manifest: dict[str, Any]) -> Reference:
    entries = {entry["key"]: entry for entry in manifest["tensors"]}
    if missing := entries.keys() - file.tensors.keys():
        raise HandgradError(f"{file.path}: missing tensor {min(missing)}")
    kind, layer = manifest["kind"], manifest["layer"]
    if kind not in ("trace", "kit"):
        raise HandgradError(f"{file.path}: kind: {kind!r} is neither trace nor kit")
    case = _trace_case(file, manifest) if kind == "trace" else _kit_case(file, manifest)
    upstream = f"cotangents/{case.output}"
    tensors = {key: file.tensors[key] for key in entries if key.partition("/")[0] in COMPARED}
    if kind == "kit":
        del tensors[upstream]  # given, like the inputs
    return Reference(
        kind=kind,
        layer=layer,
        case=case,
        dy=file.tensors[upstream].astype(np.float64),
        given={key: file.tensors[key] for key in entries if key not in tensors},
        tensors=tensors,
        axes={key: list(entries[key]["axes"]) for key in tensors},
        kept={key: _allowed(entries[key]) for key in tensors} if kind == "kit" else {},
    )


def _allowed(entry: dict[str, Any]) -> dict[str, float]:
    return {dtype: float(entry["envelope"][dtype]) for dtype in DTYPES}


def _trace_case(file: TensorFile, manifest: dict[str, Any]) -> Case:
    config = ModelConfig.from_dict(manifest["config"])
    given = {"tokens": file.tensors["tokens"], "targets": file.tensors["targets"], "config": config}
    return _with(all_cases()["gpt"], _by_name(file, manifest, "parameters"), given)


def _kit_case(file: TensorFile, manifest: dict[str, Any]) -> Case:
    inputs = _by_name(file, manifest, "inputs")
    integers = {name: inputs.pop(name) for name in ("tokens", "targets") if name in inputs}
    given = {"config": ModelConfig.from_dict(manifest["config"])} if "config" in manifest else None
    return _with(all_cases()[manifest["layer"]], inputs, integers | (given or given_of(manifest["settings"])))


def _with(pattern: Case, inputs: dict[str, Array], given: dict[str, Any]) -> Case:
    return pattern._replace(inputs={name: x.astype(np.float64) for name, x in inputs.items()}, given=given)


def _by_name(file: TensorFile, manifest: dict[str, Any], kind: str) -> dict[str, Array]:
    """The tensors of a kind, in the order of the manifest."""
    return {
        entry["name"]: file.tensors[entry["key"]]
        for entry in manifest["tensors"]
        if entry["key"].startswith(f"{kind}/")
    }
