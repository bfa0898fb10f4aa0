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
            why="Everything passes here, as y >= 0 is true everywhere. Where x was negative y did not move: how "
            "does y tell?",
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
            why="That lets through what was negative in the forward, where y did not move at all.",
        ),
        Mistake(
            "relu_of_both",
            right="dy * (y > 0)",
            wrong="np.maximum(dy, 0) * (y > 0)",
            why="A gradient may be negative: where x passed, dy passes too, whatever its own sign.",
        ),
        Mistake(
            "upstream_gradient_dropped",
            right="dy * (y > 0)",
            wrong="1.0 * (y > 0)",
            why="That is the slope of y; the gradient is dy times the slope.",
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
        Mistake(
            "dy_on_one_term",
            right="dy * (sigmoid + x * sigmoid * (1 - sigmoid))",
            wrong="dy * sigmoid + x * sigmoid * (1 - sigmoid)",
            why="The bracket is missing: dy multiplies the whole slope, both of its terms.",
        ),
        Mistake(
            "silu_terms_subtracted",
            right="sigmoid + x",
            wrong="sigmoid - x",
            why="A product has two terms, and they are added.",
        ),
        Mistake(
            "silu_second_term_without_x",
            right="x * sigmoid * (1 - sigmoid)",
            wrong="sigmoid * (1 - sigmoid)",
            why="The second term is x times the derivative of σ: where is the x?",
        ),
        Mistake(
            "silu_derivative_of_sigma_halved",
            right="sigmoid * (1 - sigmoid)",
            wrong="(1 - sigmoid)",
            why="The derivative of σ is σ (1 - σ): where is the first of its two factors?",
        ),
        Mistake(
            "silu_one_plus_sigma",
            right="(1 - sigmoid)",
            wrong="(1 + sigmoid)",
            why="The derivative of σ is σ (1 - σ), with a minus: where σ is near 1 it hardly moves any more.",
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
        Mistake(
            "gelu_without_the_second_term",
            right="(1 + tanh) / 2 + x / 2 * (1 - tanh**2) * slope_of_u",
            wrong="((1 + tanh) / 2)",
            why="x/2 · (1 + tanh u) is a product of two things with x in them: where is x/2 times the derivative of "
            "tanh u?",
        ),
        Mistake(
            "gelu_only_the_second_term",
            right="(1 + tanh) / 2 + x",
            wrong="x",
            why="x/2 · (1 + tanh u) is a product of two things with x in them: where is the derivative of x/2?",
        ),
        Mistake(
            "gelu_inner_derivative_forgotten",
            right="RATE * (1 + 3 * CUBIC * x**2)",
            wrong="1",
            why="The chain rule does not end at tanh: u is a function of x, and has a slope of its own.",
        ),
        Mistake(
            "gelu_inner_derivative_without_its_rate",
            right="RATE * (1 + 3 * CUBIC * x**2)",
            wrong="1 + 3 * CUBIC * x**2",
            why="u begins with a factor √(2/π), and so does its slope.",
        ),
        Mistake(
            "gelu_rate_on_one_term",
            right="RATE * (1 + 3 * CUBIC * x**2)",
            wrong="RATE + 3 * CUBIC * x**2",
            why="The factor √(2/π) stands before the bracket: it belongs to both terms of the slope.",
        ),
        Mistake(
            "gelu_cube_without_its_3",
            right="1 + 3 * CUBIC",
            wrong="1 + CUBIC",
            why="The derivative of 0.044715 x³ has a 3 in it.",
        ),
        Mistake(
            "gelu_x_for_half_of_it",
            right="x / 2 * (1",
            wrong="x * (1",
            why="In front of the bracket stands x/2, and it does so in the second term of the slope as well.",
        ),
        Mistake(
            "upstream_gradient_dropped",
            right="return dy * (",
            wrong="return 1 * (",
            why="That is the slope of y; the gradient is dy times the slope.",
        ),
        Mistake(
            "gelu_x_for_a_quarter_of_it",
            right="x / 2 * (1",
            wrong="x / 4 * (1",
            why="In front of the bracket stands x/2, and the derivative of tanh u is 1 - tanh²: there is no second ½.",
        ),
        Mistake(
            "gelu_second_term_without_x",
            right="x / 2 * (1",
            wrong="(1",
            why="Where is the x/2 in front of the derivative of tanh u?",
        ),
        Mistake(
            "gelu_terms_subtracted",
            right="+ x / 2",
            wrong="- x / 2",
            why="A product has two terms, and they are added.",
        ),
    ),
)
