"""Settings with a name, for a purpose."""

from typing import Any, NamedTuple


class Preset(NamedTuple):
    purpose: str
    settings: dict[str, Any]
    """Fields of the model and of training; fields of training that are missing have their defaults."""


PRESETS = {
    "tiny": Preset(
        "a quick trial: 0.1 million parameters, some fifteen seconds",
        {"layers": 2, "heads": 2, "width": 64, "hidden": 168, "context": 64, "steps": 1000, "learning_rate": 5e-3},
    ),
    "default": Preset(
        "0.8 million parameters, under two minutes",
        {
            "layers": 4,
            "heads": 4,
            "width": 128,
            "hidden": 344,
            "context": 64,
            "optimizer": "muon",
            "momentum": 0.8,
            "steps": 1500,
            "batch": 16,
            "learning_rate": 1e-2,
            "warmup": 0,
            "hold": 0.4,
        },
    ),
    "recipe": Preset(
        "0.8 million parameters that learn faster: Muon, rotary positions, norms of queries and keys",
        {
            "layers": 4,
            "heads": 4,
            "width": 128,
            "hidden": 344,
            "context": 64,
            "positions": "rotary",
            "norm": "rms",
            "query_key_norm": True,
            "embedding_std": 1.0,
            "optimizer": "muon",
            "momentum": 0.8,
            "steps": 1500,
            "batch": 16,
            "learning_rate": 1.8e-2,
            "warmup": 0,
            "hold": 0.4,
        },
    ),
    "medium": Preset(
        "11 million parameters, context 256: hours, on some megabytes of text",
        {
            "layers": 6,
            "heads": 6,
            "width": 384,
            "hidden": 1024,
            "context": 256,
            "steps": 5000,
            "batch": 16,
            "accumulation": 2,
            "learning_rate": 1e-3,
            "evaluations": 20,
        },
    ),
}
FINE_TUNING: dict[str, Any] = {
    "steps": 500,
    "batch": 8,
    "length": 256,
    "learning_rate": 1e-4,
    "final_learning_rate": 1e-5,
    "warmup": 20,
}
"""For weights that have learned already: small steps, and sequences that fit a small memory."""
DEFAULT_PRESET = "default"
