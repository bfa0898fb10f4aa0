"""Attention: one head, its scale, its mask."""

from ...proof import making
from ...proof.making import Maker
from ..exercise import Exercise, Mistake, Problem
from .common import inputs_as_in_library, of_catalogue


def _head(make: Maker) -> Problem:
    B, T, C, H, S, _ = make.sizes
    D = C // H
    inputs = {"q": make.normal(B, T, D), "k": make.normal(B, S, D), "v": make.normal(B, S, D)}
    return Problem(inputs, axes={"S": S})


SOFTMAXED = "softmax_backward(dweights, weights)"
ELEMENTWISE = (
    "weights * (1 - weights) is only the diagonal of softmax's Jacobian: all weights of a row share a denominator, so "
    "each score moves all of them."
)
ROW_SUM = "softmax's backward takes the row's weighted mean of dweights off before it multiplies by the weights."
OF_SOFTMAX = (
    Mistake(
        "softmax_as_if_elementwise",
        right=SOFTMAXED,
        wrong="dweights * weights * (1 - weights)",
        why=ELEMENTWISE,
    ),
    Mistake(
        "softmax_without_the_row_sum",
        right=SOFTMAXED,
        wrong="dweights * weights",
        why=ROW_SUM,
    ),
    Mistake(
        "softmax_plain_mean",
        right=SOFTMAXED,
        wrong="weights * (dweights - dweights.mean(axis=-1, keepdims=True))",
        why="What is taken off is the mean of dweights weighted by the weights, and not the plain mean.",
    ),
    Mistake(
        "softmax_multiplied_twice",
        right=SOFTMAXED,
        wrong="weights * softmax_backward(dweights, weights)",
        why="One factor weights: softmax_backward has it already.",
    ),
    Mistake(
        "softmax_arguments_exchanged",
        right=SOFTMAXED,
        wrong="softmax_backward(weights, dweights)",
        why="softmax_backward takes the gradient first, and then its cache, which is what softmax gave.",
    ),
)
"""In the line that calls softmax_backward."""
DV_NOT_TRANSPOSED = Mistake(
    "dv_weights_not_transposed",
    right="dv = weights.swapaxes(-1, -2) @ dy",
    wrong="dv = weights @ dy",
    why="v[s] goes to every query t with weights[t, s], so dv[s] sums over t: the weights transposed. The "
    "matrix is square, so nothing complains.",
)

ATTENTION_HEAD = Exercise(
    "attention_head",
    "one head of attention",
    {"dq": "B T D", "dk": "B S D", "dv": "B S D"},
    _head,
    (
        *OF_SOFTMAX,
        of_catalogue("scores_softmax_derivative_skipped", right=SOFTMAXED, wrong="dweights"),
        of_catalogue(
            "softmax_sum_over_the_wrong_axis",
            right=SOFTMAXED,
            wrong="weights * (dweights - (dweights * weights).sum(axis=-2, keepdims=True))",
        ),
        of_catalogue("dweights_from_the_keys", right="dy @ v.swapaxes(-1, -2)", wrong="dy @ k.swapaxes(-1, -2)"),
        Mistake(
            "scale_that_is_not_there",
            right="return dq, dk, dv",
            wrong="return dq / q.shape[-1] ** 0.5, dk / q.shape[-1] ** 0.5, dv",
            why="This head does not divide its scores by √D yet: the forward has no such factor, so no gradient has "
            "it.",
        ),
        Mistake(
            "dv_of_dscores",
            right="dv = weights.swapaxes(-1, -2) @ dy",
            wrong="dv = softmax_backward(dy @ v.swapaxes(-1, -2), weights).swapaxes(-1, -2) @ dy",
            why="The values met the weights as they came out of softmax: dv uses the weights, and not dscores.",
        ),
    ),
)


