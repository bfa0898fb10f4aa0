"""The whole model: its gradients under every switch, against the complex step and against autograd; its reach."""

import itertools
from typing import Any

import numpy as np
import pytest
from autograd import grad

from handgrad.layers import Array, cross_entropy_backward, cross_entropy_forward
from handgrad.model import (
    ModelConfig,
    Parameters,
    gpt_backward,
    gpt_forward,
    initial_parameters,
    loss_backward,
    loss_forward,
)
from handgrad.proof import BAR, check_case, complex_step_along, gpt_case, relative_error
from handgrad.proof.making import FAMILIES
from tests import reference

SMALL: dict[str, Any] = {"layers": 2, "heads": 2, "width": 6, "hidden": 5, "context": 4, "vocabulary": 5}
SWITCHES: list[dict[str, Any]] = [
    {"norm": norm, "residual": residual, "score_scale": score_scale}
    for norm, residual, score_scale in itertools.product(("layer", "rms", "none"), (True, False), (True, False))
]


def config_of(family: str, **change: Any) -> ModelConfig:
    return ModelConfig(**SMALL | {"width": 8} | FAMILIES[family] | change)


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


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_does_not_fill_its_context_equals_autograd(family: str) -> None:
    config = config_of(family, context=6)
    case = gpt_case(config, np.random.default_rng(10))
    tokens, targets = np.random.default_rng(11).integers(5, size=(2, 3, 4))
    targets[1, 1] = -100
    parameters = Parameters.from_mapping(config, case.inputs)
    loss, cache = loss_forward(tokens, targets, parameters.tree, config)
    gradients = Parameters.from_tree(config, loss_backward(np.ones_like(loss), cache))
    named = dict(parameters)
    assert float(loss) == pytest.approx(reference.loss(named, tokens, targets, config), rel=1e-12)
    largest = float(np.abs(gradients.flat).max())
    for name, expected in grad(reference.loss)(named, tokens, targets, config).items():
        scale = largest if name in case.vanishing else None
        assert relative_error(gradients[name], expected, scale) < 1e-10, name


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_and_loss_have_the_same_gradients(family: str) -> None:
    """By `gpt_forward`, a loss by hand and `gpt_backward`, and by `loss_forward` and `loss_backward`."""
    config = config_of(family)
    parameters = Parameters.from_mapping(config, gpt_case(config, np.random.default_rng(10)).inputs)
    tokens, targets = np.random.default_rng(11).integers(5, size=(2, 3, 4))
    logits, cache = gpt_forward(tokens, parameters.tree, config)
    loss, head = cross_entropy_forward(logits, targets)
    gradients = gpt_backward(cross_entropy_backward(np.ones_like(loss), head), cache)
    other_loss, other_cache = loss_forward(tokens, targets, parameters.tree, config)
    others = loss_backward(np.ones_like(loss), other_cache)
    found, expected = (Parameters.from_tree(config, tree).flat for tree in (gradients, others))
    assert float(loss) == pytest.approx(float(other_loss), rel=1e-14)
    assert relative_error(found, expected) < 1e-13


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tied_table_gets_the_gradients_of_both_its_uses(family: str) -> None:
    tied, untied = (config_of(family, tied=tied) for tied in (True, False))
    parameters = Parameters.from_mapping(tied, gpt_case(tied, np.random.default_rng(10)).inputs)
    twice = Parameters.from_mapping(untied, {**parameters, "head.w_lm": parameters["embedding.token"].T})
    tokens, targets = np.random.default_rng(11).integers(5, size=(2, 3, 4))
    (loss, cache), (other, other_cache) = (loss_forward(tokens, targets, x.tree, x.config) for x in (parameters, twice))
    assert float(loss) == pytest.approx(float(other), rel=1e-14)
    gradients = Parameters.from_tree(tied, loss_backward(np.ones_like(loss), cache))
    each = Parameters.from_tree(untied, loss_backward(np.ones_like(loss), other_cache))
    assert "head.w_lm" not in gradients
    both = each["embedding.token"] + each["head.w_lm"].T
    assert relative_error(gradients["embedding.token"], both) < 1e-13
    for part in (each["embedding.token"], each["head.w_lm"].T):
        assert relative_error(both, part) > 0.01
    for name, gradient in gradients.items():
        if name != "embedding.token":
            np.testing.assert_allclose(gradient, each[name], rtol=1e-10, atol=1e-14)


def changed_positions(config: ModelConfig, T: int, at: int) -> list[int]:
    """The positions whose logits change with the token at one of them."""
    parameters = Parameters.from_mapping(config, gpt_case(config, np.random.default_rng(12)).inputs)
    tokens = np.zeros((1, T), int)
    before, _ = gpt_forward(tokens, parameters.tree, config)
    tokens[0, at] = 1
    after, _ = gpt_forward(tokens, parameters.tree, config)
    return [int(t) for t in np.flatnonzero((before != after).any(axis=-1)[0])]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_token_changes_what_comes_after_it_within_its_reach_and_nothing_else(family: str) -> None:
    """A window of w reaches w - 1 positions further in each block, unless one of them has none."""
    config = config_of(family, context=12, layers=3)
    windows = [config.window_of(n) for n in range(3)]
    reach = 12 if None in windows else sum(window - 1 for window in windows if window)
    assert (reach < 12) == (family == "mistral")
    for at in (0, 4, 11):
        assert changed_positions(config, 12, at) == list(range(at, min(12, at + reach + 1)))


@pytest.mark.parametrize("full_blocks", [0, 1, 2, 3])
def test_the_first_blocks_see_everything(full_blocks: int) -> None:
    """Seen by a tap: the weights of a block with a window are a band, those of one without are a triangle."""
    config = ModelConfig(**SMALL | {"layers": 3, "context": 6, "window": 2, "full_blocks": full_blocks})
    seen: dict[str, Array] = {}

    def collect(at: str, x: Array) -> Array:
        seen[at] = x.copy()
        return x

    gpt_forward(np.zeros((1, 6), int), initial_parameters(config).tree, config, collect)
    for n in range(3):
        counts = (seen[f"blocks.{n}.attention.weights"] > 0).sum(axis=-1)
        np.testing.assert_array_equal(counts[0, 0], np.minimum(np.arange(1, 7), 6 if n < full_blocks else 2))
