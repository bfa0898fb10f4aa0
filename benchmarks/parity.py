"""How far handgrad is from `transformers` on the same random weights: values, every gradient, ten updates."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
import transformers
import transformers.modeling_utils  # now, since it makes a table of dtypes that the patch below must not be in
from torch import Tensor
from torch.nn import functional as F

import handgrad
from handgrad.files import read_json_object
from handgrad.interop.config import read_config
from handgrad.interop.families import Family
from handgrad.layers import Array
from handgrad.model import Model, Tokenizer, loss_backward, loss_forward
from handgrad.proof import relative_error
from handgrad.training import AdamW, TrainingConfig

SIZES = {"vocab_size": 40, "max_position_embeddings": 32, "num_hidden_layers": 2, "hidden_size": 24}
GATED = SIZES | {"intermediate_size": 36, "num_attention_heads": 4}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 100.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
PAIR = {"num_key_value_heads": 2}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "GPT-2": ("GPT2", SIZES | {"num_attention_heads": 4}),
    "GPT-2, untied": ("GPT2", SIZES | {"num_attention_heads": 4, "tie_word_embeddings": False}),
    "Llama": ("Llama", GATED),
    "Llama, tied": ("Llama", GATED | {"tie_word_embeddings": True}),
    "Llama, grouped queries": ("Llama", GATED | PAIR),
    "Llama, grouped queries, tied": ("Llama", GATED | PAIR | {"tie_word_embeddings": True}),
    "Llama 3, scaled positions": ("Llama", GATED | PAIR | {"rope_parameters": LLAMA3}),
    "Llama, biases": ("Llama", GATED | PAIR | {"attention_bias": True}),
    "Mistral, window of 5": ("Mistral", GATED | PAIR | {"sliding_window": 5, "head_dim": 8}),
    "Qwen 2, tied": ("Qwen2", GATED | PAIR | {"tie_word_embeddings": True}),
    "Qwen 2, window of 5 in one of two blocks": (
        "Qwen2",
        GATED | PAIR | {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    ),
    "Qwen 3": ("Qwen3", GATED | PAIR | {"head_dim": 8}),
}
"""What each is called here, the family's classes, and options."""
BATCH, LENGTH = 3, 17
STEPS = 10
RATE = 1e-2
EXACT, UNPATCHED, UPDATES = 1e-10, 1e-5, 1e-8
"""The largest errors that pass: of values and gradients; of these with transformers as it is; after ten updates."""


class Errors(NamedTuple):
    """Relative errors, max |ours - theirs| / max |theirs|, of all gradients (and weights) the largest."""

    logits: float
    loss: float
    gradients: float
    updates: float
    """Of the weights after ten updates."""
    unpatched: float
    """Of logits, loss and gradients where transformers computes some of its layers in float32."""

    @property
    def passed(self) -> bool:
        return max(self[:3]) <= EXACT and self.updates <= UPDATES and self.unpatched <= UNPATCHED


def errors(name: str) -> Errors:
    """Of this one of `MODELS`: both in float64, on a random batch, weights made by transformers."""
    with TemporaryDirectory() as folder, islands_in_float64():
        theirs = made(name).double()
        theirs.save_pretrained(folder)
        ours, family = opened(Path(folder))
        tokens = torch.randint(ours.config.vocabulary, (BATCH, LENGTH + 1))
        exact = list(_differences(ours, family, theirs, tokens))
    unpatched = list(_differences(ours, family, theirs, tokens))
    with islands_in_float64():
        updates = _after_updates(ours, family, theirs, tokens)
    return Errors(exact[0], exact[1], max(exact[2:]), updates, max(unpatched))


def made(name: str, seed: int = 0) -> Any:
    """A model of transformers with random weights, none of them left at 0 or 1."""
    classes, options = MODELS[name]
    torch.manual_seed(seed)
    config = getattr(transformers, f"{classes}Config")(
        **options, bos_token_id=0, eos_token_id=1, attn_implementation="eager"
    )
    model = getattr(transformers, "GPT2LMHeadModel" if classes == "GPT2" else f"{classes}ForCausalLM")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


def opened(folder: Path) -> tuple[Model, Family]:
    """handgrad's model of the same folder, which gets a tokenizer."""
    (folder / "tokenizer.json").write_text(Tokenizer.of_characters("ab").to_json(), encoding="utf-8")
    return handgrad.load(folder), read_config(read_json_object(folder / "config.json")).family


@contextmanager
def islands_in_float64() -> Iterator[None]:
    """Whatever transformers writes as float32 (norms, rotary tables, eager softmax, the loss) is float64 within."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(torch, "float32", torch.float64))
        stack.enter_context(patch.object(torch, "float", torch.float64))
        stack.enter_context(patch.object(Tensor, "float", Tensor.double))
        yield


def _differences(ours: Model, family: Family, theirs: Any, tokens: Tensor) -> Iterator[float]:
    """Of the logits, the loss, and each gradient."""
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    logits, loss = _loss(theirs, tokens)
    theirs.zero_grad()
    loss.backward()
    our_loss, gradients = ours.loss_and_gradients(inputs.numpy(), targets.numpy())
    yield relative_error(ours.logits(inputs.numpy()), logits.detach().numpy())
    yield abs(our_loss - loss.item()) / loss.item()
    named = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    largest = max(gradient.abs().max().item() for gradient in named.values())
    for name, gradient in gradients.items():
        vanishes = family.model_type == "gpt2" and name.endswith(".b_k")  # zero by mathematics
        yield relative_error(gradient, _as_ours(named, family, name), largest if vanishes else None)


def _after_updates(ours: Model, family: Family, theirs: Any, tokens: Tensor) -> float:
    """Of the weights after ten updates by each one's own AdamW, on the same batch."""
    config = TrainingConfig()
    optimizer = AdamW(ours.parameters, config)
    matrices = [parameter for parameter in theirs.parameters() if parameter.ndim == 2]
    others = [parameter for parameter in theirs.parameters() if parameter.ndim != 2]
    groups = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    betas, decay = (config.beta_1, config.beta_2), config.weight_decay
    their_optimizer = torch.optim.AdamW(groups, lr=RATE, betas=betas, weight_decay=decay)
    for _ in range(STEPS):
        their_optimizer.zero_grad()
        _loss(theirs, tokens)[1].backward()
        their_optimizer.step()
        loss, cache = loss_forward(tokens[:, :-1].numpy(), tokens[:, 1:].numpy(), ours.parameters.tree, ours.config)
        optimizer.step(loss_backward(np.ones_like(loss), cache), RATE)
    named = dict(theirs.named_parameters())
    return max(relative_error(x, _as_ours(named, family, name)) for name, x in ours.parameters.items())


def _loss(model: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
    logits = model(tokens[:, :-1]).logits
    return logits, F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def _as_ours(named: dict[str, Tensor], family: Family, name: str) -> Array:
    """Their tensor for this parameter of ours, as we have it."""
    place = family.place_of(name)
    x: Array = named[place.tensor].detach().numpy()
    if place.third is not None:
        x = np.split(x, 3, axis=-1)[place.third]
    return x.T if place.transposed else x
