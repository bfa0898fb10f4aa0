"""The ladder: all exercises in their order, each with its random cases and the mistakes that people make in it."""

from dataclasses import replace

from ..exercise import Exercise
from .activations import GELU, RELU, SILU
from .attention import ATTENTION_HEAD, CAUSAL_ATTENTION, SCALE
from .first_steps import BIAS, BROADCASTING, CHAIN_RULE, LINEAR, MEAN_VARIANCE
from .from_output import ATTENTION_FROM_OUTPUT
from .heads import GROUPED_QUERIES, HEADS, ROTARY, SHARED_INPUT
from .model import BLOCK, GPT
from .norms import LAYER_NORM, RMS_NORM
from .parts import EMBEDDING, RESIDUAL, SWIGLU, TIED
from .probabilities import CROSS_ENTROPY, SOFTMAX, SOFTMAX_JACOBIAN
from .training import ACCUMULATION, ADAMW

EXERCISES: tuple[Exercise, ...] = tuple(
    replace(exercise, number=number)
    for number, exercise in enumerate(
        (
            *(CHAIN_RULE, LINEAR, BIAS, BROADCASTING, MEAN_VARIANCE),
            *(RELU, SILU, GELU),
            *(SOFTMAX_JACOBIAN, SOFTMAX, CROSS_ENTROPY),
            *(EMBEDDING, RESIDUAL, LAYER_NORM, RMS_NORM),
            *(ATTENTION_HEAD, SCALE, CAUSAL_ATTENTION, HEADS, SHARED_INPUT, GROUPED_QUERIES),
            *(SWIGLU, TIED, ROTARY, BLOCK, GPT),
            *(ATTENTION_FROM_OUTPUT, ADAMW, ACCUMULATION),
        ),
        start=1,
    )
)

__all__ = ["EXERCISES"]
