"""The chain rule, a product of matrices, and what broadcasting and a mean are backwards."""

from ...proof import making
from ...proof.making import Maker
from ..exercise import Exercise, Mistake, Problem
from .common import as_in_library


def _numbers(make: Maker) -> Problem:
    """u is kept far from 0: near it another order of rounding would count."""
    x, w, b = (float(sign * size) for sign, size in zip(make.normal(3), make.generator.uniform(0.5, 2, 3), strict=True))
    return Problem({"x": x, "w": w, "b": b if abs(w * x + b) > 0.3 else b + (1 if b > 0 else -1)})


CHAIN_RULE = Exercise(
    "chain_rule",
    "the chain rule, for numbers",
    {"dx": "", "dw": "", "db": ""},
    _numbers,
    (
        Mistake(
            "upstream_gradient_dropped",
            right="du = dy * 3 * u**2",
            wrong="du = 3 * u**2",
            why="These are the slopes of y. But the loss moves dy times as fast as y: where do you multiply by dy?",
        ),
        Mistake(
            "power_without_its_factor",
            right="dy * 3 * u**2",
            wrong="dy * u**2",
            why="The exponent comes down as a factor: what is the derivative of u ** 3?",
        ),
        Mistake(
            "power_not_differentiated",
            right="dy * 3 * u**2",
            wrong="dy * u**3",
            why="That is dy times y. A backward multiplies by the slope of a line, and not by its value.",
        ),
        Mistake(
            "inner_slope_of_x_forgotten",
            right="dx = du * w",
            wrong="dx = du",
            why="u moves w times as fast as x. The chain does not end at u: what is the slope of w * x in x?",
        ),
        Mistake(
            "inner_slope_of_w_forgotten",
            right="dw = du * x",
            wrong="dw = du",
            why="u moves x times as fast as w. What is the slope of w * x in w?",
        ),
        Mistake(
            "factors_swapped",
            right="dx = du * w  # u = w * x + b\n    dw = du * x",
            wrong="dx = du * x\n    dw = du * w",
            why="In w * x, the slope in x is w, and the slope in w is x: each gets the *other* factor.",
        ),
        Mistake(
            "db_of_y",
            right="db = du",
            wrong="db = dy",
            why="Between b and y lies the power, and its slope belongs in db too. Which gradient arrives at u?",
        ),
        Mistake(
            "power_not_lowered",
            right="dy * 3 * u**2",
            wrong="dy * 3 * u**3",
            why="The exponent comes down as a factor, and the power itself goes down by one.",
        ),
        Mistake(
            "power_lowered_twice",
            right="dy * 3 * u**2",
            wrong="dy * 3 * u",
            why="The exponent goes down by one: from 3 to 2.",
        ),
    ),
)

LINEAR = Exercise(
    "linear",
    "the matrix product",
    {"dx": "B T C", "dw": "C F"},
    lambda make: as_in_library(making.linear(make)),
    (
        Mistake(
            "dw_of_the_last_sequence",
            right="x.reshape(-1, C).T @ dy.reshape(-1, F)",
            wrong="x[-1].T @ dy[-1]",
            why="A loop over the sequences that assigns, `dw = ...`, keeps only the last. How many sequences used w?",
        ),
        Mistake(
            "dw_of_the_last_position",
            right="x.reshape(-1, C).T @ dy.reshape(-1, F)",
            wrong="x[:, -1].T @ dy[:, -1]",
            why="w served every position, and not the last alone: over which axes must the sum run?",
        ),
        Mistake(
            "dw_averaged_over_the_batch",
            right="dw = x.reshape(-1, C).T @ dy.reshape(-1, F)",
            wrong="dw = x.reshape(-1, C).T @ dy.reshape(-1, F) / len(x)",
            why="w served every row, and each has its say in full: a sum, and no mean.",
        ),
    ),
)

BIAS = Exercise(
    "bias",
    "the bias, and the sum over the batch",
    {"dx": "B T C", "db": "C"},
    lambda make: as_in_library(making.bias(make)),
)


def _scaled_positions(make: Maker) -> Problem:
    B, T, C, *_ = make.sizes
    return Problem({"x": make.normal(B, T, C), "s": make.normal(T, 1)})


