"""The kit's layers in plain PyTorch, held against the kit's files.

    python3 -m pip install torch safetensors
    python3 kit_torch.py DIR                                               # every case of the folder, in float64
    python3 kit_torch.py DIR --dtype bfloat16 --layers softmax layer_norm

No gradient is written here: autograd is the witness. A line for each case names its worst tensor and says how much of
what its envelope allows the error takes: up to 1 it passes. Exit status: 0 all passed; 1 one did not; 2 the folder, or
a file in it, cannot be used. To hold a kernel of your own against the kit, put a call of it into `LAYERS`.
"""

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

DTYPES = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
ENVELOPES = ("float32", "float16", "bfloat16")
BAR = 1e-12
"""What float64 allows."""


def linear(x: Tensor, w: Tensor) -> Tensor:
    return x @ w


def bias(x: Tensor, b: Tensor) -> Tensor:
    return x + b


def embedding(tokens: Tensor, table: Tensor) -> Tensor:
    return F.embedding(tokens, table)


def positions(x: Tensor, table: Tensor, start: int = 0) -> Tensor:
    return x + table[start : start + x.shape[1]]


def wide(x: Tensor) -> Tensor:
    """In float32 at least, as autocast has norms and losses: PyTorch's own LayerNorm keeps the mean in x's 16 bits."""
    return x if x.dtype == torch.float64 else x.float()


def layer_norm(x: Tensor, gamma: Tensor, beta: Tensor | None = None, epsilon: float = 1e-5) -> Tensor:
    offset = None if beta is None else wide(beta)
    return F.layer_norm(wide(x), gamma.shape, wide(gamma), offset, eps=epsilon).to(x.dtype)


def rms_norm(x: Tensor, gamma: Tensor, epsilon: float = 1e-5) -> Tensor:
    return F.rms_norm(wide(x), gamma.shape, wide(gamma), eps=epsilon).to(x.dtype)


def frequencies(
    D: int, base: float, factor: float, low_factor: float, high_factor: float, first_context: int
) -> Tensor:
    """Radians a position, of the D/2 pairs; a factor above 1 makes the slow ones slower."""
    f = base ** (-torch.arange(0, D, 2, dtype=torch.float64) / D)
    wavelength = 2 * math.pi / f
    share = (first_context / wavelength - low_factor) / (high_factor - low_factor)
    scaled = torch.where(wavelength > first_context / low_factor, f / factor, (1 - share) * f / factor + share * f)
    return torch.where(wavelength < first_context / high_factor, f, scaled)


def rotary(
    x: Tensor,
    base: float = 10_000.0,
    factor: float = 1.0,
    low_factor: float = 1.0,
    high_factor: float = 4.0,
    first_context: int = 8192,
    start: int = 0,
) -> Tensor:
    T, D = x.shape[-2:]
    positions = torch.arange(start, start + T, dtype=torch.float64)
    angles = torch.outer(positions, frequencies(D, base, factor, low_factor, high_factor, first_context)).to(x.device)
    turned = torch.complex(*wide(x).unflatten(-1, (2, D // 2)).unbind(-2)) * torch.polar(
        torch.ones_like(angles), angles
    )
    return torch.cat((turned.real, turned.imag), dim=-1).to(x.dtype)


def softmax(z: Tensor) -> Tensor:
    return F.softmax(z, dim=-1)


def causal_attention(q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None = None) -> Tensor:
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))  # shared by groups of queries
    # not F.scaled_dot_product_attention: a query with one key has gradients that are 0, and its fused form has 1e-7
    T, S = q.shape[-2], k.shape[-2]
    hidden = torch.ones(T, S, dtype=torch.bool, device=q.device).triu(S - T + 1)  # the queries are the last T of S
    if window is not None:
        hidden |= torch.ones_like(hidden).tril(S - T - window)
    return F.softmax((q @ k.mT * scale).masked_fill(hidden, -math.inf), dim=-1) @ v


