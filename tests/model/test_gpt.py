"""The whole model: its gradients under every switch, against the complex step and against autograd."""

import itertools
from typing import Any

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad

from handgrad.layers import Array
from handgrad.model import ModelConfig, Parameters, gpt_forward, initial_parameters, loss_backward, loss_forward
from handgrad.proof import BAR, check_case, complex_step_along, gpt_case, relative_error
from tests.reference import cross_entropy, layer_norm, multi_head_attention, swiglu

SMALL: dict[str, Any] = {"layers": 2, "heads": 2, "width": 6, "hidden": 5, "context": 4, "vocabulary": 5}
SWITCHES: list[dict[str, Any]] = [
    {"norm": norm, "residual": residual, "score_scale": score_scale}
    for norm, residual, score_scale in itertools.product(("layer", "none"), (True, False), (True, False))
]


def assert_agrees_along_random_directions(config: ModelConfig, T: int, names: list[str] | None = None) -> None:
    """Hold each named parameter's gradient (all, where none is named) against the complex step along one direction."""
    generator = np.random.default_rng(8)
    parameters = initial_parameters(config, dtype=np.float64)
    parameters.flat += 0.1 * generator.standard_normal(parameters.flat.size)
    tokens, targets = generator.integers(config.vocabulary, size=(2, 2, T))
    loss, cache = loss_forward(tokens, targets, parameters.tree, config)
    gradients = Parameters.from_tree(config, loss_backward(np.ones_like(loss), cache))
    for name in names or parameters:
        direction = Parameters(config, dtype=np.float64)
        direction[name][...] = generator.standard_normal(direction[name].shape)
        slope = complex_step_along(
            lambda flat: loss_forward(tokens, targets, Parameters(config, flat).tree, config)[0],
            parameters.flat,
            direction.flat,
        )
        assert slope != 0, name
        assert slope == pytest.approx(float(gradients.flat @ direction.flat), rel=1e-11), name


def test_gradients_equal_the_complex_step_entry_by_entry() -> None:
    for verdict in check_case(gpt_case(ModelConfig(**SMALL), np.random.default_rng(7))):
        assert verdict.error <= BAR, verdict


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_gradients_under_every_switch(switches: dict[str, Any]) -> None:
    assert_agrees_along_random_directions(ModelConfig(**SMALL, **switches), T=3)


def test_what_the_switches_switch() -> None:
    """Their meaning, seen by a tap: gradients alone would be right for any meaning."""
    whole = initial_parameters(ModelConfig(**SMALL), seed=1)
    whole["embedding.token"][...] *= 30
    changes: dict[str, dict[str, Any]] = {
        "default": {},
        "norm": {"norm": "none"},
        "residual": {"residual": False},
        "score_scale": {"score_scale": False},
    }
    seen: dict[str, dict[str, Array]] = {}
    for name, change in changes.items():
        config = ModelConfig(**(SMALL | change))
        parameters = Parameters.from_mapping(config, whole)
        activations = seen[name] = {}

        def collect(at: str, x: Array, activations: dict[str, Array] = activations) -> Array:
            activations[at] = x.copy()
            return x

        gpt_forward(np.array([[1, 4, 2]]), parameters.tree, config, collect)
    default, scores, q = seen["default"], "blocks.0.attention.scores", "blocks.0.attention.q"
    np.testing.assert_allclose(seen["score_scale"][scores], default[scores] * np.sqrt(6 / 2), rtol=1e-5)
    np.testing.assert_allclose(default["blocks.0.norm_1.output"].std(axis=-1), 1, rtol=1e-3)
    unnormalised = default["embedding.output"] @ whole["blocks.0.attention.w_q"]  # (1, 3, 6), and heads of width 3
    np.testing.assert_allclose(seen["norm"][q][0, 0], unnormalised[0, :, :3], rtol=1e-4)
    for before, output, after in (
        ("embedding.output", "blocks.0.attention.output", "blocks.0.residual_1"),
        ("blocks.0.residual_1", "blocks.0.feed_forward.output", "blocks.0.residual_2"),
    ):
        np.testing.assert_allclose(default[after], default[before] + default[output], rtol=1e-5)
        np.testing.assert_array_equal(seen["residual"][after], seen["residual"][output])


@pytest.mark.parametrize("sizes", [{"heads": 1}, {"layers": 1}, {"width": 2}, {"hidden": 1}], ids=str)
def test_gradients_at_the_smallest_sizes(sizes: dict[str, int]) -> None:
    assert_agrees_along_random_directions(ModelConfig(**(SMALL | sizes)), T=4)


def test_gradients_of_a_single_position() -> None:
    """One position attends to itself alone: its weight is 1 whatever the scores are, so only w_v and w_o learn."""
    config = ModelConfig(**SMALL)
    learning = [name for name in Parameters(config) if not name.endswith(("w_q", "w_k"))]
    assert_agrees_along_random_directions(config, 1, learning)


def test_the_default_architecture_agrees_along_random_directions() -> None:
    config = ModelConfig(layers=4, heads=4, width=128, hidden=344, context=64, vocabulary=100)
    names = ["embedding.token", "blocks.0.attention.w_q", "blocks.3.feed_forward.w_up", "norm.gamma"]
    assert_agrees_along_random_directions(config, 16, names)


def test_the_whole_model_equals_autograd() -> None:
    config = ModelConfig(**SMALL)
    case = gpt_case(config, np.random.default_rng(10))
    tokens, targets = np.random.default_rng(11).integers(5, size=(2, 3, 4))
    targets[1, 1] = -100
    parameters = Parameters.from_mapping(config, case.inputs)
    loss, cache = loss_forward(tokens, targets, parameters.tree, config)
    gradients = Parameters.from_tree(config, loss_backward(np.ones_like(loss), cache))

    def reference(p: dict[str, Any]) -> Any:
        x = p["embedding.token"][tokens] + p["embedding.position"][:4]
        for n in range(2):
            b = {name.removeprefix(f"blocks.{n}."): p[name] for name in p}
            normed = layer_norm(x, b["norm_1.gamma"], b["norm_1.beta"])
            w_q, w_k, w_v, w_o = (b[f"attention.w_{part}"] for part in "qkvo")
            x = x + multi_head_attention(normed, w_q, w_k, w_v, w_o, heads=2)
            normed = layer_norm(x, b["norm_2.gamma"], b["norm_2.beta"])
            x = x + swiglu(normed, *(b[f"feed_forward.w_{part}"] for part in ("gate", "up", "down")))
        return cross_entropy(anp.dot(layer_norm(x, p["norm.gamma"], p["norm.beta"]), p["head.w_lm"]), targets)

    named = dict(parameters)
    assert float(loss) == pytest.approx(reference(named), rel=1e-12)
    for name, expected in grad(reference)(named).items():
        assert relative_error(gradients[name], expected) < 1e-10, name
