"""A model as a user holds it: config, parameters and tokenizer, and the folder that keeps the three."""

import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Inexact, Integer

from ..errors import ConfigError, HandgradError, TextError
from ..files import check_unless_being_written, read_json_object, require_folder, write_together
from ..layers import IGNORE_INDEX, Array
from .config import ModelConfig
from .generate import DEFAULT_TEMPERATURE, DEFAULT_TOKENS, check_sampling, generate_tokens, until
from .gpt import gpt_forward, loss_backward, loss_forward
from .parameters import Parameters
from .tokenizer import Tokenizer
from .weights import load_parameters, tensors_to_bytes

CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FILE = "config.json", "model.safetensors", "tokenizer.json"


@dataclass(frozen=True, eq=False)
class Model:
    """A GPT with its tokenizer. Tokens are arrays (or lists) of integers, of shape (B, T), or (T,) for one sequence."""

    config: ModelConfig
    parameters: Parameters
    tokenizer: Tokenizer

    def logits(self, tokens: Any) -> Inexact[Array, "... T V"]:
        """The logits of the next token at every position, (B, T, V), or (T, V) for one sequence."""
        batch = self._checked("tokens", tokens)
        logits, _ = gpt_forward(np.atleast_2d(batch), self.parameters.tree, self.config)
        return logits.reshape(*batch.shape, self.config.vocabulary)

    def loss_and_gradients(self, tokens: Any, targets: Any) -> tuple[float, Parameters]:
        """The mean cross-entropy in nats, and its gradient for every parameter by name.

        targets has the shape of tokens: what should follow each of them; `IGNORE_INDEX` (-100) where nothing counts.
        """
        loss, cache = loss_forward(*self.batch(tokens, targets), self.parameters.tree, self.config)
        gradients = loss_backward(np.ones_like(loss), cache)
        return float(loss), Parameters.from_tree(self.config, gradients)

    def batch(self, tokens: Any, targets: Any) -> tuple[Integer[Array, "B T"], Integer[Array, "B T"]]:
        """Both as arrays of shape (B, T), where the model can take them; a `HandgradError` says why it cannot."""
        batch = self._checked("tokens", tokens)
        goals = self._checked("targets", targets, also=IGNORE_INDEX)
        if batch.shape != goals.shape:
            raise HandgradError(f"targets: shape {goals.shape} differs from that of tokens, {batch.shape}")
        return np.atleast_2d(batch), np.atleast_2d(goals)

    def generate(self, prompt: str = "", tokens: int = DEFAULT_TOKENS, **sampling: Any) -> str:
        """A continuation of the prompt, without the prompt. `sampling`: temperature, top_k, top_p, stop, seed."""
        return "".join(self.generate_stream(prompt, tokens, **sampling))

    def generate_stream(
        self,
        prompt: str = "",
        tokens: int = DEFAULT_TOKENS,
        *,
        temperature: float = DEFAULT_TEMPERATURE,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: str | Sequence[str] = (),
        seed: int | None = None,
    ) -> Iterator[str]:
        """The same as `generate`, piece by piece as the tokens are drawn.

        It ends before the first `stop` (one text or several), or after so many tokens.
        """
        if tokens < 1:
            raise HandgradError(f"tokens: {tokens} is not a whole number of 1 or more")
        check_sampling(temperature, top_k, top_p)
        stops = [stop] if isinstance(stop, str) else list(stop)
        if "" in stops:
            raise HandgradError("stop: an empty text would end it before it began")
        start = self.tokenizer.encode(prompt) if prompt else self._start()
        drawn = generate_tokens(
            start,
            self.parameters.tree,
            self.config,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
        )
        return until(self.tokenizer.decode_stream(itertools.islice(drawn, min(tokens, sys.maxsize))), stops)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the folder that `load` reads, with checksums."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        write_together(folder, self.files())

    def files(self) -> dict[str, bytes]:
        """The files that `save` writes, by name."""
        config = {"model_type": "handgrad", **self.config.to_dict()}
        return {
            CONFIG_FILE: (json.dumps(config, indent=2) + "\n").encode(),
            TOKENIZER_FILE: (self.tokenizer.to_json() + "\n").encode(),
            WEIGHTS_FILE: tensors_to_bytes({"": self.parameters}),
        }

    def _start(self) -> Array:
        """Where a text without a prompt begins: after a line's end, or after token 0 where the vocabulary has none."""
        try:
            return self.tokenizer.encode("\n")
        except TextError:
            return np.zeros(1, np.int32)

    def _checked(self, name: str, tokens: Sequence[Any] | Array, also: int | None = None) -> Integer[Array, "..."]:
        try:
            array = np.asarray(tokens)
        except ValueError:
            raise HandgradError(f"{name}: sequences of different lengths") from None
        if array.dtype.kind not in "iu" or array.ndim not in (1, 2) or array.size == 0:
            raise HandgradError(
                f"{name}: shape {array.shape}, dtype {array.dtype}; expected integers, (T,) or (B, T), at least one"
            )
        if array.shape[-1] > self.config.context:
            raise HandgradError(f"{name}: {array.shape[-1]} positions; the model's context is {self.config.context}")
        outside = ((array < 0) | (array >= self.config.vocabulary)) & (array != also)
        if outside.any():
            raise HandgradError(f"{name}: {array[outside][0]} is not a token from 0 to {self.config.vocabulary - 1}")
        return array


def load(path: str | PathLike[str]) -> Model:
    """Read a model folder (a run is one): config.json, model.safetensors, tokenizer.json.

    Where checksums.sha256 lies beside them, they must agree with it.
    """
    folder = Path(path)
    require_folder(folder)
    config = _read_config(folder / CONFIG_FILE)
    tokenizer = Tokenizer.load(folder / TOKENIZER_FILE)
    if tokenizer.vocabulary != config.vocabulary:
        raise ConfigError(
            f"{folder / CONFIG_FILE}: vocabulary: {config.vocabulary}, but {TOKENIZER_FILE} has {tokenizer.vocabulary}"
        )
    (parameters,) = load_parameters(folder / WEIGHTS_FILE, config)
    check_unless_being_written(folder, (CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE))
    return Model(config, parameters, tokenizer)


def _read_config(path: Path) -> ModelConfig:
    fields = read_json_object(path)
    if (model_type := fields.pop("model_type", None)) != "handgrad":
        raise ConfigError(f'{path}: model_type: {json.dumps(model_type)}; expected "handgrad"')
    try:
        return ModelConfig.from_dict(fields)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
