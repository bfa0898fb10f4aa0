"""The calculus: each layer a forward and, directly below it, its backward. Pure functions on NumPy arrays.

    y, cache = layer_norm_forward(x, gamma, beta)
    dx, dgamma, dbeta = layer_norm_backward(dy, cache)

`dname` is the gradient of the scalar loss with respect to `name`, and has its shape. No input and no cache is ever
written to, so a backward can be run again.
"""

from .arrays import Array
from .causal_attention import CausalAttentionCache, causal_attention_backward, causal_attention_forward, causal_mask
from .cross_entropy import IGNORE_INDEX, CrossEntropyCache, cross_entropy_backward, cross_entropy_forward
from .embedding import EmbeddingCache, embedding_backward, embedding_forward
from .layer_norm import LayerNormCache, layer_norm_backward, layer_norm_forward
from .linear import LinearCache, linear_backward, linear_forward
from .linear_cross_entropy import (
    LinearCrossEntropyCache,
    linear_cross_entropy_backward,
    linear_cross_entropy_forward,
)
from .multi_head_attention import (
    MultiHeadAttentionCache,
    merge_heads,
    multi_head_attention_backward,
    multi_head_attention_forward,
    split_heads,
)
from .positions import PositionsCache, positions_backward, positions_forward
from .silu import SiluCache, silu_backward, silu_forward
from .softmax import SoftmaxCache, softmax_backward, softmax_forward
from .swiglu import SwigluCache, swiglu_backward, swiglu_forward
from .tap import Tap, TapOf, no_tap, within

__all__ = [
    "IGNORE_INDEX",
    "Array",
    "CausalAttentionCache",
    "CrossEntropyCache",
    "EmbeddingCache",
    "LayerNormCache",
    "LinearCache",
    "LinearCrossEntropyCache",
    "MultiHeadAttentionCache",
    "PositionsCache",
    "SiluCache",
    "SoftmaxCache",
    "SwigluCache",
    "Tap",
    "TapOf",
    "causal_attention_backward",
    "causal_attention_forward",
    "causal_mask",
    "cross_entropy_backward",
    "cross_entropy_forward",
    "embedding_backward",
    "embedding_forward",
    "layer_norm_backward",
    "layer_norm_forward",
    "linear_backward",
    "linear_cross_entropy_backward",
    "linear_cross_entropy_forward",
    "linear_forward",
    "merge_heads",
    "multi_head_attention_backward",
    "multi_head_attention_forward",
    "no_tap",
    "positions_backward",
    "positions_forward",
    "silu_backward",
    "silu_forward",
    "softmax_backward",
    "softmax_forward",
    "split_heads",
    "swiglu_backward",
    "swiglu_forward",
    "within",
]
