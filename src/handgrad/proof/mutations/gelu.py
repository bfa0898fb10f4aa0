"""What goes wrong in GELU and the layer around it: the product rule, the inner derivative, which of two forms it is."""

from ...layers import gelu_forward, mlp_backward, mlp_forward
from .mutation import Mutation

SLOPE = "slope = rate + 3 * rate * CUBIC * square  # (2u)'\n    slope *= y * (1 - sigmoid)\n    slope += sigmoid"

GELU = (
    Mutation(
        "gelu_without_the_second_term",
        "gelu",
        gelu_forward,
        right=SLOPE,
        wrong="slope = sigmoid",
        why="x σ(2u) is a product: σ, and also x times σ's own derivative, which bends the curve below the axis.",
    ),
    Mutation(
        "gelu_only_the_second_term",
        "gelu",
        gelu_forward,
        right="slope += sigmoid",
        wrong="pass",
        why="x σ(2u) is a product, and the straight part of it, σ, is what lets large x through.",
    ),
    Mutation(
        "gelu_of_the_error_function",
        "gelu",
        gelu_forward,
        right=SLOPE,
        wrong="from math import erf, pi\n"
        "    normal = (1 + np.vectorize(erf)(x.real / 2**0.5)) / 2\n"
        "    slope = (normal + x * np.exp(-x * x / 2) / (2 * pi) ** 0.5).astype(x.dtype)",
        why="There are two GELUs, of erf and of tanh, that nearly agree; the derivative is that of the one that ran.",
    ),
    Mutation(
        "gelu_cube_without_its_3",
        "gelu",
        gelu_forward,
        right="3 * rate * CUBIC * square",
        wrong="rate * CUBIC * square",
        why="The derivative of 0.044715 x³ has a 3 in it: 3 · 0.044715 x².",
    ),
    Mutation(
        "gelu_inner_derivative_forgotten",
        "gelu",
        gelu_forward,
        right="slope = rate + 3 * rate * CUBIC * square",
        wrong="slope = np.ones_like(x)",
        why="The chain rule does not end at σ: what stands inside of it, 2u, has a derivative as well.",
    ),
    Mutation(
        "gelu_sigmoid_without_its_2",
        "gelu",
        gelu_forward,
        right="slope = rate + 3 * rate * CUBIC * square",
        wrong="slope = rate / 2 + 3 * rate / 2 * CUBIC * square",
        why="½ (1 + tanh u) is σ of *two* u: its derivative is 2 σ (1 - σ) u'.",
    ),
    Mutation(
        "gelu_as_its_quick_form",
        "gelu",
        gelu_forward,
        right=SLOPE,
        wrong="quick = 1 / (1 + np.exp(-1.702 * held))\n    slope = quick + 1.702 * held * quick * (1 - quick)",
        why="x σ(1.702 x) is a third GELU, and its slope another function; forward and backward need the same one.",
    ),
    Mutation(
        "gelu_as_a_relu",
        "gelu",
        gelu_forward,
        right=SLOPE,
        wrong="slope = (x.real > 0).astype(x.dtype)",
        why="A ReLU's step is left from an older layer; GELU lets some gradient through on the left, and bends on both "
        "sides.",
    ),
)

MLP = (
    Mutation(
        "hidden_without_the_slope_of_gelu",
        "mlp",
        mlp_backward,
        right='gelu_backward(tap("hidden", dhidden), cache.gelu_cache)',
        wrong='tap("hidden", dhidden)',
        why="Between the two matrices lies the GELU, and its slope belongs between their gradients.",
    ),
    Mutation(
        "slope_of_gelu_at_its_output",
        "mlp",
        mlp_forward,
        right="MlpCache(up_cache, up_bias, gelu_cache, ",
        wrong="MlpCache(up_cache, up_bias, gelu_forward(hidden)[1], ",
        why="The slope is taken where the function was: at what went into the GELU, not at what came out.",
    ),
    Mutation(
        "db_up_of_the_hidden_units",
        "mlp",
        mlp_backward,
        right="bias_backward(dup, cache.up_bias)",
        wrong="dup, bias_backward(dhidden, cache.up_bias)[1]",
        why="b_up was added before the GELU, so its gradient sums what is left *after* the slope: dup, not dhidden.",
    ),
    Mutation(
        "dw_down_before_gelu",
        "mlp",
        mlp_forward,
        right="gelu_cache, down_cache, ",
        wrong="gelu_cache, down_cache._replace(x=up), ",
        why="w_down multiplied the hidden units, gelu(up), and not up.",
    ),
)
