"""What a model is: sizes, and the switches that show what each part is for."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args, get_type_hints

from ..errors import ConfigError

Norm = Literal["layer", "none"]
Init = Literal["xavier", "he", "lecun", "unit"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The architecture of a GPT. Every field is validated; a `ConfigError` names the field and its value.

    The switches `norm`, `residual` and `score_scale` exist to be turned off by those who want to see what they do.
    `init` is the standard deviation of a fresh (in, out) weight matrix: `xavier` √(2/(in+out)), `he` √(2/in), `lecun`
    √(1/in), `unit` 1.
    """

    layers: int
    """Number of blocks, each attention and feed-forward."""
    heads: int
    """Attention heads; must divide the width."""
    width: int
    """C, the size of the vector at each position."""
    hidden: int
    """F, the size of the feed-forward layer's gate."""
    context: int
    """The most positions that the model can see at once."""
    vocabulary: int
    """V, the number of tokens."""
    norm: Norm = "layer"
    """`layer`: LayerNorm before attention, feed-forward and head; `none`: no normalisation."""
    residual: bool = True
    """Add each sub-layer's output to its input; false replaces the input by it."""
    score_scale: bool = True
    """Scale attention scores by 1/√D."""
    init: Init = "xavier"
    """Scale of fresh weights."""

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            _check_field(name, getattr(self, name), kind)
        if self.width % self.heads:
            raise ConfigError(f"heads: {self.heads} does not divide width {self.width}")

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The config with these fields; missing, unknown and mistyped ones are refused by name."""
        known = {field.name: field for field in dataclasses.fields(cls)}
        for name, value in fields.items():
            if name not in known:
                raise ConfigError(f"{name}: unknown field (value {value!r}); the fields are {', '.join(known)}")
        for name, field in known.items():
            if name not in fields and field.default is dataclasses.MISSING:
                raise ConfigError(f"{name}: missing field")
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def _check_field(name: str, value: Any, kind: Any) -> None:
    if kind is int:
        if type(value) is not int or value < 1:
            raise ConfigError(f"{name}: {value!r} is not a whole number of 1 or more")
    elif kind is bool:
        if type(value) is not bool:
            raise ConfigError(f"{name}: {value!r} is neither true nor false")
    elif value not in get_args(kind):
        raise ConfigError(f"{name}: {value!r} is not one of {', '.join(get_args(kind))}")
