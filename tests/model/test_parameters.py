"""Parameters: names, shapes, and one memory behind them all."""

import math
from typing import Any, Literal

import numpy as np
import pytest

from handgrad.model import (
    ModelConfig,
    Parameters,
    build_tree,
    initial_parameters,
    leaves,
    named_shapes,
    parameters_by_part,
)
from handgrad.proof.making import FAMILIES

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


GATED = {"feed_forward.w_gate": (8, 12), "feed_forward.w_up": (8, 12), "feed_forward.w_down": (12, 8)}
GAINS = {"norm_1.gamma": (8,), "norm_2.gamma": (8,)}


def attention(q: int, kv: int) -> dict[str, tuple[int, ...]]:
    """Its four matrices where all heads of queries, and all of keys, are so wide."""
    return {
        "attention.w_q": (8, q),
        "attention.w_k": (8, kv),
        "attention.w_v": (8, kv),
        "attention.w_o": (q, 8),
    }


BLOCKS: dict[str, dict[str, tuple[int, ...]]] = {
    "default": BLOCK,
    "gpt2": {
        **dict.fromkeys(("norm_1.gamma", "norm_1.beta", "norm_2.gamma", "norm_2.beta"), (8,)),
        **attention(8, 8),
        **{f"attention.b_{name}": (8,) for name in "qkvo"},
        "feed_forward.w_up": (8, 12),
        "feed_forward.w_down": (12, 8),
        "feed_forward.b_up": (12,),
        "feed_forward.b_down": (8,),
    },
    "llama": GAINS | attention(8, 4) | GATED,
    "mistral": GAINS | attention(12, 6) | GATED,
    "qwen2": GAINS | attention(8, 8) | {f"attention.b_{name}": (8,) for name in "qkv"} | GATED,
    "qwen3": GAINS | attention(4, 2) | {"attention.gamma_q": (2,), "attention.gamma_k": (2,)} | GATED,
    "nanogpt": GAINS | attention(8, 8) | {"feed_forward.w_up": (8, 12), "feed_forward.w_down": (12, 8)},
}
"""Of a block of each family, at the sizes of CONFIG."""
WITHOUT = {
    "default": set(),
    "gpt2": {"head.w_lm"},
    "llama": {"embedding.position", "norm.beta"},
    "mistral": {"embedding.position", "norm.beta"},
    "qwen2": {"embedding.position", "norm.beta", "head.w_lm"},
    "qwen3": {"embedding.position", "norm.beta"},
    "nanogpt": {"norm.beta", "head.w_lm"},
}
"""What a family lacks outside its blocks."""
FRESH = dict.fromkeys(("gamma", "gamma_q", "gamma_k"), 1) | dict.fromkeys(
    ("beta", "b_q", "b_k", "b_v", "b_o", "b_up", "b_down"), 0
)
"""The number of which fresh tensors of such a name are full; the others are random."""


@pytest.mark.parametrize("family", FAMILIES)
def test_names_and_shapes_of_every_family(family: str) -> None:
    config = ModelConfig(**CONFIG.to_dict() | {"head_width": 0, "key_value_heads": 0} | FAMILIES[family])
    outside = {name: SHAPES[name] for name in SHAPES if not name.startswith("blocks.")}
    blocks = {f"blocks.{n}.{name}": shape for n in range(2) for name, shape in BLOCKS[family].items()}
    expected = {name: shape for name, shape in (outside | blocks).items() if name not in WITHOUT[family]}
    assert named_shapes(config) == expected
    first = initial_parameters(config, seed=1)
    assert {name: tensor.shape for name, tensor in first.items()} == expected
    assert [leaf.shape for leaf in leaves(first.tree)] == list(named_shapes(config).values())
    for copy in (Parameters.from_tree(config, first.tree), Parameters.from_mapping(config, first)):
        np.testing.assert_array_equal(copy.flat, first.flat)
        assert not np.shares_memory(copy.flat, first.flat)
    assert sum(parameters_by_part(first).values()) == sum(map(math.prod, expected.values()))
    for name, tensor in first.items():
        kind = name.rpartition(".")[2]
        assert set(tensor.flat) == {FRESH[kind]} if kind in FRESH else len(set(tensor.flat)) == tensor.size, name


