"""From scores to probabilities, and to the loss."""

import numpy as np

from ...layers import softmax_backward, softmax_forward
from ...proof import Case, making
from ...proof.making import Maker
from ..exercise import Exercise, Mistake, Problem
from .common import as_in_library, of_catalogue


def _row(make: Maker) -> Problem:
    exponentials = np.exp(make.normal(make.sizes.C))
    return Problem({"y": exponentials / exponentials.sum()}, axes={"N": make.sizes.C})


WHOLE = "np.diag(y) - np.outer(y, y)"

SOFTMAX_JACOBIAN = Exercise(
    "softmax_jacobian",
    "the softmax Jacobian, written out",
    {"jacobian": "N N"},
    _row,
    (
        of_catalogue("softmax_as_if_elementwise", right=WHOLE, wrong="np.diag(y * (1 - y))"),
        Mistake(
            "jacobian_of_the_exponential",
            right=WHOLE,
            wrong="np.diag(y)",
            why="That is how y[i] would move if its denominator stood still. But z[j] is in every denominator.",
        ),
        Mistake(
            "jacobian_without_the_diagonal",
            right=WHOLE,
            wrong="-np.outer(y, y)",
            why="That is what comes of the denominator. For i = j the numerator moves too: what does that add?",
        ),
        Mistake(
            "jacobian_of_ones",
            right=WHOLE,
            wrong="np.eye(len(y)) - np.outer(y, y)",
            why="exp(z[i]) has itself as its derivative, so that the diagonal has y[i] (1 - y[i]): not 1 - y[i]².",
        ),
        Mistake(
            "jacobian_negated",
            right=WHOLE,
            wrong="np.outer(y, y) - np.diag(y)",
            why="The sign is wrong: a larger z[i] makes y[i] larger, and all the others smaller.",
        ),
        Mistake(
            "jacobian_terms_added",
            right="np.diag(y) - np.outer(y, y)",
            wrong="np.diag(y) + np.outer(y, y)",
            why="What comes of the denominator has a minus: a larger z[j] makes all others smaller.",
        ),
        Mistake(
            "jacobian_of_squares",
            right="np.diag(y) - np.outer(y, y)",
            wrong="y * (np.eye(len(y)) - y)",
            why="Off the diagonal stands -y[i] y[j], with a product of two different ones: see np.outer.",
        ),
    ),
    function="softmax_jacobian",
    forward=None,
)


def _rows(make: Maker) -> Problem:
    """From one row alone to four axes."""
    B, T, _, H, _, V = make.sizes
    front = {1: (), 2: (T,), 3: (B, T)}.get(B, (B, H, T))
    z = make.normal(*front, V)
    return Problem({"z": z}, Case(softmax_forward, softmax_backward, {"z": z}), axes={"N": V})


SOFTMAX = Exercise(
    "softmax",
    "softmax, vectorised",
    {"dz": "* N"},
    _rows,
    (
        Mistake(
            "softmax_row_sum_divided",
            right=".sum(axis=-1, keepdims=True)",
            wrong=".mean(axis=-1, keepdims=True)",
            why="The probabilities are the weights of this mean already: sum, and divide by nothing.",
        ),
        Mistake(
            "softmax_row_sum_of_the_batch",
            right=".sum(axis=-1, keepdims=True)",
            wrong=".sum()",
            why="Each row has a sum of its own: over the last axis, with keepdims=True, and not over all of the array.",
        ),
        Mistake(
            "softmax_sign",
            right="(dy - mean_dy)",
            wrong="(dy + mean_dy)",
            why="What an entry gains, the others lose: the off-diagonal entries of the Jacobian are negative.",
        ),
        Mistake(
            "softmax_bracket_forgotten",
            right="y * (dy - mean_dy)",
            wrong="y * dy - mean_dy",
            why="The bracket is missing: y multiplies the difference, both of its terms.",
        ),
        Mistake(
            "softmax_sum_without_weights",
            right="(dy * y).sum",
            wrong="dy.sum",
            why="Each dy[i] has the weight y[i] in this sum: where does it stand in the Jacobian?",
        ),
        Mistake(
            "softmax_not_multiplied",
            right="return y * (dy - mean_dy)",
            wrong="return dy - mean_dy",
            why="Both terms of the Jacobian have y[j] in them. Where is it?",
        ),
        Mistake(
            "softmax_without_its_diagonal",
            right="y * (dy - mean_dy)",
            wrong="-y * mean_dy",
            why="That is the second term of the Jacobian alone; for i = j there is a first one.",
        ),
        Mistake(
            "softmax_sum_over_the_first_axis",
            right="axis=-1",
            wrong="axis=0",
            why="The sum runs over the axis that was normalised, the last one.",
        ),
    ),
)

CROSS_ENTROPY = Exercise(
    "cross_entropy",
    "log-softmax and cross-entropy",
    {"dlogits": "B T V"},
    lambda make: as_in_library(making.cross_entropy(make, scale=2.0)),
    (
        Mistake(
            "logarithms_as_probabilities",
            right="np.exp(log_p)",
            wrong="log_p",
            why="log_p holds logarithms. Differentiate log sum exp(logits): which numbers between 0 and 1 come out?",
        ),
        Mistake(
            "loss_divided_by_the_batch",
            right="targets.size",
            wrong="len(targets)",
            why="The mean is over all B·T positions: len(targets) is only B.",
        ),
        Mistake(
            "loss_divided_by_the_logits",
            right="targets.size",
            wrong="log_p.size",
            why="The mean is over positions, of which there are B·T, and not over the B·T·V logits.",
        ),
        Mistake(
            "probabilities_forgotten",
            right="(np.exp(log_p) - truth)",
            wrong="(-truth)",
            why="That is the derivative of -logits[target]. What does log sum exp add?",
        ),
        Mistake(
            "truth_everywhere",
            right="(np.exp(log_p) - truth)",
            wrong="(np.exp(log_p) - 1)",
            why="The 1 is taken off at the target alone, and not from every token.",
        ),
        Mistake(
            "neither_dloss_nor_count",
            right=" * (dloss / targets.size)",
            wrong="",
            why="Two factors are missing: dloss from above, and the 1/(B·T) of the mean.",
        ),
    ),
)
