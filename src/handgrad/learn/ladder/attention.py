"""Attention, from one head to its backward without weights."""

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

ATTENTION_HEAD = Exercise(
    "attention_head",
    "one head of attention",
    {"dq": "B T D", "dk": "B S D", "dv": "B S D"},
    _head,
    (
        of_catalogue("scores_softmax_derivative_skipped", right=SOFTMAXED, wrong="dweights"),
        of_catalogue("softmax_as_if_elementwise", right=SOFTMAXED, wrong="dweights * weights * (1 - weights)"),
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
        Mistake(
            "softmax_arguments_exchanged",
            right="softmax_backward(dweights, weights)",
            wrong="softmax_backward(weights, dweights)",
            why="softmax_backward takes the gradient first, and then its cache, which is what softmax gave.",
        ),
        Mistake(
            "softmax_without_the_row_sum",
            right="softmax_backward(dweights, weights)",
            wrong="dweights * weights",
            why="softmax's backward takes the row's weighted mean of dweights off before it multiplies by the weights.",
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
        of_catalogue("dq_without_the_scale", right="return dproduct @ k", wrong="return dscores @ k"),
        of_catalogue("dk_without_the_scale", right="dproduct.swapaxes", wrong="dscores.swapaxes"),
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
            "dv_weights_not_transposed",
            right="dv = weights.swapaxes(-1, -2) @ dy",
            wrong="dv = weights @ dy",
            why="v[s] goes to every query t with weights[t, s], so dv[s] sums over t: the weights transposed. The "
            "matrix is square, so nothing complains.",
        ),
        Mistake(
            "softmax_without_the_row_sum",
            right="softmax_backward(dweights, weights)",
            wrong="dweights * weights",
            why="softmax's backward takes the row's weighted mean of dweights off before it multiplies by the weights.",
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
    ),
)


ATTENTION_FROM_OUTPUT = Exercise(
    "attention_from_output",
    "attention from its output alone",
    {"dq": "B H T D", "dk": "B H T D", "dv": "B H T D"},
    lambda make: inputs_as_in_library(making.causal_attention(make)),
    (
        Mistake(
            "softmax_without_the_row_sum",
            right=" - delta)",
            wrong=")",
            why="softmax's backward takes the row's weighted mean of dweights off before it multiplies by the weights.",
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
            "dv_weights_not_transposed",
            right="dv = weights.swapaxes(-1, -2) @ dy",
            wrong="dv = weights @ dy",
            why="v[s] goes to every query t with weights[t, s], so dv[s] sums over t: the weights transposed. The "
            "matrix is square, so nothing complains.",
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
    ),
)