BROADCASTING = Exercise(
    "broadcasting",
    "what was copied is summed",
    {"dx": "B T C", "ds": "T 1"},
    _scaled_positions,
    (
        Mistake(
            "ds_without_x",
            right="(dy * x).sum",
            wrong="dy.sum",
            why="That would be the gradient of something that was added. s was a factor: what did it multiply?",
        ),
        Mistake(
            "dx_without_s",
            right="dx = dy * s",
            wrong="dx = dy.copy()",
            why="y = x * s: y moves s times as fast as x.",
        ),
        Mistake(
            "ds_averaged",
            right=".sum(axis=(0, 2))",
            wrong=".mean(axis=(0, 2))",
            why="Broadcasting's backward is a sum. Each copy of s[t] has its say in full, and none of them is divided.",
        ),
        Mistake(
            "ds_of_one_channel",
            right="(dy * x).sum(axis=(0, 2))[:, None]",
            wrong="(dy * x).sum(axis=0)[:, :1]",
            why="The shape is right, but the last axis was cut to 1, and not summed: s[t] served all channels.",
        ),
        Mistake(
            "ds_of_the_last_sequence",
            right="(dy * x).sum(axis=(0, 2))[:, None]",
            wrong="(dy * x)[-1].sum(axis=1)[:, None]",
            why="Every sequence of the batch was scaled by s, and not the last alone: sum over B too.",
        ),
        Mistake(
            "ds_of_the_first_sequence",
            right="(dy * x).sum(axis=(0, 2))[:, None]",
            wrong="(dy * x)[0].sum(axis=1)[:, None]",
            why="Every sequence of the batch was scaled by s, and not the first alone: sum over B too.",
        ),
        Mistake(
            "factors_exchanged",
            right="dx = dy * s\n    ds = (dy * x)",
            wrong="dx = dy * x\n    ds = (dy * s)",
            why="In a product each factor gets the gradient times the *other* factor.",
        ),
    ),
)


def _rows(make: Maker) -> Problem:
    B, T, C, *_ = make.sizes
    return Problem({"x": make.normal(B, T, C, offset=0.5)})


MEAN_VARIANCE = Exercise(
    "mean_variance",
    "mean and variance",
    {"dx": "B T C"},
    _rows,
    (
        Mistake(
            "path_of_the_mean_lost",
            right="dx += dmean[..., None] / C",
            wrong="pass",
            why="Two values came out, and so two gradients come back. Where is dmean?",
        ),
        Mistake(
            "path_of_the_variance_lost",
            right="dx = 2 / C * centred * dvariance[..., None]",
            wrong="dx = 0 * centred",
            why="Two values came out, and so two gradients come back. Where is dvariance?",
        ),
        Mistake(
            "mean_not_divided",
            right="dmean[..., None] / C",
            wrong="dmean[..., None]",
            why="x[c] moves the mean of C numbers only 1/C as fast as it moves itself.",
        ),
        Mistake(
            "variance_not_divided",
            right="2 / C * centred",
            wrong="2 * centred",
            why="The variance is a *mean* of squares: its 1/C is in the gradient too.",
        ),
        Mistake(
            "square_without_its_2",
            right="2 / C * centred",
            wrong="centred / C",
            why="What is the derivative of (x - mean) ** 2?",
        ),
        Mistake(
            "variance_over_c_minus_1",
            right="2 / C * centred",
            wrong="2 / (C - 1) * centred",
            why="This forward divides by C, and not by C - 1: the backward divides by what the forward divided by.",
        ),
        Mistake(
            "dmean_through_the_variance",
            right="dvariance[..., None]",
            wrong="(dvariance + dmean)[..., None]",
            why="dmean belongs to the mean alone: only dvariance is multiplied by what the variance's slope is.",
        ),
        Mistake(
            "outputs_exchanged",
            right="dx = 2 / C * centred * dvariance[..., None]  # the mean's own way adds up to 0\n"
            "    dx += dmean[..., None] / C",
            wrong="dx = 2 / C * centred * dmean[..., None]\n    dx += dvariance[..., None] / C",
            why="Which of the two gradients belongs to the mean, whose slope is 1/C, and which to the variance?",
        ),
        Mistake(
            "variance_of_squares",
            right="2 / C * centred * dvariance",
            wrong="2 / C * centred**2 * dvariance",
            why="The derivative of a square is twice what was squared, and not the square.",
        ),
        Mistake(
            "mean_route_negative",
            right="dx += dmean",
            wrong="dx -= dmean",
            why="The mean grows with every x: its slope is +1/C.",
        ),
        Mistake(
            "own_share_of_the_mean_only",
            right="2 / C * centred",
            wrong="2 / C * (1 - 1 / C) * centred",
            why="That is x[c] in its own term. It moves the mean, and so all the other terms, too: add these, and "
            "the 1/C is gone.",
        ),
        Mistake(
            "variance_slope_without_2_over_c",
            right="2 / C * centred",
            wrong="centred",
            why="Where are the 2 of the square and the 1/C of the mean?",
        ),
    ),
)
