"""What is proved: each layer, a block, and whole small GPTs of every family, on random inputs."""

import numpy as np

from ..layers import Array, causal_attention_backward, causal_attention_forward
from ..layers.causal_attention import KEYS
from ..model import Model, ModelConfig
from . import making
from .case import Case, Tensors
from .making import Maker, Sizes
from .named import named_loss_backward, named_loss_forward

SIZES = Sizes(B=2, T=5, C=6, H=3, F=7, V=9)
GROUPED_SIZES = Sizes(B=2, T=5, C=16, H=4, F=7, V=9)
GPT_SIZES = Sizes(B=2, T=6, C=8, H=2, F=12, V=7)
LAYER_OF = {
    "grouped_attention": "causal_attention",
    "window_attention": "causal_attention",
    "attention_tiles": "causal_attention",
    "grouped_queries": "multi_head_attention",
    **dict.fromkeys(("gpt2", "llama", "mistral", "qwen2", "qwen3", "nanogpt"), "gpt"),
}
"""The layer of those cases that are not called by its name."""


def all_cases(seed: int = 0) -> dict[str, Case]:
    """Every layer by its name, in the order of the model, then a `block`, the whole `gpt`, and one of each family."""
    generator = np.random.default_rng(seed)
    make, grouped = Maker(generator, SIZES), Maker(generator, GROUPED_SIZES)
    return {
        "linear": making.linear(make),
        "bias": making.bias(make),
        "embedding": making.embedding(make),
        "positions": making.positions(make),
        "layer_norm": making.layer_norm(make, scale=2.0, offset=1.0),
        "rms_norm": making.rms_norm(make, scale=2.0, offset=1.0),
        "rotary": making.rotary(grouped, making.LONGER, start=3),
        "softmax": making.softmax(make),
        "causal_attention": making.causal_attention(make),
        "grouped_attention": making.causal_attention(grouped, groups=2),
        "window_attention": making.causal_attention(make, earlier=2, window=3),
        "attention_tiles": Case(  # more keys than a tile has
            causal_attention_forward,
            causal_attention_backward,
            {"q": make.normal(1, 1, 2, 1), "k": make.normal(1, 1, KEYS + 20, 1), "v": make.normal(1, 1, KEYS + 20, 1)},
            {"scale": 1.0},
        ),
        "multi_head_attention": making.multi_head_attention(make),
        "grouped_queries": making.multi_head_attention(
            grouped, groups=2, biased=True, normed=True, rotary=making.LONGER, start=3, window=4
        ),
        "gelu": making.gelu(make, scale=2.0),
        "mlp": making.mlp(make),
        "silu": making.silu(make, scale=3.0),
        "swiglu": making.swiglu(make),
        "cross_entropy": making.cross_entropy(make, scale=3.0, ignored="middle"),
        "linear_cross_entropy": making.linear_cross_entropy(make, ignored="middle"),
        "block": making.block(make),
        "gpt": making.gpt(Maker(generator, GPT_SIZES), ignored="middle"),
        **{
            family: making.gpt(Maker(generator, GPT_SIZES), ignored="middle", family=family)
            for family in making.FAMILIES
            if family != "default"
        },
    }


def gpt_case(config: ModelConfig, generator: np.random.Generator) -> Case:
    """The loss of a GPT of this config on two random sequences, one target of which is ignored."""
    sizes = Sizes(2, config.context, config.width, config.heads, config.hidden, config.vocabulary)
    return making.gpt(Maker(generator, sizes), ignored="middle", config=config)


def loss_case(config: ModelConfig, parameters: Tensors, tokens: Array, targets: Array) -> Case:
    """The loss of a model as a function of its parameters."""
    given = {"tokens": tokens, "targets": targets, "config": config}
    return Case(named_loss_forward, named_loss_backward, dict(parameters), given, output="loss")


def model_case(model: Model, seed: int = 0) -> Case:
    """The loss of a model in float64 on a few random tokens; a short window is left by the last of them."""
    config = model.config
    length = min(config.context, 16 + (config.window if config.window <= 256 else 0))
    tokens = np.random.default_rng(seed).integers(config.vocabulary, size=(1, length + 1))
    parameters = {name: x.astype(np.float64) for name, x in model.parameters.items()}
    return loss_case(config, parameters, tokens[:, :-1], tokens[:, 1:])
