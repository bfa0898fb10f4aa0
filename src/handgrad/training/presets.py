"""Settings with a name, for a purpose."""

from typing import Any, NamedTuple


class Preset(NamedTuple):
    purpose: str
    settings: dict[str, Any]
    """Fields of the model and of training; fields of training that are missing have their defaults."""


RATES: dict[str, dict[str, Any]] = {
    "adamw": {},
    "muon": {"optimizer": "muon", "momentum": 0.8, "learning_rate": 1e-2, "warmup": 0, "hold": 0.4},
}
"""What suits each optimizer where the fields' defaults do not; what suits one may ruin a run with another."""
DEFAULT: dict[str, Any] = RATES["muon"] | {
    "layers": 4,
    "heads": 4,
    "width": 128,
    "hidden": 344,
    "context": 64,
    "steps": 1200,
    "batch": 16,
    "keep": True,
}
PRESETS = {
    "tiny": Preset(
        "a quick trial: 0.1 million parameters, some fifteen seconds",
        {
            "layers": 2,
            "heads": 2,
            "width": 64,
            "hidden": 168,
            "context": 64,
            "steps": 1000,
            "learning_rate": 5e-3,
            "keep": True,
        },
    ),
    "default": Preset(
        "0.8 million parameters, GPT-2's layout with SwiGLU, trained by Muon; two minutes",
        DEFAULT,
    ),
    "recipe": Preset(
        "as many, with rotary positions, RMSNorm and larger fresh embeddings; learns most in short runs; two minutes",
        DEFAULT
        | {
            "positions": "rotary",
            "norm": "rms",
            "query_key_norm": True,
            "embedding_std": 1.0,
            "steps": 1300,
            "learning_rate": 1.8e-2,
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
"""By name; what they do not set is as `ModelConfig` and `TrainingConfig` have it."""
OF_AN_OPTIMIZER = ("optimizer", "momentum", "learning_rate", "final_learning_rate", "warmup", "hold")
"""What a preset chose for its optimizer."""
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
