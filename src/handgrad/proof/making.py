"""Cases made of random inputs: one function for each layer, a block and a GPT, whatever the sizes."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from .. import layers
from ..layers import IGNORE_INDEX, Array
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
            if name.endswith("gamma"):
                return self.normal(*shape, scale=0.3, offset=1.0)
            return self.weights(*shape) if len(shape) == 2 and "embedding" not in name else self.normal(*shape)

        return {name: draw(name, shape) for name, shape in named_shapes(config).items()}

    def config(self, blocks: int) -> ModelConfig:
        _, T, C, H, F, V = self.sizes
        return ModelConfig(layers=blocks, heads=H, width=C, hidden=F, context=T, vocabulary=V)


def linear(make: Maker) -> Case:
    B, T, C, _, F, _ = make.sizes
    return Case(layers.linear_forward, layers.linear_backward, {"x": make.normal(B, T, C), "w": make.weights(C, F)})


def embedding(make: Maker, one_token: bool = False) -> Case:
    B, T, C, _, _, V = make.sizes
    tokens = np.full((B, T), V - 1) if one_token else make.integers(B, T)
    inputs = {"table": make.normal(V, C)}
    return Case(layers.embedding_forward, layers.embedding_backward, inputs, {"tokens": tokens})


def positions(make: Maker, start: int = 0) -> Case:
    B, T, C, *_ = make.sizes
    inputs = {"x": make.normal(B, T, C), "table": make.normal(start + T + 3, C)}
    return Case(layers.positions_forward, layers.positions_backward, inputs, {"start": start})


def layer_norm(make: Maker, scale: float = 1.0, offset: float = 0.0, equal_rows: bool = False) -> Case:
    B, T, C, *_ = make.sizes
    x = make.normal(B, T, C, scale=scale, offset=offset)
    if equal_rows:
        x = np.repeat(x[..., :1], C, axis=-1)
    inputs = {"x": x, "gamma": make.normal(C), "beta": make.normal(C)}
    return Case(layers.layer_norm_forward, layers.layer_norm_backward, inputs)


def softmax(make: Maker, scale: float = 1.0, tied: bool = False) -> Case:
    """`tied`: two share the first place, so that not all gradients vanish however large the scale."""
    z = make.logits(scale)
    if tied:
        z[..., 0] = z[..., 1:].max(axis=-1)
    return Case(layers.softmax_forward, layers.softmax_backward, {"z": z})


def causal_attention(make: Maker, scale: float = 1.0, earlier: int = 0) -> Case:
    """`earlier`: keys and values of positions before the first query."""
    B, T, C, H, *_ = make.sizes
    D = C // H
    q = make.normal(B, H, T, D, scale=scale)
    k, v = make.normal(B, H, earlier + T, D, scale=scale), make.normal(B, H, earlier + T, D)
    given = {"scale": D**-0.5}
    return Case(layers.causal_attention_forward, layers.causal_attention_backward, {"q": q, "k": k, "v": v}, given)


def multi_head_attention(make: Maker) -> Case:
    B, T, C, H, *_ = make.sizes
    inputs = {"x": make.normal(B, T, C), **{f"w_{name}": make.weights(C, C) for name in "qkvo"}}
    return Case(layers.multi_head_attention_forward, layers.multi_head_attention_backward, inputs, {"heads": H})


def silu(make: Maker, scale: float = 1.0) -> Case:
    B, T, _, _, F, _ = make.sizes
    return Case(layers.silu_forward, layers.silu_backward, {"x": make.normal(B, T, F, scale=scale)})


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


def block(make: Maker, config: ModelConfig | None = None) -> Case:
    """A block as a function of its input and of its parameters."""
    config = config or make.config(blocks=1)
    scope = "blocks.0."
    parameters = make.parameters(config).items()
    named = {name.removeprefix(scope): x for name, x in parameters if name.startswith(scope)}
    x = make.normal(make.sizes.B, make.sizes.T, make.sizes.C)
    return Case(named_block_forward, named_block_backward, {"x": x, **named}, {"config": config})


def gpt(make: Maker, ignored: Ignored = "none", one_token: bool = False, config: ModelConfig | None = None) -> Case:
    """The loss of a GPT on random tokens as a function of its parameters."""
    B, T, _, _, _, V = make.sizes
    config = config or make.config(blocks=2)
    tokens = np.full((B, T), V - 1) if one_token else make.integers(B, T)
    given = {"tokens": tokens, "targets": make.targets(ignored), "config": config}
    return Case(named_loss_forward, named_loss_backward, make.parameters(config), given, output="loss")
