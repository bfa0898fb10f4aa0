"""LayerNorm and RMSNorm: their mistakes are in the catalogue."""

from ...proof import making
from ..exercise import Exercise, Mistake
from .common import as_in_library

LAYER_NORM = Exercise(
    "layer_norm",
    "LayerNorm, in three routes",
    {"dx": "B T C", "dgamma": "C", "dbeta": "C"},
    lambda make: as_in_library(making.layer_norm(make, scale=2.0, offset=1.0)),
    (
        Mistake(
            "layer_norm_routes_summed",
            right="through_mean = dx_hat.mean(axis=-1, keepdims=True)\n"
            "    through_variance = x_hat * (dx_hat * x_hat).mean(axis=-1, keepdims=True)",
            wrong="through_mean = dx_hat.sum(axis=-1, keepdims=True)\n"
            "    through_variance = x_hat * (dx_hat * x_hat).sum(axis=-1, keepdims=True)",
            why="Mean and variance were means over C: each x[c] moves them by 1/C only.",
        ),
        Mistake(
            "layer_norm_not_divided",
            right="inverse_std * (dx_hat",
            wrong="(dx_hat",
            why="The forward divided by the standard deviation, so the backward must too.",
        ),
        Mistake(
            "layer_norm_mean_route_added",
            right="dx_hat - through_mean",
            wrong="dx_hat + through_mean",
            why="When the mean rises, x_hat falls: the route through the mean has a minus.",
        ),
        Mistake(
            "layer_norm_variance_route_added",
            right="- through_variance",
            wrong="+ through_variance",
            why="When the variance rises, x_hat shrinks: the route through the variance has a minus.",
        ),
        Mistake(
            "layer_norm_variance_route_without_x_hat",
            right="x_hat * (dx_hat * x_hat).mean",
            wrong="(dx_hat * x_hat).mean",
            why="x[c] moves the variance by its own x_hat[c]: the mean of the third route is multiplied by x_hat.",
        ),
        Mistake(
            "dgamma_of_dx_hat",
            right="dgamma = (dy * x_hat)",
            wrong="dgamma = (dy * gamma * x_hat)",
            why="gamma is what you differentiate by: its gradient is dy * x_hat, without gamma.",
        ),
        Mistake(
            "layer_norm_statistics_as_constants",
            right="inverse_std * (dx_hat - through_mean - through_variance)",
            wrong="inverse_std * dx_hat",
            why="Mean and variance are functions of x. Treated as constants, they leave only the direct one of "
            "three routes.",
        ),
        Mistake(
            "layer_norm_means_of_dy",
            right="through_mean = dx_hat.mean(axis=-1, keepdims=True)\n    through_variance = x_hat * (dx_hat * x_hat)",
            wrong="through_mean = dy.mean(axis=-1, keepdims=True)\n    through_variance = x_hat * (dy * x_hat)",
            why="What reaches mean and variance is dx_hat, which is dy * gamma, and not dy itself.",
        ),
        Mistake(
            "dbeta_of_dx_hat",
            right="dbeta = dy.sum",
            wrong="dbeta = (dy * gamma).sum",
            why="beta is added after the gain: its gradient is a sum of dy itself.",
        ),
        Mistake(
            "mean_route_summed",
            right="dx_hat.mean(",
            wrong="dx_hat.sum(",
            why="The mean was a mean over C: each x[c] moves it by 1/C only.",
        ),
        Mistake(
            "variance_route_summed",
            right="(dx_hat * x_hat).mean(",
            wrong="(dx_hat * x_hat).sum(",
            why="The variance was a mean over C: each x[c] moves it by a part with 1/C in it.",
        ),
        Mistake(
            "mean_route_of_dy",
            right="dx_hat.mean(",
            wrong="dy.mean(",
            why="What reaches the mean is dx_hat, and not dy.",
        ),
        Mistake(
            "variance_route_of_dy",
            right="x_hat * (dx_hat * x_hat)",
            wrong="x_hat * (dy * x_hat)",
            why="What reaches the variance is dx_hat, and not dy.",
        ),
        Mistake(
            "inverse_std_on_one_route",
            right="inverse_std * (dx_hat - through_mean - through_variance)",
            wrong="inverse_std * dx_hat - through_mean - through_variance",
            why="The bracket is missing: all three routes are divided.",
        ),
        Mistake(
            "dx_hat_returned",
            right="inverse_std * (dx_hat - through_mean - through_variance)",
            wrong="dx_hat",
            why="That is the gradient of x_hat; x is one step further down.",
        ),
    ),
)

RMS_NORM = Exercise(
    "rms_norm",
    "RMSNorm: one route less",
    {"dx": "B T C", "dgamma": "C"},
    lambda make: as_in_library(making.rms_norm(make, scale=2.0, offset=1.0)),
    (
        Mistake(
            "rms_norm_with_the_wrong_mean",
            right="- x_hat * (dx_hat * x_hat).mean(axis=-1, keepdims=True)",
            wrong="- dx_hat.mean(axis=-1, keepdims=True)",
            why="You have kept the route through the mean, which RMSNorm has not; the one through the length is "
            "missing.",
        ),
        Mistake(
            "rms_norm_length_route_without_x_hat",
            right="x_hat * (dx_hat * x_hat).mean",
            wrong="(dx_hat * x_hat).mean",
            why="x[c] moves the length by its own x_hat[c]: the mean is multiplied by x_hat.",
        ),
        Mistake(
            "rms_norm_dgamma_of_dx_hat",
            right="dgamma = (dy * x_hat)",
            wrong="dgamma = (dy * gamma * x_hat)",
            why="gamma is what you differentiate by: its gradient is dy * x_hat, without gamma.",
        ),
        Mistake(
            "rms_norm_length_route_twice",
            right="- x_hat * (dx_hat",
            wrong="- 2 * x_hat * (dx_hat",
            why="The 2 of x² and the ½ of the root cancel: the route through the length has neither.",
        ),
        Mistake(
            "length_route_added",
            right="dx_hat - x_hat",
            wrong="dx_hat + x_hat",
            why="When the length grows, x_hat shrinks: a minus.",
        ),
        Mistake(
            "inverse_rms_on_one_route",
            right="inverse_rms * (dx_hat - x_hat * (dx_hat * x_hat).mean(axis=-1, keepdims=True))",
            wrong="inverse_rms * dx_hat - x_hat * (dx_hat * x_hat).mean(axis=-1, keepdims=True)",
            why="The bracket is missing: both routes are divided.",
        ),
    ),
)
