"""What goes wrong in a product of matrices, and in a lookup in a table."""

from ...layers import embedding_backward, linear_backward, positions_backward
from .mutation import Mutation

LINEAR = (
    Mutation(
        "dw_of_the_first_sequence",
        "linear",
        linear_backward,
        right="as_rows(x).T @ as_rows(dy)",
        wrong="as_rows(x[:1]).T @ as_rows(dy[:1])",
        why="Every sequence of the batch used w, so dw sums over the whole batch and not over its first sequence.",
    ),
    Mutation(
        "dw_averaged_over_the_batch",
        "linear",
        linear_backward,
        right="as_rows(x).T @ as_rows(dy)",
        wrong="as_rows(x).T @ as_rows(dy) / len(x)",
        why="The loss has been averaged once, and dy knows it: a weight that serves many rows sums, nothing more.",
    ),
)

EMBEDDING = (
    Mutation(
        "embedding_rows_assigned",
        "embedding",
        embedding_backward,
        right="dtable[used] = np.add.reduceat(as_rows(dy)[order], starts, axis=0)",
        wrong="dtable[tokens.reshape(-1)] = as_rows(dy)",
        why="A token that occurs twice used its row twice: add. `dtable[tokens] = dy`, and `+=` as well, keeps only "
        "one of them.",
    ),
    Mutation(
        "embedding_rows_averaged",
        "embedding",
        embedding_backward,
        right="np.add.reduceat(as_rows(dy)[order], starts, axis=0)",
        wrong="np.add.reduceat(as_rows(dy)[order], starts, axis=0) / np.bincount(tokens.reshape(-1))[used][:, None]",
        why="A row's gradient is the sum over its occurrences; their mean makes frequent tokens learn as slowly as "
        "rare ones.",
    ),
)

POSITIONS = (
    Mutation(
        "positions_of_the_last_sequence",
        "positions",
        positions_backward,
        right="dy.sum(axis=0)",
        wrong="dy[-1]",
        why="What broadcasting copied forwards is summed backwards: the table was added to every sequence, and "
        "assigning in a loop over them keeps only the last.",
    ),
    Mutation(
        "positions_averaged_over_the_batch",
        "positions",
        positions_backward,
        right="dy.sum(axis=0)",
        wrong="dy.mean(axis=0)",
        why="Broadcasting's backward is a sum. A mean divides by the batch for a second time.",
    ),
    Mutation(
        "positions_summed_over_time",
        "positions",
        positions_backward,
        right="dy.sum(axis=0)",
        wrong="dy.sum(axis=(0, 1))",
        why="Each position has a row of its own: sum over the batch, which shared it, but not over time, which did "
        "not.",
    ),
)