@pytest.mark.parametrize("family", FAMILIES)
def test_a_path_in_the_tree_is_the_name(family: str) -> None:
    config = ModelConfig(**CONFIG.to_dict() | {"head_width": 0, "key_value_heads": 0} | FAMILIES[family])
    tree = build_tree(config, lambda name, _: name)

    def paths(part: Any, path: str) -> None:
        if isinstance(part, str):
            assert part == path
        elif part is not None:
            names = getattr(part, "_fields", map(str, range(len(part))))
            for name, child in zip(names, part, strict=True):
                paths(child, f"{path}.{name}" if path else name)

    paths(tree, "")


LLAMA: dict[str, Any] = {"norm": "rms", "positions": "rotary"}
PUBLISHED: dict[str, tuple[dict[str, Any], int]] = {
    "GPT-2": (
        {"layers": 12, "heads": 12, "width": 768, "hidden": 3072, "context": 1024, "vocabulary": 50257}
        | FAMILIES["gpt2"],
        124_439_808,
    ),
    "nanoGPT": (  # which tells 123.59M: it does not count the positions
        {"layers": 12, "heads": 12, "width": 768, "hidden": 3072, "context": 1024, "vocabulary": 50304}
        | FAMILIES["nanogpt"],
        123_587_328 + 1024 * 768,
    ),
    "Llama 3.1 8B": (
        {"layers": 32, "heads": 32, "width": 4096, "hidden": 14336, "context": 131072, "vocabulary": 128256}
        | {**LLAMA, "key_value_heads": 8},
        8_030_261_248,
    ),
    "Mistral 7B": (
        {"layers": 32, "heads": 32, "width": 4096, "hidden": 14336, "context": 32768, "vocabulary": 32000}
        | {**LLAMA, "key_value_heads": 8, "window": 4096},
        7_241_732_096,
    ),
    "Qwen2 0.5B": (
        {"layers": 24, "heads": 14, "width": 896, "hidden": 4864, "context": 131072, "vocabulary": 151936}
        | {**LLAMA, "key_value_heads": 2, "attention_bias": "qkv", "tied": True},
        494_032_768,
    ),
    "Qwen3 0.6B": (
        {"layers": 28, "heads": 16, "width": 1024, "hidden": 3072, "context": 40960, "vocabulary": 151936}
        | {**LLAMA, "key_value_heads": 8, "head_width": 128, "query_key_norm": True, "tied": True},
        596_049_920,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_models_have_as_many_numbers_as_was_published(name: str) -> None:
    fields, count = PUBLISHED[name]
    assert sum(map(math.prod, named_shapes(ModelConfig(**fields)).values())) == count


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
    ("init", "variance"),
    [("xavier", 2 / (200 + 100)), ("he", 2 / 200), ("lecun", 1 / 200), ("normal", 0.0004), ("unit", 1.0)],
)
def test_fresh_matrices_have_the_variance_that_init_names(init: str, variance: float) -> None:
    config = ModelConfig.from_dict(
        {"layers": 2, "heads": 2, "width": 200, "hidden": 100, "context": 64, "vocabulary": 100, "init": init}
        | {"embedding_std": 0.5}
    )
    parameters = initial_parameters(config, seed=1)
    assert parameters["blocks.0.feed_forward.w_gate"].var() == pytest.approx(variance, rel=0.05)
    assert parameters["head.w_lm"].var() == pytest.approx(variance, rel=0.05)
    embedding = 1 if init == "unit" else 0.5
    assert parameters["embedding.token"].std() == pytest.approx(embedding, rel=0.05)
    assert parameters["embedding.position"].std() == pytest.approx(embedding, rel=0.05)
    assert set(parameters["norm.gamma"]) == {1}
    assert set(parameters["blocks.1.norm_2.beta"]) == {0}


@pytest.mark.parametrize(("init", "variance"), [("xavier", 1 / 64), ("normal", 0.0004)])
def test_what_writes_to_the_residual_stream_starts_smaller(init: Literal["xavier", "normal"], variance: float) -> None:
    config = ModelConfig(layers=8, heads=2, width=64, hidden=64, context=8, vocabulary=8, init=init)
    parameters = initial_parameters(config, seed=1)
    for name in ("attention.w_o", "feed_forward.w_down"):
        assert parameters[f"blocks.3.{name}"].var() == pytest.approx(variance / 16, rel=0.1)


def test_the_seed_decides() -> None:
    first, again, other = (initial_parameters(CONFIG, seed=seed).flat for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
