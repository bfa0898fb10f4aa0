"""Every backward against its own forward, by evaluation alone; and that a backward leaves everything as it was."""

import copy
from collections.abc import Callable

import numpy as np
import pytest

from handgrad import layers
from handgrad.proof import BAR, Case, all_cases, central_difference, check_case, relative_error

CASES = all_cases(seed=1)
LAYERS = [name for name in CASES if name != "gpt"]
normal = np.random.default_rng(2).standard_normal

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
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_equal_the_complex_step(name: str) -> None:
    for verdict in check_case(CASES[name], seed=3):
        assert verdict.error <= BAR, verdict


@pytest.mark.parametrize("name", EDGES)
def test_gradients_equal_the_complex_step_at_the_edges(name: str) -> None:
    for verdict in check_case(EDGES[name], seed=3):
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
