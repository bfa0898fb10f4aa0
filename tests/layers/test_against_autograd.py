"""Every layer, a block, and whole models against HIPS autograd, an independent automatic differentiation."""

from collections.abc import Callable
from functools import partial
from typing import Any

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad

from handgrad.proof import Case, all_cases, relative_error
from handgrad.proof.cases import LAYER_OF
from handgrad.proof.check import largest_entry
from tests import reference

CASES = all_cases(seed=4)


def reference_of(name: str, case: Case) -> Callable[..., Any]:
    given = case.given
    references: dict[str, Callable[..., Any]] = {
        "embedding": lambda table: table[given["tokens"]],
        "positions": lambda x, table: x + table[: x.shape[1]],
        "rotary": partial(reference.rotated, **given),
        "causal_attention": partial(reference.causal_attention, **given),
        "multi_head_attention": partial(reference.multi_head_attention, **given),
        "linear_cross_entropy": lambda x, w: reference.cross_entropy(anp.dot(x, w), given["targets"]),
        "cross_entropy": lambda logits: reference.cross_entropy(logits, given["targets"]),
        "block": lambda x, *p: reference.block(x, dict(zip(list(case.inputs)[1:], p, strict=True)), given["config"]),
        "gpt": lambda *p: reference.loss(dict(zip(case.inputs, p, strict=True)), **given),
    }
    layer = LAYER_OF.get(name, name)
    return references[layer] if layer in references else getattr(reference, layer)


def assert_equals_autograd(case: Case, f: Callable[..., Any]) -> None:
    """Value to 1e-12, gradients to 1e-10."""
    inputs = list(case.inputs.values())
    y, cache = case.run()
    assert relative_error(y, np.asarray(f(*inputs))) < 1e-12
    dy = np.asarray(np.random.default_rng(5).standard_normal(y.shape))
    gradients = case.gradients(dy, cache)
    expected = grad(lambda *inputs: anp.sum(f(*inputs) * dy), tuple(range(len(inputs))))(*inputs)
    for (tensor, gradient), other in zip(gradients.items(), expected, strict=True):
        scale = largest_entry(gradients) if tensor in case.vanishing else None
        assert relative_error(gradient, other, scale) < 1e-10, tensor


@pytest.mark.parametrize("name", CASES)
def test_layer_equals_autograd(name: str) -> None:
    assert_equals_autograd(CASES[name], reference_of(name, CASES[name]))
