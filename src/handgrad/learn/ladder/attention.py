"""Attention, from one head to its backward without weights."""

from ...proof import Case, making
from ...proof.making import Maker, Sizes
from ..exercise import SIZES, Exercise, Mistake, Problem
from .common import of_catalogue


def _head(make: Maker) -> Problem:
    B, T, C, H, S, _ = make.sizes
    D = C // H
    return Problem({"q": make.normal(B, T, D), "k": make.normal(B, S, D), "v": make.normal(B, S, D)})


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
            why="This head does not divide its scores by √D yet. A factor that the forward has not is in no gradient.",
        ),
        Mistake(
            "values_before_the_weights",
            right="dv = weights.swapaxes(-1, -2) @ dy",
            wrong="dv = softmax_backward(dy @ v.swapaxes(-1, -2), weights).swapaxes(-1, -2) @ dy",
            why="The values met the weights as they came out of softmax: in dv stand these, and not their gradient.",
        ),
    ),
)


def _vectors(make: Maker) -> Problem:
    inputs = _head(make).inputs
    return Problem({name: inputs[name] for name in "qk"})


SCALE = Exercise(
    "scale",
    "the scale 1/√D",
    {"dq": "B T D", "dk": "B S D"},
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
    lambda make: as_in_library_but_scale(making.causal_attention(make)),
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
    ),
)


def as_in_library_but_scale(case: Case) -> Problem:
    """The exercises know the scale 1/√D only, and take none."""
    return Problem(case.inputs, twin=case)


def _scaled_heads(make: Maker) -> Problem:
    B, T, C, H, *_ = make.sizes
    return Problem({"x": make.normal(B, T, C), "g": make.normal(H)})


HEADS = Exercise(
    "heads",
    "split and merge heads",
    {"dx": "B T C", "dg": "H"},
    _scaled_heads,
    (
        Mistake(
            "merge_undone_by_a_reshape",
            right="dz = split(dy, len(g))",
            wrong="dz = dy.reshape(x_heads.shape)",
            why="The backward of merging heads is splitting them: reshape, then exchange two axes. The reshape alone "
            "gives a head other heads' gradients.",
        ),
        Mistake(
            "split_undone_by_a_reshape",
            right="dx = merge(dz * g[:, None, None])",
            wrong="dx = (dz * g[:, None, None]).reshape(dy.shape)",
            why="The backward of splitting is merging: exchange the axes of heads and time back before the reshape.",
        ),
        Mistake(
            "dx_without_g",
            right="merge(dz * g[:, None, None])",
            wrong="merge(dz)",
            why="Between split and merge each head was multiplied by its g: what is the slope of that in x?",
        ),
        Mistake(
            "dg_without_x",
            right="(dz * x_heads)",
            wrong="dz",
            why="g[h] multiplied the numbers of its head: each part of its gradient is weighted by one of them.",
        ),
        Mistake(
            "dg_of_the_scaled",
            right="(dz * x_heads)",
            wrong="(dz * x_heads * g[:, None, None])",
            why="That weighs by g * x. What did g itself multiply?",
        ),
        Mistake(
            "dg_averaged",
            right=".sum(axis=(0, 2, 3))",
            wrong=".mean(axis=(0, 2, 3))",
            why="g[h] was broadcast over sequences, positions and channels; broadcasting's backward is a sum.",
        ),
        Mistake(
            "dg_of_the_last_sequence",
            right="(dz * x_heads).sum(axis=(0, 2, 3))",
            wrong="(dz * x_heads)[-1].sum(axis=(1, 2))",
            why="g served every sequence of the batch: sum over B too.",
        ),
    ),
)


def _three_matrices(make: Maker) -> Problem:
    B, T, C, _, F, _ = make.sizes
    return Problem({"x": make.normal(B, T, C)} | {f"w_{name}": make.weights(C, F) for name in "qkv"})


SUM = "return dx_q + dx_k + dx_v"

