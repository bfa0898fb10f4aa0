"""Decoding with kept keys and values: a further token costs the work of one position, not of the whole window."""

import numpy as np
from jaxtyping import Inexact, Integer

from ..layers import Array, TapOf, linear_forward
from .config import ModelConfig
from .gpt import head_matrix, trunk_forward
from .parameters import GPTParameters


class Decoder:
    """Reads tokens in pieces of any length, up to the context in all, and tells the logits of the token that follows.

    In causal attention the keys and values of a position never depend on what comes after it, so those of earlier
    calls are still right. It is the model's one forward that runs: a tap keeps each piece's keys, as queries meet them,
    and values, and hands it all that have been kept so far.
    """

    def __init__(self, parameters: GPTParameters, config: ModelConfig, batch: int = 1) -> None:
        self.parameters = parameters
        self.config = config
        self.batch = batch
        self.length = 0
        """Positions read so far."""
        keys = "k_rotated" if config.positions == "rotary" else "k_normed" if config.query_key_norm else "k"
        self._names = (keys, "v")
        self._kept = {f"blocks.{n}.attention.{name}": self._room(0) for n in range(config.layers) for name in self._names}

    def read(self, tokens: Integer[Array, "B T"]) -> Inexact[Array, "B V"]:
        """The logits of what follows these tokens and all those read before."""
        if len(tokens) != self.batch:
            raise ValueError(f"{len(tokens)} texts, but the decoder is for {self.batch}")
        with np.errstate(all="ignore"):  # what is not finite shows in the logits
            tap = TapOf(self._names, self._remember)
            x, _ = trunk_forward(tokens, self.parameters, self.config, tap, start=self.length)
            logits, _ = linear_forward(x[:, -1], head_matrix(self.parameters))
        self.length += tokens.shape[1]
        return logits

    def forget(self) -> None:
        """Begin anew at position 0."""
        self.length = 0

    @property
    def nbytes(self) -> int:
        """The size of all keys and values of a full context."""
        return len(self._kept) * self.config.context * self._room(1).nbytes

    def _room(self, positions: int) -> Array:
        shape = (self.batch, self.config.key_value_heads, positions, self.config.head_width)
        return np.empty(shape, self.parameters.embedding.token.dtype)

    def _remember(self, name: str, x: Array) -> Array:
        kept, end = self._kept[name], self.length + x.shape[2]
        if end > kept.shape[2]:  # twice as much each time, so that a long context is paid for only by who fills it
            room = self._room(min(self.config.context, max(2 * end, 64)))
            room[:, :, : self.length] = kept[:, :, : self.length]
            self._kept[name] = kept = room
        kept[:, :, self.length : end] = x
        return kept[:, :, :end]
