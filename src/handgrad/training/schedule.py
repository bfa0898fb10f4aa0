"""The learning rate: a linear warm-up, a plateau, then half a cosine down to its end."""

import math

from .config import TrainingConfig


def learning_rate(step: int, config: TrainingConfig) -> float:
    """The rate of update `step`, counted from 1. It peaks at the end of the warm-up and ends at `final_learning_rate`.

    The first updates of Adam have a mean of squares from few gradients, and can be too bold at full rate; Muon's are of
    one size from the first on. A short run gets farther where it stays at the peak for a while (`hold`). Source:
    Loshchilov and Hutter, "SGDR", 2017, for the cosine; Zhai et al., "Scaling Vision Transformers", 2022, for the
    plateau.
    """
    warmup = min(config.warmup, config.steps // 2)
    if step < warmup:
        return config.learning_rate * step / warmup
    passed = min(1.0, (step - warmup) / (config.steps - warmup))
    progress = max(0.0, passed - config.hold) / (1 - config.hold)
    height = 0.5 * (1 + math.cos(math.pi * progress))
    return config.final_learning_rate + height * (config.learning_rate - config.final_learning_rate)
