"""How a model is trained."""

from dataclasses import dataclass, field
from typing import Literal

from ..errors import ConfigError
from ..machine import cores
from ..settings import Count, Decay, NonNegative, Positive, Settings, Share, Size

RECORD_FILE = "training.json"
"""What made a run, in its folder; a folder that has it is a run's."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Settings):
    """How a model is trained. Every field is validated; a `ConfigError` names the field and its value.

    There is no dropout: a run makes few passes over its text, so a small model underfits rather than overfits, and a
    loss without randomness is one whose gradients can be proved exactly.
    """

    steps: Size = 2000
    """Updates of the weights, and the length of the learning rate's schedule."""
    batch: Size = 12
    """Sequences in an update."""
    length: Count = 0
    """Tokens in a sequence, at most the model's context; 0: as many as the context."""
    accumulation: Size = 1
    """Parts of a batch that are worked off one after the other, their gradients added up: less memory, same update."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """`adamw`, or for the matrices within blocks `muon`, which learns more in a step."""
    learning_rate: Positive = 2e-3
    """The peak, reached at the end of the warm-up."""
    final_learning_rate: NonNegative = 1e-4
    """Where the schedule ends."""
    warmup: Count = 100
    """Updates during which the learning rate rises; at most half of all."""
    hold: Share = 0.0
    """The share of the updates after the warm-up for which the learning rate stays at its peak."""
    beta_1: Decay = 0.9
    """Decay of the running mean of the gradients."""
    beta_2: Decay = 0.99
    """Decay of the running mean of their squares."""
    momentum: Decay = 0.95
    """Decay of the running mean of the gradients that `muon` follows."""
    weight_decay: NonNegative = 0.1
    """Of matrices only."""
    clip: Positive = 1.0
    """The largest norm that all gradients may have together."""
    evaluations: Size = 8
    """How often the loss on the held-out text is taken; the last time after the last update."""
    keep: bool = False
    """Keep the model of every evaluation, and the fresh one, in the run's folder `kept`."""
    shards: Size = field(default_factory=cores)
    """Parts that a batch is cut into, each the work of one thread; by default as many as this machine has cores."""
    seed: Count = 0
    """Decides the fresh weights and the order of the data."""

    def sequence(self, context: int) -> int:
        """Tokens in a sequence, for a model of this context."""
        return self.length or context

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.final_learning_rate > self.learning_rate:
            raise ConfigError(
                f"final_learning_rate: {self.final_learning_rate} is above learning_rate {self.learning_rate}"
            )
