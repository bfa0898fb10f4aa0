"""What is proved: each layer, and a whole small GPT, on random inputs."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..layers import (
    IGNORE_INDEX,
    Array,
    causal_attention_backward,
    causal_attention_forward,
    cross_entropy_backward,
    cross_entropy_forward,
    embedding_backward,
    embedding_forward,
    layer_norm_backward,
    layer_norm_forward,
    linear_backward,
    linear_cross_entropy_backward,
    linear_cross_entropy_forward,
    linear_forward,
    multi_head_attention_backward,
    multi_head_attention_forward,
    positions_backward,
    positions_forward,
    silu_backward,
    silu_forward,
    softmax_backward,
    softmax_forward,
    swiglu_backward,
    swiglu_forward,
)
from ..layers.causal_attention import KEYS
from ..model import ModelConfig, Parameters, initial_parameters, loss_backward, loss_forward

B, T, C, H, D, F, V = 2, 5, 6, 3, 2, 7, 9
SMALL_GPT = ModelConfig(layers=2, heads=2, width=8, hidden=12, context=6, vocabulary=7)


class Case(NamedTuple):
    """A forward and its backward, at a point: `forward(*inputs.values())` is (y, cache).

    `backward(dy, cache)` gives the gradients of the inputs in the same order: several, or an array where there is one.
    """

    forward: Callable[..., tuple[Array, Any]]
    backward: Callable[..., Array | Sequence[Array]]
    inputs: dict[str, Array]

    def gradients(self, dy: Array, cache: Any) -> dict[str, Array]:
        """What the backward returns, by the name of the input."""
        gradients = self.backward(dy, cache)
        return dict(zip(self.inputs, [gradients] if isinstance(gradients, np.ndarray) else gradients, strict=True))


def all_cases(seed: int = 0) -> dict[str, Case]:
    """Every layer by its name, in the order of the model, and last the whole `gpt`."""
    generator = np.random.default_rng(seed)
    normal = generator.standard_normal
    tokens = generator.integers(V, size=(B, T))
    tokens[:, 1] = tokens[0, 0]  # a token that repeats: its gradients must add
    targets = generator.integers(V, size=(B, T))
    targets[0, 2] = IGNORE_INDEX
    return {
        "linear": Case(linear_forward, linear_backward, {"x": normal((B, T, C)), "w": normal((C, F))}),
        "embedding": Case(partial(embedding_forward, tokens), embedding_backward, {"table": normal((V, C))}),
        "positions": Case(positions_forward, positions_backward, {"x": normal((B, T, C)), "table": normal((T + 2, C))}),
        "layer_norm": Case(
            layer_norm_forward,
            layer_norm_backward,
            {"x": normal((B, T, C)) * 2 + 1, "gamma": normal(C), "beta": normal(C)},
        ),
        "softmax": Case(softmax_forward, softmax_backward, {"z": normal((B, T, V))}),
        "causal_attention": Case(
            partial(causal_attention_forward, scale=D**-0.5),
            causal_attention_backward,
            {name: normal((B, H, T, D)) for name in "qkv"},
        ),
        "attention_tiles": Case(  # more keys than a tile has
            partial(causal_attention_forward, scale=1.0),
            causal_attention_backward,
            {"q": normal((1, 1, 2, 1)), "k": normal((1, 1, KEYS + 20, 1)), "v": normal((1, 1, KEYS + 20, 1))},
        ),
        "multi_head_attention": Case(
            partial(multi_head_attention_forward, heads=H),
            multi_head_attention_backward,
            {"x": normal((B, T, C)), **{f"w_{name}": normal((C, C)) for name in "qkvo"}},
        ),
        "silu": Case(silu_forward, silu_backward, {"x": normal((B, T, F)) * 3}),
        "swiglu": Case(
            swiglu_forward,
            swiglu_backward,
            {"x": normal((B, T, C)), "w_gate": normal((C, F)), "w_up": normal((C, F)), "w_down": normal((F, C))},
        ),
        "cross_entropy": Case(
            partial(cross_entropy_forward, targets=targets), cross_entropy_backward, {"logits": normal((B, T, V)) * 3}
        ),
        "linear_cross_entropy": Case(
            partial(linear_cross_entropy_forward, targets=targets),
            linear_cross_entropy_backward,
            {"x": normal((B, T, C)), "w": normal((C, V))},
        ),
        "gpt": gpt_case(SMALL_GPT, generator),
    }


def gpt_case(config: ModelConfig, generator: np.random.Generator) -> Case:
    """The loss of a GPT on random tokens as a function of its parameters, none of which is left at 0 or 1."""
    parameters = initial_parameters(config, dtype=np.float64)
    parameters.flat += 0.3 * generator.standard_normal(parameters.flat.size)
    tokens = generator.integers(config.vocabulary, size=(B, config.context))
    targets = generator.integers(config.vocabulary, size=(B, config.context))
    targets[0, 2] = IGNORE_INDEX

    def forward(*tensors: Array) -> tuple[Array, Any]:
        named = dict(zip(parameters, tensors, strict=True))
        moved = Parameters.from_mapping(config, named)
        return loss_forward(tokens, targets, moved.tree, config)

    def backward(dloss: Array, cache: Any) -> Sequence[Array]:
        return list(Parameters.from_tree(config, loss_backward(dloss, cache)).values())

    return Case(forward, backward, dict(parameters))
