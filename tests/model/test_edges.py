"""The smallest models of every family: one position, one head of the least width, a width of 1, one token."""

from typing import Any

import numpy as np
import pytest

from handgrad.layers import Array
from handgrad.model import ModelConfig
from handgrad.proof import BAR, Case, complex_step_along, making
from handgrad.proof.making import FAMILIES, Maker, Sizes

SMALL: dict[str, Any] = {"layers": 2, "heads": 1, "width": 4, "hidden": 3, "context": 3, "vocabulary": 5}
UNHEARD = (".w_q", ".w_k", ".b_q", ".b_k", ".gamma_q", ".gamma_k")
"""What decides the scores: where a position sees but itself, its weight is 1 whatever they are."""


def smallest(family: str, T: int, **change: int) -> Case:
    """One sequence of T tokens; rotary positions turn pairs, so there a head's least width is 2."""
    least = {"head_width": 2 if FAMILIES[family].get("positions") == "rotary" else 1}
    config = ModelConfig(**SMALL | FAMILIES[family] | least | change)
    sizes = Sizes(1, T, config.width, 1, config.hidden, config.vocabulary)
    return making.gpt(Maker(np.random.default_rng(9), sizes), config=config)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_single_position_has_all_the_weight(family: str, dtype: type) -> None:
    case = smallest(family, T=1)
    seen: dict[str, Array] = {}

    def tap(name: str, x: Array) -> Array:
        seen[name] = x.copy()
        return x

    loss, cache = case.run({name: x.astype(dtype) for name, x in case.inputs.items()}, tap)
    for n in range(2):
        np.testing.assert_array_equal(seen[f"blocks.{n}.attention.weights"], 1)
    dloss = np.asarray(np.random.default_rng(1).standard_normal(), loss.dtype)
    for name, gradient in case.gradients(dloss, cache).items():
        if name.endswith(UNHEARD):
            np.testing.assert_array_equal(gradient, 0, err_msg=name)


@pytest.mark.parametrize("change", [{}, {"width": 1, "hidden": 1}], ids=str)
@pytest.mark.parametrize("T", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_the_smallest_models_equal_the_complex_step(family: str, T: int, change: dict[str, int]) -> None:
    """Of a width of 1 a norm leaves but the sign, and of many a gradient rounding: there the largest is the measure."""
    case, generator = smallest(family, T, **change), np.random.default_rng(1)
    dloss = np.asarray(generator.standard_normal())
    gradients = case.gradients(dloss, case.run()[1])
    norms = {name: float(np.linalg.norm(gradient)) for name, gradient in gradients.items()}
    in_complex = {name: x.astype(complex) for name, x in case.inputs.items()}
    for name, x in case.inputs.items():
        direction = generator.standard_normal(x.shape)

        def scalar(moved: Array, name: str = name) -> Array:
            return np.asarray(case.run(in_complex | {name: moved})[0] * dloss)

        off = abs(complex_step_along(scalar, x, direction) - float(np.vdot(gradients[name], direction)))
        unheard = T == 1 and name.endswith(UNHEARD)
        assert off <= BAR * (max(norms.values()) if change or unheard or name in case.vanishing else norms[name]), name


@pytest.mark.parametrize("T", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("family", FAMILIES)
def test_where_there_is_one_token_there_is_nothing_to_learn(family: str, dtype: type, T: int) -> None:
    case = smallest(family, T, vocabulary=1)
    loss, cache = case.run({name: x.astype(dtype) for name, x in case.inputs.items()})
    assert loss == 0
    for name, gradient in case.gradients(np.asarray(-1.7, dtype), cache).items():
        np.testing.assert_array_equal(gradient, 0, err_msg=name)
