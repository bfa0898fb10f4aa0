"""What a model is: sizes, and the switches that show what each part is for."""

from dataclasses import dataclass
from typing import Annotated, Literal

from ..errors import ConfigError
from ..settings import Bounds, Settings, Size


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Settings):
    """The architecture of a GPT. Every field is validated; a `ConfigError` names the field and its value.

    The switches `norm`, `residual`, `score_scale` and `init` exist to be changed by those who want to see what they do.
    """

    layers: Annotated[int, Bounds(at_least=1, below=10_000)]
    """Blocks, each attention and feed-forward."""
    heads: Size
    """Attention heads; must divide the width."""
    width: Size
    """C, the size of the vector at each position."""
    hidden: Size
    """F, the size of the gate in the feed-forward layer."""
    context: Size
    """The most positions that the model sees at once."""
    vocabulary: Size
    """V, the number of tokens."""
    norm: Literal["layer", "none"] = "layer"
    """`layer`: LayerNorm before attention, feed-forward and head; `none`: no normalisation."""
    residual: bool = True
    """Add each sub-layer's output to its input; false: replace the input by it."""
    score_scale: bool = True
    """Scale attention scores by 1/√D."""
    init: Literal["xavier", "he", "lecun", "unit"] = "xavier"
    """Variance of a fresh (in, out) matrix: `xavier` 2/(in+out), `he` 2/in, `lecun` 1/in, `unit` 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise ConfigError(f"heads: {self.heads} does not divide width {self.width}")
