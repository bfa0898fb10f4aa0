"""Decoding with kept keys and values: a further token costs the work of one position, not of the whole window."""

import numpy as np
from jaxtyping import Inexact, Integer

from ..layers import Array, TapOf, linear_forward
from .config import ModelConfig
from .gpt import trunk_forward
from .parameters import GPTParameters


class Decoder:
    """Reads tokens in pieces of any length, up to the context in all, and tells the logits of the token that follows.

    In causal attention the keys and values of a position never depend on what comes after it, so those of earlier
    calls are still right. It is the model's one forward that runs: a tap keeps each piece's k and v, and hands it all
    that have been kept so far.
    """

    def __init__(self, parameters: GPTParameters, config: ModelConfig, batch: int = 1) -> None:
        self.parameters = parameters
        self.config = config
        self.batch = batch
        self.length = 0
        """Positions read so far."""
        shape = (batch, config.heads, config.context, config.width // config.heads)
        self._kept = {
            f"blocks.{n}.attention.{name}": np.empty(shape, parameters.head.w_lm.dtype)
            for n in range(config.layers)
            for name in "kv"
        }

    def read(self, tokens: Integer[Array, "B T"]) -> Inexact[Array, "B V"]:
        """The logits of what follows these tokens and all those read before."""
        if len(tokens) != self.batch:
            raise ValueError(f"{len(tokens)} texts, but the decoder is for {self.batch}")
        with np.errstate(all="ignore"):  # what is not finite shows in the logits
            x, _ = trunk_forward(tokens, self.parameters, self.config, TapOf("kv", self._remember), start=self.length)
            logits, _ = linear_forward(x[:, -1], self.parameters.head.w_lm)
        self.length += tokens.shape[1]
        return logits

    def forget(self) -> None:
        """Begin anew at position 0."""
        self.length = 0

    @property
    def nbytes(self) -> int:
        """The size of all keys and values that it can keep."""
        return sum(kept.nbytes for kept in self._kept.values())

    def _remember(self, name: str, x: Array) -> Array:
        if name not in self._kept:
            return x
        end = self.length + x.shape[2]
        self._kept[name][:, :, self.length : end] = x
        return self._kept[name][:, :, :end]
