"""Training on a text: the loop, AdamW, the learning rate's schedule, batches."""

from .adamw import AdamW
from .config import DEFAULT_ARCHITECTURE, TrainingConfig
from .schedule import learning_rate
from .text import Batch, Corpus, consecutive_batches, default_text, random_batch, read_text, tokenize
from .trainer import RECORD_FILE, Progress, Trainer, new_trainer

__all__ = [
    "DEFAULT_ARCHITECTURE",
    "RECORD_FILE",
    "AdamW",
    "Batch",
    "Corpus",
    "Progress",
    "Trainer",
    "TrainingConfig",
    "consecutive_batches",
    "default_text",
    "learning_rate",
    "new_trainer",
    "random_batch",
    "read_text",
    "tokenize",
]
