"""A GPT in PyTorch whose backwards are written anew, and wrong in ways of its own: what a comparison says of it.

Nothing here is the library's, so that a mistake that is named was recognised, and not merely made twice.
"""

import math
from typing import Any

import numpy as np
import pytest

import handgrad
from handgrad.layers import Array
from handgrad.model import Model, ModelConfig, Tokenizer, initial_parameters
from handgrad.proof.compare import Reference, compare, read_reference

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed: the extra parity")

CONFIG = ModelConfig(layers=2, heads=4, width=16, hidden=24, context=12, vocabulary=27)
TEXTS = ["hello big wor", "some other", "third text a"]

wrong = ""
"""The mistake that is made."""


class LayerNorm(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, x: Any, gamma: Any, beta: Any) -> Any:
        mean = x.mean(-1, keepdim=True)
        std = torch.sqrt(((x - mean) ** 2).mean(-1, keepdim=True) + 1e-5)
        ctx.save_for_backward((x - mean) / std, std, gamma)
        return (x - mean) / std * gamma + beta

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        x_hat, std, gamma = ctx.saved_tensors
        d = dy if wrong == "no gamma" else dy * gamma
        through_mean = 0 if wrong == "no mean" else d.mean(-1, keepdim=True)
        through_variance = 0 if wrong == "no variance" else (d * x_hat).mean(-1, keepdim=True)
        dgamma, dbeta = (dy * x_hat).sum((0, 1)), dy.sum((0, 1))
        if wrong == "dgamma averaged":
            dgamma = dgamma / dy[..., 0].numel()
        if wrong == "dbeta of the first sequence":
            dbeta = dy[0].sum(0)
        return (d - through_mean - x_hat * through_variance) / std, dgamma, dbeta


class Linear(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, x: Any, w: Any, raw: Any, name: str) -> Any:
        ctx.save_for_backward(x, w, raw)
        ctx.name = name
        return x @ w

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        x, w, raw = ctx.saved_tensors
        dw = torch.einsum("bti,bto->io", raw if wrong == f"raw input of {ctx.name}" else x, dy)
        dw = dw.T if wrong == f"d{ctx.name} transposed" else dw
        return dy @ (w if wrong == f"{ctx.name} not transposed" else w.T), dw, None, None


class Attention(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, q: Any, k: Any, v: Any) -> Any:
        z = q @ k.mT / math.sqrt(q.shape[-1])
        future = torch.ones(z.shape[-2:], dtype=torch.bool).triu(1)
        p = torch.softmax(z.masked_fill(future, -math.inf), -1)
        ctx.save_for_backward(q, k, v, p, z)
        return p @ v

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        q, k, v, p, z = ctx.saved_tensors
        scale = 1 / math.sqrt(q.shape[-1])
        dp = dy @ v.mT
        seen = torch.softmax(z, -1) if wrong == "mask forgotten" else p
        dz = seen * (dp - (dp * seen).sum(-2 if wrong == "wrong axis" else -1, keepdim=True))
        if wrong == "elementwise":
            dz = dp * p * (1 - p)
        dq, dk, dv = dz @ k * scale, dz.mT @ q * scale, p.mT @ dy
        if wrong in ("dq not scaled", "nothing scaled"):
            dq = dq / scale
        if wrong == "nothing scaled":
            dk = dk / scale
        if wrong == "dk not transposed":
            dk = dz @ q * scale
        if wrong == "dk of the weights":
            dk = p.mT @ q * scale
        if wrong == "heads reversed":
            dv = dv.flip(1)
        if wrong == "one head":
            dv = torch.cat([dv[:, :2], 1.3 * dv[:, 2:3], dv[:, 3:]], 1)
        return dq, dk, dv


