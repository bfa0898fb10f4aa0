"""The kit's cases: every layer, a block and a small GPT, in ordinary and in nasty shapes.

All inputs and cotangents are numbers that bfloat16 has, so that none is rounded on its way into a kernel.
"""

from collections.abc import Callable
from functools import partial

import ml_dtypes
import numpy as np

from ...layers import Array
from ..case import Case
from ..making import (
    FAMILIES,
    LONGER,
    USUAL,
    Maker,
    Sizes,
    bias,
    block,
    causal_attention,
    cross_entropy,
    embedding,
    gelu,
    gpt,
    layer_norm,
    linear,
    linear_cross_entropy,
    mlp,
    multi_head_attention,
    positions,
    rms_norm,
    rotary,
    silu,
    softmax,
    swiglu,
)

PLAIN = Sizes(B=2, T=8, C=16, H=2, F=24, V=32)
ODD = Sizes(B=3, T=5, C=15, H=3, F=7, V=11)
"""No width is a multiple of 8."""
ONE_POSITION = PLAIN._replace(T=1)
ONE_HEAD = PLAIN._replace(H=1)
LONG = PLAIN._replace(B=1, T=129)
GROUPED = PLAIN._replace(C=32, H=4)
EVEN = ODD._replace(C=18)
"""Heads of width 6, which are pairs."""
HUGE, TINY = 500.0, 1e-4


def representable(x: Array) -> Array:
    """The nearest numbers that bfloat16 has."""
    return x.astype(ml_dtypes.bfloat16).astype(np.float64)


Draw = Callable[[Maker], Case]
SHAPES = {"plain": PLAIN, "odd_widths": ODD, "one_position": ONE_POSITION}
MORE_SHAPES = SHAPES | {"one_head": ONE_HEAD, "long": LONG}

VARIANTS: dict[str, dict[str, tuple[Draw, Sizes]]] = {
    "linear": {name: (linear, sizes) for name, sizes in SHAPES.items()},
    "bias": {name: (bias, sizes) for name, sizes in SHAPES.items()},
    "embedding": {name: (embedding, sizes) for name, sizes in SHAPES.items()}
    | {"repeated_token": (partial(embedding, one_token=True), PLAIN)},
    "positions": {name: (positions, sizes) for name, sizes in SHAPES.items()}
    | {"later_start": (partial(positions, start=5), PLAIN)},
    "layer_norm": {name: (layer_norm, sizes) for name, sizes in SHAPES.items()}
    | {
        "equal_rows": (partial(layer_norm, equal_rows=True), PLAIN),
        "offset": (partial(layer_norm, offset=16.0), PLAIN),
        "unbiased": (partial(layer_norm, biased=False), PLAIN),
    },
    "rms_norm": {name: (rms_norm, sizes) for name, sizes in SHAPES.items()}
    | {
        "offset": (partial(rms_norm, offset=16.0), PLAIN),
        "huge": (partial(rms_norm, scale=HUGE), PLAIN),
        "tiny": (partial(rms_norm, scale=TINY), PLAIN),
    },
    "rotary": {name: (rotary, sizes) for name, sizes in (MORE_SHAPES | {"odd_widths": EVEN}).items()}
    | {
        "later_start": (partial(rotary, start=1000), PLAIN),
        "scaled": (partial(rotary, rotary=LONGER, start=3), PLAIN),
    },
    "softmax": {name: (softmax, sizes) for name, sizes in SHAPES.items()}
    | {
        "huge": (partial(softmax, scale=HUGE, tied=True), PLAIN),
        "tiny": (partial(softmax, scale=TINY), PLAIN),
        "equal_rows": (partial(softmax, scale=0.0), PLAIN),
    },
    "causal_attention": {name: (causal_attention, sizes) for name, sizes in MORE_SHAPES.items()}
    | {
        "large_scores": (partial(causal_attention, scale=4.0), PLAIN),
        "tiny_scores": (partial(causal_attention, scale=TINY**0.5), PLAIN),
        "earlier_keys": (partial(causal_attention, earlier=5), PLAIN),
        "grouped": (partial(causal_attention, groups=2), GROUPED),
        "one_group": (partial(causal_attention, groups=1), GROUPED),
        "window": (partial(causal_attention, window=3), PLAIN),
        "long_window": (partial(causal_attention, window=32), LONG),
        "grouped_window": (partial(causal_attention, groups=2, earlier=5, window=6), GROUPED),
    },
    "multi_head_attention": {name: (multi_head_attention, sizes) for name, sizes in MORE_SHAPES.items()}
    | {
        "grouped": (partial(multi_head_attention, groups=2), GROUPED),
        "biased": (partial(multi_head_attention, biased=True), PLAIN),
        "normed": (partial(multi_head_attention, normed=True), PLAIN),
        "rotary": (partial(multi_head_attention, rotary=USUAL), PLAIN),
        "everything": (
            partial(multi_head_attention, groups=2, biased=True, normed=True, rotary=LONGER, start=3, window=4),
            GROUPED,
        ),
    },
    "gelu": {name: (gelu, sizes) for name, sizes in SHAPES.items()}
    | {
        "huge": (partial(gelu, scale=100.0), PLAIN),
        "tiny": (partial(gelu, scale=TINY), PLAIN),
        "left": (partial(gelu, scale=0.25, offset=-2.0), PLAIN),
    },
    "mlp": {name: (mlp, sizes) for name, sizes in SHAPES.items()} | {"unbiased": (partial(mlp, biased=False), PLAIN)},
    "silu": {name: (silu, sizes) for name, sizes in SHAPES.items()}
    | {"huge": (partial(silu, scale=100.0), PLAIN), "tiny": (partial(silu, scale=TINY), PLAIN)},
    "swiglu": {name: (swiglu, sizes) for name, sizes in SHAPES.items()},
    "cross_entropy": {name: (cross_entropy, sizes) for name, sizes in SHAPES.items()}
    | {
        "huge": (partial(cross_entropy, scale=HUGE), PLAIN),
        "tiny": (partial(cross_entropy, scale=TINY), PLAIN),
        "equal_rows": (partial(cross_entropy, scale=0.0), PLAIN),
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
    "block": {name: (block, sizes) for name, sizes in MORE_SHAPES.items()}
    | {family: (partial(block, family=family), PLAIN) for family in FAMILIES if family != "default"},
    "gpt": {name: (gpt, sizes) for name, sizes in MORE_SHAPES.items()}
    | {
        "repeated_token": (partial(gpt, one_token=True), PLAIN),
        "ignored_everywhere": (partial(gpt, ignored="everywhere"), PLAIN._replace(B=PLAIN.T)),
    }
    | {family: (partial(gpt, family=family), PLAIN) for family in FAMILIES if family != "default"},
}
"""By layer and variant: what makes the case, and its sizes."""


def draw_case(layer: str, variant: str, seed: int, draw: int = 0) -> tuple[Case, Array]:
    """The case of a variant and a random cotangent of its output; each draw has other numbers in the same shapes."""
    make, sizes = VARIANTS[layer][variant]
    generator = np.random.default_rng((seed, draw))
    case = make(Maker(generator, sizes, representable))
    y, _ = case.run()
    return case, representable(np.asarray(generator.standard_normal(y.shape)))
