"""Cases made of random inputs: one function for each layer, a block and a GPT, whatever the sizes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np

from .. import layers
from ..layers import IGNORE_INDEX, Array, Rotary
from ..model import ModelConfig, named_shapes
from .case import Case
from .named import named_block_backward, named_block_forward, named_loss_backward, named_loss_forward

Ignored = Literal["none", "first", "middle", "last", "everywhere", "all"]


class Sizes(NamedTuple):
    """The axes' lengths by their letters."""

    B: int
    T: int
    C: int
    H: int
    F: int
    V: int


class Maker:
    """Random inputs of some sizes; `rounded` may make them numbers of fewer bits."""

    def __init__(
        self, generator: np.random.Generator, sizes: Sizes, rounded: Callable[[Array], Array] = lambda x: x
    ) -> None:
        self.generator, self.sizes, self.rounded = generator, sizes, rounded

    def normal(self, *axes: int, scale: float = 1.0, offset: float = 0.0) -> Array:
        return self.rounded(offset + scale * self.generator.standard_normal(axes))

    def weights(self, fan_in: int, fan_out: int) -> Array:
        return self.normal(fan_in, fan_out, scale=fan_in**-0.5)

    def integers(self, *axes: int) -> Array:
        return self.generator.integers(self.sizes.V, size=axes)

    def logits(self, scale: float) -> Array:
        """(B, T, V), at this scale; at 0 every row has one number throughout."""
        B, T, *_, V = self.sizes
        return self.normal(B, T, V, scale=scale) if scale else np.repeat(self.normal(B, T, 1), V, axis=-1)

    def targets(self, ignored: Ignored) -> Array:
        """(B, T), of which in each sequence the first, a middle, the last or all are ignored; `everywhere`: one in each
        place, position t in sequence t."""
        B, T, *_ = self.sizes
        places = {
            "none": np.zeros((B, T), bool),
            "first": np.arange(T) == np.zeros((B, 1)),
            "middle": np.arange(T) == np.full((B, 1), T // 2),
            "last": np.arange(T) == np.full((B, 1), T - 1),
            "everywhere": np.arange(T) == np.arange(B)[:, None],
            "all": np.ones((B, T), bool),
        }
        return np.where(places[ignored], IGNORE_INDEX, self.integers(B, T))

    def parameters(self, config: ModelConfig) -> dict[str, Array]:
        """Of a GPT, by name, none of them left at 0 or 1."""

        def draw(name: str, shape: tuple[int, ...]) -> Array:
            if name.rpartition(".")[2].startswith("gamma"):
                return self.normal(*shape, scale=0.3, offset=1.0)
            return self.weights(*shape) if len(shape) == 2 and "embedding" not in name else self.normal(*shape)

        return {name: draw(name, shape) for name, shape in named_shapes(config).items()}

    def config(self, blocks: int, family: str = "default") -> ModelConfig:
        """A model of these sizes, with the parts of a family."""
        _, T, C, H, F, V = self.sizes
        return ModelConfig(layers=blocks, heads=H, width=C, hidden=F, context=T, vocabulary=V, **FAMILIES[family])


USUAL = Rotary()
LONGER = Rotary(base=10.0, factor=4.0, low_factor=0.5, high_factor=2.0, first_context=8)
"""Scaled so that of four pairs one is kept, one slowed down, and two are between."""
FAMILIES: dict[str, dict[str, Any]] = {
    "default": {},
    "gpt2": {"feed_forward": "gelu", "attention_bias": "all", "tied": True},
    "llama": {
        "norm": "rms",
        "positions": "rotary",
        "key_value_heads": 1,
        **{f"rotary_{name}": x for name, x in LONGER._asdict().items()},
    },
    "mistral": {"norm": "rms", "positions": "rotary", "key_value_heads": 1, "head_width": 6, "window": 3},
    "qwen2": {
        "norm": "rms",
        "norm_epsilon": 1e-6,
        "positions": "rotary",
        "attention_bias": "qkv",
        "tied": True,
        "window": 2,
        "full_blocks": 1,
    },
    "qwen3": {
        "norm": "rms",
        "norm_epsilon": 1e-6,
        "positions": "rotary",
        "query_key_norm": True,
        "key_value_heads": 1,
        "head_width": 2,
    },
    "nanogpt": {"feed_forward": "gelu", "bias": False, "tied": True},
}
"""What sets the models of today apart from the default: fields of `ModelConfig`."""


def linear(make: Maker) -> Case:
    B, T, C, _, F, _ = make.sizes
    return Case(layers.linear_forward, layers.linear_backward, {"x": make.normal(B, T, C), "w": make.weights(C, F)})


def bias(make: Maker) -> Case:
    B, T, C, *_ = make.sizes
    return Case(layers.bias_forward, layers.bias_backward, {"x": make.normal(B, T, C), "b": make.normal(C)})


def embedding(make: Maker, one_token: bool = False) -> Case:
    B, T, C, _, _, V = make.sizes
    tokens = np.full((B, T), V - 1) if one_token else make.integers(B, T)
    inputs = {"table": make.normal(V, C)}
    return Case(layers.embedding_forward, layers.embedding_backward, inputs, {"tokens": tokens})


def positions(make: Maker, start: int = 0) -> Case:
    B, T, C, *_ = make.sizes
    inputs = {"x": make.normal(B, T, C), "table": make.normal(start + T + 3, C)}
    return Case(layers.positions_forward, layers.positions_backward, inputs, {"start": start})


def layer_norm(
    make: Maker, scale: float = 1.0, offset: float = 0.0, equal_rows: bool = False, biased: bool = True
) -> Case:
    """`offset`: of all x; `biased`: whether there is a beta."""
    B, T, C, *_ = make.sizes
    x = make.normal(B, T, C, scale=scale, offset=offset)
    if equal_rows:
        x = np.repeat(x[..., :1], C, axis=-1)
    inputs = {"x": x, "gamma": make.normal(C)} | ({"beta": make.normal(C)} if biased else {})
    return Case(layers.layer_norm_forward, layers.layer_norm_backward, inputs)


def rms_norm(make: Maker, scale: float = 1.0, offset: float = 0.0, equal_rows: bool = False) -> Case:
    inputs = layer_norm(make, scale, offset, equal_rows).inputs
    del inputs["beta"]
    return Case(layers.rms_norm_forward, layers.rms_norm_backward, inputs)


def rotary(make: Maker, rotary: Rotary = USUAL, start: int = 0) -> Case:
    B, T, C, H, *_ = make.sizes
    given = {"rotary": rotary, "start": start}
    return Case(layers.rotary_forward, layers.rotary_backward, {"x": make.normal(B, H, T, C // H)}, given)


def softmax(make: Maker, scale: float = 1.0, tied: bool = False) -> Case:
    """`tied`: two share the first place, so that not all gradients vanish however large the scale."""
    z = make.logits(scale)
    if tied:
        z[..., 0] = z[..., 1:].max(axis=-1)
    return Case(layers.softmax_forward, layers.softmax_backward, {"z": z})


def causal_attention(
    make: Maker, scale: float = 1.0, earlier: int = 0, groups: int | None = None, window: int | None = None
) -> Case:
    """`earlier`: keys and values of positions before the first query; `groups`: heads of these."""
    B, T, C, H, *_ = make.sizes
    D, G = C // H, groups or H
    q = make.normal(B, H, T, D, scale=scale)
    k, v = make.normal(B, G, earlier + T, D, scale=scale), make.normal(B, G, earlier + T, D)
    given = {"scale": D**-0.5} | ({"window": window} if window else {})
    return Case(layers.causal_attention_forward, layers.causal_attention_backward, {"q": q, "k": k, "v": v}, given)


def multi_head_attention(
    make: Maker, groups: int | None = None, biased: bool = False, normed: bool = False, **given: Any
) -> Case:
    """`groups`: heads of keys and values; `given`: what else the layer takes."""
    B, T, C, H, *_ = make.sizes
    D, G = C // H, groups or H
    inputs = {"x": make.normal(B, T, C), "w_q": make.weights(C, C)}
    inputs |= {f"w_{name}": make.weights(C, G * D) for name in "kv"} | {"w_o": make.weights(C, C)}
    if biased:
        inputs |= {f"b_{name}": make.normal(G * D if name in "kv" else C) for name in "qkvo"}
    if normed:
        inputs |= {f"gamma_{name}": make.normal(D, scale=0.3, offset=1.0) for name in "qk"}
    given = {"heads": H} | ({"key_value_heads": groups} if groups else {}) | given
    return Case(layers.multi_head_attention_forward, layers.multi_head_attention_backward, inputs, given)


def silu(make: Maker, scale: float = 1.0) -> Case:
    B, T, _, _, F, _ = make.sizes
    return Case(layers.silu_forward, layers.silu_backward, {"x": make.normal(B, T, F, scale=scale)})


def gelu(make: Maker, scale: float = 1.0, offset: float = 0.0) -> Case:
    B, T, _, _, F, _ = make.sizes
    return Case(layers.gelu_forward, layers.gelu_backward, {"x": make.normal(B, T, F, scale=scale, offset=offset)})


def mlp(make: Maker, biased: bool = True) -> Case:
    B, T, C, _, F, _ = make.sizes
    weights = {"w_up": make.weights(C, F), "w_down": make.weights(F, C)}
    if biased:
        weights |= {"b_up": make.normal(F), "b_down": make.normal(C)}
    return Case(layers.mlp_forward, layers.mlp_backward, {"x": make.normal(B, T, C), **weights})


def swiglu(make: Maker) -> Case:
    B, T, C, _, F, _ = make.sizes
    weights = {"w_gate": make.weights(C, F), "w_up": make.weights(C, F), "w_down": make.weights(F, C)}
    return Case(layers.swiglu_forward, layers.swiglu_backward, {"x": make.normal(B, T, C), **weights})


def cross_entropy(make: Maker, scale: float = 1.0, ignored: Ignored = "none") -> Case:
    pair = layers.cross_entropy_forward, layers.cross_entropy_backward
    return Case(*pair, {"logits": make.logits(scale)}, {"targets": make.targets(ignored)}, output="loss")


def linear_cross_entropy(make: Maker, ignored: Ignored = "none") -> Case:
    B, T, C, _, _, V = make.sizes
    pair = layers.linear_cross_entropy_forward, layers.linear_cross_entropy_backward
    given = {"targets": make.targets(ignored)}
    return Case(*pair, {"x": make.normal(B, T, C), "w": make.weights(C, V)}, given, output="loss")


def block(make: Maker, family: str = "default") -> Case:
    """A block as a function of its input and of its parameters; where the family has a window, with it."""
    config = replace(make.config(1, family), full_blocks=0)
    scope = "blocks.0."
    parameters = make.parameters(config).items()
    named = {name.removeprefix(scope): x for name, x in parameters if name.startswith(scope)}
    x = make.normal(make.sizes.B, make.sizes.T, make.sizes.C)
    return Case(named_block_forward, named_block_backward, {"x": x, **named}, {"config": config})


def gpt(
    make: Maker,
    ignored: Ignored = "none",
    one_token: bool = False,
    family: str = "default",
    config: ModelConfig | None = None,
) -> Case:
    """The loss of a GPT on random tokens as a function of its parameters."""
    B, T, _, _, _, V = make.sizes
    config = config or make.config(2, family)
    tokens = np.full((B, T), V - 1) if one_token else make.integers(B, T)
    given = {"tokens": tokens, "targets": make.targets(ignored), "config": config}
    return Case(named_loss_forward, named_loss_backward, make.parameters(config), given, output="loss")
