"""Decoding with kept keys and values: a further token costs the work of one position, not of the whole window."""

import numpy as np
from jaxtyping import Inexact, Integer

from ..errors import counted
from ..layers import (
    Array,
    causal_attention_forward,
    embedding_forward,
    linear_forward,
    merge_heads,
    positions_forward,
    rms_norm_forward,
    rotary_forward,
    silu_forward,
    split_heads,
)
from .config import ModelConfig
from .feed_forward import feed_forward_forward
from .gpt import head_matrix
from .norm import norm_forward
from .parameters import BlockParameters, GPTParameters, SwigluParameters

ROOM = 64
"""Positions that there is room for from the beginning."""
ONE_PRODUCT = 1 << 20
"""Bytes of matrices up to which they are copied to be one. A product of few numbers takes as long as it takes to call
it; where matrices are larger it is their reading that takes time, and a copy would only cost memory."""


class Decoder:
    """Reads tokens in pieces of any length, up to the context in all, and tells the logits of the token that follows.

    In causal attention the keys and values of a position never depend on what comes after it, so those of earlier
    calls are still right. The layers are those of training, put together anew: no tap sees them, nothing is kept for a
    backward, and products of the same input are one. That takes half of the time, and no more memory for a longer
    prompt than one block needs; the tests hold the two against each other.
    """

    def __init__(self, parameters: GPTParameters, config: ModelConfig, batch: int = 1) -> None:
        self.parameters = parameters
        self.config = config
        self.batch = batch
        self.length = 0
        """Positions read so far."""
        self._blocks = [_Block(block, config, n, batch) for n, block in enumerate(parameters.blocks)]

    def read(self, tokens: Integer[Array, "B T"]) -> Inexact[Array, "B V"]:
        """The logits of what follows these tokens and all those read before."""
        if len(tokens) != self.batch:
            raise ValueError(f"{counted(len(tokens), 'text')}, but the decoder is for {self.batch}")
        if self.length + tokens.shape[1] > self.config.context:
            raise ValueError(f"{self.length + tokens.shape[1]} positions, but the context is {self.config.context}")
        with np.errstate(all="ignore"):  # what is not finite shows in the logits
            x, _ = embedding_forward(tokens, self.parameters.embedding.token)
            if self.parameters.embedding.position is not None:
                x, _ = positions_forward(x, self.parameters.embedding.position, start=self.length)
            for block in self._blocks:
                x = block.read(x, self.length)
            normed, _ = norm_forward(x[:, -1], self.parameters.norm, self.config.norm_epsilon)
            logits, _ = linear_forward(normed, head_matrix(self.parameters))
        self.length += tokens.shape[1]
        return logits

    def forget(self) -> None:
        """Begin anew at position 0."""
        self.length = 0

    @property
    def nbytes(self) -> int:
        """The size of all keys and values of a full context."""
        return sum(block.kept[:, :, :, 0].nbytes for block in self._blocks) * self.config.context


class _Block:
    def __init__(self, parameters: BlockParameters, config: ModelConfig, number: int, batch: int) -> None:
        attention, feed_forward = parameters.attention, parameters.feed_forward
        self.parameters = parameters
        self.heads, self.groups = config.heads, config.G
        self.scale = config.D**-0.5 if config.score_scale else 1.0
        self.rotary, self.window = config.rotary, config.window_of(number)
        self.epsilon, self.residual, self.context = config.norm_epsilon, config.residual, config.context
        self.qkv = _Together(attention.w_q, attention.w_k, attention.w_v)
        self.biases = None if attention.b_q is None else np.concatenate([attention.b_q, attention.b_k, attention.b_v])
        self.gate_up = None
        if isinstance(feed_forward, SwigluParameters):
            self.gate_up = _Together(feed_forward.w_gate, feed_forward.w_up)
        room = min(ROOM, config.context)
        self.kept = np.empty((2, batch, config.G, room, config.D), attention.w_q.dtype)
        """Keys, as queries meet them, and values."""

    def read(self, x: Array, start: int) -> Array:
        """x at the positions from `start` on, (B, T, C), after this block."""
        norm_1, attention, norm_2, _ = self.parameters
        normed, _ = norm_forward(x, norm_1, self.epsilon)
        attended, _ = linear_forward(self._attend(normed, start), attention.w_o)
        if attention.b_o is not None:
            attended += attention.b_o
        x = np.add(x, attended, out=attended) if self.residual else attended
        normed, _ = norm_forward(x, norm_2, self.epsilon)
        fed = self._feed_forward(normed)
        return np.add(x, fed, out=fed) if self.residual else fed

    def _attend(self, x: Array, start: int) -> Array:
        """The merged contexts of all heads."""
        attention, H, G = self.parameters.attention, self.heads, self.groups
        projected = self.qkv(x)
        if self.biases is not None:
            projected += self.biases
        heads = split_heads(projected, H + 2 * G)
        qk, v = heads[:, :-G], heads[:, -G:]
        if attention.gamma_q is not None and attention.gamma_k is not None:
            q, _ = rms_norm_forward(qk[:, :H], attention.gamma_q, epsilon=self.epsilon)
            k, _ = rms_norm_forward(qk[:, H:], attention.gamma_k, epsilon=self.epsilon)
            qk = np.concatenate((q, k), axis=1)
        if self.rotary is not None:
            qk, _ = rotary_forward(qk, rotary=self.rotary, start=start)
        keys, values = self._keep(qk[:, H:], v, start)
        context, _ = causal_attention_forward(qk[:, :H], keys, values, scale=self.scale, window=self.window)
        return merge_heads(context)

    def _keep(self, k: Array, v: Array, start: int) -> tuple[Array, Array]:
        """All keys and values so far. There is twice as much room each time that it is full: who fills a long context
        pays for it."""
        end = start + k.shape[2]
        if end > self.kept.shape[3]:
            room = min(self.context, 2 * end)
            larger = np.empty((*self.kept.shape[:3], room, k.shape[3]), k.dtype)
            larger[:, :, :, :start] = self.kept[:, :, :, :start]
            self.kept = larger
        keys, values = self.kept
        keys[:, :, start:end], values[:, :, start:end] = k, v
        return keys[:, :, :end], values[:, :, :end]

    def _feed_forward(self, x: Array) -> Array:
        parameters = self.parameters.feed_forward
        if self.gate_up is None or not isinstance(parameters, SwigluParameters):
            fed, _ = feed_forward_forward(x, parameters)
            return fed
        both = self.gate_up(x)
        F = both.shape[-1] // 2
        activated, _ = silu_forward(both[..., :F])
        activated *= both[..., F:]
        fed, _ = linear_forward(activated, parameters.w_down)
        return fed


class _Together:
    """x times several matrices, side by side."""

    def __init__(self, *matrices: Array) -> None:
        small = sum(w.nbytes for w in matrices) <= ONE_PRODUCT
        self.one = np.concatenate(matrices, axis=1) if small else None
        self.matrices = matrices

    def __call__(self, x: Array) -> Array:
        if self.one is not None:
            product, _ = linear_forward(x, self.one)
            return product
        return np.concatenate([linear_forward(x, w)[0] for w in self.matrices], axis=-1)
