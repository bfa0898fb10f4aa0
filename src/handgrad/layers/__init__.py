"""The calculus: each layer a forward and, directly below it, its backward. Pure functions on NumPy arrays.

    y, cache = layer_norm_forward(x, gamma, beta)
    dx, dgamma, dbeta = layer_norm_backward(dy, cache)

`dname` is the gradient of the scalar loss with respect to `name`, and has its shape. No input and no cache is ever
written to, so a backward can be run again.
"""

from .arrays import Array
from .bias import BiasCache, bias_backward, bias_forward
from .causal_attention import CausalAttentionCache, causal_attention_backward, causal_attention_forward, causal_mask
from .cross_entropy import IGNORE_INDEX, CrossEntropyCache, cross_entropy_backward, cross_entropy_forward
from .embedding import EmbeddingCache, embedding_backward, embedding_forward
from .gelu import GeluCache, gelu_backward, gelu_forward
from .layer_norm import LayerNormCache, layer_norm_backward, layer_norm_forward
from .linear import LinearCache, linear_backward, linear_forward
from .linear_cross_entropy import (
    LinearCrossEntropyCache,
    linear_cross_entropy_backward,
    linear_cross_entropy_forward,
)
from .mlp import MlpCache, mlp_backward, mlp_forward
from .multi_head_attention import (
    MultiHeadAttentionCache,
    merge_heads,
    multi_head_attention_backward,
    multi_head_attention_forward,
    split_heads,
)
from .positions import PositionsCache, positions_backward, positions_forward
from .rms_norm import RmsNormCache, rms_norm_backward, rms_norm_forward
from .rotary import Rotary, RotaryCache, rotary_backward, rotary_forward, rotary_frequencies
from .silu import SiluCache, silu_backward, silu_forward
from .softmax import SoftmaxCache, softmax_backward, softmax_forward
from .swiglu import SwigluCache, swiglu_backward, swiglu_forward
from .tap import Tap, TapOf, no_tap, within

__all__ = [
    "IGNORE_INDEX",
    "Array",
    "BiasCache",
    "CausalAttentionCache",
    "CrossEntropyCache",
    "EmbeddingCache",
    "GeluCache",
    "LayerNormCache",
    "LinearCache",
    "LinearCrossEntropyCache",
    "MlpCache",
    "MultiHeadAttentionCache",
    "PositionsCache",
    "RmsNormCache",
    "Rotary",
    "RotaryCache",
    "SiluCache",
    "SoftmaxCache",
    "SwigluCache",
    "Tap",
    "TapOf",
    "bias_backward",
    "bias_forward",
    "causal_attention_backward",
    "causal_attention_forward",
    "causal_mask",
    "cross_entropy_backward",
    "cross_entropy_forward",
    "embedding_backward",
    "embedding_forward",
    "gelu_backward",
    "gelu_forward",
    "layer_norm_backward",
    "layer_norm_forward",
    "linear_backward",
    "linear_cross_entropy_backward",
    "linear_cross_entropy_forward",
    "linear_forward",
    "merge_heads",
    "mlp_backward",
    "mlp_forward",
    "multi_head_attention_backward",
    "multi_head_attention_forward",
    "no_tap",
    "positions_backward",
    "positions_forward",
    "rms_norm_backward",
    "rms_norm_forward",
    "rotary_backward",
    "rotary_forward",
    "rotary_frequencies",
    "silu_backward",
    "silu_forward",
    "softmax_backward",
    "softmax_forward",
    "split_heads",
    "swiglu_backward",
    "swiglu_forward",
    "within",
]
