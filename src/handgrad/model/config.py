"""What a model is: sizes, and the switches that show what each part is for."""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

from ..errors import ConfigError
from ..layers import Rotary
from ..settings import Bounds, Count, Positive, Settings, Size


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Settings):
    """The architecture of a GPT. Every field is validated; a `ConfigError` names the field and its value.

    The fields that have a default are what GPT-2, Llama, Mistral and Qwen differ in; with the defaults they are none of
    these, but the model of the course. `residual`, `score_scale`, `init` and norm `none` exist to be changed by those
    who want to see what they do.
    """

    layers: Annotated[int, Bounds(at_least=1, below=10_000)]
    """Blocks, each attention and feed-forward."""
    heads: Size
    """Attention heads; must divide the width."""
    width: Size
    """C, the size of the vector at each position."""
    hidden: Size
    """F, the width within the feed-forward layer."""
    context: Size
    """The most positions that the model sees at once."""
    vocabulary: Size
    """V, the number of tokens."""
    key_value_heads: Count = 0
    """Heads of keys and values, each shared by as many heads of queries; 0: as many as heads."""
    head_width: Count = 0
    """D, the width of a head; 0: width / heads."""
    positions: Literal["learned", "rotary"] = "learned"
    """`learned`: a vector for each position is added; `rotary`: queries and keys are turned."""
    rotary_base: Positive = 10_000.0
    """The slowest rotation is nearly 1/base radians a position."""
    rotary_factor: Annotated[float, Bounds(at_least=1)] = 1.0
    """Llama 3.1's scaling: how many times slower the slow rotations are; 1: no scaling."""
    rotary_low_factor: Positive = 1.0
    """Rotations of fewer turns than this in the first context are slowed down wholly."""
    rotary_high_factor: Positive = 4.0
    """Rotations of more turns than this in it are left as they are."""
    rotary_first_context: Size = 8192
    """The context before the scaling."""
    norm: Literal["layer", "rms", "none"] = "layer"
    """Before attention, feed-forward and head: `layer`, LayerNorm; `rms`, RMSNorm; `none`."""
    norm_epsilon: Positive = 1e-5
    """What a norm adds to the mean square."""
    query_key_norm: bool = False
    """RMSNorm of each query and key."""
    attention_bias: Literal["none", "qkv", "all"] = "none"
    """Which of attention's four maps have a bias: none, the first three, or all."""
    window: Count = 0
    """How many positions attention sees at most, its own among them; 0: all before it."""
    full_blocks: Count = 0
    """The first blocks that have no window."""
    feed_forward: Literal["swiglu", "gelu"] = "swiglu"
    """`swiglu`: gated, three matrices; `gelu`: GPT-2's, two matrices."""
    bias: bool = True
    """Offsets of LayerNorm, and biases of `gelu`'s two matrices; false: none."""
    tied: bool = False
    """The head is the token embedding, transposed."""
    residual: bool = True
    """Add each sub-layer's output to its input; false: replace the input by it."""
    score_scale: bool = True
    """Scale attention scores by 1/√D."""
    init: Literal["xavier", "he", "lecun", "normal", "unit"] = "xavier"
    """Variance of a fresh (in, out) matrix: `xavier` 2/(in+out), `he` 2/in, `lecun` 1/in, `normal` 0.02², `unit` 1."""
    embedding_std: Annotated[float, Bounds(above=0, below=1000)] = 0.02
    """Standard deviation of the numbers of fresh embeddings. With `unit` it is 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.head_width and self.width % self.heads:
            raise ConfigError(f"heads: {self.heads} does not divide width {self.width}")
        for field, usual in (("key_value_heads", self.heads), ("head_width", self.width / self.heads)):
            if getattr(self, field) == usual:
                object.__setattr__(self, field, 0)  # one form for one model, which another number of heads changes too
        if self.heads % self.G:
            raise ConfigError(f"key_value_heads: {self.G} does not divide heads {self.heads}")
        if self.positions == "rotary" and self.D % 2:
            raise ConfigError(f"head_width: {self.D} is odd; rotary positions turn pairs")
        if self.rotary_high_factor <= self.rotary_low_factor:
            raise ConfigError(
                f"rotary_high_factor: {self.rotary_high_factor} is not above rotary_low_factor {self.rotary_low_factor}"
            )

    @property
    def G(self) -> int:
        """Heads of keys and values."""
        return self.key_value_heads or self.heads

    @property
    def D(self) -> int:
        """The width of a head."""
        return self.head_width or self.width // self.heads

    @cached_property
    def rotary(self) -> Rotary | None:
        """How queries and keys are turned, where they are."""
        if self.positions != "rotary":
            return None
        low, high = self.rotary_low_factor, self.rotary_high_factor
        return Rotary(self.rotary_base, self.rotary_factor, low, high, self.rotary_first_context)

    def window_of(self, block: int) -> int | None:
        """How many positions attention sees in this block, counted from 0; None: all before it."""
        return self.window if self.window and block >= self.full_blocks else None
