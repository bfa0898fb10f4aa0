"""What goes wrong in a bias: broadcasting copied it to every row, so its gradient is the sum over all of them."""

from ...layers import bias_backward
from .mutation import Mutation

BIAS = (
    Mutation(
        "db_of_the_last_position",
        "bias",
        bias_backward,
        right="column_sums(dy)",
        wrong="column_sums(dy[..., -1:, :])",
        why="One bias served every position of every sequence: sum over batch *and* time, not over the batch alone.",
    ),
    Mutation(
        "db_of_the_first_sequence",
        "bias",
        bias_backward,
        right="column_sums(dy)",
        wrong="column_sums(dy[:1])",
        why="Summed over time only, a bias learns from one sequence of the batch; all of them used it.",
    ),
    Mutation(
        "db_of_the_first_row",
        "bias",
        bias_backward,
        right="column_sums(dy)",
        wrong="dy.reshape(-1, dy.shape[-1])[0]",
        why="All rows of dy have the bias's shape, and any one of them fits; the gradient is their sum.",
    ),
    Mutation(
        "db_averaged_over_the_rows",
        "bias",
        bias_backward,
        right="column_sums(dy)",
        wrong="dy.reshape(-1, dy.shape[-1]).mean(axis=0)",
        why="A sum over the rows undoes the copies that broadcasting made; their mean divides by B·T once too often.",
    ),
)
