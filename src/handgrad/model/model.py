"""A model as a user holds it: config, parameters and tokenizer, and the folder that keeps the three."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

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
OTHER_TOKENIZERS = ("tokenizer.model", "vocab.json", "vocab.txt")
"""Older forms, from which `transformers` makes that one."""
SAMPLING: dict[str, Any] = {"temperature": DEFAULT_TEMPERATURE, "top_k": None, "top_p": None}


class SpecialTokens(NamedTuple):
    """Tokens that stand for no text. Both have the names that Hugging Face gives them, in config.json too."""

    bos_token_id: int | None = None
    """What a text begins with that has no prompt."""
    eos_token_id: tuple[int, ...] = ()
    """What ends a text."""


NO_SPECIAL_TOKENS = SpecialTokens()


@dataclass(frozen=True, eq=False)
class Model:
    """A GPT with its tokenizer. Tokens are arrays (or lists) of integers, of shape (B, T), or (T,) for one sequence."""

    config: ModelConfig
    parameters: Parameters
    tokenizer: Tokenizer
    special: SpecialTokens = NO_SPECIAL_TOKENS

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

    def generate_batch(
        self,
        prompts: Sequence[str],
        tokens: int = DEFAULT_TOKENS,
        *,
        stop: str | Sequence[str] = (),
        **sampling: Any,
    ) -> list[str]:
        """The continuations of several prompts, written side by side; each is as `generate` writes it alone, but for
        the seed's draws after the first, and for what a batched product rounds differently."""
        if isinstance(prompts, str):
            raise HandgradError("prompts: one text, where a list of them is expected")
        drawn: list[list[int]] = [[] for _ in prompts]
        starts, stops = [self._start(prompt) for prompt in prompts], _stops(stop)
        for row, token in self._drawn(starts, tokens, stops, **sampling):
            drawn[row].append(token)
        return [
            "".join(until(self.tokenizer.decode_stream(new, start), stops))
            for start, new in zip(starts, drawn, strict=True)
        ]

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

        It ends before the first `stop` (one text or several), with a token that ends a text, or after so many tokens.
        """
        start, stops = self._start(prompt), _stops(stop)
        drawn = self._drawn([start], tokens, (), temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
        return until(self.tokenizer.decode_stream((token for _, token in drawn), start), stops)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the folder that `load` reads, with checksums."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        write_together(folder, self.files())

    def files(self) -> dict[str, bytes]:
        """The files that `save` writes, by name."""
        special = {name: x for name, x in self.special._asdict().items() if x not in (None, ())}
        config = {"model_type": "handgrad", **self.config.to_dict(), **special}
        return {
            CONFIG_FILE: (json.dumps(config, indent=2) + "\n").encode(),
            TOKENIZER_FILE: (self.tokenizer.to_json() + "\n").encode(),
            WEIGHTS_FILE: tensors_to_bytes(self.parameters),
        }

    def _drawn(
        self, starts: Sequence[Array], tokens: int, stops: Sequence[str], **sampling: Any
    ) -> Iterator[tuple[int, int]]:
        """As `generate_tokens`, up to a token that ends a text or completes a stop; what is wrong is refused at once,
        and not when the first token is asked for."""
        if tokens < 1:
            raise HandgradError(f"tokens: {tokens} is not a whole number of 1 or more")
        check_sampling(**SAMPLING | {name: x for name, x in sampling.items() if name in SAMPLING})
        ends = self.special.eos_token_id
        written: list[list[int]] = [[] for _ in starts]

        def over(row: int, token: int) -> bool:
            written[row].append(token)
            text = self.tokenizer.decode(written[row]) if stops else ""
            return token in ends or any(stop in text for stop in stops)

        return generate_tokens(starts, self.parameters.tree, self.config, tokens=tokens, over=over, **sampling)

    def _start(self, prompt: str) -> Array:
        """The tokens of a prompt. Without one, a text begins after the token that says so; else after a line's end, or
        after token 0 where the vocabulary has none."""
        if prompt and len(tokens := self.tokenizer.encode(prompt)):
            return tokens
        if self.special.bos_token_id is not None:
            return np.array([self.special.bos_token_id], np.int32)
        try:
            line_end = self.tokenizer.encode("\n")
        except TextError:
            line_end = np.zeros(0, np.int32)
        return line_end if len(line_end) else np.zeros(1, np.int32)

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
    config, special = _read_config(folder / CONFIG_FILE)
    tokenizer = load_tokenizer(folder, config)
    parameters = load_parameters(folder / WEIGHTS_FILE, config)
    check_unless_being_written(folder, (CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE))
    return Model(config, parameters, tokenizer, special)


def load_tokenizer(folder: Path, config: ModelConfig) -> Tokenizer:
    """That of a model's folder, whose tokens the model must know; some models have room for more."""
    path = folder / TOKENIZER_FILE
    if not path.exists() and (others := [name for name in OTHER_TOKENIZERS if (folder / name).exists()]):
        raise TextError(
            f"{path}: no such file, and {others[0]} is not read; transformers.AutoTokenizer makes one: "
            f"AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
        )
    tokenizer = Tokenizer.load(path)
    if tokenizer.vocabulary > config.vocabulary:
        raise ConfigError(
            f"{folder / CONFIG_FILE}: vocabulary: {config.vocabulary}, but {TOKENIZER_FILE} has {tokenizer.vocabulary}"
        )
    return tokenizer


def read_special_tokens(fields: Mapping[str, Any], vocabulary: int) -> SpecialTokens:
    """Those of a config.json; one that is no token of the vocabulary is a `ConfigError`."""
    found = {}
    for name in SpecialTokens._fields:
        value = fields.get(name)
        listed = value if isinstance(value, list) else [] if value is None else [value]
        for token in listed:
            if type(token) is not int or not 0 <= token < vocabulary:
                raise ConfigError(f"{name}: {json.dumps(value)} is not a token from 0 to {vocabulary - 1}")
        found[name] = tuple(listed)
    bos = found["bos_token_id"]
    if len(bos) > 1:
        raise ConfigError(f"bos_token_id: {json.dumps(bos)}: a text begins with one token")
    return SpecialTokens(bos[0] if bos else None, found["eos_token_id"])


def _stops(stop: str | Sequence[str]) -> list[str]:
    stops = [stop] if isinstance(stop, str) else list(stop)
    if "" in stops:
        raise HandgradError("stop: an empty text would end it before it began")
    return stops


def _read_config(path: Path) -> tuple[ModelConfig, SpecialTokens]:
    fields = read_json_object(path)
    if (model_type := fields.pop("model_type", None)) != "handgrad":
        raise ConfigError(f'{path}: model_type: {json.dumps(model_type)}; expected "handgrad"')
    special = {name: fields.pop(name, None) for name in SpecialTokens._fields}
    try:
        config = ModelConfig.from_dict(fields)
        return config, read_special_tokens(special, config.vocabulary)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
