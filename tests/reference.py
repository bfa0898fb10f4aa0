"""The forwards, written anew from their definitions and as plainly as autograd allows: no line is the library's."""

from typing import Any

import autograd.numpy as anp
import numpy as np

from handgrad.layers import IGNORE_INDEX


def linear(x: Any, w: Any) -> Any:
    return anp.einsum("btc,cf->btf", x, w)


def layer_norm(x: Any, gamma: Any, beta: Any) -> Any:
    mean = anp.mean(x, axis=-1, keepdims=True)
    variance = anp.mean((x - mean) ** 2, axis=-1, keepdims=True)
    return gamma * (x - mean) / anp.sqrt(variance + 1e-5) + beta


def softmax(z: Any) -> Any:
    return anp.exp(z) / anp.sum(anp.exp(z), axis=-1, keepdims=True)


def causal_attention(q: Any, k: Any, v: Any, scale: float | None = None) -> Any:
    (T, D), S = q.shape[2:], k.shape[2]
    scores = anp.einsum("bhtd,bhsd->bhts", q, k) * (D**-0.5 if scale is None else scale)
    weights = softmax(anp.where(np.tril(np.ones((T, S), bool), S - T), scores, -1e30))
    return anp.einsum("bhts,bhsd->bhtd", weights, v)


def multi_head_attention(x: Any, w_q: Any, w_k: Any, w_v: Any, w_o: Any, heads: int) -> Any:
    D = x.shape[-1] // heads
    found = []
    for head in range(heads):
        q, k, v = (anp.dot(x, w[:, head * D : (head + 1) * D]) for w in (w_q, w_k, w_v))
        scores = anp.einsum("btd,bsd->bts", q, k) / np.sqrt(D)
        scores = scores + np.triu(np.full(scores.shape[1:], -1e30), 1)
        found.append(anp.einsum("bts,bsd->btd", softmax(scores), v))
    return anp.dot(anp.concatenate(found, axis=-1), w_o)


def silu(x: Any) -> Any:
    return x / (1 + anp.exp(-x))


def swiglu(x: Any, w_gate: Any, w_up: Any, w_down: Any) -> Any:
    return anp.dot(silu(anp.dot(x, w_gate)) * anp.dot(x, w_up), w_down)


def cross_entropy(logits: Any, targets: np.ndarray) -> Any:
    log_probabilities = anp.log(softmax(logits))
    places = [place for place in np.ndindex(targets.shape) if targets[place] != IGNORE_INDEX]
    return -sum(log_probabilities[(*place, targets[place])] for place in places) / len(places)
