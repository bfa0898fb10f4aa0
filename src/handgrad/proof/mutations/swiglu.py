"""What goes wrong in the gated feed-forward layer: the product rule, twice."""

from ...layers import silu_forward, swiglu_backward
from .mutation import Mutation

SILU = (
    Mutation(
        "silu_without_the_second_term",
        "silu",
        silu_forward,
        right="slope = 1 - sigmoid\n    slope *= y\n    slope += sigmoid",
        wrong="slope = sigmoid",
        why="x σ(x) is a product: σ, and also x σ'. Without the second term the slope never overshoots 1 nor turns "
        "negative.",
    ),
    Mutation(
        "silu_only_the_second_term",
        "silu",
        silu_forward,
        right="slope += sigmoid",
        wrong="pass",
        why="x σ(x) is a product: x σ', and also σ, by which a straight ramp passes.",
    ),
    Mutation(
        "silu_as_a_sigmoid",
        "silu",
        silu_forward,
        right="slope = 1 - sigmoid\n    slope *= y\n    slope += sigmoid",
        wrong="slope = sigmoid * (1 - sigmoid)",
        why="σ (1 - σ) is the sigmoid's derivative; the unit is x σ(x).",
    ),
    Mutation(
        "silu_as_a_relu",
        "silu",
        silu_forward,
        right="slope = 1 - sigmoid\n    slope *= y\n    slope += sigmoid",
        wrong="slope = (y.real > 0).astype(y.dtype)",
        why="A ReLU's step is left from an older layer; SiLU lets some gradient through on the left, and more than "
        "all on the right.",
    ),
)

SWIGLU = (
    Mutation(
        "gate_and_up_swapped",
        "swiglu",
        swiglu_backward,
        right='dactivated = tap("activated", dhidden * cache.up)  # hidden = activated * up\n'
        '    dup = tap("up", dhidden * cache.activated)',
        wrong='dactivated = tap("activated", dhidden * cache.activated)\n    dup = tap("up", dhidden * cache.up)',
        why="A product gives each factor the gradient times the *other* factor.",
    ),
    Mutation(
        "gate_without_its_derivative",
        "swiglu",
        swiglu_backward,
        right="silu_backward(dactivated, cache.silu_cache)",
        wrong="dactivated",
        why="Between the gate and the product lies silu, and its slope belongs between their gradients.",
    ),
    Mutation(
        "path_of_up_lost",
        "swiglu",
        swiglu_backward,
        right="dx += dx_up",
        wrong="pass",
        why="x fed gate and up: two paths come back, and add.",
    ),
    Mutation(
        "path_of_the_gate_lost",
        "swiglu",
        swiglu_backward,
        right="dx += dx_up",
        wrong="dx = dx_up",
        why="`=` where `+=` is due: the gate's path has been overwritten by that of up.",
    ),
    Mutation(
        "dw_gate_and_dw_up_swapped",
        "swiglu",
        swiglu_backward,
        right="return dx, dw_gate, dw_up, dw_down",
        wrong="return dx, dw_up, dw_gate, dw_down",
        why="Two matrices of one shape: what is returned is in the order of the arguments.",
    ),
    Mutation(
        "dw_down_of_the_activated_gate",
        "swiglu",
        swiglu_backward,
        right='linear_backward(tap("output", dy), cache.down_cache)',
        wrong='linear_backward(tap("output", dy), cache.down_cache._replace(x=cache.activated))',
        why="w_down multiplied the product of both, not the activated gate alone.",
    ),
)
