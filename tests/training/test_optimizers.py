"""The optimizers: each against its definition, and the orthogonal matrix against the singular value decomposition."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import get_args, get_type_hints

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from handgrad.layers import Array
from handgrad.model import ModelConfig, Parameters, initial_parameters
from handgrad.training import AdamW, Muon, TrainingConfig
from handgrad.training.optimizers import OPTIMIZERS, Update, in_order, orthogonalised
from handgrad.training.optimizers.orthogonal import (
    ITERATIONS,
    QUINTICS,
    SMALLEST,
    Quintic,
    best_quintic,
    best_quintics,
)

CONFIG = ModelConfig(layers=1, heads=2, width=8, hidden=12, context=6, vocabulary=7)
TAYLOR = Quintic(15 / 8, -10 / 8, 3 / 8)
MATRICES = [
    *(f"blocks.0.attention.w_{name}" for name in "qkvo"),
    *(f"blocks.0.feed_forward.w_{name}" for name in ("gate", "up", "down")),
]


def chain(x: Array, quintics: Sequence[Quintic]) -> Array:
    for a, b, c in quintics:
        x = a * x + b * x**3 + c * x**5
    return x


def test_adamw_is_its_formula() -> None:
    """Five steps in float64 against the definition, tensor by tensor: decay for matrices, none for vectors."""
    generator = np.random.default_rng(0)
    config = TrainingConfig(beta_1=0.8, beta_2=0.95, weight_decay=0.3)
    parameters = initial_parameters(CONFIG, dtype=np.float64)
    expected = {name: tensor.copy() for name, tensor in parameters.items()}
    mean, square = ({name: np.zeros_like(tensor) for name, tensor in expected.items()} for _ in range(2))
    optimizer = AdamW(parameters, config)
    for step in range(1, 6):
        gradients = Parameters(CONFIG, generator.standard_normal(parameters.flat.size))
        before = gradients.flat.copy()
        optimizer.step(gradients.tree, 0.1 / step, scale=0.5)
        np.testing.assert_array_equal(gradients.flat, before)
        for name, tensor in expected.items():
            gradient = 0.5 * gradients[name]
            mean[name] = 0.8 * mean[name] + 0.2 * gradient
            square[name] = 0.95 * square[name] + 0.05 * gradient**2
            update = mean[name] / (1 - 0.8**step) / (np.sqrt(square[name] / (1 - 0.95**step)) + 1e-8)
            tensor -= 0.1 / step * (update + (0.3 * tensor if tensor.ndim == 2 else 0))
    for name, tensor in expected.items():
        np.testing.assert_allclose(parameters[name], tensor, rtol=1e-11, err_msg=name)


def test_muon_is_its_formula() -> None:
    """The same for Muon, with a decomposition in place of the products; what is not in a block is AdamW's."""
    generator = np.random.default_rng(1)
    config = TrainingConfig(optimizer="muon", momentum=0.9, weight_decay=0.3)
    model = ModelConfig(**CONFIG.to_dict() | {"attention_bias": "all", "query_key_norm": True})
    parameters, alone = (initial_parameters(model, dtype=np.float64) for _ in range(2))
    expected = {name: parameters[name].copy() for name in MATRICES}
    momentum = {name: np.zeros_like(tensor) for name, tensor in expected.items()}
    optimizer, adamw = Muon(parameters, config), AdamW(alone, config)
    for step in range(1, 6):
        gradients = Parameters(model, generator.standard_normal(parameters.flat.size))
        before = gradients.flat.copy()
        for each in (optimizer, adamw):
            each.step(gradients.tree, 0.1 / step, scale=0.5)
        np.testing.assert_array_equal(gradients.flat, before)
        for name, tensor in expected.items():
            gradient = 0.5 * gradients[name]
            momentum[name] = 0.9 * momentum[name] + 0.1 * gradient
            u, s, vt = np.linalg.svd(0.9 * momentum[name] + 0.1 * gradient, full_matrices=False)
            change = (u * chain(s / np.linalg.norm(s), QUINTICS)) @ vt
            tensor -= 0.1 / step * (0.2 * max(tensor.shape) ** 0.5 * change + 0.3 * tensor)
    for name, tensor in parameters.items():
        np.testing.assert_allclose(tensor, expected.get(name, alone[name]), rtol=1e-9, atol=1e-12, err_msg=name)


