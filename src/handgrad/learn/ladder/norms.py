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
            why="The forward divided by the standard deviation, so that the backward does.",
        ),
    ),
)

RMS_NORM = Exercise(
    "rms_norm",
    "RMSNorm: one route less",
    {"dx": "B T C", "dgamma": "C"},
    lambda make: as_in_library(making.rms_norm(make, scale=2.0, offset=1.0)),
)
