"""Training on a text: the loop, optimizers, the schedule of the learning rate, batches; runs, kept in a folder."""

from .batches import Batch, consecutive_batches, training_batch, windows_per_epoch
from .checkpoint import OPTIMIZER_FILE, PREVIOUS, Best, read_position
from .config import RECORD_FILE, TrainingConfig
from .corpus import Corpus, Passage, SplitText, Text, make_corpus, split, tokenize
from .evaluate import Evaluation, evaluate
from .follow import follow
from .memory import Memory, memory
from .metrics import Entry, best_of, evaluations, follow_metrics, read_metrics, smoothed
from .optimizers import AdamW, Muon
from .plot import PLOT_FILE
from .prepared import MappedTokens, PreparedText, is_prepared, prepared_among, refuse_rows
from .presets import DEFAULT_PRESET, PRESETS
from .ranks import Ranks, join
from .recipe import Recipe, field_meanings, make_recipe, read_plan, recipe_for
from .record import Data, Record, read_data, read_data_again, read_record
from .run import BEST, Run, create_run, is_being_trained, kept_models, newest_run, refuse_a_run, resume_run, run_of
from .schedule import learning_rate
from .sources import default_text, names_of, read_documents
from .trainer import Progress, Trainer, fresh_trainer, new_trainer

__all__ = [
    "BEST",
    "DEFAULT_PRESET",
    "OPTIMIZER_FILE",
    "PLOT_FILE",
    "PRESETS",
    "PREVIOUS",
    "RECORD_FILE",
    "AdamW",
    "Batch",
    "Best",
    "Corpus",
    "Data",
    "Entry",
    "Evaluation",
    "MappedTokens",
    "Memory",
    "Muon",
    "Passage",
    "PreparedText",
    "Progress",
    "Ranks",
    "Recipe",
    "Record",
    "Run",
    "SplitText",
    "Text",
    "Trainer",
    "TrainingConfig",
    "best_of",
    "consecutive_batches",
    "create_run",
    "default_text",
    "evaluate",
    "evaluations",
    "field_meanings",
    "follow",
    "follow_metrics",
    "fresh_trainer",
    "is_being_trained",
    "is_prepared",
    "join",
    "kept_models",
    "learning_rate",
    "make_corpus",
    "make_recipe",
    "memory",
    "names_of",
    "new_trainer",
    "newest_run",
    "prepared_among",
    "read_data",
    "read_data_again",
    "read_documents",
    "read_metrics",
    "read_plan",
    "read_position",
    "read_record",
    "recipe_for",
    "refuse_a_run",
    "refuse_rows",
    "resume_run",
    "run_of",
    "smoothed",
    "split",
    "tokenize",
    "training_batch",
    "windows_per_epoch",
]