def test_adamw_in_chunks_is_adamw_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for chunk in (1 << 16, 7, 1):
        monkeypatch.setattr("handgrad.training.optimizers.adamw.CHUNK", chunk)
        parameters = initial_parameters(CONFIG)
        optimizer = AdamW(parameters, TrainingConfig())
        for seed in range(3):
            optimizer.step(initial_parameters(CONFIG, seed=seed + 1).tree, 0.01)
        results.append(parameters.flat)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_order_of_an_optimizer_s_updates_changes_no_bit(name: str) -> None:
    results = []
    for order in (slice(None), slice(None, None, -1)):
        parameters = initial_parameters(CONFIG)
        optimizer = OPTIMIZERS[name](parameters, TrainingConfig())
        for seed in range(3):
            gradients = initial_parameters(CONFIG, seed=seed + 1).tree
            optimizer.step(gradients, 0.01, share=partial(in_this_order, order))
        results.append(parameters.flat)
    np.testing.assert_array_equal(results[0], results[1])


def in_this_order(order: slice, updates: Sequence[Update]) -> None:
    in_order(updates[order])


def test_muon_keeps_one_mean_of_a_matrix_in_a_block_and_two_of_the_rest() -> None:
    parameters = initial_parameters(CONFIG)
    state = Muon(parameters, TrainingConfig()).state
    rest = [name for name in parameters if name not in MATRICES]
    assert set(state) == {f"momentum/{name}" for name in MATRICES} | {
        f"{kept}/{name}" for name in rest for kept in ("mean", "mean_square")
    }
    for name, tensor in state.items():
        assert tensor.shape == parameters[name.partition("/")[2]].shape
        assert not tensor.any()


@pytest.mark.parametrize(("low", "high"), [(1e-3, 1.0), (0.01, 1.0), (0.1, 1.0), (0.2, 1.8), (0.5, 1.5), (0.02, 0.9)])
def test_the_best_quintic_is_as_far_from_one_at_four_points_by_turns(low: float, high: float) -> None:
    """By Chebyshev's theorem that makes it the best; and no other that is tried at random is better."""
    quintic, error = best_quintic(low, high)
    x = np.linspace(low, high, 200_001)
    off = chain(x, [quintic]) - 1
    assert abs(off).max() == pytest.approx(error, rel=1e-6)
    extremes = [part[abs(part).argmax()] for part in np.split(off, np.flatnonzero(np.diff(np.sign(off))) + 1)]
    np.testing.assert_allclose(extremes, [-error, error, -error, error], rtol=1e-6)
    generator = np.random.default_rng(0)
    for size in (1e-4, 1e-3, 1e-2, 0.1):
        for change in generator.standard_normal((20, 3)) * size:
            assert abs(chain(x, [Quintic(*(np.array(quintic) + change))]) - 1).max() > error


def test_the_quintics_lead_to_one_and_become_taylor_s() -> None:
    quintics = best_quintics(SMALLEST, 5)
    assert quintics[:ITERATIONS] == QUINTICS
    x = np.linspace(SMALLEST, 1, 100_001)
    errors = [abs(chain(x, quintics[:count]) - 1).max() for count in range(1, 6)]
    assert all(later < earlier for earlier, later in pairwise(errors))
    assert errors[ITERATIONS - 1] < 0.02
    assert errors[-1] < 1e-5
    np.testing.assert_allclose(quintics[4], TAYLOR, rtol=1e-3)


