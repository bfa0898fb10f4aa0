"""What goes wrong in RMSNorm: its one route besides the direct one, LayerNorm's that it has not, the root, the gain."""

from ...layers import rms_norm_backward
from .mutation import Mutation

RMS_NORM = (
    Mutation(
        "rms_norm_without_the_length_route",
        "rms_norm",
        rms_norm_backward,
        right="dx = np.subtract(dx_hat, x_hat * through_length, out=dx_hat)",
        wrong="dx = dx_hat",
        why="Each x also moves the row's length, which divides all of the row: the gradient along x_hat must vanish.",
    ),
    Mutation(
        "rms_norm_with_a_mean_route",
        "rms_norm",
        rms_norm_backward,
        right="np.subtract(dx_hat, x_hat * through_length, out=dx_hat)",
        wrong="dx_hat - row_means(dx_hat) - x_hat * through_length",
        why="That is LayerNorm's backward. RMSNorm takes off no mean, so none comes back.",
    ),
    Mutation(
        "rms_norm_length_route_summed",
        "rms_norm",
        rms_norm_backward,
        right="through_length = row_means(dx_hat * x_hat)",
        wrong="through_length = (dx_hat * x_hat).sum(axis=-1, keepdims=True)",
        why="The forward took the *mean* of the squares: its 1/C belongs to the route through the length too.",
    ),
    Mutation(
        "rms_norm_length_route_without_gamma",
        "rms_norm",
        rms_norm_backward,
        right="through_length = row_means(dx_hat * x_hat)",
        wrong="through_length = row_means(dy * x_hat)",
        why="What reaches the length is x_hat's gradient, dy * gamma, and not dy itself.",
    ),
    Mutation(
        "rms_norm_gamma_forgotten",
        "rms_norm",
        rms_norm_backward,
        right="dx_hat = dy * gamma",
        wrong="dx_hat = dy.copy()",
        why="y = gamma * x_hat: the gradient passes the gain on its way back. A fresh gain is 1, and hides it.",
    ),
    Mutation(
        "rms_norm_not_divided_by_the_rms",
        "rms_norm",
        rms_norm_backward,
        right="dx *= inverse_rms",
        wrong="pass",
        why="x was divided by its root mean square, so dx is divided by it as well.",
    ),
    Mutation(
        "rms_norm_divided_by_the_mean_square",
        "rms_norm",
        rms_norm_backward,
        right="dx *= inverse_rms",
        wrong="dx *= inverse_rms**2",
        why="The mean square under the root is what x was *not* divided by: one factor 1/rms.",
    ),
    Mutation(
        "rms_norm_without_epsilon",
        "rms_norm",
        rms_norm_backward,
        right="dx *= inverse_rms",
        wrong="dx *= inverse_rms / np.sqrt(row_means(x_hat * x_hat))",
        why="The root mean square of x alone is not what the forward divided by: epsilon was in it, and decides where "
        "a row is nearly zero.",
    ),
    Mutation(
        "rms_norm_dgamma_of_the_input",
        "rms_norm",
        rms_norm_backward,
        right="dgamma = column_sums(dy * x_hat)",
        wrong="dgamma = column_sums(dy * x_hat / inverse_rms)",
        why="The gain multiplied the normalised row, and not the row as it came in.",
    ),
    Mutation(
        "rms_norm_dgamma_without_x_hat",
        "rms_norm",
        rms_norm_backward,
        right="dgamma = column_sums(dy * x_hat)",
        wrong="dgamma = column_sums(dy)",
        why="That would be an offset's gradient, and RMSNorm has none; a gain's is weighted by what it multiplied.",
    ),
)
