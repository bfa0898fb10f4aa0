"""Functions of each number by itself."""

from ...proof import making
from ...proof.making import Maker
from ..exercise import Exercise, Mistake, Problem
from .common import as_in_library


def _hidden(make: Maker) -> Problem:
    B, T, _, _, F, _ = make.sizes
    return Problem({"x": make.normal(B, T, F)})


RELU = Exercise(
    "relu",
    "ReLU: the slope from the output",
    {"dx": "B T F"},
    _hidden,
    (
        Mistake(
            "relu_by_its_value",
            right="dy * (y > 0)",
            wrong="dy * y",
            why="The slope is 1 where x was positive, and not as large as y.",
        ),
        Mistake(
            "relu_that_passes_all",
            right="(y > 0)",
            wrong="(y >= 0)",
            why="y is never below 0, so that y >= 0 is true everywhere. What is y where x was negative?",
        ),
        Mistake(
            "relu_of_the_gradient",
            right="(y > 0)",
            wrong="(dy > 0)",
            why="What passes was decided in the forward, by x. The sign of the gradient has no part in it.",
        ),
        Mistake(
            "relu_turned_round",
            right="(y > 0)",
            wrong="(y <= 0)",
            why="That lets pass where x was negative, where y did not move at all.",
        ),
    ),
)

SILU = Exercise(
    "silu",
    "SiLU and the product rule",
    {"dx": "B T F"},
    lambda make: as_in_library(making.silu(make, scale=2.0)),
    (
        Mistake(
            "silu_slope_of_the_output",
            right="x * sigmoid * (1 - sigmoid)",
            wrong="x * sigmoid * (1 - x * sigmoid)",
            why="The derivative of σ is σ (1 - σ), with σ itself in both places, and not with y.",
        ),
        Mistake(
            "upstream_gradient_dropped",
            right="dy * (sigmoid",
            wrong="(sigmoid",
            why="That is the slope of y; the gradient is dy times the slope.",
        ),
    ),
)

GELU = Exercise(
    "gelu",
    "GELU: product rule and chain rule",
    {"dx": "B T F"},
    lambda make: as_in_library(making.gelu(make, scale=2.0)),
    (
        Mistake(
            "gelu_without_its_half",
            right="(1 + tanh) / 2",
            wrong="(1 + tanh)",
            why="y = x/2 * (1 + tanh u): the ½ belongs to both terms.",
        ),
        Mistake(
            "tanh_not_squared",
            right="(1 - tanh**2)",
            wrong="(1 - tanh)",
            why="The derivative of tanh(u) is 1 - tanh(u)², with a square.",
        ),
    ),
)
