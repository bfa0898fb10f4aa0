"""A block, and a GPT."""

import re
from collections.abc import Mapping
from typing import Any

from ...proof import making
from ...proof.making import Maker
from ..exercise import Exercise, Mistake, Problem

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
            why="w_o goes in as it is: linear_backward transposes by itself.",
        ),
        Mistake(
            "dy_added_again",
            right="return dx + dh, dp",
            wrong="return dx + dh + dy, dp",
            why="dh has dy in it already: it would count twice.",
        ),
        Mistake(
            "dw_o_of_x",
            right="linear_backward(dh, (merged, ",
            wrong="linear_backward(dh, (x, ",
            why="Which tensor did the forward multiply by w_o?",
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
        Mistake(
            "blocks_not_reversed",
            right="for block in reversed(blocks)",
            wrong="for block in blocks",
            why="The gradient meets the last block first: go through the blocks in reverse.",
        ),
    ),
)
