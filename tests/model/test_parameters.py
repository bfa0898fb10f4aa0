"""Parameters: names, shapes, and one memory behind them all."""

import numpy as np
import pytest

from handgrad.model import ModelConfig, Parameters, initial_parameters, leaves
from handgrad.model.parameters import named_shapes

CONFIG = ModelConfig(layers=2, heads=2, width=8, hidden=12, context=6, vocabulary=7)
BLOCK = {
    "norm_1.gamma": (8,),
    "norm_1.beta": (8,),
    "attention.w_q": (8, 8),
    "attention.w_k": (8, 8),
    "attention.w_v": (8, 8),
    "attention.w_o": (8, 8),
    "norm_2.gamma": (8,),
    "norm_2.beta": (8,),
    "feed_forward.w_gate": (8, 12),
    "feed_forward.w_up": (8, 12),
    "feed_forward.w_down": (12, 8),
}
SHAPES = {
    "embedding.token": (7, 8),
    "embedding.position": (6, 8),
    **{f"blocks.{n}.{name}": shape for n in range(2) for name, shape in BLOCK.items()},
    "norm.gamma": (8,),
    "norm.beta": (8,),
    "head.w_lm": (8, 7),
}


def test_names_and_shapes() -> None:
    parameters = Parameters(CONFIG)
    assert {name: tensor.shape for name, tensor in parameters.items()} == SHAPES == named_shapes(CONFIG)
    assert list(parameters) == list(SHAPES)
    assert len(parameters) == len(SHAPES)


def test_without_norm_there_are_no_gains() -> None:
    parameters = Parameters(ModelConfig(**{**CONFIG.to_dict(), "norm": "none"}))
    assert sorted(parameters) == sorted(name for name in SHAPES if "norm" not in name)


def test_names_tree_and_flat_vector_share_one_memory() -> None:
    parameters = Parameters(CONFIG)
    parameters["blocks.1.attention.w_k"][2, 3] = 5
    assert parameters.tree.blocks[1].attention.w_k[2, 3] == 5
    assert np.count_nonzero(parameters.flat) == 1
    flat = parameters.flat
    assert Parameters(CONFIG, flat).flat is flat
    for number, tensor in enumerate(parameters.values(), start=1):
        tensor[...] = number
    assert set(parameters.flat) == set(range(1, len(SHAPES) + 1))  # every entry has a name, and just one


def test_a_copy_from_a_tree_or_a_mapping_is_a_copy() -> None:
    parameters = initial_parameters(CONFIG)
    for copy in (Parameters.from_tree(CONFIG, parameters.tree), Parameters.from_mapping(CONFIG, parameters)):
        np.testing.assert_array_equal(copy.flat, parameters.flat)
        assert not np.shares_memory(copy.flat, parameters.flat)
    assert sum(leaf.size for leaf in leaves(parameters.tree)) == parameters.flat.size


@pytest.mark.parametrize(
    ("init", "variance"), [("xavier", 2 / (200 + 100)), ("he", 2 / 200), ("lecun", 1 / 200), ("unit", 1.0)]
)
def test_fresh_matrices_have_the_variance_that_init_names(init: str, variance: float) -> None:
    config = ModelConfig.from_dict(
        {"layers": 2, "heads": 2, "width": 200, "hidden": 100, "context": 64, "vocabulary": 100, "init": init}
    )
    parameters = initial_parameters(config, seed=1)
    assert parameters["blocks.0.feed_forward.w_gate"].var() == pytest.approx(variance, rel=0.05)
    assert parameters["head.w_lm"].var() == pytest.approx(variance, rel=0.05)
    embedding = 1 if init == "unit" else 0.02
    assert parameters["embedding.token"].std() == pytest.approx(embedding, rel=0.05)
    assert parameters["embedding.position"].std() == pytest.approx(embedding, rel=0.05)
    assert set(parameters["norm.gamma"]) == {1}
    assert set(parameters["blocks.1.norm_2.beta"]) == {0}


def test_what_writes_to_the_residual_stream_starts_smaller() -> None:
    config = ModelConfig(layers=8, heads=2, width=64, hidden=64, context=8, vocabulary=8)
    parameters = initial_parameters(config, seed=1)
    for name in ("attention.w_o", "feed_forward.w_down"):
        assert parameters[f"blocks.3.{name}"].var() == pytest.approx(1 / 64 / 16, rel=0.1)


def test_the_seed_decides() -> None:
    first, again, other = (initial_parameters(CONFIG, seed=seed).flat for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
