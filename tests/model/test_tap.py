"""Taps: the names of the design, in every activation's and every cotangent's place; and each cotangent proved."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest

from handgrad.layers import Array, no_tap, within
from handgrad.model import ModelConfig, Parameters, loss_backward, loss_forward
from handgrad.proof import complex_step, complex_step_along, gpt_case, relative_error
from handgrad.proof.making import FAMILIES

CONFIG = ModelConfig(layers=2, heads=2, width=4, hidden=5, context=3, vocabulary=5)
PARAMETERS = Parameters.from_mapping(CONFIG, gpt_case(CONFIG, np.random.default_rng(0)).inputs)
TOKENS, TARGETS = np.array([[1, 2, 1], [0, 4, 3]]), np.array([[2, 1, -100], [4, 3, 3]])

BLOCK = [
    "norm_1.output",
    *(f"attention.{name}" for name in ("q", "k", "v", "scores", "masked_scores", "weights", "context", "output")),
    "residual_1",
    "norm_2.output",
    *(f"feed_forward.{name}" for name in ("gate", "up", "activated", "hidden", "output")),
    "residual_2",
]
NAMES = [
    "embedding.output",
    *(f"blocks.{n}.{name}" for n in range(2) for name in BLOCK),
    *("norm.output", "head.logits", "loss"),
]


OTHERS = [family for family in FAMILIES if family != "default"]


def names_of(config: ModelConfig) -> list[str]:
    """NAMES, with what is only there in some families."""

    def more() -> Iterable[str]:
        for name in NAMES:
            block, _, kind = name.partition(".attention.")
            if config.feed_forward == "gelu" and name.endswith((".gate", ".activated")):
                continue
            yield name
            if kind in ("q", "k") and config.query_key_norm:
                yield f"{block}.attention.{kind}_normed"
            if kind in ("q", "k") and config.positions == "rotary":
                yield f"{block}.attention.{kind}_rotated"

    return list(more())


def model_of(family: str) -> Parameters:
    config = replace(CONFIG, **{"head_width": 0, "key_value_heads": 0} | FAMILIES[family])
    return Parameters.from_mapping(config, gpt_case(config, np.random.default_rng(0)).inputs)


class Collector:
    """A tap that keeps a copy of everything."""

    def __init__(self) -> None:
        self.seen: dict[str, Array] = {}

    def __call__(self, name: str, x: Array) -> Array:
        assert name not in self.seen, f"{name} was tapped twice"
        self.seen[name] = x.copy()
        return x


def replacing(name: str, value: Array) -> Callable[[str, Array], Array]:
    return lambda at, x: value.copy() if at == name else x


def traced(parameters: Parameters) -> tuple[dict[str, Array], dict[str, Array], Array]:
    activations, cotangents = Collector(), Collector()
    loss, cache = loss_forward(TOKENS, TARGETS, parameters.tree, parameters.config, activations)
    gradients = loss_backward(np.ones_like(loss), cache, cotangents)
    return activations.seen, cotangents.seen, Parameters.from_tree(parameters.config, gradients).flat


@pytest.mark.parametrize("family", FAMILIES)
def test_activations_come_in_the_order_of_the_dataflow(family: str) -> None:
    parameters = model_of(family)
    activations, cotangents, _ = traced(parameters)
    names = names_of(parameters.config)
    assert list(activations) == names
    assert sorted(cotangents) == sorted(names)
    for name in names:
        assert activations[name].shape == cotangents[name].shape, name


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tap_that_only_looks_changes_nothing(family: str) -> None:
    parameters = model_of(family)
    _, _, gradients = traced(parameters)
    loss, cache = loss_forward(TOKENS, TARGETS, parameters.tree, parameters.config)
    untapped = Parameters.from_tree(parameters.config, loss_backward(np.ones_like(loss), cache))
    np.testing.assert_array_equal(gradients, untapped.flat)


@pytest.mark.parametrize("name", NAMES)
def test_each_cotangent_is_the_derivative_by_its_activation(name: str) -> None:
    """Move the activation by a tap, and the loss must move as the cotangent under the same name says."""
    activations, cotangents, _ = traced(PARAMETERS)
    in_complex = Parameters(CONFIG, PARAMETERS.flat.astype(complex))
    value = activations[name]
    if name.endswith("masked_scores"):
        value = np.maximum(value, -1e6)  # a step from minus infinity leads nowhere

    def loss_at(moved: Array) -> Array:
        return loss_forward(TOKENS, TARGETS, in_complex.tree, CONFIG, replacing(name, moved))[0]

    assert relative_error(cotangents[name], complex_step(loss_at, value)) < 1e-12


@pytest.mark.parametrize("family", OTHERS)
def test_each_cotangent_of_every_family_is_the_derivative_by_its_activation(family: str) -> None:
    """The same along a random direction."""
    parameters = model_of(family)
    config = parameters.config
    activations, cotangents, _ = traced(parameters)
    in_complex = Parameters(config, parameters.flat.astype(complex))
    generator = np.random.default_rng(2)
    for name, cotangent in cotangents.items():

        def loss_at(moved: Array, name: str = name) -> Array:
            return loss_forward(TOKENS, TARGETS, in_complex.tree, config, replacing(name, np.asarray(moved)))[0]

        direction = np.asarray(generator.standard_normal(cotangent.shape))
        slope = complex_step_along(loss_at, np.asarray(np.maximum(activations[name], -1e6)), direction)
        assert abs(np.vdot(cotangent, direction) - slope) < 1e-12 * np.linalg.norm(cotangent), name


def assert_gradients_follow(parameters: Parameters, name: str, activation: Array) -> None:
    """The forward goes on with what a tap returned, and the gradients are those of that other model.

    Nothing below the replaced activation has a part in the loss: a tap in the backward stops its cotangent there.
    """
    config = parameters.config
    fixed = np.maximum(activation, -1e6) * 0.7 + 0.1
    loss, cache = loss_forward(TOKENS, TARGETS, parameters.tree, config, replacing(name, fixed))
    stop = replacing(name, np.zeros_like(fixed))
    gradients = Parameters.from_tree(config, loss_backward(np.ones_like(loss), cache, stop))

    def loss_at(flat: Array) -> Array:
        tap = replacing(name, fixed.astype(flat.dtype))
        return loss_forward(TOKENS, TARGETS, Parameters(config, flat).tree, config, tap)[0]

    direction = np.random.default_rng(1).standard_normal(parameters.flat.size)
    slope = complex_step_along(loss_at, parameters.flat, direction)
    assert float(gradients.flat @ direction) == pytest.approx(slope, rel=1e-9), name


@pytest.mark.parametrize("name", NAMES[:-1])
def test_gradients_of_a_model_whose_activation_is_replaced(name: str) -> None:
    assert_gradients_follow(PARAMETERS, name, traced(PARAMETERS)[0][name])


@pytest.mark.parametrize("family", OTHERS)
def test_gradients_of_every_family_whose_activation_is_replaced(family: str) -> None:
    parameters = model_of(family)
    for name, activation in traced(parameters)[0].items():
        if name != "loss":
            assert_gradients_follow(parameters, name, activation)


def test_no_tap_stays_no_tap_within_a_scope() -> None:
    assert within(no_tap, "blocks.0") is no_tap


def test_a_tap_in_the_backward_intervenes() -> None:
    """With the cotangent of a block's output cut off, nothing below it learns, and all above it is as before."""
    loss, cache = loss_forward(TOKENS, TARGETS, PARAMETERS.tree, CONFIG)
    whole = Parameters.from_tree(CONFIG, loss_backward(np.ones_like(loss), cache))
    cut = replacing("blocks.0.residual_2", np.zeros((2, 3, 4)))
    gradients = Parameters.from_tree(CONFIG, loss_backward(np.ones_like(loss), cache, cut))
    for name, gradient in gradients.items():
        if name.startswith(("embedding", "blocks.0")):
            np.testing.assert_array_equal(gradient, 0)
        else:
            np.testing.assert_array_equal(gradient, whole[name])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tapped_tensor_of_a_float32_run_is_float32(family: str) -> None:
    parameters = model_of(family)
    activations, cotangents, gradients = traced(Parameters(parameters.config, parameters.flat.astype(np.float32)))
    assert {x.dtype for x in (*activations.values(), *cotangents.values(), gradients)} == {np.dtype(np.float32)}
