"""The mutation catalogue: named wrong backwards, each a small mistake that people make, over all layers.

It serves twice: the checker must catch every one of them, and `compare` explains a foreign tensor by the mutations that
reproduce it, each with the sentence that a teacher would say.
"""

from .attention import CAUSAL_ATTENTION, MULTI_HEAD_ATTENTION, TILES
from .cross_entropy import CROSS_ENTROPY, HEAD
from .layer_norm import LAYER_NORM
from .linear import EMBEDDING, LINEAR, POSITIONS
from .model import BLOCK, GPT
from .mutation import Mutation, mutated
from .softmax import SOFTMAX
from .swiglu import SILU, SWIGLU

MUTATIONS: tuple[Mutation, ...] = (
    *LINEAR,
    *EMBEDDING,
    *POSITIONS,
    *LAYER_NORM,
    *SOFTMAX,
    *CAUSAL_ATTENTION,
    *TILES,
    *MULTI_HEAD_ATTENTION,
    *SILU,
    *SWIGLU,
    *CROSS_ENTROPY,
    *HEAD,
    *BLOCK,
    *GPT,
)

__all__ = ["MUTATIONS", "Mutation", "mutated"]