@pytest.mark.parametrize("shape", [(6, 6), (5, 9), (9, 5), (1, 7), (7, 1), (1, 1), (40, 3)])
def test_orthogonalised_maps_the_singular_values_and_nothing_else(shape: tuple[int, int]) -> None:
    x = np.random.default_rng(2).standard_normal(shape)
    before = x.copy()
    found = orthogonalised(x)
    np.testing.assert_array_equal(x, before)
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    np.testing.assert_allclose(found, (u * chain(s / np.linalg.norm(s), QUINTICS)) @ vt, rtol=1e-11, atol=1e-13)


def test_orthogonalised_is_near_the_orthogonal_factor_whatever_the_scale() -> None:
    """All singular values from SMALLEST times the norm on end within the last quintic's distance from 1."""
    generator = np.random.default_rng(3)
    u, _ = np.linalg.qr(generator.standard_normal((9, 6)))
    v, _ = np.linalg.qr(generator.standard_normal((6, 6)))
    s = np.array([1, 0.5, 0.3, 0.1, 0.03, 0.012])
    s[-1] = SMALLEST * np.linalg.norm(s)
    for dtype, scales in ((np.float64, (1e-200, 1.0, 1e150)), (np.float32, (1e-15, 1.0, 1e15))):
        for scale in scales:
            found = orthogonalised((scale * (u * s) @ v.T).astype(dtype))
            assert found.dtype == dtype
            np.testing.assert_allclose(np.linalg.svd(found, compute_uv=False), 1, atol=0.013)
            np.testing.assert_allclose(found, u @ v.T, atol=0.02)


def test_of_a_matrix_of_lower_rank_only_the_directions_that_it_has_are_moved() -> None:
    generator = np.random.default_rng(4)
    x = generator.standard_normal((8, 2)) @ generator.standard_normal((2, 5))
    values = np.linalg.svd(orthogonalised(x), compute_uv=False)
    np.testing.assert_allclose(values[:2], 1, atol=0.013)
    np.testing.assert_allclose(values[2:], 0, atol=1e-10)
    np.testing.assert_array_equal(orthogonalised(np.zeros((3, 4))), np.zeros((3, 4)))


def test_no_change_of_the_same_spectral_norm_has_more_of_the_gradient_in_it() -> None:
    generator = np.random.default_rng(5)
    g = generator.standard_normal((6, 9))
    found = orthogonalised(g)
    found /= np.linalg.norm(found, 2)
    for _ in range(200):
        other = generator.standard_normal(g.shape) * generator.uniform(0, 2) + g * generator.uniform(0, 2)
        assert (g * found).sum() >= 0.98 * (g * other).sum() / np.linalg.norm(other, 2)
    assert (g * found).sum() == pytest.approx(np.linalg.svd(g, compute_uv=False).sum(), rel=0.02)


def test_an_update_of_muon_is_as_large_as_adamw_s_in_practice() -> None:
    """Root mean square 0.2 of the learning rate, for a matrix of full rank and any shape."""
    model = ModelConfig(layers=1, heads=2, key_value_heads=1, width=32, hidden=88, context=6, vocabulary=7)
    parameters = initial_parameters(model)
    before = Parameters(model, parameters.flat.copy())
    generator = np.random.default_rng(6)
    gradients = Parameters(model, generator.standard_normal(parameters.flat.size).astype(np.float32))
    Muon(parameters, TrainingConfig(weight_decay=0)).step(gradients.tree, 0.01)
    for name in MATRICES:
        size = np.sqrt(np.mean((parameters[name] - before[name]) ** 2))
        assert size == pytest.approx(0.002, rel=0.05), name


def test_the_setting_has_the_names_of_the_optimizers() -> None:
    assert get_args(get_type_hints(TrainingConfig)["optimizer"]) == tuple(OPTIMIZERS)


def test_blas_has_one_thread_while_an_optimizer_is_at_work() -> None:
    """Muon's products would else round by the number of threads."""
    optimizer = Muon(initial_parameters(CONFIG), TrainingConfig())
    seen: list[int] = []

    def watched(updates: Sequence[Update]) -> None:
        seen.extend(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")

    with threadpool_limits(2, "blas"):
        optimizer.step(initial_parameters(CONFIG).tree, 0.01, share=watched)
    assert set(seen) == {1}
