"""What is proved: each layer, a block, and a whole small GPT, on random inputs."""

import numpy as np

from ..layers import causal_attention_backward, causal_attention_forward
from ..layers.causal_attention import KEYS
from ..model import ModelConfig
from . import making
from .case import Case
from .making import Maker, Sizes

SIZES = Sizes(B=2, T=5, C=6, H=3, F=7, V=9)
GPT_SIZES = Sizes(B=2, T=6, C=8, H=2, F=12, V=7)


def all_cases(seed: int = 0) -> dict[str, Case]:
    """Every layer by its name, in the order of the model, then a `block`, and last the whole `gpt`."""
    generator = np.random.default_rng(seed)
    make = Maker(generator, SIZES)
    return {
        "linear": making.linear(make),
        "embedding": making.embedding(make),
        "positions": making.positions(make),
        "layer_norm": making.layer_norm(make, scale=2.0, offset=1.0),
        "softmax": making.softmax(make),
        "causal_attention": making.causal_attention(make),
        "attention_tiles": Case(  # more keys than a tile has
            causal_attention_forward,
            causal_attention_backward,
            {"q": make.normal(1, 1, 2, 1), "k": make.normal(1, 1, KEYS + 20, 1), "v": make.normal(1, 1, KEYS + 20, 1)},
            {"scale": 1.0},
        ),
        "multi_head_attention": making.multi_head_attention(make),
        "silu": making.silu(make, scale=3.0),
        "swiglu": making.swiglu(make),
        "cross_entropy": making.cross_entropy(make, scale=3.0, ignored="middle"),
        "linear_cross_entropy": making.linear_cross_entropy(make, ignored="middle"),
        "block": making.block(make),
        "gpt": making.gpt(Maker(generator, GPT_SIZES), ignored="middle"),
    }


def gpt_case(config: ModelConfig, generator: np.random.Generator) -> Case:
    """The loss of a GPT of this config on two random sequences, one target of which is ignored."""
    sizes = Sizes(2, config.context, config.width, config.heads, config.hidden, config.vocabulary)
    return making.gpt(Maker(generator, sizes), ignored="middle", config=config)
