"""The forwards, written anew from their definitions and as plainly as autograd allows: no line is the library's."""

from typing import Any

import autograd.numpy as anp
import numpy as np

from handgrad.layers import IGNORE_INDEX, Rotary
from handgrad.model import ModelConfig


def linear(x: Any, w: Any) -> Any:
    return anp.einsum("btc,cf->btf", x, w)


def bias(x: Any, b: Any) -> Any:
    return anp.stack([x[..., c] + b[c] for c in range(len(b))], axis=-1)


def layer_norm(x: Any, gamma: Any, beta: Any = 0, epsilon: float = 1e-5) -> Any:
    mean = anp.mean(x, axis=-1, keepdims=True)
    variance = anp.mean((x - mean) ** 2, axis=-1, keepdims=True)
    return gamma * (x - mean) / anp.sqrt(variance + epsilon) + beta


def rms_norm(x: Any, gamma: Any, epsilon: float = 1e-5) -> Any:
    C = x.shape[-1]
    length = anp.sqrt(anp.einsum("...c,...c->...", x, x) + C * epsilon)
    return anp.sqrt(C) * gamma * x / length[..., None]


def frequencies(D: int, rotary: Rotary) -> list[float]:
    """By wavelengths, positions a turn: short ones stay, long ones grow by the factor, between them is a passage."""
    base, factor, low_factor, high_factor, first_context = rotary
    found = []
    for i in range(D // 2):
        frequency = 1 / base ** (2 * i / D)
        wavelength = 2 * np.pi / frequency
        if wavelength > first_context / low_factor:
            frequency /= factor
        elif wavelength >= first_context / high_factor:
            smooth = (first_context / wavelength - low_factor) / (high_factor - low_factor)
            frequency = (1 - smooth) * frequency / factor + smooth * frequency
        found.append(frequency)
    return found


def rotation(D: int, rotary: Rotary, position: int) -> np.ndarray:
    """The D×D matrix that turns a vector at this position, in D/2 planes."""
    R = np.zeros((D, D))
    for i, frequency in enumerate(frequencies(D, rotary)):
        plane = np.ix_((i, i + D // 2), (i, i + D // 2))
        angle = position * frequency
        R[plane] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return R


def rotated(x: Any, rotary: Rotary, start: int = 0) -> Any:
    T, D = x.shape[-2:]
    return anp.stack([anp.dot(x[..., t, :], rotation(D, rotary, start + t).T) for t in range(T)], axis=-2)


def softmax(z: Any) -> Any:
    return anp.exp(z) / anp.sum(anp.exp(z), axis=-1, keepdims=True)


def visible(T: int, S: int, window: int | None = None) -> np.ndarray:
    """Which of S positions each of the last T sees."""
    seen = np.zeros((T, S), bool)
    for t in range(T):
        own = S - T + t
        seen[t, 0 if window is None else max(0, own - window + 1) : own + 1] = True
    return seen


def causal_attention(q: Any, k: Any, v: Any, scale: float | None = None, window: int | None = None) -> Any:
    (H, T, D), (G, S) = q.shape[1:], k.shape[1:3]
    seen = visible(T, S, window)
    found = []
    for head in range(H):
        group = head // (H // G)
        scores = anp.einsum("btd,bsd->bts", q[:, head], k[:, group]) * (D**-0.5 if scale is None else scale)
        found.append(anp.einsum("bts,bsd->btd", softmax(anp.where(seen, scores, -1e30)), v[:, group]))
    return anp.stack(found, axis=1)


def multi_head_attention(
    x: Any,
    w_q: Any,
    w_k: Any,
    w_v: Any,
    w_o: Any,
    b_q: Any = 0,
    b_k: Any = 0,
    b_v: Any = 0,
    b_o: Any = 0,
    gamma_q: Any = None,
    gamma_k: Any = None,
    *,
    heads: int,
    key_value_heads: int | None = None,
    scale: float | None = None,
    rotary: Rotary | None = None,
    start: int = 0,
    window: int | None = None,
    epsilon: float = 1e-5,
) -> Any:
    D = w_q.shape[1] // heads

    def head(projected: Any, number: int, gamma: Any, turned: bool) -> Any:
        y = projected[:, :, number * D : (number + 1) * D]
        y = y if gamma is None else rms_norm(y, gamma, epsilon)
        return rotated(y, rotary, start) if turned and rotary is not None else y

    found = []
    for number in range(heads):
        group = number * (key_value_heads or heads) // heads
        q = head(anp.dot(x, w_q) + b_q, number, gamma_q, True)
        k = head(anp.dot(x, w_k) + b_k, group, gamma_k, True)
        v = head(anp.dot(x, w_v) + b_v, group, None, False)
        scores = anp.einsum("btd,bsd->bts", q, k) * (D**-0.5 if scale is None else scale)
        scores = scores + np.where(visible(x.shape[1], x.shape[1], window), 0, -1e30)
        found.append(anp.einsum("bts,bsd->btd", softmax(scores), v))
    return anp.dot(anp.concatenate(found, axis=-1), w_o) + b_o


def silu(x: Any) -> Any:
    return x / (1 + anp.exp(-x))


def swiglu(x: Any, w_gate: Any, w_up: Any, w_down: Any) -> Any:
    return anp.dot(silu(anp.dot(x, w_gate)) * anp.dot(x, w_up), w_down)


def gelu(x: Any) -> Any:
    return 0.5 * x * (1 + anp.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))


def mlp(x: Any, w_up: Any, w_down: Any, b_up: Any = 0, b_down: Any = 0) -> Any:
    return anp.dot(gelu(anp.dot(x, w_up) + b_up), w_down) + b_down


def cross_entropy(logits: Any, targets: np.ndarray) -> Any:
    log_probabilities = anp.log(softmax(logits))
    places = [place for place in np.ndindex(targets.shape) if targets[place] != IGNORE_INDEX]
    return -sum(log_probabilities[(*place, targets[place])] for place in places) / len(places)


def norm(x: Any, p: dict[str, Any], name: str, config: ModelConfig) -> Any:
    if config.norm == "none":
        return x
    if config.norm == "rms":
        return rms_norm(x, p[f"{name}.gamma"], config.norm_epsilon)
    return layer_norm(x, p[f"{name}.gamma"], p.get(f"{name}.beta", 0), config.norm_epsilon)


def block(x: Any, p: dict[str, Any], config: ModelConfig, number: int = 0) -> Any:
    """p: the parameters by their names within the block."""
    attention = {name.removeprefix("attention."): value for name, value in p.items() if name.startswith("attention.")}
    scaled = (config.rotary_base, config.rotary_factor, config.rotary_low_factor, config.rotary_high_factor)
    attended = multi_head_attention(
        norm(x, p, "norm_1", config),
        **attention,
        heads=config.heads,
        key_value_heads=config.G,
        scale=None if config.score_scale else 1.0,
        rotary=Rotary(*scaled, config.rotary_first_context) if config.positions == "rotary" else None,
        window=config.window if config.window > 0 and number + 1 > config.full_blocks else None,
        epsilon=config.norm_epsilon,
    )
    x = config.residual * x + attended
    scope, layer = "feed_forward.", mlp if config.feed_forward == "gelu" else swiglu
    parts = {name.removeprefix(scope): value for name, value in p.items() if name.startswith(scope)}
    fed = layer(norm(x, p, "norm_2", config), **parts)
    return config.residual * x + fed


def loss(p: dict[str, Any], tokens: np.ndarray, targets: np.ndarray, config: ModelConfig) -> Any:
    """Of a whole model, as a function of its parameters by name."""
    x = anp.stack([anp.stack([p["embedding.token"][token] for token in row]) for row in tokens])
    if config.positions == "learned":
        x = x + p["embedding.position"][: tokens.shape[1]]
    for n in range(config.layers):
        scope = f"blocks.{n}."
        x = block(x, {name.removeprefix(scope): p[name] for name in p if name.startswith(scope)}, config, n)
    w_lm = p["embedding.token"].T if config.tied else p["head.w_lm"]
    return cross_entropy(anp.dot(norm(x, p, "norm", config), w_lm), targets)
