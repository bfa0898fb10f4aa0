"""The kit's cases: every layer, a block and a small GPT, in ordinary and in nasty shapes.

All inputs and cotangents are numbers that bfloat16 has, so that none is rounded on its way into a kernel.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import ml_dtypes
import numpy as np

from ... import layers
from ...layers import IGNORE_INDEX, Array
from ...model import ModelConfig, named_shapes
from ..cases import Case
from ..named import named_block_backward, named_block_forward, named_loss_backward, named_loss_forward


class Sizes(NamedTuple):
    """The axes' lengths by their letters."""

    B: int = 2
    T: int = 8
    C: int = 16
    H: int = 2
    F: int = 24
    V: int = 32


PLAIN = Sizes()
ODD = Sizes(B=3, T=5, C=15, H=3, F=7, V=11)
"""No width is a multiple of 8."""
ONE_POSITION = Sizes(T=1)
ONE_HEAD = Sizes(H=1)
LONG = Sizes(B=1, T=129)
HUGE, TINY = 500.0, 1e-4


def representable(x: Array) -> Array:
    """The nearest numbers that bfloat16 has."""
    return x.astype(ml_dtypes.bfloat16).astype(np.float64)


class Maker:
    """Random inputs of some sizes."""

    def __init__(self, generator: np.random.Generator, sizes: Sizes) -> None:
        self.generator, self.sizes = generator, sizes

    def normal(self, *axes: int, scale: float = 1.0) -> Array:
        return representable(scale * self.generator.standard_normal(axes))

    def weights(self, fan_in: int, fan_out: int) -> Array:
        return self.normal(fan_in, fan_out, scale=fan_in**-0.5)

    def integers(self, *axes: int) -> Array:
        return self.generator.integers(self.sizes.V, size=axes)


Ignored = Literal["none", "first", "middle", "last", "everywhere", "all"]


