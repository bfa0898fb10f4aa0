"""A new run: a text becomes a tokenizer, a model of fresh weights, and a trainer for it."""

from typing import Any

from ..model import Model, ModelConfig, Tokenizer, initial_parameters
from .config import TrainingConfig
from .text import tokenize
from .trainer import Trainer

DEFAULT_ARCHITECTURE = {"layers": 4, "heads": 4, "width": 128, "hidden": 344, "context": 64}
"""About 0.8 million parameters on a text of a hundred different characters."""


def new_trainer(text: str, config: TrainingConfig | None = None, **architecture: Any) -> Trainer:
    """A trainer by characters on this text. `architecture` overrides fields of `ModelConfig`."""
    config = config or TrainingConfig()
    tokenizer = Tokenizer.of_characters(text)
    fields = DEFAULT_ARCHITECTURE | architecture | {"vocabulary": tokenizer.vocabulary}
    model_config = ModelConfig.from_dict(fields)
    corpus = tokenize(text, tokenizer, model_config.context)
    return Trainer(Model(model_config, initial_parameters(model_config, config.seed), tokenizer), corpus, config)
