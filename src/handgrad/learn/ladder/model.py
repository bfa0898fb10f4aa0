"""The parts of a model, a block, and the whole."""

import re
from collections.abc import Mapping
from typing import Any

from ...proof import making
from ...proof.making import Maker
from ..exercise import Exercise, Mistake, Problem
from .common import as_in_library, of_catalogue

EMBEDDING = Exercise(
    "embedding",
    "the embedding: scatter-add",
    {"dtable": "V C"},
    lambda make: as_in_library(making.embedding(make)),
)


def _square(make: Maker) -> Problem:
    B, T, C, *_ = make.sizes
    return Problem({"x": make.normal(B, T, C), "w": make.weights(C, C)})


BOTH = "return dy + dx_of_branch, dw"

RESIDUAL = Exercise(
    "residual",
    "the residual: past, and through",
    {"dx": "B T C", "dw": "C C"},
    _square,
    (
        Mistake(
            "path_past_the_layer_lost",
            right=BOTH,
            wrong="return dx_of_branch, dw",
            why="y = x + f(x): the gradient comes back through f *and* past it. What does the lone x ask for?",
        ),
        Mistake(
            "path_through_the_layer_lost",
            right=BOTH,
            wrong="return dy.copy(), dw",
            why="y = x + f(x): x reached y through f, too. That path's gradient must be added, not dropped.",
        ),
        Mistake(
            "path_past_the_layer_twice",
            right=BOTH,
            wrong="return 2 * dy + dx_of_branch, dw",
            why="x stands once outside of the layer: dy is added once.",
        ),
        Mistake(
            "w_not_transposed",
            right="dx_of_branch, dw = linear_backward(dy, linear_cache)",
            wrong="dw = linear_backward(dy, linear_cache)[1]\n    dx_of_branch = dy @ linear_cache[1]",
            why="dx = dy wᵀ. A square w fits either way round, so only the numbers are wrong.",
        ),
    ),
)

SWIGLU = Exercise(
    "swiglu",
    "SwiGLU: a gate and its product",
    {"dx": "B T C", "dw_gate": "C F", "dw_up": "C F", "dw_down": "F C"},
    lambda make: as_in_library(making.swiglu(make)),
    (
        Mistake(
            "dup_times_the_gate",
            right="dup = dhidden * activated",
            wrong="dup = dhidden * silu_cache[0]",
            why="silu(gate) stood beside up in the product, and not gate itself.",
        ),
        Mistake(
            "dactivated_without_up",
            right="dactivated = dhidden * up",
            wrong="dactivated = dhidden",
            why="In a product each factor gets the gradient times the *other* factor: where is up?",
        ),
        Mistake(
            "dup_without_activated",
            right="dup = dhidden * activated",
            wrong="dup = dhidden",
            why="In a product each factor gets the gradient times the *other* factor: where is silu(gate)?",
        ),
        Mistake(
            "slope_of_silu_on_both",
            right="linear_backward(dup, up_cache)",
            wrong="linear_backward(silu_backward(dup, silu_cache), up_cache)",
            why="silu lies on the way of the gate alone: up went into the product as it was.",
        ),
        Mistake(
            "gate_back_through_w_up",
            right="linear_backward(dgate, gate_cache)",
            wrong="linear_backward(dgate, up_cache)",
            why="dgate returns through the matrix that made the gate; dw_gate is right, since both have the same x, "
            "and hides it.",
        ),
        Mistake(
            "dw_down_of_up",
            right="linear_backward(dy, down_cache)",
            wrong="linear_backward(dy, (up, down_cache[1]))",
            why="w_down multiplied the product of both, and not up alone.",
        ),
        Mistake(
            "path_of_up_lost",
            right="return dx_gate + dx_up",
            wrong="return dx_gate",
            why="The path of up is missing from dx.",
        ),
        Mistake(
            "path_of_the_gate_lost",
            right="return dx_gate + dx_up",
            wrong="return dx_up",
            why="The path of the gate is missing from dx.",
        ),
        Mistake(
            "caches_exchanged",
            right="linear_backward(dgate, gate_cache)\n    dx_up, dw_up = linear_backward(dup, up_cache)",
            wrong="linear_backward(dgate, up_cache)\n    dx_up, dw_up = linear_backward(dup, gate_cache)",
            why="Each gradient returns through the matrix that made its part: dgate with gate_cache, dup with "
            "up_cache.",
        ),
    ),
)


def _table(make: Maker) -> Problem:
    B, T, C, _, _, V = make.sizes
    return Problem({"tokens": make.integers(B, T), "table": make.normal(V, C)})


HEAD = "dlogits.reshape(-1, V).T @ x.reshape(-1, C)"
TWO_USES = "of_head + embedding_backward(dx, embedding_cache)"

TIED = Exercise(
    "tied",
    "tied weights: one table, two uses",
    {"dtable": "V C"},
    _table,
    (
        of_catalogue("tied_without_the_head", right=TWO_USES, wrong="embedding_backward(dx, embedding_cache)"),
        Mistake(
            "tied_without_the_embedding",
            right="of_head + embedding_backward(dx, embedding_cache)",
            wrong="of_head",
            why="Only the head's part is here. The lookups ask for something, too.",
        ),
        of_catalogue("tied_averaged", right=TWO_USES, wrong=f"({TWO_USES}) / 2"),
        of_catalogue(
            "tied_without_the_transpose",
            right=HEAD,
            wrong="(x.reshape(-1, C).T @ dlogits.reshape(-1, V)).reshape(V, C)",
        ),
        Mistake(
            "tied_head_twice",
            right="of_head + embedding_backward(dx, embedding_cache)",
            wrong="2 * of_head + embedding_backward(dx, embedding_cache)",
            why="The table has two uses, the head and the embedding: each counts once.",
        ),
        Mistake(
            "embedding_of_x_itself",
            right="embedding_backward(dx, embedding_cache)",
            wrong="embedding_backward(x, embedding_cache)",
            why="embedding_backward wants the gradient of x, and not x.",
        ),
    ),
)

