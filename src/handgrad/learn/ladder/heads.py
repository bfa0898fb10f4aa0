"""Heads: how they are cut and merged, what they share, and how they are turned."""

from ...proof import making
from ...proof.making import Maker, Sizes
from ..exercise import Exercise, Mistake, Problem
from .common import inputs_as_in_library, of_catalogue


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
        Mistake(
            "dg_of_the_first_sequence",
            right="(dz * x_heads).sum(axis=(0, 2, 3))",
            wrong="(dz * x_heads)[0].sum(axis=(1, 2))",
            why="g served every sequence of the batch, and not the first alone: sum over B too.",
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
        Mistake(
            "keys_line_copied",
            right="linear_backward(dk, (x, w_k))",
            wrong="linear_backward(dq, (x, w_q))",
            why="The keys' line is a copy of the queries', with neither name changed.",
        ),
        Mistake(
            "values_line_copied",
            right="linear_backward(dv, (x, w_v))",
            wrong="linear_backward(dk, (x, w_k))",
            why="The values' line is a copy of the keys', with neither name changed.",
        ),
        Mistake(
            "dw_v_of_the_queries",
            right="linear_backward(dv, (x, w_v))",
            wrong="linear_backward(dq, (x, w_v))",
            why="A copied line still names dq where the values' gradient is due.",
        ),
        Mistake(
            "both_gradients_not_renamed",
            right="linear_backward(dk, (x, w_k))\n    dx_v, dw_v = linear_backward(dv, (x, w_v))",
            wrong="linear_backward(dq, (x, w_k))\n    dx_v, dw_v = linear_backward(dq, (x, w_v))",
            why="Two copied lines still name dq.",
        ),
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
            why="dv returns through the matrix that made v; dw_v does not show it, since it needs x and dv alone.",
        ),
        Mistake(
            "dw_v_of_the_keys",
            right="linear_backward(dv, (x, w_v))",
            wrong="linear_backward(dk, (x, w_v))",
            why="A copied line still names dk where the values' gradient is due.",
        ),
        Mistake(
            "values_back_through_w_q",
            right="linear_backward(dv, (x, w_v))",
            wrong="linear_backward(dv, (x, w_q))",
            why="dv returns through the matrix that made v. A copied line still names that of the queries; dw_v "
            "does not show it, since it needs x and dv alone.",
        ),
        Mistake(
            "path_of_the_keys_twice",
            right="return dx_q + dx_k + dx_v",
            wrong="return dx_q + dx_k + dx_k",
            why="Look at the sum once more: one path is in it twice, and one is not.",
        ),
        Mistake(
            "path_of_the_queries_twice",
            right="return dx_q + dx_k + dx_v",
            wrong="return dx_q + dx_q + dx_v",
            why="Look at the sum once more: one path is in it twice, and one is not.",
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


def _grouped(make: Maker) -> Problem:
    G = make.sizes.F
    return inputs_as_in_library(making.causal_attention(make, groups=G))._replace(axes={"G": G})


GROUPED_QUERIES = Exercise(
    "grouped_queries",
    "grouped queries: shared keys",
    {"dq": "B H T D", "dk": "B G T D", "dv": "B G T D"},
    lambda make: _grouped(make),
    (
        Mistake(
            "groups_interleaved",
            right="dx.reshape(B, G, H // G, T, D).sum(axis=2)",
            wrong="dx.reshape(B, H // G, G, T, D).sum(axis=1)",
            why="np.repeat makes k0 k0 k1 k1: copies of one head are neighbours. You summed as if it were k0 k1 k0 k1.",
        ),
        Mistake(
            "first_heads_for_the_groups",
            right="dx.reshape(B, G, H // G, T, D).sum(axis=2)",
            wrong="dx[:, :G]",
            why="The first G of the repeated heads are copies of the first heads only. Which heads were made of "
            "head g?",
        ),
        Mistake(
            "group_averaged",
            right="dx.reshape(B, G, H // G, T, D).sum(axis=2)",
            wrong="dx.reshape(B, G, H // G, T, D).mean(axis=2)",
            why="Repeating is broadcasting, and its backward a sum over the heads that shared; the mean is H/G "
            "times too small.",
        ),
        Mistake(
            "scaled_twice",
            right="return dq, dk, dv",
            wrong="return dq / D**0.5, dk / D**0.5, dv",
            why="causal_attention_backward has the factor 1/√D in it: once is enough.",
        ),
        Mistake(
            "dk_scaled_twice",
            right="return dq, dk, dv",
            wrong="return dq, dk / D**0.5, dv",
            why="causal_attention_backward has the factor 1/√D in it: once is enough, for dk too.",
        ),
        Mistake(
            "dq_scaled_twice",
            right="return dq, dk, dv",
            wrong="return dq / D**0.5, dk, dv",
            why="causal_attention_backward has the factor 1/√D in it: once is enough, for dq too.",
        ),
    ),
    sizes=GROUPED_SIZES,
)

ROTARY = Exercise(
    "rotary",
    "rotary positions: turn, and turn back",
    {"dx": "B H T D"},
    lambda make: inputs_as_in_library(making.rotary(make)),
    (
        Mistake(
            "rotary_not_turned_back",
            right="dfirst, dsecond = np.split(dy, 2, axis=-1)",
            wrong="return dy\n    dfirst, dsecond = np.split(dy, 2, axis=-1)",
            why="What came out of the forward is x turned, so dy must be turned back.",
        ),
        Mistake(
            "rotary_mirrored",
            right="dsecond * cos - dfirst * sin",
            wrong="dfirst * sin - dsecond * cos",
            why="That is a mirror and not a turn: in the second line of the transpose cos keeps its sign, and sin "
            "changes it.",
        ),
        Mistake(
            "rotary_halves_exchanged",
            right="dfirst, dsecond = np.split",
            wrong="dsecond, dfirst = np.split",
            why="The first half of dy belongs to the first coordinates, as in the forward.",
        ),
        Mistake(
            "rotary_turned_forwards",
            right="dfirst * cos + dsecond * sin, dsecond * cos - dfirst * sin",
            wrong="dfirst * cos - dsecond * sin, dsecond * cos + dfirst * sin",
            why="The transpose turns by the opposite angle. Turned forwards again, it is right at position 0 only.",
        ),
        Mistake(
            "rotary_first_line_forwards",
            right="dfirst * cos + dsecond * sin",
            wrong="dfirst * cos - dsecond * sin",
            why="In the first line sin changes its sign, too.",
        ),
    ),
    complex_numbers=True,  # a turn is a product of them
)
