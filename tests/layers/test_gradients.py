"""Every backward against its own forward, by evaluation alone; and that a backward leaves everything as it was."""

import copy
from collections.abc import Callable

import numpy as np
import pytest

from handgrad import layers
from handgrad.layers.rotary import BLOCK
from handgrad.proof import BAR, Case, all_cases, central_difference, check_along, check_case, making, relative_error
from handgrad.proof.cases import LAYER_OF
from handgrad.proof.making import LONGER, USUAL, Maker, Sizes

CASES = all_cases(seed=1)
MODELS = [name for name in CASES if LAYER_OF.get(name, name) == "gpt"]
LAYERS = [name for name in CASES if name not in MODELS]
normal = np.random.default_rng(2).standard_normal
make = Maker(np.random.default_rng(2), Sizes(B=2, T=5, C=16, H=4, F=7, V=9))
pairs = Maker(np.random.default_rng(3), Sizes(B=1, T=4, C=6, H=3, F=1, V=9))
"""Heads of width 2, a hidden width of 1."""

EDGES = {
    "linear, one row": Case(layers.linear_forward, layers.linear_backward, {"x": normal((1, 3)), "w": normal((3, 1))}),
    "layer_norm, width 2": Case(
        layers.layer_norm_forward,
        layers.layer_norm_backward,
        {"x": normal((1, 1, 2)), "gamma": normal(2), "beta": normal(2)},
    ),
    "layer_norm, nearly equal rows": Case(
        layers.layer_norm_forward,
        layers.layer_norm_backward,
        {"x": 3 + 1e-3 * normal((2, 3, 4)), "gamma": normal(4), "beta": normal(4)},
    ),
    "softmax, huge scores": Case(layers.softmax_forward, layers.softmax_backward, {"z": 700 + 3 * normal((2, 3, 4))}),
    "attention, one head, one sequence": Case(
        layers.causal_attention_forward,
        layers.causal_attention_backward,
        {name: normal((1, 1, 4, 3)) for name in "qkv"},
        {"scale": 0.5},
    ),
    "attention, fewer queries than keys": Case(
        layers.causal_attention_forward,
        layers.causal_attention_backward,
        {"q": normal((2, 2, 2, 3)), "k": normal((2, 2, 5, 3)), "v": normal((2, 2, 5, 3))},
        {"scale": 0.5},
    ),
    "multi_head_attention, one head": Case(
        layers.multi_head_attention_forward,
        layers.multi_head_attention_backward,
        {"x": normal((1, 3, 4)), **{f"w_{name}": normal((4, 4)) for name in "qkvo"}},
        {"heads": 1},
    ),
    "multi_head_attention, heads of width 1": Case(
        layers.multi_head_attention_forward,
        layers.multi_head_attention_backward,
        {"x": normal((2, 3, 4)), **{f"w_{name}": normal((4, 4)) for name in "qkvo"}},
        {"heads": 4, "scale": 0.3},
    ),
    "swiglu, hidden narrower than width": Case(
        layers.swiglu_forward,
        layers.swiglu_backward,
        {"x": normal((1, 1, 5)), "w_gate": normal((5, 2)), "w_up": normal((5, 2)), "w_down": normal((2, 5))},
    ),
    "cross_entropy, one row": Case(
        layers.cross_entropy_forward,
        layers.cross_entropy_backward,
        {"logits": normal((1, 3))},
        {"targets": np.array([2])},
    ),
    "positions, a later start": Case(
        layers.positions_forward,
        layers.positions_backward,
        {"x": normal((2, 3, 4)), "table": normal((7, 4))},
        {"start": 2},
    ),
    "positions, full context": Case(
        layers.positions_forward, layers.positions_backward, {"x": normal((2, 3, 4)), "table": normal((3, 4))}
    ),
    "bias, one row": Case(layers.bias_forward, layers.bias_backward, {"x": normal((1, 3)), "b": normal(3)}),
    "rms_norm, width 2": making.rms_norm(Maker(np.random.default_rng(4), Sizes(B=1, T=1, C=2, H=1, F=1, V=1))),
    "rms_norm, rows of nearly zero": making.rms_norm(make, scale=1e-4),
    "rms_norm, a row of zeros": Case(
        layers.rms_norm_forward, layers.rms_norm_backward, {"x": np.outer([0, 1], normal(4)), "gamma": normal(4)}
    ),
    "rms_norm, huge rows": making.rms_norm(make, scale=1e8, offset=1e8),
    "rms_norm, another epsilon": making.rms_norm(make, scale=0.3)._replace(given={"epsilon": 0.1}),
    "rotary, heads of width 2": making.rotary(pairs),
    "rotary, a million positions later": making.rotary(make, LONGER, start=10**6),
    "rotary, from one table to the next": making.rotary(make, start=BLOCK - 2),
    "attention, one group": making.causal_attention(make, groups=1),
    "attention, as many groups as heads": making.causal_attention(make, groups=4),
    "attention, a window of 2": making.causal_attention(make, window=2),
    "attention, a window of all but one": making.causal_attention(make, window=4),
    "attention, a window that is longer than all": making.causal_attention(make, window=99),
    "attention, a window that ends before the first query": making.causal_attention(make, earlier=9, window=3),
    "attention, groups within a window": making.causal_attention(make, earlier=2, groups=2, window=3),
    "multi_head_attention, one group": making.multi_head_attention(make, groups=1),
    "multi_head_attention, biases alone": making.multi_head_attention(make, biased=True),
    "multi_head_attention, norms alone": making.multi_head_attention(make, normed=True, epsilon=0.1),
    "multi_head_attention, rotary alone": making.multi_head_attention(make, rotary=USUAL),
    "multi_head_attention, a window of 2": making.multi_head_attention(make, window=2),
    "multi_head_attention, everything, in heads of width 2": making.multi_head_attention(
        pairs, groups=1, biased=True, normed=True, rotary=LONGER, start=10**6, window=2
    ),
    "multi_head_attention, heads wider together than the model": Case(
        layers.multi_head_attention_forward,
        layers.multi_head_attention_backward,
        {"x": normal((2, 4, 3)), "w_q": normal((3, 8)), **{f"w_{name}": normal((3, 4)) for name in "kv"}}
        | {"w_o": normal((8, 3))},
        {"heads": 2, "key_value_heads": 1},
    ),
    "gelu, far to the left": making.gelu(make, offset=-8.0),
    "gelu, far to the right": making.gelu(make, offset=40.0),
    "gelu, far on both sides": making.gelu(make, scale=1e4),
    "mlp, one hidden unit": making.mlp(pairs),
    "mlp, no biases": making.mlp(make, biased=False),
    "mlp, only the first bias": Case(
        layers.mlp_forward,
        layers.mlp_backward,
        {"x": normal((2, 3, 4)), "w_up": normal((4, 5)), "w_down": normal((5, 4)), "b_up": normal(5)},
    ),
    "layer_norm, no offset": making.layer_norm(make, offset=1.0, biased=False),
    "layer_norm, no offset, nearly equal rows": making.layer_norm(make, scale=1e-3, offset=3.0, biased=False),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_equal_the_complex_step(name: str) -> None:
    for verdict in check_case(CASES[name], seed=3):
        assert verdict.error <= BAR, verdict


@pytest.mark.parametrize("name", EDGES)
def test_gradients_equal_the_complex_step_at_the_edges(name: str) -> None:
    for verdict in check_case(EDGES[name], seed=3):
        assert verdict.error <= BAR, verdict


@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_models_equal_the_complex_step_along_random_directions(name: str) -> None:
    """Entry by entry they are held against autograd's."""
    for verdict in check_along(CASES[name], seed=3):
        assert verdict.error <= BAR, verdict


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_equal_central_differences(name: str) -> None:
    case = CASES[name]
    y, cache = case.run()
    dy = np.asarray(normal(y.shape))
    gradients = case.gradients(dy, cache)
    for tensor, x in case.inputs.items():

        def scalar(moved: np.ndarray, tensor: str = tensor) -> float:
            return float((case.run({tensor: moved})[0] * dy).sum())

        assert relative_error(gradients[tensor], central_difference(scalar, x)) < 1e-7, tensor


@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_models_equal_central_differences_along_random_directions(name: str) -> None:
    case = CASES[name]
    y, cache = case.run()
    gradients = case.gradients(np.ones_like(y), cache)
    norms = {tensor: float(np.linalg.norm(gradient)) for tensor, gradient in gradients.items()}
    for tensor, x in case.inputs.items():
        direction = normal(x.shape)

        def scalar(step: np.ndarray, tensor: str = tensor, x: np.ndarray = x, along: np.ndarray = direction) -> float:
            return float(case.run({tensor: x + step * along})[0])

        computed, slope = np.vdot(gradients[tensor], direction), central_difference(scalar, np.zeros(()))
        scale = max(norms.values()) if tensor in case.vanishing else norms[tensor]
        assert relative_error(np.asarray(computed), slope, scale) < 1e-7, tensor


@pytest.mark.parametrize("name", CASES)
def test_a_backward_can_be_run_again_and_writes_to_nothing(name: str) -> None:
    case = CASES[name]
    inputs = {tensor: x.copy() for tensor, x in case.inputs.items()}
    y, cache = case.run(inputs)
    dy = np.asarray(normal(y.shape))
    y_before, dy_before, cache_before = y.copy(), dy.copy(), copy.deepcopy(cache)
    first, second = case.backward(dy, cache), case.backward(dy, cache)
    np.testing.assert_equal(first, second)
    np.testing.assert_equal(_arrays(cache), _arrays(cache_before))
    np.testing.assert_equal((inputs, y, dy), (case.inputs, y_before, dy_before))


@pytest.mark.parametrize("name", CASES)
def test_gradients_have_the_dtype_of_their_inputs(name: str) -> None:
    case = CASES[name]
    y, cache = case.run({tensor: x.astype(np.float32) for tensor, x in case.inputs.items()})
    assert y.dtype == np.float32
    for gradient in case.gradients(np.asarray(normal(y.shape), np.float32), cache).values():
        assert gradient.dtype == np.float32


def in_fortran_order(x: np.ndarray) -> np.ndarray:
    return np.asfortranarray(x)


def every_second(x: np.ndarray) -> np.ndarray:
    """The same values, two steps apart in memory along every axis."""
    spread = np.empty([2 * n for n in x.shape], x.dtype)
    view = spread[tuple(slice(None, None, 2) for _ in x.shape)]
    view[...] = x
    return view


def reversed_in_memory(x: np.ndarray) -> np.ndarray:
    flipped = np.flip(x).copy()
    return np.flip(flipped)


@pytest.mark.parametrize("layout", [in_fortran_order, every_second, reversed_in_memory])
@pytest.mark.parametrize("name", LAYERS)
def test_the_layout_in_memory_changes_nothing(name: str, layout: Callable[[np.ndarray], np.ndarray]) -> None:
    case = CASES[name]
    y, cache = case.run()
    dy = np.asarray(normal(y.shape))
    other_y, other_cache = case.run({tensor: layout(x) for tensor, x in case.inputs.items()})
    assert relative_error(other_y, y) < 1e-14
    others = case.gradients(layout(dy) if dy.ndim else dy, other_cache)
    for tensor, gradient in case.gradients(dy, cache).items():
        assert relative_error(others[tensor], gradient) < 1e-13, tensor


def _arrays(cache: object) -> list[np.ndarray]:
    """The arrays in a tree of caches."""
    if isinstance(cache, np.ndarray):
        return [cache]
    return [array for part in cache for array in _arrays(part)] if isinstance(cache, tuple) else []
