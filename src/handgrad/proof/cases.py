"""What is proved: each layer, a block, and a whole small GPT, on random inputs."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ..layers import (
    IGNORE_INDEX,
    Array,
    Tap,
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
    no_tap,
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
from ..model import ModelConfig, initial_parameters
from .mutations import Mutation
from .named import named_block_backward, named_block_forward, named_loss_backward, named_loss_forward

B, T, C, H, D, F, V = 2, 5, 6, 3, 2, 7, 9
SMALL_GPT = ModelConfig(layers=2, heads=2, width=8, hidden=12, context=6, vocabulary=7)
SMALL_BLOCK = ModelConfig(layers=1, heads=H, width=C, hidden=F, context=T, vocabulary=V)

Tensors = Mapping[str, Array]


class Case(NamedTuple):
    """A forward and its backward, at a point."""

    forward: Callable[..., tuple[Array, Any]]
    backward: Callable[..., Array | Sequence[Array]]
    inputs: dict[str, Array]
    """What the backward gives the gradients of, in its order; the forward takes them by these names."""
    given: Mapping[str, Any] = MappingProxyType({})
    """What else the forward takes: tokens, targets, the number of heads."""
    output: str = "y"
    """What the forward's value is called."""

    def run(self, inputs: Tensors | None = None, tap: Tap = no_tap) -> tuple[Array, Any]:
        """The forward at its own inputs, or with some of them replaced: (y, cache)."""
        return self.forward(**self.inputs | dict(inputs or {}), **self.given, **_tapped(self.forward, tap))

    def planted(self, mutation: Mutation) -> "Case":
        """The same with a wrong backward in it, wherever it is called."""
        return self._replace(forward=mutation.planted(self.forward), backward=mutation.planted(self.backward))

    def gradients(self, dy: Array, cache: Any, tap: Tap = no_tap) -> dict[str, Array]:
        """What the backward returns, by the name of the input."""
        gradients = self.backward(dy, cache, **_tapped(self.backward, tap))
        return dict(zip(self.inputs, [gradients] if isinstance(gradients, np.ndarray) else gradients, strict=True))


def _tapped(function: Callable[..., Any], tap: Tap) -> dict[str, Tap]:
    return {"tap": tap} if "tap" in inspect.signature(function).parameters else {}


def all_cases(seed: int = 0) -> dict[str, Case]:
    """Every layer by its name, in the order of the model, then a `block`, and last the whole `gpt`."""
    generator = np.random.default_rng(seed)
    normal = generator.standard_normal
    tokens = generator.integers(V, size=(B, T))
    tokens[:, 1] = tokens[0, 0]  # a token that repeats: its gradients must add
    targets = generator.integers(V, size=(B, T))
    targets[0, 2] = IGNORE_INDEX
    return {
        "linear": Case(linear_forward, linear_backward, {"x": normal((B, T, C)), "w": normal((C, F))}),
        "embedding": Case(embedding_forward, embedding_backward, {"table": normal((V, C))}, {"tokens": tokens}),
        "positions": Case(positions_forward, positions_backward, {"x": normal((B, T, C)), "table": normal((T + 2, C))}),
        "layer_norm": Case(
            layer_norm_forward,
            layer_norm_backward,
            {"x": normal((B, T, C)) * 2 + 1, "gamma": normal(C), "beta": normal(C)},
        ),
        "softmax": Case(softmax_forward, softmax_backward, {"z": normal((B, T, V))}),
        "causal_attention": Case(
            causal_attention_forward,
            causal_attention_backward,
            {name: normal((B, H, T, D)) for name in "qkv"},
            {"scale": D**-0.5},
        ),
        "attention_tiles": Case(  # more keys than a tile has
            causal_attention_forward,
            causal_attention_backward,
            {"q": normal((1, 1, 2, 1)), "k": normal((1, 1, KEYS + 20, 1)), "v": normal((1, 1, KEYS + 20, 1))},
            {"scale": 1.0},
        ),
        "multi_head_attention": Case(
            multi_head_attention_forward,
            multi_head_attention_backward,
            {"x": normal((B, T, C)), **{f"w_{name}": normal((C, C)) for name in "qkvo"}},
            {"heads": H},
        ),
        "silu": Case(silu_forward, silu_backward, {"x": normal((B, T, F)) * 3}),
        "swiglu": Case(
            swiglu_forward,
            swiglu_backward,
            {"x": normal((B, T, C)), "w_gate": normal((C, F)), "w_up": normal((C, F)), "w_down": normal((F, C))},
        ),
        "cross_entropy": Case(
            cross_entropy_forward,
            cross_entropy_backward,
            {"logits": normal((B, T, V)) * 3},
            {"targets": targets},
            output="loss",
        ),
        "linear_cross_entropy": Case(
            linear_cross_entropy_forward,
            linear_cross_entropy_backward,
            {"x": normal((B, T, C)), "w": normal((C, V))},
            {"targets": targets},
            output="loss",
        ),
        "block": block_case(SMALL_BLOCK, generator),
        "gpt": gpt_case(SMALL_GPT, generator),
    }


def block_case(config: ModelConfig, generator: np.random.Generator) -> Case:
    """A block as a function of its input and of its parameters, none of which is left at 0 or 1."""
    scope = "blocks.0."
    parameters = {
        name.removeprefix(scope): tensor
        for name, tensor in _moved_parameters(config, generator).items()
        if name.startswith(scope)
    }
    x = generator.standard_normal((B, config.context, config.width))
    return Case(named_block_forward, named_block_backward, {"x": x, **parameters}, {"config": config})


def gpt_case(config: ModelConfig, generator: np.random.Generator) -> Case:
    """The loss of a GPT on random tokens as a function of its parameters, none of which is left at 0 or 1."""
    parameters = _moved_parameters(config, generator)
    tokens = generator.integers(config.vocabulary, size=(B, config.context))
    targets = generator.integers(config.vocabulary, size=(B, config.context))
    targets[0, 2] = IGNORE_INDEX
    given = {"tokens": tokens, "targets": targets, "config": config}
    return Case(named_loss_forward, named_loss_backward, parameters, given, output="loss")


def _moved_parameters(config: ModelConfig, generator: np.random.Generator) -> dict[str, Array]:
    parameters = initial_parameters(config, dtype=np.float64)
    parameters.flat += 0.3 * generator.standard_normal(parameters.flat.size)
    return dict(parameters)
