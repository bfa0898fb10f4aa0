"""The turns of transformers."""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import torch
import transformers

from .plan import Turn, read_plan


def decode(folder: Path) -> Callable[[], Turn]:
    plan = read_plan(folder)
    torch.set_num_threads(plan.threads)
    model = transformers.AutoModelForCausalLM.from_pretrained(plan.source, dtype=torch.float32).eval()
    prompts = torch.full((plan.batch, 1), model.config.bos_token_id or 0)
    options = {"max_new_tokens": plan.tokens, "min_new_tokens": plan.tokens, "do_sample": False}

    def turn() -> Turn:
        start = perf_counter()
        found = model.generate(prompts, attention_mask=torch.ones_like(prompts), pad_token_id=0, **options)
        seconds = (perf_counter() - start) / plan.tokens
        return {"seconds": seconds, "chosen": found[:, 1:].tolist()}

    return turn
