"""Attention's backward without the weights of the forward."""

from ...proof import making
from ..exercise import Exercise, Mistake
from .attention import DV_NOT_TRANSPOSED, ELEMENTWISE, ROW_SUM
from .common import inputs_as_in_library

ATTENTION_FROM_OUTPUT = Exercise(
    "attention_from_output",
    "attention from its output alone",
    {"dq": "B H T D", "dk": "B H T D", "dv": "B H T D"},
    lambda make: inputs_as_in_library(making.causal_attention(make)),
    (
        DV_NOT_TRANSPOSED,
        Mistake(
            "softmax_without_the_row_sum",
            right=" - delta)",
            wrong=")",
            why=ROW_SUM,
        ),
        Mistake(
            "delta_of_the_values",
            right="(dy * y).sum",
            wrong="(dy * v).sum",
            why="delta[t] is dy[t] times what came *out* of the head at t, the average of the values, and not v[t].",
        ),
        Mistake(
            "delta_weighted_twice",
            right="(dy * y).sum(axis=-1, keepdims=True)",
            wrong="(weights @ (dy * y)).sum(axis=-1, keepdims=True)",
            why="y has the weights in it already: delta[t] is the plain dot product of dy[t] and y[t].",
        ),
        Mistake(
            "weights_not_normalised",
            right=" - logsumexp)",
            wrong=")",
            why="exp(masked) are no weights yet: their row does not add up to 1. What is logsumexp for?",
        ),
        Mistake(
            "dk_without_the_scale",
            right="scale * dscores.swapaxes(-1, -2) @ q",
            wrong="dscores.swapaxes(-1, -2) @ q",
            why="The scores were scaled, and dq and dk both carry the factor.",
        ),
        Mistake(
            "delta_averaged",
            right="(dy * y).sum(",
            wrong="(dy * y).mean(",
            why="delta[t] is a dot product over the D entries of dy[t] and y[t]: a sum, and not a mean.",
        ),
        Mistake(
            "delta_added",
            right=" - delta)",
            wrong=" + delta)",
            why="The sign: softmax's backward takes the row sum off.",
        ),
        Mistake(
            "delta_of_the_output_alone",
            right="(dy * y).sum",
            wrong="(y * y).sum",
            why="delta is made of dy and y, and not of y alone.",
        ),
        Mistake(
            "scaled_twice",
            right="scale * dscores @ k, scale * dscores.swapaxes(-1, -2) @ q",
            wrong="scale**2 * dscores @ k, scale**2 * dscores.swapaxes(-1, -2) @ q",
            why="√D divided the scores once: dq and dk carry 1/√D once each, and here it stands twice.",
        ),
        Mistake(
            "dk_scaled_twice",
            right="scale * dscores.swapaxes",
            wrong="scale**2 * dscores.swapaxes",
            why="√D divided the scores once: dk carries 1/√D once, and here it stands twice.",
        ),
        Mistake(
            "dq_scaled_twice",
            right="return scale * dscores @ k",
            wrong="return scale**2 * dscores @ k",
            why="√D divided the scores once: dq carries 1/√D once, and here it stands twice.",
        ),
        Mistake(
            "dq_without_the_scale",
            right="scale * dscores @ k",
            wrong="dscores @ k",
            why="The scores were scaled, and dq and dk both carry the factor.",
        ),
        Mistake(
            "softmax_as_if_elementwise",
            right="weights * (dy @ v.swapaxes(-1, -2) - delta)",
            wrong="weights * (1 - weights) * (dy @ v.swapaxes(-1, -2))",
            why=ELEMENTWISE,
        ),
        Mistake(
            "mask_forgotten_in_the_recomputation",
            right="masked_scores(q, k)",
            wrong="(scale * q @ k.swapaxes(-1, -2))",
            why="The weights are made again: hidden keys must be hidden again.",
        ),
        Mistake(
            "softmax_multiplied_twice",
            right="dscores = weights *",
            wrong="dscores = weights**2 *",
            why="One factor weights: the bracket has all the rest.",
        ),
    ),
)
