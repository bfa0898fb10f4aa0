"""nanoGPT's model and training loop, as its recipe for a CPU runs them, in PyTorch; with handgrad's evaluation.

GPT-2's blocks without biases, a tied head, no dropout; windows of the text drawn at random, AdamW, a cosine. Dropout
and gradient accumulation are left out, as the recipe switches them off; AdamW is the fused one, which the original asks
for on a GPU alone: it is as exact, and faster here.

Source: Karpathy, nanoGPT, https://github.com/karpathy/nanoGPT: `config/train_shakespeare_char.py`, with what the
README changes for a CPU.
"""

import math
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .plan import HELD_OUT, TOKENS, Turn, read_plan, schedule
from .torch_gpt import Config, make_optimizer

WINDOWS = 64
"""Windows of the held-out text that are read at once."""


class Norm(nn.Module):
    """LayerNorm without an offset."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, None, 1e-5)


class Block(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        C = config.width
        self.heads = config.heads
        self.norm_1, self.norm_2 = Norm(C), Norm(C)
        self.qkv, self.out = nn.Linear(C, 3 * C, bias=False), nn.Linear(C, C, bias=False)
        self.up, self.down = nn.Linear(C, config.hidden, bias=False), nn.Linear(config.hidden, C, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        q, k, v = (
            part.view(B, T, self.heads, C // self.heads).transpose(1, 2)
            for part in self.qkv(self.norm_1(x)).split(C, dim=2)
        )
        context = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(context.transpose(1, 2).reshape(B, T, C))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class NanoGPT(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.token = nn.Embedding(config.vocabulary, config.width)
        self.position = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = Norm(config.width)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                writes = name.endswith(("out.weight", "down.weight"))  # to the residual stream
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * config.layers) if writes else 0.02)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        x = self.token(tokens) + self.position.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.token.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def learn(folder: Path) -> Callable[[], Turn]:
    plan = read_plan(folder)
    torch.set_num_threads(plan.threads)
    tokens, held_out = (torch.from_numpy(np.load(folder / name)).long() for name in (TOKENS, HELD_OUT))
    runs = iter(plan.runs)

    def turn() -> Turn:
        start = perf_counter()
        run = next(runs)
        torch.manual_seed(run.seed)
        model = NanoGPT(plan.nanogpt.model)
        seconds, losses = train(model, tokens, held_out, plan.nanogpt.training, run.part)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        return {"seconds": seconds, "whole": perf_counter() - start, "losses": losses, "parameters": parameters}

    return turn


def train(
    model: NanoGPT, tokens: Tensor, held_out: Tensor, config: Config, part: float
) -> tuple[float, list[tuple[int, float]]]:
    """What the updates took, without the evaluations, and the loss on the held-out text after some of them."""
    optimizer = make_optimizer(model, config)
    length = model.position.num_embeddings
    seconds, losses = 0.0, []
    steps, evaluated = schedule(config.steps, config.evaluations, part)
    for step in range(1, steps + 1):
        start = perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        first = torch.randint(len(tokens) - length, (config.batch, 1))
        windows = tokens[first + torch.arange(length + 1)]
        loss = model(windows[:, :-1], windows[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()  # it is shown at every step
        seconds += perf_counter() - start
        if step in evaluated:
            losses.append((step, evaluate(model, held_out)))
    return seconds, losses


def learning_rate(step: int, config: Config) -> float:
    """A linear warm-up, then half a cosine to a tenth."""
    if step < config.warmup:
        return config.learning_rate * step / config.warmup
    progress = (step - config.warmup) / (config.steps - config.warmup)
    height = 0.5 * (1 + math.cos(math.pi * progress))
    return config.final_learning_rate + height * (config.learning_rate - config.final_learning_rate)


@torch.inference_mode()
def evaluate(model: NanoGPT, held_out: Tensor) -> float:
    """The mean loss of all tokens of the held-out text, in windows side by side, as handgrad takes it."""
    length = model.position.num_embeddings
    count = (len(held_out) - 1) // length
    windows = [
        *zip(
            *(held_out[shift : shift + count * length].view(count, length).split(WINDOWS) for shift in (0, 1)),
            strict=True,
        ),
        (held_out[None, count * length : -1], held_out[None, count * length + 1 :]),
    ]
    total = sum(model(inputs, targets).item() * targets.numel() for inputs, targets in windows if targets.numel())
    return total / (len(held_out) - 1)