def multi_head_attention(
    x: Tensor,
    w_q: Tensor,
    w_k: Tensor,
    w_v: Tensor,
    w_o: Tensor,
    b_q: Tensor | float = 0.0,
    b_k: Tensor | float = 0.0,
    b_v: Tensor | float = 0.0,
    b_o: Tensor | float = 0.0,
    gamma_q: Tensor | None = None,
    gamma_k: Tensor | None = None,
    *,
    heads: int,
    key_value_heads: int | None = None,
    scale: float | None = None,
    window: int | None = None,
    epsilon: float = 1e-5,
    start: int = 0,
    **turning: Any,
) -> Tensor:
    D = w_q.shape[1] // heads
    q, k, v = ((x @ w + b).unflatten(-1, (-1, D)).transpose(1, 2) for w, b in ((w_q, b_q), (w_k, b_k), (w_v, b_v)))
    if gamma_q is not None and gamma_k is not None:
        q, k = rms_norm(q, gamma_q, epsilon), rms_norm(k, gamma_k, epsilon)
    if turning:
        q, k = (rotary(each, **turning, start=start) for each in (q, k))
    context = causal_attention(q, k, v, D**-0.5 if scale is None else scale, window)
    return context.transpose(1, 2).flatten(2) @ w_o + b_o


def silu(x: Tensor) -> Tensor:
    return F.silu(x)


def gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def mlp(x: Tensor, w_up: Tensor, w_down: Tensor, b_up: Tensor | float = 0.0, b_down: Tensor | float = 0.0) -> Tensor:
    return gelu(x @ w_up + b_up) @ w_down + b_down


def swiglu(x: Tensor, w_gate: Tensor, w_up: Tensor, w_down: Tensor) -> Tensor:
    return (F.silu(x @ w_gate) * (x @ w_up)) @ w_down


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    total = F.cross_entropy(wide(logits).flatten(0, -2), targets.flatten(), ignore_index=-100, reduction="sum")
    return total / max(1, int((targets != -100).sum()))  # the mean; but 0, not nan, where no target counts


