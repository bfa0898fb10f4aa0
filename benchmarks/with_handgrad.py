"""handgrad's turns, by its public parts as a user calls them."""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np

from handgrad.model import Decoder, Model, ModelConfig, Tokenizer, load_parameters
from handgrad.training import Corpus, Passage, Trainer, TrainingConfig

from .plan import TOKENS, WEIGHTS, read_plan
from .rounds import Turn


def _model(folder: Path, config: ModelConfig) -> Model:
    (parameters,) = load_parameters(folder / WEIGHTS, config)
    return Model(config, parameters, Tokenizer.of_bytes())


def step(folder: Path) -> Callable[[], Turn]:
    plan = read_plan(folder)
    tokens = np.load(folder / TOKENS)
    training = TrainingConfig(**vars(plan.training))
    model = _model(folder, ModelConfig(**vars(plan.model)))
    trainer = Trainer(model, Corpus(tokens, Passage(tokens, 0, 0)), training, plan.threads)

    def turn() -> Turn:
        start = perf_counter()
        losses = [trainer.step().loss for _ in range(plan.steps)]
        return {"seconds": (perf_counter() - start) / plan.steps, "losses": losses}

    return turn
