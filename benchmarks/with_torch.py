"""PyTorch's turns."""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from .plan import BATCHES, WEIGHTS, read_plan
from .rounds import Turn
from .torch_gpt import load


def eager_step(folder: Path) -> Callable[[], Turn]:
    return _step(folder, lambda model: model)


def compiled_step(folder: Path) -> Callable[[], Turn]:
    return _step(folder, torch.compile)


def _step(folder: Path, prepare: Callable[[Any], Any]) -> Callable[[], Turn]:
    plan = read_plan(folder)
    torch.set_num_threads(plan.threads)
    batches = iter(torch.from_numpy(np.load(folder / BATCHES)).long())  # (B, T + 1) each
    model = load(str(folder / WEIGHTS), plan.model)
    decayed = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim != 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed}, {"params": others, "weight_decay": 0.0}],
        lr=plan.training.learning_rate,
        betas=(plan.training.beta_1, plan.training.beta_2),
        weight_decay=plan.training.weight_decay,
        fused=True,
    )
    forward = prepare(model)

    def update() -> float:
        windows = next(batches)
        optimizer.zero_grad(set_to_none=True)
        loss = forward(windows[:, :-1], windows[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), plan.training.clip)
        optimizer.step()
        return loss.item()

    def turn() -> Turn:
        start = perf_counter()
        losses = [update() for _ in range(plan.steps)]
        return {"seconds": (perf_counter() - start) / plan.steps, "losses": losses}

    return turn
