"""The parameters of a GPT: one flat vector, a tree of views of it for the formulas, and a name for each tensor.

The tree mirrors the model: `tree.blocks[0].attention.w_o`. Its path is the parameter's name, `blocks.0.attention.w_o`.
Gradients, and an optimizer's moments, have the same layout.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..errors import ConfigError
from ..layers import Array
from .config import ModelConfig


class LayerNormParameters(NamedTuple):
    """A LayerNorm's gain and offset; None is an offset that the config leaves out."""

    gamma: Array
    beta: Array | None


class RmsNormParameters(NamedTuple):
    """An RMSNorm's gain."""

    gamma: Array


NormParameters = LayerNormParameters | RmsNormParameters


class AttentionParameters(NamedTuple):
    """The matrices of attention, its biases, the gains of the norms of queries and keys; None for what is left out."""

    w_q: Array
    w_k: Array
    w_v: Array
    w_o: Array
    b_q: Array | None
    b_k: Array | None
    b_v: Array | None
    b_o: Array | None
    gamma_q: Array | None
    gamma_k: Array | None


class SwigluParameters(NamedTuple):
    """The matrices of a SwiGLU."""

    w_gate: Array
    w_up: Array
    w_down: Array


class MlpParameters(NamedTuple):
    """The matrices of an MLP and its biases; None where there are none."""

    w_up: Array
    w_down: Array
    b_up: Array | None
    b_down: Array | None


FeedForwardParameters = SwigluParameters | MlpParameters


class BlockParameters(NamedTuple):
    """A block's parameters by its parts; None is a norm that the config leaves out."""

    norm_1: NormParameters | None
    attention: AttentionParameters
    norm_2: NormParameters | None
    feed_forward: FeedForwardParameters


class EmbeddingParameters(NamedTuple):
    """The table of tokens, and that of positions where they are learned."""

    token: Array
    position: Array | None


class HeadParameters(NamedTuple):
    """The matrix that makes logits of the stream."""

    w_lm: Array | None
    """None where the head is tied to the embedding of tokens."""


class GPTParameters(NamedTuple):
    """The tree: all parameters by the parts of the model, or what has their layout."""

    embedding: EmbeddingParameters
    blocks: tuple[BlockParameters, ...]
    norm: NormParameters | None
    """The last, before the head; None where the config leaves norms out."""
    head: HeadParameters


Shape = tuple[int, ...]


def build_tree(config: ModelConfig, make: Callable[[str, Shape], Any]) -> GPTParameters:
    """The tree whose leaves are `make(name, shape)`: the one place that says which parameters there are."""
    C, F, V = config.width, config.hidden, config.vocabulary
    HD, GD, D = config.heads * config.D, config.G * config.D, config.D
    biased = {"none": "", "qkv": "qkv", "all": "qkvo"}[config.attention_bias]
    widths = {"q": HD, "k": GD, "v": GD, "o": C}

    def norm(scope: str) -> NormParameters | None:
        if config.norm == "none":
            return None
        gamma = make(f"{scope}.gamma", (C,))
        if config.norm == "rms":
            return RmsNormParameters(gamma)
        return LayerNormParameters(gamma, make(f"{scope}.beta", (C,)) if config.bias else None)

    def attention(scope: str) -> AttentionParameters:
        return AttentionParameters(
            *(make(f"{scope}.w_{name}", (HD if name == "o" else C, width)) for name, width in widths.items()),
            *(make(f"{scope}.b_{name}", (width,)) if name in biased else None for name, width in widths.items()),
            *(make(f"{scope}.gamma_{name}", (D,)) if config.query_key_norm else None for name in "qk"),
        )

    def feed_forward(scope: str) -> FeedForwardParameters:
        if config.feed_forward == "gelu":
            return MlpParameters(
                make(f"{scope}.w_up", (C, F)),
                make(f"{scope}.w_down", (F, C)),
                make(f"{scope}.b_up", (F,)) if config.bias else None,
                make(f"{scope}.b_down", (C,)) if config.bias else None,
            )
        return SwigluParameters(
            make(f"{scope}.w_gate", (C, F)), make(f"{scope}.w_up", (C, F)), make(f"{scope}.w_down", (F, C))
        )

    def block(scope: str) -> BlockParameters:
        return BlockParameters(
            norm(f"{scope}.norm_1"),
            attention(f"{scope}.attention"),
            norm(f"{scope}.norm_2"),
            feed_forward(f"{scope}.feed_forward"),
        )

    return GPTParameters(
        EmbeddingParameters(
            make("embedding.token", (V, C)),
            make("embedding.position", (config.context, C)) if config.positions == "learned" else None,
        ),
        tuple(block(f"blocks.{n}") for n in range(config.layers)),
        norm("norm"),
        HeadParameters(None if config.tied else make("head.w_lm", (C, V))),
    )