SHARED_INPUT = Exercise(
    "shared_input",
    "one input, three paths",
    {"dx": "B T C", "dw_q": "C F", "dw_k": "C F", "dw_v": "C F"},
    _three_matrices,
    (
        of_catalogue("shared_input_assigned", right=SUM, wrong="return dx_v"),
        of_catalogue("path_of_the_keys_lost", right=SUM, wrong="return dx_q + dx_v"),
        of_catalogue("path_of_the_values_lost", right=SUM, wrong="return dx_q + dx_k"),
        Mistake(
            "path_of_the_queries_lost",
            right=SUM,
            wrong="return dx_k + dx_v",
            why="x is reached by three paths, and that of the queries is one of them.",
        ),
        Mistake(
            "only_the_first_path",
            right=SUM,
            wrong="return dx_q",
            why="x is reached by three paths, and you have that of the queries. What do keys and values ask of x?",
        ),
        Mistake(
            "paths_averaged",
            right=SUM,
            wrong="return (dx_q + dx_k + dx_v) / 3",
            why="Of something that was used three times the gradient is the sum of the three, and not their mean.",
        ),
        of_catalogue(
            "keys_back_through_w_q", right="linear_backward(dk, (x, w_k))", wrong="linear_backward(dk, (x, w_q))"
        ),
        Mistake(
            "dw_k_of_the_queries",
            right="linear_backward(dk, (x, w_k))",
            wrong="linear_backward(dq, (x, w_k))",
            why="A copied line still names dq where the keys' gradient is due.",
        ),
        Mistake(
            "values_back_through_w_k",
            right="linear_backward(dv, (x, w_v))",
            wrong="linear_backward(dv, (x, w_k))",
            why="dv returns through the matrix that made v; dw_v is right, and hides it.",
        ),
    ),
)

GROUPED_SIZES = (
    Sizes(B=2, T=5, C=16, H=4, F=2, V=7),
    Sizes(B=1, T=4, C=12, H=6, F=3, V=7),
    Sizes(B=3, T=1, C=4, H=1, F=1, V=7),
    Sizes(B=2, T=3, C=12, H=4, F=1, V=7),
    Sizes(B=2, T=6, C=6, H=3, F=3, V=7),
)
"""F has the number of groups."""

GROUPED_QUERIES = Exercise(
    "grouped_queries",
    "grouped queries: shared keys",
    {"dq": "B H T D", "dk": "B G T D", "dv": "B G T D"},
    lambda make: as_in_library_but_scale(making.causal_attention(make, groups=make.sizes.F)),
    (
        Mistake(
            "repeated_heads_not_neighbours",
            right="dx.reshape(B, G, H // G, T, D).sum(axis=2)",
            wrong="dx.reshape(B, H // G, G, T, D).sum(axis=1)",
            why="np.repeat makes k0 k0 k1 k1: copies of one head are neighbours. You summed as if it were k0 k1 k0 k1.",
        ),
    ),
    sizes=GROUPED_SIZES,
)

ROTARY = Exercise(
    "rotary",
    "rotary positions: turn, and turn back",
    {"dx": "B H T D"},
    lambda make: Problem((case := making.rotary(make)).inputs, twin=case),
)

ATTENTION_FROM_OUTPUT = Exercise(
    "attention_from_output",
    "attention from its output alone",
    {"dq": "B H T D", "dk": "B H T D", "dv": "B H T D"},
    lambda make: as_in_library_but_scale(making.causal_attention(make)),
    (
        of_catalogue("softmax_without_the_row_sum", right=" - row_sums)", wrong=")"),
        Mistake(
            "row_sums_of_the_values",
            right="(dy * y).sum",
            wrong="(dy * v).sum",
            why="D[t] is dy[t] times what came *out* of the head at t, the average of the values, and not its value.",
        ),
        Mistake(
            "row_sums_weighted_twice",
            right="(dy * y).sum(axis=-1, keepdims=True)",
            wrong="(weights @ (dy * y)).sum(axis=-1, keepdims=True)",
            why="y has the weights in it already: D is a plain product of dy[t] and y[t].",
        ),
        Mistake(
            "weights_not_normalised",
            right=" - logsumexp)",
            wrong=")",
            why="exp(masked) are no weights yet: their row does not add up to 1. What is logsumexp for?",
        ),
        Mistake(
            "scale_forgotten_for_the_keys",
            right="scale * dscores.swapaxes(-1, -2) @ q",
            wrong="dscores.swapaxes(-1, -2) @ q",
            why="The scores were scaled, and dq and dk both carry the factor.",
        ),
    ),
)
assert all(sizes.H % sizes.F == 0 for sizes in GROUPED_SIZES)
assert all((sizes.C // sizes.H) % 2 == 0 for sizes in SIZES)
