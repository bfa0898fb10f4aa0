"""Every layer against HIPS autograd, an independent automatic differentiation: value to 1e-12, gradients to 1e-10.

The forwards here are written anew from the definitions, as plainly as autograd allows, and share no line with the
library's.
"""

from collections.abc import Callable
from typing import Any

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad

from handgrad.layers import IGNORE_INDEX
from handgrad.proof import all_cases, relative_error
from handgrad.proof.cases import D, H

CASES = all_cases(seed=4)


def linear(x: Any, w: Any) -> Any:
    return anp.einsum("btc,cf->btf", x, w)


def layer_norm(x: Any, gamma: Any, beta: Any) -> Any:
    mean = anp.mean(x, axis=-1, keepdims=True)
    variance = anp.mean((x - mean) ** 2, axis=-1, keepdims=True)
    return gamma * (x - mean) / anp.sqrt(variance + 1e-5) + beta


def softmax(z: Any) -> Any:
    return anp.exp(z) / anp.sum(anp.exp(z), axis=-1, keepdims=True)


def causal_attention(q: Any, k: Any, v: Any) -> Any:
    scores = anp.einsum("bhtd,bhsd->bhts", q, k) / np.sqrt(D)
    T = q.shape[2]
    weights = softmax(anp.where(np.tril(np.ones((T, T), bool)), scores, -1e30))
    return anp.einsum("bhts,bhsd->bhtd", weights, v)


def multi_head_attention(x: Any, w_qkv: Any, w_o: Any, heads: int = H) -> Any:
    C = x.shape[-1]
    D = C // heads
    found = []
    for head in range(heads):
        q, k, v = (anp.dot(x, w_qkv[:, part * C + head * D : part * C + (head + 1) * D]) for part in range(3))
        scores = anp.einsum("btd,bsd->bts", q, k) / np.sqrt(D)
        scores = scores + np.triu(np.full(scores.shape[1:], -1e30), 1)
        found.append(anp.einsum("bts,bsd->btd", softmax(scores), v))
    return anp.dot(anp.concatenate(found, axis=-1), w_o)


def silu(x: Any) -> Any:
    return x / (1 + anp.exp(-x))


def swiglu(x: Any, w_gate_up: Any, w_down: Any) -> Any:
    F = len(w_down)
    return anp.dot(silu(anp.dot(x, w_gate_up[:, :F])) * anp.dot(x, w_gate_up[:, F:]), w_down)


def cross_entropy(logits: Any, targets: np.ndarray) -> Any:
    log_probabilities = anp.log(softmax(logits))
    places = [place for place in np.ndindex(targets.shape) if targets[place] != IGNORE_INDEX]
    return -sum(log_probabilities[(*place, targets[place])] for place in places) / len(places)


def reference(name: str) -> Callable[..., Any]:
    forward: Any = CASES[name].forward  # some are partial: their tokens or targets are bound
    references: dict[str, Callable[..., Any]] = {
        "linear": linear,
        "embedding": lambda table: table[forward.args[0]],
        "positions": lambda x, table: x + table[: x.shape[1]],
        "layer_norm": layer_norm,
        "softmax": softmax,
        "causal_attention": causal_attention,
        "multi_head_attention": multi_head_attention,
        "silu": silu,
        "swiglu": swiglu,
        "cross_entropy": lambda logits: cross_entropy(logits, forward.keywords["targets"]),
    }
    return references[name]


@pytest.mark.parametrize("name", [name for name in CASES if name != "gpt"])
def test_layer_equals_autograd(name: str) -> None:
    case, f = CASES[name], reference(name)
    inputs = list(case.inputs.values())
    y, cache = case.forward(*inputs)
    assert relative_error(y, np.asarray(f(*inputs))) < 1e-12
    dy = np.asarray(np.random.default_rng(5).standard_normal(y.shape))
    gradients = case.backward(dy, cache)
    gradients = [gradients] if isinstance(gradients, np.ndarray) else gradients
    for position, gradient in enumerate(gradients):
        expected = grad(lambda *inputs: anp.sum(f(*inputs) * dy), position)(*inputs)
        assert relative_error(gradient, expected) < 1e-10, list(case.inputs)[position]