BLOCK_NAMES = {
    "x": "dx",
    **{f"norm_{n}.{name}": f"dp['{name}_{n}']" for n in (1, 2) for name in ("gamma", "beta")},
    **{f"attention.w_{name}": f"dp['w_{name}']" for name in "qkvo"},
    **{f"feed_forward.w_{name}": f"dp['w_{name}']" for name in ("gate", "up", "down")},
}
"""What the library calls the block's tensors, and what their gradients are called here."""


def _key(name: str) -> str:
    """The key in a name such as dp['w_q']."""
    return str(re.findall(r"'(\w+)'", name)[-1])


def _block(make: Maker) -> Problem:
    case = making.block(make)
    p = {_key(BLOCK_NAMES[name]): x for name, x in case.inputs.items() if name != "x"}
    return Problem({"x": case.inputs["x"], "p": p, "H": make.sizes.H}, case, names=BLOCK_NAMES)


BLOCK = Exercise(
    "block",
    "the block",
    {"dx": "B T C", "dp": ""},
    _block,
    (
        Mistake(
            "projections_of_the_raw_input",
            right="projections = (normed, ",
            wrong="projections = (x, ",
            why="The input was taken before it was normalised. Which tensor did the forward multiply by w_q, w_k "
            "and w_v?",
        ),
        Mistake(
            "norm_2_with_the_cache_of_norm_1",
            right="layer_norm_backward(dnormed_h, norm_2)",
            wrong="layer_norm_backward(dnormed_h, norm_1)",
            why="Two norms in a block, two caches. Which of them normalised h?",
        ),
        Mistake(
            "residual_1_adds_dy",
            right="return dx + dh, dp",
            wrong="return dx + dy, dp",
            why="What goes past attention is the gradient of h, all of it, and not dy alone: h went into the "
            "feed-forward layer too.",
        ),
        Mistake(
            "dw_o_of_the_input",
            right="linear_backward(dh, (merged, ",
            wrong="linear_backward(dh, (normed, ",
            why="Which tensor did the forward multiply by w_o?",
        ),
        Mistake(
            "residual_past_the_feed_forward_lost",
            right="dh = dh + dy",
            wrong="pass",
            why="y = h + f(h): the gradient comes back through f *and* past it. What does the h that stands alone "
            "ask for?",
        ),
        Mistake(
            "residual_past_attention_lost",
            right="return dx + dh, dp",
            wrong="return dx, dp",
            why="h = x + attention(norm(x)): the gradient comes back through attention *and* past it.",
        ),
        Mistake(
            "w_o_not_transposed",
            right='linear_backward(dh, (merged, p["w_o"]))',
            wrong='linear_backward(dh, (merged, p["w_o"].T))',
            why="w_o went into linear_backward transposed; it transposes by itself.",
        ),
    ),
)

GPT_NAMES = {
    "embedding.token": "dp['token']",
    "embedding.position": "dp['position']",
    "norm.gamma": "dp['gamma']",
    "norm.beta": "dp['beta']",
    "head.w_lm": "dp['w_lm']",
    **{
        f"blocks.{n}.{theirs}": f"dp['blocks'][{n}]['{_key(ours)}']"
        for n in (0, 1)
        for theirs, ours in BLOCK_NAMES.items()
        if theirs != "x"
    },
}


def as_exercise_has_them(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """A GPT's tensors, by the library's names, in the form in which the exercise takes its parameters."""
    p = {_key(ours): tensors[theirs] for theirs, ours in GPT_NAMES.items() if "blocks" not in theirs}
    names = {theirs: _key(ours) for theirs, ours in BLOCK_NAMES.items() if theirs != "x"}
    blocks = [{ours: tensors[f"blocks.{n}.{theirs}"] for theirs, ours in names.items()} for n in (0, 1)]
    return {**p, "blocks": blocks}


def _gpt(make: Maker) -> Problem:
    case = making.gpt(make)
    shorter = max(1, make.sizes.T - 1)  # than the context
    given = {name: x[:, :shorter] for name, x in case.integers.items()}
    inputs = {**given, "p": as_exercise_has_them(case.inputs), "H": make.sizes.H}
    return Problem(inputs, case._replace(given={**case.given, **given}), names=GPT_NAMES)


GPT = Exercise(
    "gpt",
    "a GPT of two blocks",
    {"dp": ""},
    _gpt,
    (
        Mistake(
            "blocks_listed_backwards",
            right='dp["blocks"].insert(0, dblock)',
            wrong='dp["blocks"].append(dblock)',
            why="You meet the last block first, so that its gradients are the *last* of the list.",
        ),
        Mistake(
            "positions_at_the_end_of_the_table",
            right='dp["position"][: dx.shape[1]]',
            wrong='dp["position"][len(dp["position"]) - dx.shape[1] :]',
            why="The first T rows of the table were used, and the last ones were not.",
        ),
        Mistake(
            "each_block_given_the_top",
            right="dx, dblock = block_backward(dx, block)",
            wrong="_, dblock = block_backward(dx, block)",
            why="Each block must get the dx that the block above it returned: `dx, dblock = block_backward(dx, "
            "block)`.",
        ),
        Mistake(
            "positions_of_the_first_sequence",
            right="dx.sum(axis=0)",
            wrong="dx[0]",
            why="The table was added to every sequence: sum over the batch, and do not take the first.",
        ),
    ),
)
