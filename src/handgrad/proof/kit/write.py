"""The kit in a folder: a safetensors file and a manifest for each case, how to read them, and two programs that do."""

from collections.abc import Iterator, Sequence
from importlib import resources
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import HandgradError, meant
from ...files import require_folder, write_all, write_atomically
from ...layers import Array
from ..envelope import STORAGE, envelope
from ..manifest import manifest_of, manifest_text
from ..recording import record, zeros_of
from ..tensor_files import SUFFIX, tensor_file
from .cases import VARIANTS, draw_case

DRAWS = 32
"""Of inputs and cotangents, over which an envelope is measured; the first is the case itself."""
PROGRAMS = ("kit.c", "kit_torch.py", "README.md")
"""The first tells a kit from other folders."""


def write_kit(folder: str | PathLike[str], layers: Sequence[str] = (), seed: int = 0) -> Iterator[str]:
    """Write the cases of these layers, or of all, and tell the name of each once it is there."""
    for layer in layers:
        if layer not in VARIANTS:
            raise HandgradError(f"layers: no layer {layer!r}; {meant(layer, VARIANTS)}")
    return _written(Path(folder), layers or list(VARIANTS), seed)


def _written(folder: Path, layers: Sequence[str], seed: int) -> Iterator[str]:
    if folder.exists():
        require_folder(folder)
        others = [path for path in folder.iterdir() if not path.name.startswith(".")]
        if others and not (folder / PROGRAMS[0]).exists():
            raise HandgradError(f"{folder}: is there already, and no kit; choose another name")
    folder.mkdir(parents=True, exist_ok=True)
    for program in PROGRAMS:
        write_atomically(folder / program, resources.files(__package__).joinpath(program).read_bytes())
    for layer in layers:
        for variant in VARIANTS[layer]:
            name = f"{layer}.{variant}"
            tensors, manifest = kit_case(layer, variant, seed)
            beside = manifest_text(manifest).encode()
            write_all({folder / f"{name}{SUFFIX}": tensor_file(tensors, manifest), folder / f"{name}.json": beside})
            yield name


def kit_case(layer: str, variant: str, seed: int = 0) -> tuple[dict[str, Array], dict[str, Any]]:
    """The tensors of a case's file by key, and its manifest."""
    case, dy = draw_case(layer, variant, seed)
    recorded = _finite(record(case, layer, dy) | zeros_of(case))
    draws = (draw_case(layer, variant, seed, draw) for draw in range(DRAWS))
    measured = {key: errors for key, errors in envelope(draws, layer).items() if key in recorded}
    integers = {name: x.astype(np.int64) for name, x in case.integers.items()}
    inputs = {f"inputs/{name}": x for name, x in (case.inputs | integers).items()}
    manifest = {
        "kind": "kit",
        "layer": layer,
        "variant": variant,
        "seed": seed,
        "made_by": f"handgrad {version('handgrad')}",
        "settings": case.settings,
        **({"config": case.given["config"].to_dict()} if "config" in case.given else {}),
        "tensors": manifest_of(case, layer, [*inputs.items(), *recorded.items()]),
    }
    del measured[f"cotangents/{case.output}"]  # given, like the inputs
    for entry in manifest["tensors"]:
        entry["envelope"] = measured.get(entry["key"])
    settings = {f"settings/{name}": np.asarray(x) for name, x in case.settings.items()}
    envelopes = {f"envelopes/{key}": np.array([errors[dtype] for dtype in STORAGE]) for key, errors in measured.items()}
    return inputs | settings | recorded | envelopes, manifest


def _finite(tensors: dict[str, Array]) -> dict[str, Array]:
    """Without the masked scores, which are scores and minus infinity."""
    return {key: x for key, x in tensors.items() if np.isfinite(x).all()}
