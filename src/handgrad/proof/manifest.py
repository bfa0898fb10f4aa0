"""What each tensor of a recording is: its name, axes, shape and formulas, and the function that made it."""

import json
from collections.abc import Iterable
from typing import Any

from ..layers import Array
from .case import Case
from .formulas import formula_of, named_axes
from .sites import Source, site_of

MADE_BACKWARDS = ("cotangents", "gradients")


def manifest_of(case: Case, layer: str, tensors: Iterable[tuple[str, Array]]) -> list[dict[str, Any]]:
    """An entry for each tensor, in the order given: that of the dataflow.

    `forward` and `backward` are the formulas, in LaTeX, of the value and of its gradient; `made_by` is the function
    that made this one. Where a tensor is given, nothing made it, and there is no formula.
    """
    return [_entry(case, layer, order, key, x) for order, (key, x) in enumerate(tensors)]


def manifest_text(manifest: dict[str, Any]) -> str:
    """The manifest as JSON, each tensor on a line of its own."""
    lines = ",\n".join(f"  {json.dumps(entry)}" for entry in manifest["tensors"])
    return json.dumps(manifest | {"tensors": []}, indent=1).removesuffix("[]\n}") + f"[\n{lines}\n ]\n}}\n"


def _entry(case: Case, layer: str, order: int, key: str, x: Array) -> dict[str, Any]:
    kind, _, name = key.partition("/")
    site = site_of(case, layer, name or kind)
    maker = site.backward if kind in MADE_BACKWARDS else site.forward
    return {
        "key": key,
        "name": name or kind,
        "axes": named_axes(site.axes, x.ndim),
        "shape": list(x.shape),
        "dtype": str(x.dtype),
        "order": order,
        "forward": _formula(site.forward),
        "backward": _formula(site.backward),
        "made_by": f"{maker.function.__module__}.{maker.function.__name__}" if maker else None,
    }


def _formula(source: Source | None) -> str | None:
    return formula_of(*source) if source else None