def named_shapes(config: ModelConfig) -> dict[str, Shape]:
    """The shape of every parameter by its name, in the order of `build_tree`."""
    shapes: dict[str, Shape] = {}
    build_tree(config, shapes.__setitem__)
    return shapes


def _zeros(count: int, dtype: Any) -> Array:
    try:
        return np.zeros(count, dtype)
    except (MemoryError, ValueError):  # a ValueError where the count is more than an array can have
        raise ConfigError(f"{count:,} parameters are more than the memory holds") from None


def leaves(tree: tuple[Any, ...]) -> Iterator[Array]:
    """The arrays of a tree, in the order in which `build_tree` makes them."""
    for child in tree:
        if isinstance(child, tuple):
            yield from leaves(child)
        elif child is not None:
            yield child


def join_parts(parts: Mapping[str, Any]) -> GPTParameters:
    """The tree of the parts `embedding`, `blocks.0`, `blocks.1`, ..., `norm` and `head`, where there are these."""
    blocks = tuple(parts[f"blocks.{n}"] for n in range(sum(name.startswith("blocks.") for name in parts)))
    return GPTParameters(parts["embedding"], blocks, parts.get("norm"), parts.get("head", HeadParameters(None)))


class Parameters(Mapping[str, Array]):
    """Named tensors that are views of one flat vector.

    `parameters["blocks.0.attention.w_q"]` is an array to read, or to write into (`[...] = x`); `flat` is all of them,
    `tree` is what the formulas take.
    """

    def __init__(self, config: ModelConfig, flat: Array | None = None, dtype: Any = np.float32) -> None:
        """Views of `flat`, or of new zeros of the given dtype."""
        shapes = named_shapes(config)
        ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
        self.config = config
        self.flat: Array = _zeros(int(ends[-1]), dtype) if flat is None else flat
        parts = np.split(self.flat, ends[:-1])
        self._named = {name: part.reshape(shape) for part, (name, shape) in zip(parts, shapes.items(), strict=True)}
        self.tree = build_tree(config, lambda name, _: self._named[name])

    @classmethod
    def from_mapping(cls, config: ModelConfig, tensors: Mapping[str, Array]) -> "Parameters":
        """A copy of tensors that are given by name, all of them and of one dtype."""
        parameters = cls(config, dtype=next(iter(tensors.values())).dtype)
        for name, tensor in parameters.items():
            tensor[...] = tensors[name]
        return parameters

    @classmethod
    def from_tree(cls, config: ModelConfig, tree: GPTParameters) -> "Parameters":
        """A copy of a tree's leaves, such as the gradients that a backward returns."""
        parameters = cls(config, dtype=tree.embedding.token.dtype)
        for target, leaf in zip(leaves(parameters.tree), leaves(tree), strict=True):
            target[...] = leaf
        return parameters

    def __repr__(self) -> str:
        return f"Parameters({len(self)} tensors, {self.flat.size:,} numbers, {self.flat.dtype})"

    __eq__ = object.__eq__  # not a Mapping's, which would compare arrays
    __hash__ = object.__hash__

    def __getitem__(self, name: str) -> Array:
        return self._named[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)


def parameters_by_part(parameters: Parameters) -> dict[str, int]:
    """How many numbers each part of the model has; all blocks' attention is one part, all norms are one."""
    counts: dict[str, int] = {}
    for name, tensor in parameters.items():
        first, second, *_ = name.split(".")
        part = {"blocks": name.split(".")[-2], "embedding": f"{second} embedding"}.get(first, first)
        part = "norms" if part.startswith("norm") else part
        counts[part] = counts.get(part, 0) + tensor.size
    return counts
