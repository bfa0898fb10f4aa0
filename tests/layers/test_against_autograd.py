"""Every layer against HIPS autograd, an independent automatic differentiation: value to 1e-12, gradients to 1e-10."""

from collections.abc import Callable
from functools import partial
from typing import Any

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad

from handgrad.proof import all_cases, relative_error
from handgrad.proof.cases import SIZES
from tests import reference

CASES = all_cases(seed=4)


def reference_of(name: str) -> Callable[..., Any]:
    given = CASES[name].given
    references: dict[str, Callable[..., Any]] = {
        "linear": reference.linear,
        "embedding": lambda table: table[given["tokens"]],
        "positions": lambda x, table: x + table[: x.shape[1]],
        "layer_norm": reference.layer_norm,
        "softmax": reference.softmax,
        "causal_attention": reference.causal_attention,
        "attention_tiles": partial(reference.causal_attention, scale=1.0),
        "multi_head_attention": partial(reference.multi_head_attention, heads=SIZES.H),
        "silu": reference.silu,
        "swiglu": reference.swiglu,
        "linear_cross_entropy": lambda x, w: reference.cross_entropy(anp.dot(x, w), given["targets"]),
        "cross_entropy": lambda logits: reference.cross_entropy(logits, given["targets"]),
    }
    return references[name]


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("block", "gpt")])
def test_layer_equals_autograd(name: str) -> None:
    case, f = CASES[name], reference_of(name)
    inputs = list(case.inputs.values())
    y, cache = case.run()
    assert relative_error(y, np.asarray(f(*inputs))) < 1e-12
    dy = np.asarray(np.random.default_rng(5).standard_normal(y.shape))
    for position, (tensor, gradient) in enumerate(case.gradients(dy, cache).items()):
        expected = grad(lambda *inputs: anp.sum(f(*inputs) * dy), position)(*inputs)
        assert relative_error(gradient, expected) < 1e-10, tensor
