"""Every activation, every cotangent and every gradient of one forward and backward pass of a model."""

from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Integer

from ..errors import HandgradError
from ..files import write_atomically
from ..layers import Array
from ..model import Model, ModelConfig
from .case import Case
from .manifest import manifest_of, manifest_text
from .named import named_loss_backward, named_loss_forward
from .recording import record
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
        given = {"tokens": self.tokens, "targets": self.targets, "config": self.config}
        return Case(named_loss_forward, named_loss_backward, self.parameters, given, output="loss")

    def save(self, path: str | PathLike[str]) -> None:
        """Write the tensors, with the manifest in the file's metadata, and the manifest as JSON beside it."""
        path = Path(path)
        if path.suffix != SUFFIX:
            raise HandgradError(f"{path}: the name of a file of tensors ends in {SUFFIX}")
        manifest = self.manifest()
        write_atomically(path, tensor_file(self.tensors(), manifest))
        write_atomically(path.with_suffix(".json"), manifest_text(manifest))

    def _of(self, kind: str) -> dict[str, Array]:
        return {key.partition("/")[2]: x for key, x in self.recorded.items() if key.startswith(f"{kind}/")}


def trace(model: Model, text: Any, targets: Any = None, *, dtype: Literal["float64", "float32"] = "float64") -> Trace:
    """Run a model forward and backward, and keep everything.

    text: a text, each of whose tokens is predicted from those before it; or tokens, (B, T) or (T,), and then `targets`
    says what should follow each of them, -100 where nothing counts. The weights are converted to `dtype` first.
    """
    if dtype not in DTYPES:
        raise HandgradError(f"dtype: {dtype!r} is not one of {', '.join(DTYPES)}")
    if isinstance(text, str):
        text, targets = _next_token_pairs(model, text)
    elif targets is None:
        raise HandgradError("targets: missing; they say what should follow each of the tokens")
    tokens, goals = (x.astype(np.int64) for x in model.batch(text, targets))
    parameters = {name: x.astype(dtype) for name, x in model.parameters.items()}
    traced = Trace(model.config, tokens, goals, parameters, {})
    recorded = record(traced.case(), "gpt", np.ones((), dtype)).tensors
    traced.recorded.update((key.replace("outputs/", "activations/"), x) for key, x in recorded.items())
    return traced


def _next_token_pairs(model: Model, text: str) -> tuple[Array, Array]:
    tokens = model.tokenizer.encode(text)
    context = model.config.context
    if not 2 <= len(tokens) <= context + 1:
        raise HandgradError(
            f"the text has {len(tokens)} tokens; from 2 to {context + 1} can be traced: a context, and what follows it"
        )
    return tokens[:-1], tokens[1:]
