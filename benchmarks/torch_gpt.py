"""The same GPT as a good user of PyTorch writes it: fused attention, fused cross-entropy, fused AdamW."""

from types import SimpleNamespace

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

Config = SimpleNamespace  # handgrad's fields; handgrad itself has no business in this process


class Block(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        C, hidden = config.width, config.hidden
        self.heads = config.heads
        self.norm_1, self.norm_2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.qkv, self.out = nn.Linear(C, 3 * C, bias=False), nn.Linear(C, C, bias=False)
        self.gate_up, self.down = nn.Linear(C, 2 * hidden, bias=False), nn.Linear(hidden, C, bias=False)

    def split(self, x: Tensor) -> list[Tensor]:
        """The queries, keys and values, each (B, H, T, D)."""
        B, T, C = x.shape
        parts = self.qkv(self.norm_1(x)).split(C, dim=2)
        return [part.view(B, T, self.heads, C // self.heads).transpose(1, 2) for part in parts]

    def join(self, x: Tensor, context: Tensor) -> Tensor:
        x = x + self.out(context.transpose(1, 2).reshape(x.shape))
        gate, up = self.gate_up(self.norm_2(x)).chunk(2, dim=2)
        return x + self.down(F.silu(gate) * up)

    def forward(self, x: Tensor) -> Tensor:
        return self.join(x, F.scaled_dot_product_attention(*self.split(x), is_causal=True))


class GPT(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.token = nn.Embedding(config.vocabulary, config.width)
        self.position = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        x = self.token(tokens) + self.position.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())


class Cache:
    """Keys and values of every layer, allocated once for all positions."""

    def __init__(self, config: Config, batch: int) -> None:
        shape = (config.layers, 2, batch, config.heads, config.context, config.width // config.heads)
        self.kept = torch.empty(shape)
        self.length = 0


def next_logits(model: GPT, tokens: Tensor, cache: Cache) -> Tensor:
    """The logits after one more token of each text, tokens (B, 1)."""
    at = cache.length
    x = model.token(tokens) + model.position.weight[at]
    for block, (keys, values) in zip(model.blocks, cache.kept, strict=True):
        q, keys[:, :, at : at + 1], values[:, :, at : at + 1] = block.split(x)
        x = block.join(x, F.scaled_dot_product_attention(q, keys[:, :, : at + 1], values[:, :, : at + 1]))
    cache.length += 1
    return model.head(model.norm(x[:, -1]))


def load(path: str, config: Config) -> GPT:
    """The model with the weights of a handgrad folder."""
    model = GPT(config)
    tensors = load_file(path)

    def linear(*names: str) -> Tensor:
        """Here a matrix is (out, in)."""
        return torch.cat([tensors[name] for name in names], dim=1).T

    state = {
        "token.weight": tensors["embedding.token"],
        "position.weight": tensors["embedding.position"],
        "norm.weight": tensors["norm.gamma"],
        "norm.bias": tensors["norm.beta"],
        "head.weight": linear("head.w_lm"),
    }
    for n in range(config.layers):
        attention, feed_forward = f"blocks.{n}.attention", f"blocks.{n}.feed_forward"
        for norm in ("norm_1", "norm_2"):
            state[f"blocks.{n}.{norm}.weight"] = tensors[f"blocks.{n}.{norm}.gamma"]
            state[f"blocks.{n}.{norm}.bias"] = tensors[f"blocks.{n}.{norm}.beta"]
        state[f"blocks.{n}.qkv.weight"] = linear(*(f"{attention}.w_{part}" for part in "qkv"))
        state[f"blocks.{n}.out.weight"] = linear(f"{attention}.w_o")
        state[f"blocks.{n}.gate_up.weight"] = linear(f"{feed_forward}.w_gate", f"{feed_forward}.w_up")
        state[f"blocks.{n}.down.weight"] = linear(f"{feed_forward}.w_down")
    model.load_state_dict(state)
    return model


def make_optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """AdamW, whose decay is of matrices alone."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim != 2]
    return torch.optim.AdamW(
        [{"params": matrices}, {"params": others, "weight_decay": 0.0}],
        lr=config.learning_rate,
        betas=(config.beta_1, config.beta_2),
        weight_decay=config.weight_decay,
        fused=True,
    )
