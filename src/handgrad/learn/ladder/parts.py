"""The parts of a model beside norms and attention."""

from ...proof import making
from ...proof.making import Maker
from ..exercise import Exercise, Mistake, Problem
from .common import as_in_library, of_catalogue

EMBEDDING = Exercise(
    "embedding",
    "the embedding: scatter-add",
    {"dtable": "V C"},
    lambda make: as_in_library(making.embedding(make)),
)


def _square(make: Maker) -> Problem:
    B, T, C, *_ = make.sizes
    return Problem({"x": make.normal(B, T, C), "w": make.weights(C, C)})


BOTH = "return dy + dx_of_branch, dw"

RESIDUAL = Exercise(
    "residual",
    "the residual: past, and through",
    {"dx": "B T C", "dw": "C C"},
    _square,
    (
        Mistake(
            "path_past_the_layer_lost",
            right=BOTH,
            wrong="return dx_of_branch, dw",
            why="y = x + f(x): the gradient comes back through f *and* past it. What does the lone x ask for?",
        ),
        Mistake(
            "path_through_the_layer_lost",
            right=BOTH,
            wrong="return dy.copy(), dw",
            why="y = x + f(x): x reached y through f, too. That path's gradient must be added, not dropped.",
        ),
        Mistake(
            "path_past_the_layer_twice",
            right=BOTH,
            wrong="return 2 * dy + dx_of_branch, dw",
            why="x stands once outside of the layer: dy is added once.",
        ),
        Mistake(
            "w_not_transposed",
            right="dx_of_branch, dw = linear_backward(dy, linear_cache)",
            wrong="dw = linear_backward(dy, linear_cache)[1]\n    dx_of_branch = dy @ linear_cache[1]",
            why="dx = dy wᵀ. A square w fits either way round, so only the numbers are wrong.",
        ),
    ),
)

SWIGLU = Exercise(
    "swiglu",
    "SwiGLU: a gate and its product",
    {"dx": "B T C", "dw_gate": "C F", "dw_up": "C F", "dw_down": "F C"},
    lambda make: as_in_library(making.swiglu(make)),
    (
        Mistake(
            "dup_times_the_gate",
            right="dup = dhidden * activated",
            wrong="dup = dhidden * silu_cache[0]",
            why="silu(gate) stood beside up in the product, and not gate itself.",
        ),
        Mistake(
            "dactivated_without_up",
            right="dactivated = dhidden * up",
            wrong="dactivated = dhidden",
            why="In a product each factor gets the gradient times the *other* factor: where is up?",
        ),
        Mistake(
            "dup_without_activated",
            right="dup = dhidden * activated",
            wrong="dup = dhidden",
            why="In a product each factor gets the gradient times the *other* factor: where is silu(gate)?",
        ),
        Mistake(
            "slope_of_silu_on_both",
            right="linear_backward(dup, up_cache)",
            wrong="linear_backward(silu_backward(dup, silu_cache), up_cache)",
            why="silu lies on the way of the gate alone: up went into the product as it was.",
        ),
        Mistake(
            "gate_back_through_w_up",
            right="linear_backward(dgate, gate_cache)",
            wrong="linear_backward(dgate, up_cache)",
            why="dgate returns through the matrix that made the gate; dw_gate does not show it, since it needs x "
            "and dgate alone.",
        ),
        Mistake(
            "dw_down_of_up",
            right="linear_backward(dy, down_cache)",
            wrong="linear_backward(dy, (up, down_cache[1]))",
            why="w_down multiplied the product of both, and not up alone.",
        ),
        Mistake(
            "path_of_up_lost",
            right="return dx_gate + dx_up",
            wrong="return dx_gate",
            why="The path of up is missing from dx.",
        ),
        Mistake(
            "path_of_the_gate_lost",
            right="return dx_gate + dx_up",
            wrong="return dx_up",
            why="The path of the gate is missing from dx.",
        ),
        Mistake(
            "caches_exchanged",
            right="linear_backward(dgate, gate_cache)\n    dx_up, dw_up = linear_backward(dup, up_cache)",
            wrong="linear_backward(dgate, up_cache)\n    dx_up, dw_up = linear_backward(dup, gate_cache)",
            why="Each gradient returns through the matrix that made its part: dgate with gate_cache, dup with "
            "up_cache.",
        ),
        Mistake(
            "dw_up_of_the_gate",
            right="linear_backward(dup, up_cache)",
            wrong="linear_backward(dgate, up_cache)",
            why="A copied line still names dgate where dup is due.",
        ),
    ),
)


def _table(make: Maker) -> Problem:
    B, T, C, _, _, V = make.sizes
    return Problem({"tokens": make.integers(B, T), "table": make.normal(V, C)})


HEAD = "dlogits.reshape(-1, V).T @ x.reshape(-1, C)"
TWO_USES = "of_head + embedding_backward(dx, embedding_cache)"

TIED = Exercise(
    "tied",
    "tied weights: one table, two uses",
    {"dtable": "V C"},
    _table,
    (
        of_catalogue("tied_without_the_head", right=TWO_USES, wrong="embedding_backward(dx, embedding_cache)"),
        Mistake(
            "tied_without_the_embedding",
            right="of_head + embedding_backward(dx, embedding_cache)",
            wrong="of_head",
            why="Only the head's part is here. The lookups ask for something, too.",
        ),
        of_catalogue("tied_averaged", right=TWO_USES, wrong=f"({TWO_USES}) / 2"),
        of_catalogue(
            "tied_without_the_transpose",
            right=HEAD,
            wrong="(x.reshape(-1, C).T @ dlogits.reshape(-1, V)).reshape(V, C)",
        ),
        Mistake(
            "tied_head_twice",
            right="of_head + embedding_backward(dx, embedding_cache)",
            wrong="2 * of_head + embedding_backward(dx, embedding_cache)",
            why="The table has two uses, the head and the embedding: each counts once.",
        ),
        Mistake(
            "embedding_of_x_itself",
            right="embedding_backward(dx, embedding_cache)",
            wrong="embedding_backward(x, embedding_cache)",
            why="embedding_backward wants the gradient of x, and not x.",
        ),
        Mistake(
            "head_of_the_first_sequence",
            right="dlogits.reshape(-1, V).T @ x.reshape(-1, C)",
            wrong="dlogits[0].T @ x[0]",
            why="The head served every sequence, and not the first alone.",
        ),
    ),
)
