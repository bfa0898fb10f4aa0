"""PyTorch's turns."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from .plan import BATCHES, WEIGHTS, AbsentError, Turn, attention_inputs, projections, read_plan
from .torch_gpt import Cache, load, make_optimizer, next_logits


def eager_step(folder: Path) -> Callable[[], Turn]:
    return _step(folder, lambda model: model)


def compiled_step(folder: Path) -> Callable[[], Turn]:
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        raise AbsentError("there is no C++ compiler")
    return _step(folder, torch.compile)


def _step(folder: Path, prepare: Callable[[Any], Any]) -> Callable[[], Turn]:
    plan = read_plan(folder)
    torch.set_num_threads(plan.threads)
    batches = iter(torch.from_numpy(np.load(folder / BATCHES)).long())  # (B, T + 1) each
    model = load(str(folder / WEIGHTS), plan.model)
    optimizer = make_optimizer(model, plan.training)
    forward = prepare(model)

    def update() -> tuple[float, float]:
        windows = next(batches)
        optimizer.zero_grad(set_to_none=True)
        loss = forward(windows[:, :-1], windows[:, 1:])
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), plan.training.clip)
        optimizer.step()
        return loss.item(), norm.item()

    def turn() -> Turn:
        start = perf_counter()
        losses, norms = zip(*(update() for _ in range(plan.steps)), strict=True)
        return {"seconds": (perf_counter() - start) / plan.steps, "losses": losses, "norms": norms}

    return turn


def decode(folder: Path) -> Callable[[], Turn]:
    plan = read_plan(folder)
    torch.set_num_threads(plan.threads)
    model = load(str(folder / WEIGHTS), plan.model).eval()
    cache = Cache(plan.model, plan.batch)

    @torch.inference_mode()
    def turn() -> Turn:
        cache.length = 0
        tokens = torch.zeros((plan.batch, 1), dtype=torch.long)
        chosen = []
        start = perf_counter()
        for _ in range(plan.tokens):
            tokens = next_logits(model, tokens, cache).argmax(dim=-1, keepdim=True)
            chosen.append(tokens)
        return {"seconds": (perf_counter() - start) / plan.tokens, "chosen": torch.hstack(chosen).tolist()}

    return turn


def attention(folder: Path) -> Callable[[], Turn]:
    plan = read_plan(folder)
    torch.set_num_threads(plan.threads)
    *inputs, dy = (torch.from_numpy(x) for x in attention_inputs(plan))
    q, k, v = (x.requires_grad_() for x in inputs)

    def turn() -> Turn:
        start = perf_counter()
        for _ in range(plan.steps):
            y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            gradients = torch.autograd.grad(y, (q, k, v), dy)
        seconds = (perf_counter() - start) / plan.steps
        return {"seconds": seconds, "projections": projections(x.detach().numpy() for x in (y, *gradients))}

    return turn
