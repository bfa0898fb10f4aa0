"""Every activation, every cotangent and every gradient of one forward and backward pass of a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Integer

from ..errors import HandgradError, counted
from ..files import parse_json_object, read_json_object, write_all
from ..layers import IGNORE_INDEX, Array
from ..model import Model, ModelConfig, load_metadata
from .case import Case
from .cases import loss_case
from .manifest import manifest_of, manifest_text
from .recording import Through, as_it_is, key_in_trace, record
from .tensor_files import SUFFIX, tensor_file

DTYPES = ("float64", "float32")


@dataclass(frozen=True, eq=False)
class Trace:
    """The tensors of a pass by name, as the taps and the parameters have them: `blocks.0.attention.weights`."""

    config: ModelConfig
    tokens: Integer[Array, "B T"]
    targets: Integer[Array, "B T"]
    parameters: dict[str, Array]
    recorded: dict[str, Array]
    """`activations/NAME`, `cotangents/NAME` and `gradients/NAME` in the order of the dataflow."""

    @cached_property
    def activations(self) -> dict[str, Array]:
        """What the forward makes, by name."""
        return self._of("activations")

    @cached_property
    def cotangents(self) -> dict[str, Array]:
        """The gradient of the loss with respect to each activation, under its name."""
        return self._of("cotangents")

    @cached_property
    def gradients(self) -> dict[str, Array]:
        """The gradient of the loss with respect to each parameter, under its name."""
        return self._of("gradients")

    @property
    def loss(self) -> float:
        """The mean cross-entropy in nats."""
        return float(self.activations["loss"])

    def tensors(self) -> dict[str, Array]:
        """Everything by the key that it has in a file."""
        parameters = {f"parameters/{name}": x for name, x in self.parameters.items()}
        return {"tokens": self.tokens, "targets": self.targets} | parameters | self.recorded

    def manifest(self) -> dict[str, Any]:
        """What is in the file, and what each tensor is: see `manifest_of`."""
        return {
            "kind": "trace",
            "layer": "gpt",
            "made_by": f"handgrad {version('handgrad')}",
            "config": self.config.to_dict(),
            "tensors": manifest_of(self.case(), "gpt", self.tensors().items()),
        }

    def case(self) -> Case:
        """The pass as a case: the loss as a function of the parameters."""
        return loss_case(self.config, self.parameters, self.tokens, self.targets)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the tensors, with the manifest in the file's metadata, and the manifest as JSON beside it."""
        path = Path(path)
        refuse_other_files(path)
        manifest = self.manifest()
        beside = manifest_text(manifest).encode()
        write_all({path: tensor_file(self.tensors(), manifest), path.with_suffix(".json"): beside})

    def _of(self, kind: str) -> dict[str, Array]:
        return {key.partition("/")[2]: x for key, x in self.recorded.items() if key.startswith(f"{kind}/")}


def trace(
    model: Model,
    text: Any,
    targets: Any = None,
    *,
    dtype: Literal["float64", "float32"] = "float64",
    through: Through = as_it_is,
) -> Trace:
    """Run a model forward and backward, and keep everything.

    text: a text, or several, each of whose tokens is predicted from those before it; or tokens, (B, T) or (T,), and
    then `targets` says what should follow each of them, -100 where nothing counts. The weights are converted to
    `dtype` first. `through` is shown each tensor by its key, as soon as it is there; what it raises ends the pass.
    """
    if dtype not in DTYPES:
        raise HandgradError(f"dtype: {dtype!r} is not one of {', '.join(DTYPES)}")
    if isinstance(text, str):
        text = [text]
    if isinstance(text, list | tuple) and text and all(isinstance(each, str) for each in text):
        if targets is not None:
            raise HandgradError("targets: a text has its own; they are for tokens")
        text, targets = _next_tokens(model, text)
    elif targets is None:
        raise HandgradError("targets: missing; they say what should follow each of the tokens")
    tokens, goals = (x.astype(np.int64) for x in model.batch(text, targets))
    parameters = {name: x.astype(dtype) for name, x in model.parameters.items()}
    recorded = record(loss_case(model.config, parameters, tokens, goals), "gpt", np.ones((), dtype), through)
    return Trace(model.config, tokens, goals, parameters, {key_in_trace(key): x for key, x in recorded.items()})


def refuse_other_files(path: Path) -> None:
    """Refuse a name that is no safetensors file's, or whose files hold something else than a trace."""
    if path.suffix != SUFFIX:
        raise HandgradError(f"{path}: the name of a file of tensors ends in {SUFFIX}")
    for file in (path, path.with_suffix(".json")):
        if file.exists() and not _is_a_trace(file):
            raise HandgradError(f"{file}: is there already, and no trace; choose another name")


def _is_a_trace(path: Path) -> bool:
    try:
        manifest = (
            read_json_object(path) if path.suffix == ".json" else parse_json_object(load_metadata(path), str(path))
        )
    except HandgradError:
        return False
    return manifest.get("kind") == "trace"


def _next_tokens(model: Model, texts: Sequence[str]) -> tuple[Array, Array]:
    """Each text's tokens but the last, and what follows each of them; the shorter ones padded, which does not count."""
    context, each = model.config.context, [model.tokenizer.encode(text) for text in texts]
    for tokens in each:
        if not 2 <= len(tokens) <= context + 1:
            raise HandgradError(
                f"the text has {counted(len(tokens), 'token')}; from 2 to {context + 1} can be traced: a context, and "
                "what follows"
            )
    shape = len(each), max(map(len, each)) - 1
    tokens, targets = np.zeros(shape, np.int64), np.full(shape, IGNORE_INDEX)
    for row, text in enumerate(each):
        tokens[row, : len(text) - 1], targets[row, : len(text) - 1] = text[:-1], text[1:]
    return tokens, targets
