"""The models that are measured."""

from dataclasses import dataclass

from handgrad.model import ModelConfig


@dataclass(frozen=True)
class Size:
    model: ModelConfig
    batch: int
    steps: int
    """Steps in a turn."""


SIZES = {
    "XS": Size(ModelConfig(layers=1, heads=2, width=32, hidden=88, context=16, vocabulary=65), batch=4, steps=2),
    "S": Size(ModelConfig(layers=4, heads=4, width=128, hidden=344, context=64, vocabulary=65), batch=12, steps=20),
    "M": Size(ModelConfig(layers=6, heads=6, width=384, hidden=1024, context=256, vocabulary=65), batch=8, steps=2),
    "L": Size(ModelConfig(layers=12, heads=12, width=768, hidden=2048, context=64, vocabulary=50257), batch=4, steps=1),
}