def _vectors(make: Maker) -> Problem:
    """Two, three or four axes."""
    B, T, C, H, S, _ = make.sizes
    front = {1: (), 3: (B,)}.get(B, (B, H))
    inputs = {"q": make.normal(*front, T, C // H), "k": make.normal(*front, S, C // H)}
    return Problem(inputs, axes={"S": S})


SCALE = Exercise(
    "scale",
    "the scale 1/√D",
    {"dq": "* T D", "dk": "* S D"},
    _vectors,
    (
        Mistake(
            "dq_without_the_scale",
            right="return dproduct @ k",
            wrong="return dscores @ k",
            why="The scores were q kᵀ / √D, so dq carries the factor 1/√D as well.",
        ),
        Mistake(
            "dk_without_the_scale",
            right="dproduct.swapaxes",
            wrong="dscores.swapaxes",
            why="The scores were q kᵀ / √D, so dk carries the factor 1/√D as well.",
        ),
        of_catalogue("scores_without_the_scale", right="dscores / q.shape[-1] ** 0.5", wrong="dscores"),
        Mistake(
            "scores_scaled_twice",
            right="dscores / q.shape[-1] ** 0.5",
            wrong="dscores / q.shape[-1]",
            why="One factor 1/√D forwards is one factor 1/√D backwards; here it stands twice, which makes 1/D.",
        ),
        Mistake(
            "scale_of_the_positions",
            right="q.shape[-1] ** 0.5",
            wrong="q.shape[-2] ** 0.5",
            why="D is the length of the vectors, the last axis of q. The one before it counts the queries.",
        ),
        Mistake(
            "scale_turned_round",
            right="dscores / q.shape[-1] ** 0.5",
            wrong="dscores * q.shape[-1] ** 0.5",
            why="The forward divided by √D. A backward multiplies by the same factor, 1/√D: it does not undo it.",
        ),
    ),
)

CAUSAL_ATTENTION = Exercise(
    "causal_attention",
    "the causal mask",
    {"dq": "B H T D", "dk": "B H T D", "dv": "B H T D"},
    lambda make: inputs_as_in_library(making.causal_attention(make)),
    (
        *OF_SOFTMAX,
        DV_NOT_TRANSPOSED,
        Mistake(
            "hidden_keys_with_gradients",
            right=SOFTMAXED,
            wrong="dweights",
            why="Between the weights and the scores lies the softmax. dweights is not 0 where a key was hidden; what "
            "softmax's backward makes of it is.",
        ),
        Mistake(
            "scaled_twice",
            right="return dq, dk, dv",
            wrong="D = v.shape[-1]\n    return dq / D**0.5, dk / D**0.5, dv",
            why="scale_backward has the factor 1/√D in it: once is enough.",
        ),
        Mistake(
            "dscores_transposed",
            right="scale_backward(dscores, scale_cache)",
            wrong="scale_backward(dscores.swapaxes(-1, -2), scale_cache)",
            why="scale_backward wants dscores as the scores were, queries in rows and keys in columns: it "
            "transposes by itself.",
        ),
        Mistake(
            "dq_and_dk_swapped",
            right="return dq, dk, dv",
            wrong="return dk, dq, dv",
            why="dq and dk are exchanged: return dq, dk, dv.",
        ),
        Mistake(
            "dk_scaled_twice",
            right="return dq, dk, dv",
            wrong="return dq, dk / v.shape[-1] ** 0.5, dv",
            why="scale_backward has the factor 1/√D in it: once is enough, for dk too.",
        ),
        Mistake(
            "dq_scaled_twice",
            right="return dq, dk, dv",
            wrong="return dq / v.shape[-1] ** 0.5, dk, dv",
            why="scale_backward has the factor 1/√D in it: once is enough, for dq too.",
        ),
        Mistake(
            "dq_without_the_scale",
            right="return dq, dk, dv",
            wrong="return dq * v.shape[-1] ** 0.5, dk, dv",
            why="The scores were q kᵀ / √D, so dq carries the factor 1/√D as well.",
        ),
        Mistake(
            "dk_without_the_scale",
            right="return dq, dk, dv",
            wrong="return dq, dk * v.shape[-1] ** 0.5, dv",
            why="The scores were q kᵀ / √D, so dk carries the factor 1/√D as well.",
        ),
        Mistake(
            "scores_without_the_scale",
            right="return dq, dk, dv",
            wrong="return dq * v.shape[-1] ** 0.5, dk * v.shape[-1] ** 0.5, dv",
            why="The scores were q kᵀ / √D, so dq and dk both carry the factor 1/√D.",
        ),
    ),
)
