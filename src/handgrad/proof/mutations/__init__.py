"""The mutation catalogue: named wrong backwards, each a small mistake that people make, over all layers.

It serves twice: the checker must catch every one of them, and `compare` explains a foreign tensor by the mutations that
reproduce it, each with the sentence that a teacher would say.
"""

from .attention import CAUSAL_ATTENTION, GROUPS, MULTI_HEAD_ATTENTION, QUERIES_AND_KEYS, TILES, WINDOW
from .bias import BIAS
from .cross_entropy import CROSS_ENTROPY, HEAD
from .gelu import GELU, MLP
from .layer_norm import LAYER_NORM
from .linear import EMBEDDING, LINEAR, POSITIONS
from .model import BLOCK, FULL_BLOCKS, GPT, HEAD_AND_EMBEDDING
from .mutation import Mutation, mutated
from .rms_norm import RMS_NORM
from .rotary import ROTARY
from .softmax import SOFTMAX
from .swiglu import SILU, SWIGLU

MUTATIONS: tuple[Mutation, ...] = (
    *LINEAR,
    *BIAS,
    *EMBEDDING,
    *POSITIONS,
    *LAYER_NORM,
    *RMS_NORM,
    *ROTARY,
    *SOFTMAX,
    *CAUSAL_ATTENTION,
    *GROUPS,
    *WINDOW,
    *TILES,
    *MULTI_HEAD_ATTENTION,
    *QUERIES_AND_KEYS,
    *GELU,
    *MLP,
    *SILU,
    *SWIGLU,
    *CROSS_ENTROPY,
    *HEAD,
    *BLOCK,
    *GPT,
    *HEAD_AND_EMBEDDING,
    *FULL_BLOCKS,
)

__all__ = ["MUTATIONS", "Mutation", "mutated"]