def ignoring(targets: Array, ignored: Ignored) -> Array:
    """The targets (B, T), of which in each sequence the first, a middle, the last or all are ignored; `everywhere`: one
    in each place, position t in sequence t."""
    B, T = targets.shape
    places = {
        "none": np.zeros((B, T), bool),
        "first": np.arange(T) == np.zeros((B, 1)),
        "middle": np.arange(T) == np.full((B, 1), T // 2),
        "last": np.arange(T) == np.full((B, 1), T - 1),
        "everywhere": np.arange(T) == np.arange(B)[:, None],
        "all": np.ones((B, T), bool),
    }
    return np.where(places[ignored], IGNORE_INDEX, targets)


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


def layer_norm(make: Maker, kind: Literal["any", "equal", "offset"] = "any") -> Case:
    B, T, C, *_ = make.sizes
    x = make.normal(B, T, C)
    if kind == "equal":
        x = np.repeat(x[..., :1], C, axis=-1)
    if kind == "offset":
        x = representable(16 + x)
    inputs = {"x": x, "gamma": make.normal(C), "beta": make.normal(C)}
    return Case(layers.layer_norm_forward, layers.layer_norm_backward, inputs)


def softmax(make: Maker, scale: float = 1.0) -> Case:
    B, T, _, _, _, V = make.sizes
    z = _logits(make, scale, B, T, V)
    if scale == HUGE:  # two share the first place, else all gradients would be 0
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
    B, T, _, _, _, V = make.sizes
    given = {"targets": ignoring(make.integers(B, T), ignored)}
    inputs = {"logits": _logits(make, scale, B, T, V)}
    return Case(layers.cross_entropy_forward, layers.cross_entropy_backward, inputs, given, output="loss")


def linear_cross_entropy(make: Maker, ignored: Ignored = "none") -> Case:
    B, T, C, _, _, V = make.sizes
    pair = layers.linear_cross_entropy_forward, layers.linear_cross_entropy_backward
    given = {"targets": ignoring(make.integers(B, T), ignored)}
    return Case(*pair, {"x": make.normal(B, T, C), "w": make.weights(C, V)}, given, output="loss")


def block(make: Maker) -> Case:
    B, T, C, *_ = make.sizes
    config = _config(make.sizes, 1)
    prefix = "blocks.0."
    parameters = {
        name.removeprefix(prefix): x for name, x in _parameters(make, config).items() if name.startswith(prefix)
    }
    return Case(
        named_block_forward, named_block_backward, {"x": make.normal(B, T, C), **parameters}, {"config": config}
    )


def gpt(make: Maker, ignored: Ignored = "none", one_token: bool = False) -> Case:
    B, T, _, _, _, V = make.sizes
    config = _config(make.sizes, 2)
    tokens = np.full((B, T), V - 1) if one_token else make.integers(B, T)
    given = {"tokens": tokens, "targets": ignoring(make.integers(B, T), ignored), "config": config}
    return Case(named_loss_forward, named_loss_backward, _parameters(make, config), given, output="loss")


def _logits(make: Maker, scale: float, *axes: int) -> Array:
    """Normal, at this scale; at 0 every row has one number throughout."""
    return make.normal(*axes, scale=scale) if scale else np.repeat(make.normal(*axes[:-1], 1), axes[-1], axis=-1)


def _config(sizes: Sizes, blocks: int) -> ModelConfig:
    _, T, C, H, F, V = sizes
    return ModelConfig(layers=blocks, heads=H, width=C, hidden=F, context=T, vocabulary=V)


def _parameters(make: Maker, config: ModelConfig) -> dict[str, Array]:
    def draw(name: str, shape: tuple[int, ...]) -> Array:
        if name.endswith("gamma"):
            return representable(1 + make.normal(*shape, scale=0.3))
        return make.weights(*shape) if len(shape) == 2 and "embedding" not in name else make.normal(*shape)

    return {name: draw(name, shape) for name, shape in named_shapes(config).items()}


Draw = Callable[[Maker], Case]
SHAPES = {"plain": PLAIN, "odd_widths": ODD, "one_position": ONE_POSITION}
MORE_SHAPES = SHAPES | {"one_head": ONE_HEAD, "long": LONG}

VARIANTS: dict[str, dict[str, tuple[Draw, Sizes]]] = {
    "linear": {name: (linear, sizes) for name, sizes in SHAPES.items()},
    "embedding": {name: (embedding, sizes) for name, sizes in SHAPES.items()}
    | {"repeated_token": (partial(embedding, one_token=True), PLAIN)},
    "positions": {name: (positions, sizes) for name, sizes in SHAPES.items()}
    | {"later_start": (partial(positions, start=5), PLAIN)},
    "layer_norm": {name: (layer_norm, sizes) for name, sizes in SHAPES.items()}
    | {
        "equal_rows": (partial(layer_norm, kind="equal"), PLAIN),
        "offset": (partial(layer_norm, kind="offset"), PLAIN),
    },
    "softmax": {name: (softmax, sizes) for name, sizes in SHAPES.items()}
    | {
        "huge": (partial(softmax, scale=HUGE), PLAIN),
        "tiny": (partial(softmax, scale=TINY), PLAIN),
        "equal_rows": (partial(softmax, scale=0), PLAIN),
    },
    "causal_attention": {name: (causal_attention, sizes) for name, sizes in MORE_SHAPES.items()}
    | {
        "large_scores": (partial(causal_attention, scale=4.0), PLAIN),
        "tiny_scores": (partial(causal_attention, scale=TINY**0.5), PLAIN),
        "earlier_keys": (partial(causal_attention, earlier=5), PLAIN),
    },
    "multi_head_attention": {name: (multi_head_attention, sizes) for name, sizes in MORE_SHAPES.items()},
    "silu": {name: (silu, sizes) for name, sizes in SHAPES.items()}
    | {"huge": (partial(silu, scale=100.0), PLAIN), "tiny": (partial(silu, scale=TINY), PLAIN)},
    "swiglu": {name: (swiglu, sizes) for name, sizes in SHAPES.items()},
    "cross_entropy": {name: (cross_entropy, sizes) for name, sizes in SHAPES.items()}
    | {
        "huge": (partial(cross_entropy, scale=HUGE), PLAIN),
        "tiny": (partial(cross_entropy, scale=TINY), PLAIN),
        "equal_rows": (partial(cross_entropy, scale=0), PLAIN),
        "ignored_first": (partial(cross_entropy, ignored="first"), PLAIN),
        "ignored_middle": (partial(cross_entropy, ignored="middle"), PLAIN),
        "ignored_last": (partial(cross_entropy, ignored="last"), PLAIN),
        "ignored_everywhere": (partial(cross_entropy, ignored="everywhere"), PLAIN._replace(B=PLAIN.T)),
        "ignored_all": (partial(cross_entropy, ignored="all"), PLAIN),
    },
    "linear_cross_entropy": {name: (linear_cross_entropy, sizes) for name, sizes in SHAPES.items()}
    | {
        "ignored_everywhere": (partial(linear_cross_entropy, ignored="everywhere"), PLAIN._replace(B=PLAIN.T)),
        "ignored_all": (partial(linear_cross_entropy, ignored="all"), PLAIN),
    },
    "block": {name: (block, sizes) for name, sizes in MORE_SHAPES.items()},
    "gpt": {name: (gpt, sizes) for name, sizes in MORE_SHAPES.items()}
    | {
        "repeated_token": (partial(gpt, one_token=True), PLAIN),
        "ignored_everywhere": (partial(gpt, ignored="everywhere"), PLAIN._replace(B=PLAIN.T)),
    },
}
"""By layer and variant: what makes the case, and its sizes."""


def draw_case(layer: str, variant: str, seed: int, draw: int = 0) -> tuple[Case, Array]:
    """The case of a variant and a random cotangent of its output; each draw has other numbers in the same shapes."""
    make, sizes = VARIANTS[layer][variant]
    generator = np.random.default_rng((seed, draw))
    case = make(Maker(generator, sizes))
    y, _ = case.run()
    return case, representable(np.asarray(generator.standard_normal(y.shape)))
