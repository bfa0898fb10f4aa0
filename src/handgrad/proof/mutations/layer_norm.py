"""What goes wrong in LayerNorm: a route left out, an axis, the epsilon, gamma and beta."""

from ...layers import layer_norm_backward
from .mutation import Mutation

LAYER_NORM = (
    Mutation(
        "layer_norm_without_the_mean_route",
        "layer_norm",
        layer_norm_backward,
        right="dx = np.subtract(dx_hat, through_mean, out=dx_hat)",
        wrong="dx = dx_hat",
        why="Each x also moves the mean, and the mean moves every output of the row; the gradient along the vector "
        "of ones must vanish.",
    ),
    Mutation(
        "layer_norm_without_the_variance_route",
        "layer_norm",
        layer_norm_backward,
        right="dx -= np.multiply(x_hat, through_variance, out=dx_hat_x_hat)",
        wrong="pass",
        why="Each x also moves the variance: a longer row is divided by more, so the gradient along x_hat must vanish.",
    ),
    Mutation(
        "layer_norm_statistics_as_constants",
        "layer_norm",
        layer_norm_backward,
        right="dx = np.subtract(dx_hat, through_mean, out=dx_hat)\n"
        "    dx -= np.multiply(x_hat, through_variance, out=dx_hat_x_hat)",
        wrong="dx = dx_hat",
        why="Mean and variance are functions of x. `detach` on them leaves only the direct one of three routes.",
    ),
    Mutation(
        "layer_norm_means_over_time",
        "layer_norm",
        layer_norm_backward,
        right="through_mean, through_variance = row_means(dx_hat), row_means(dx_hat_x_hat)",
        wrong="through_mean, through_variance = (m.mean(axis=-2, keepdims=True) for m in (dx_hat, dx_hat_x_hat))",
        why="The forward's mean ran over the width of each position, so the backward's does too; over time is the "
        "wrong axis, and it broadcasts without complaint.",
    ),
    Mutation(
        "layer_norm_variance_over_c_minus_1",
        "layer_norm",
        layer_norm_backward,
        right="np.multiply(x_hat, through_variance, out=dx_hat_x_hat)",
        wrong="x_hat * through_variance * (x_hat.shape[-1] / (x_hat.shape[-1] - 1))",
        why="LayerNorm's variance is the biased one, over C; the route through it divides by C as well, not by C - 1.",
    ),
    Mutation(
        "layer_norm_epsilon_outside_the_root",
        "layer_norm",
        layer_norm_backward,
        right="dx *= inverse_std",
        wrong="dx /= np.sqrt(inverse_std**-2 - 1e-5) + 1e-5",
        why="The forward divided by sqrt(var + eps); sqrt(var) + eps is another function, and nearly the same until "
        "a row is nearly constant.",
    ),
    Mutation(
        "layer_norm_without_epsilon",
        "layer_norm",
        layer_norm_backward,
        right="dx *= inverse_std",
        wrong="dx /= np.sqrt(inverse_std**-2 - 1e-5)",
        why="What the forward divided by, epsilon included, the backward divides by: keep it, and do not compute "
        "the deviation anew.",
    ),
    Mutation(
        "layer_norm_divided_by_the_variance",
        "layer_norm",
        layer_norm_backward,
        right="dx *= inverse_std",
        wrong="dx *= inverse_std**2",
        why="x is divided by the standard deviation once, so its gradient is too; by the variance is once too often.",
    ),
    Mutation(
        "layer_norm_gamma_forgotten",
        "layer_norm",
        layer_norm_backward,
        right="dx_hat = dy * gamma",
        wrong="dx_hat = dy.copy()",
        why="y = gamma * x_hat + beta: on its way to x_hat the gradient passes the gain. At the start gamma is 1, "
        "and nobody notices.",
    ),
    Mutation(
        "dgamma_of_the_centred_input",
        "layer_norm",
        layer_norm_backward,
        right="dgamma = column_sums(dy * x_hat)",
        wrong="dgamma = column_sums(dy * x_hat / inverse_std)",
        why="gamma multiplied x_hat, the normalised row, and not the row that was only centred.",
    ),
    Mutation(
        "dgamma_without_x_hat",
        "layer_norm",
        layer_norm_backward,
        right="dgamma = column_sums(dy * x_hat)",
        wrong="dgamma = column_sums(dy)",
        why="That is beta's gradient: a gain's is weighted by what it multiplied.",
    ),
    Mutation(
        "dgamma_of_the_last_position",
        "layer_norm",
        layer_norm_backward,
        right="dgamma = column_sums(dy * x_hat)",
        wrong="dgamma = column_sums((dy * x_hat)[..., -1:, :])",
        why="One gain served every position of every sequence: sum over batch and time, not over the batch alone.",
    ),
    Mutation(
        "dbeta_of_the_last_sequence",
        "layer_norm",
        layer_norm_backward,
        right="dbeta = column_sums(dy)",
        wrong="dbeta = column_sums(dy[-1:])",
        why="One offset served every sequence: sum over the batch too.",
    ),
    Mutation(
        "dbeta_averaged",
        "layer_norm",
        layer_norm_backward,
        right="dbeta = column_sums(dy)",
        wrong="dbeta = row_means(dy.reshape(-1, dy.shape[-1]).T)[:, 0]",
        why="Broadcasting's backward is a sum over the rows, and not their mean.",
    ),
)
