"""The optimizers: what becomes of the gradients."""

from .adamw import AdamW
from .muon import Muon
from .optimizer import Optimizer, Update, in_order
from .orthogonal import orthogonalised

OPTIMIZERS: dict[str, type[Optimizer]] = {"adamw": AdamW, "muon": Muon}

__all__ = ["OPTIMIZERS", "AdamW", "Muon", "Optimizer", "Update", "in_order", "orthogonalised"]