class Silu(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return dy * s if wrong == "silu" else dy * (s + x * s * (1 - s))


class Embedding(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, tokens: Any, table: Any) -> Any:
        ctx.save_for_backward(tokens, table)
        return table[tokens]

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        tokens, table = ctx.saved_tensors
        rows = (tokens.reshape(-1),), dy.reshape(-1, dy.shape[-1])
        return None, torch.zeros_like(table).index_put(*rows, accumulate=wrong != "rows assigned")


class CrossEntropy(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, logits: Any, targets: Any) -> Any:
        logs = torch.log_softmax(logits, -1)
        ctx.save_for_backward(logs, targets)
        at_target = logs.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
        return -at_target[targets >= 0].sum() / (targets >= 0).sum()

    @staticmethod
    def backward(ctx: Any, dloss: Any) -> Any:
        logs, targets = ctx.saved_tensors
        counts, known = targets >= 0, targets.clamp(min=0)
        known = torch.roll(known, 1, 1) if wrong == "targets shifted" else known
        d = logs.exp() - torch.nn.functional.one_hot(known, logs.shape[-1])
        d = d if wrong == "padding learned" else d * counts[..., None]
        return dloss * d / {"a sum": 1, "over all": targets.numel()}.get(wrong, counts.sum()), None


class Path_(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, x: Any, name: str) -> Any:
        ctx.name = name
        return x.clone()

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        return dy * (wrong != ctx.name), None


def pass_in_torch(reference: Reference, dtype: str) -> dict[str, Array]:
    """Everything that has a name, and its gradient, under the reference's keys."""
    p = {name: torch.tensor(x, dtype=getattr(torch, dtype)) for name, x in reference.case.inputs.items()}
    tokens, targets = (torch.tensor(reference.case.given[name]) for name in ("tokens", "targets"))
    named: dict[str, Any] = {}

    def tap(name: str, x: Any) -> Any:
        x.retain_grad()
        named[name] = x
        return x

    def heads(x: Any) -> Any:
        return x.view(*x.shape[:2], CONFIG.heads, -1).transpose(1, 2)

    for tensor in p.values():
        tensor.requires_grad_()
    embedded = Embedding.apply(tokens, p["embedding.token"]) + p["embedding.position"][: tokens.shape[1]]
    x = tap("embedding.output", embedded)
    for n in range(CONFIG.layers):
        block, att, ffn = f"blocks.{n}.", f"blocks.{n}.attention.", f"blocks.{n}.feed_forward."
        normed = tap(f"{block}norm_1.output", LayerNorm.apply(x, p[f"{block}norm_1.gamma"], p[f"{block}norm_1.beta"]))
        qkv = (tap(att + c, heads(Linear.apply(normed, p[f"{att}w_{c}"], x.detach(), f"w_{c}"))) for c in "qkv")
        context = tap(f"{att}context", Attention.apply(*qkv)).transpose(1, 2).reshape(x.shape)
        found = tap(f"{att}output", Linear.apply(context, p[f"{att}w_o"], x.detach(), "w_o"))
        x = tap(f"{block}residual_1", Path_.apply(x, "past attention") + found)
        normed = tap(f"{block}norm_2.output", LayerNorm.apply(x, p[f"{block}norm_2.gamma"], p[f"{block}norm_2.beta"]))
        gate = tap(f"{ffn}gate", Linear.apply(normed, p[f"{ffn}w_gate"], x.detach(), "w_gate"))
        up = tap(f"{ffn}up", Linear.apply(Path_.apply(normed, "of up"), p[f"{ffn}w_up"], x.detach(), "w_up"))
        hidden = tap(f"{ffn}hidden", tap(f"{ffn}activated", Silu.apply(gate)) * up)
        found = tap(f"{ffn}output", Linear.apply(hidden, p[f"{ffn}w_down"], x.detach(), "w_down"))
        x = tap(f"{block}residual_2", Path_.apply(x, "past the feed-forward") + found)
    x = tap("norm.output", LayerNorm.apply(x, p["norm.gamma"], p["norm.beta"]))
    logits = tap("head.logits", Linear.apply(x, p["head.w_lm"], x.detach(), "w_lm"))
    tap("loss", CrossEntropy.apply(logits, targets)).backward()
    tensors = {f"activations/{name}": x.detach() for name, x in named.items()}
    tensors |= {f"cotangents/{name}": x.grad for name, x in named.items()}
    tensors |= {f"gradients/{name}": x.grad for name, x in p.items()}
    return {key: x.double().numpy() for key, x in tensors.items()}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    parameters = initial_parameters(CONFIG, dtype=np.float64)
    parameters.flat += 0.2 * np.random.default_rng(0).standard_normal(parameters.flat.size)
    model = Model(CONFIG, parameters, Tokenizer.of_characters("abcdefghijklmnopqrstuvwxyz "))
    path = tmp_path_factory.mktemp("trace") / "trace.safetensors"
    handgrad.trace(model, TEXTS).save(path)
    return read_reference(path)


SAID = {
    "no gamma": "layer_norm_gamma_forgotten",
    "no mean": "layer_norm_without_the_mean_route",
    "no variance": "layer_norm_without_the_variance_route",
    "dgamma averaged": "it is the right one times 0.0277778 (maybe 1/(B·T))",
    "dbeta of the first sequence": None,  # the catalogue has the last
    "raw input of w_v": "dw_v_of_the_raw_input",
    "dw_o transposed": "it is transposed: HD and C are swapped",
    "w_o not transposed": "w_o_not_transposed",
    "mask forgotten": "mask_forgotten",
    "wrong axis": "softmax_sum_over_the_wrong_axis",
    "elementwise": "softmax_as_if_elementwise",
    "dq not scaled": "dq_without_the_scale",
    "nothing scaled": "scores_without_the_scale",
    "dk not transposed": "dk_not_transposed",
    "dk of the weights": None,  # not in the catalogue
    "heads reversed": "it is permuted along head: 3, 2, 1, 0",
    "one head": "it is wrong only at head 2",
    "silu": "silu_without_the_second_term",
    "rows assigned": "embedding_rows_assigned",
    "targets shifted": "head_targets_shifted",
    "padding learned": "ignored_targets_counted",
    "over all": "loss_divided_by_all_targets",
    "a sum": "loss_not_divided_by_the_count",
    "past attention": "residual_past_attention_lost",
    "of up": "path_of_up_lost",
    "past the feed-forward": "residual_past_the_feed_forward_lost",
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_right_backwards_are_right(reference: Reference, dtype: str) -> None:
    assert compare(reference, pass_in_torch(reference, dtype), dtype).first is None


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("mistake", SAID)
def test_a_mistake_of_somebody_else_s(
    reference: Reference, mistake: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.wrong", mistake)
    comparison = compare(reference, pass_in_torch(reference, dtype), dtype)
    assert comparison.first is not None
    names = [mutation.name for mutation in comparison.mutations]
    assert names + [comparison.relation] * (not names) == [SAID[mistake]]