def linear_cross_entropy(x: Tensor, w: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(x @ w, targets)


def norm(x: Tensor, epsilon: float = 1e-5, centred: int = 0, **parameters: Tensor) -> Tensor:
    return (layer_norm if centred or "beta" in parameters else rms_norm)(x, **parameters, epsilon=epsilon)


def feed_forward(x: Tensor, **parameters: Tensor) -> Tensor:
    return (swiglu if "w_gate" in parameters else mlp)(x, **parameters)


def block(x: Tensor, heads: int, epsilon: float = 1e-5, centred: int = 0, **given: Any) -> Tensor:
    settings = {name: setting for name, setting in given.items() if not isinstance(setting, Tensor)}
    normed = norm(x, epsilon, centred, **within(given, "norm_1."))
    x = x + multi_head_attention(normed, **within(given, "attention."), **settings, heads=heads, epsilon=epsilon)
    normed = norm(x, epsilon, centred, **within(given, "norm_2."))
    return x + feed_forward(normed, **within(given, "feed_forward."))


def gpt(
    tokens: Tensor,
    targets: Tensor,
    epsilon: float = 1e-5,
    centred: int = 0,
    window: int | None = None,
    full_blocks: int = 0,
    **given: Any,
) -> Tensor:
    settings = {name: setting for name, setting in given.items() if not isinstance(setting, Tensor)}
    x = embedding(tokens, given["embedding.token"])
    if "embedding.position" in given:
        x = positions(x, given["embedding.position"])
    for n in range(len({name.split(".")[1] for name in given if name.startswith("blocks.")})):
        seen = window if n >= full_blocks else None
        x = block(x, epsilon=epsilon, centred=centred, window=seen, **within(given, f"blocks.{n}."), **settings)
    head = given["head.w_lm"] if "head.w_lm" in given else given["embedding.token"].T  # tied
    return linear_cross_entropy(norm(x, epsilon, centred, **within(given, "norm.")), head, targets)


LAYERS: dict[str, Callable[..., Tensor]] = {
    "linear": linear,
    "bias": bias,
    "embedding": embedding,
    "positions": positions,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "rotary": rotary,
    "softmax": softmax,
    "causal_attention": causal_attention,
    "multi_head_attention": multi_head_attention,
    "gelu": gelu,
    "mlp": mlp,
    "silu": silu,
    "swiglu": swiglu,
    "cross_entropy": cross_entropy,
    "linear_cross_entropy": linear_cross_entropy,
    "block": block,
    "gpt": gpt,
}


def within(tensors: dict[str, Any], scope: str) -> dict[str, Any]:
    """Those whose names begin with `scope`, by the rest of the name."""
    return {name.removeprefix(scope): tensor for name, tensor in tensors.items() if name.startswith(scope)}


def value_and_gradients(case: dict[str, Tensor], layer: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """What the layer and autograd make of a case's inputs and cotangent, by the case's keys."""
    if not (outputs := list(within(case, "outputs/"))):
        raise KeyError("outputs/")
    inputs = {name: x.to(dtype) if x.is_floating_point() else x for name, x in within(case, "inputs/").items()}
    moved = {name: x.requires_grad_() for name, x in inputs.items() if x.is_floating_point()}
    y = LAYERS[layer](**inputs, **{name: x.item() for name, x in within(case, "settings/").items()})
    gradients = torch.autograd.grad(y, list(moved.values()), case[f"cotangents/{outputs[0]}"].to(dtype))
    named = {f"gradients/{name}": gradient for name, gradient in zip(moved, gradients, strict=True)}
    return {f"outputs/{outputs[0]}": y.detach(), **named}


def relative_error(mine: Tensor, reference: Tensor) -> float:
    """max |mine - reference| / max |reference|; where the reference is all zero, max |mine|."""
    if mine.shape != reference.shape or not mine.isfinite().all():
        return math.inf
    error, scale = ((x.abs().max().item() if x.numel() else 0.0) for x in (mine.double() - reference, reference))
    return error / (scale or 1) if math.isfinite(error) else math.inf


def shares(case: dict[str, Tensor], layer: str, dtype: str) -> dict[str, float]:
    """Of each tensor, its error over what its envelope allows."""
    found = {}
    for key, mine in value_and_gradients(case, layer, DTYPES[dtype]).items():
        error = relative_error(mine, case[key])
        allowed = BAR if dtype == "float64" else case[f"envelopes/{key}"][ENVELOPES.index(dtype)].item()
        found[key] = error / allowed if allowed else math.inf if error else 0.0
    return found


class UnusableError(Exception):
    """A folder or a file that cannot be used."""


def cases_in(folder: Path, layers: list[str]) -> dict[Path, str]:
    """The files of these layers' cases, or of all where none is named, each with its layer."""
    if not folder.is_dir():
        raise UnusableError(f"{folder}: no such folder")
    found = {path: path.name.partition(".")[0] for path in sorted(folder.glob("*.safetensors"))}
    for where, layer in [("--layers", layer) for layer in layers] or found.items():
        if layer not in LAYERS:
            raise UnusableError(f"{where}: no layer {layer!r}; there are {', '.join(LAYERS)}")
        if layer not in found.values():
            raise UnusableError(f"{folder}: no case of {layer}")
    if not found:
        raise UnusableError(f"{folder}: no case in it, no *.safetensors")
    return {path: layer for path, layer in found.items() if not layers or layer in layers}


def passes(path: Path, layer: str, dtype: str) -> bool:
    """Whether all tensors of a case are within their envelopes; prints the worst."""
    try:
        found = shares(load_file(path), layer, dtype)
    except KeyError as error:
        raise UnusableError(f"{path}: no {error}") from error
    except (IndexError, OSError, RuntimeError, SafetensorError, TypeError, ValueError) as error:
        raise UnusableError(f"{path}: {error}".partition("\n")[0]) from error
    worst = max(found, key=lambda key: found[key])
    verdict = "passed" if found[worst] <= 1 else "FAILED"
    print(f"{path.stem:32} {worst:48} {found[worst]:9.2g} of its envelope  {verdict}")
    return found[worst] <= 1


def main() -> int:
    parser = argparse.ArgumentParser(description="Hold the layers in plain PyTorch against a kit's files.")
    parser.add_argument("folder", metavar="DIR", type=Path, help="where the kit is")
    parser.add_argument("--dtype", choices=DTYPES, default="float64", help="what to compute in (default: float64)")
    parser.add_argument("--layers", nargs="+", metavar="LAYER", default=[], help="only these (default: all)")
    options = parser.parse_args()
    try:
        cases = cases_in(options.folder, options.layers)
        passed = [passes(path, layer, options.dtype) for path, layer in cases.items()]
    except UnusableError as error:
        print(f"kit_torch: {error}", file=sys.stderr)
        return 2
    print(f"{len(passed)} case{'s' * (len(passed) != 1)} in {options.dtype}, {passed.count(False) or 'none'} failed")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
