"""What goes wrong in softmax: its Jacobian has off-diagonal entries."""

from ...layers import softmax_backward
from .mutation import Mutation

SOFTMAX = (
    Mutation(
        "softmax_as_if_elementwise",
        "softmax",
        softmax_backward,
        right="dz: Array = dy - mean_dy",
        wrong="dz: Array = dy * (1 - y)",
        why="y (1 - y) is only the Jacobian's diagonal: all outputs of a row share a denominator, so each score "
        "moves all of them.",
    ),
    Mutation(
        "softmax_without_the_row_sum",
        "softmax",
        softmax_backward,
        right="dz: Array = dy - mean_dy",
        wrong="dz: Array = dy.copy()",
        why="That is the exponential's derivative. The division by the row's total subtracts the weighted mean of dy.",
    ),
    Mutation(
        "softmax_sum_over_the_wrong_axis",
        "softmax",
        softmax_backward,
        right="mean_dy = row_sums(dy * y)",
        wrong="mean_dy = (dy * y).sum(axis=-2, keepdims=True)",
        why="The sum runs over the axis that was normalised, the last; with keepdims, that over another one broadcasts "
        "without complaint.",
    ),
    Mutation(
        "softmax_plain_mean",
        "softmax",
        softmax_backward,
        right="mean_dy = row_sums(dy * y)",
        wrong="mean_dy = dy.mean(axis=-1, keepdims=True)",
        why="What is subtracted is the mean of dy weighted by the probabilities, sum(dy * y), not the plain mean.",
    ),
    Mutation(
        "softmax_multiplied_twice",
        "softmax",
        softmax_backward,
        right="dz *= y",
        wrong="dz *= y * y",
        why="One factor y: the weighted mean has its own already.",
    ),
)
