"""The decoder, whose layers are put together anew, against the model that is trained."""

import itertools
from typing import Any

import numpy as np
import pytest

from handgrad.layers import Array
from handgrad.model import Decoder, ModelConfig, Parameters, gpt_forward, initial_parameters
from handgrad.proof import relative_error
from handgrad.proof.making import FAMILIES

SMALL: dict[str, Any] = {"layers": 2, "heads": 4, "width": 8, "hidden": 12, "context": 300, "vocabulary": 11}
SWITCHES: dict[str, dict[str, Any]] = {
    **FAMILIES,
    "no norm": {"norm": "none", "positions": "rotary"},
    "no residual": {"residual": False},
    "no score scale": {"score_scale": False, "query_key_norm": True},
    "a bias of three": {"attention_bias": "qkv", "norm": "rms", "feed_forward": "gelu"},
    "a long window": {"window": 70, "key_value_heads": 2, "positions": "rotary"},
}
PIECES = [[300], [*(1,) * 20, 280], [1, 2, 60, 1, 1, 62, 1, 1, 1, 124, 1, 1, 1, 1, 42]]


def model(**switches: Any) -> tuple[ModelConfig, Parameters]:
    """In float64, with no parameter at a trivial value."""
    config = ModelConfig(**SMALL | switches)
    parameters = initial_parameters(config, seed=1, dtype=np.float64)
    parameters.flat += 0.2 * np.random.default_rng(2).standard_normal(parameters.flat.size)
    return config, parameters


def read(decoder: Decoder, tokens: Array, pieces: list[int]) -> list[Array]:
    ends = list(itertools.accumulate(pieces, initial=0))
    return [decoder.read(tokens[:, start:end]) for start, end in itertools.pairwise(ends)]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("switches", SWITCHES)
def test_pieces_of_any_length_are_read_as_the_whole(switches: str, batch: int) -> None:
    config, parameters = model(**SWITCHES[switches])
    tokens = np.random.default_rng(3).integers(11, size=(batch, 300))
    logits, _ = gpt_forward(tokens, parameters.tree, config)
    for pieces in PIECES:
        decoder = Decoder(parameters.tree, config, batch)
        found = np.stack(read(decoder, tokens, pieces), axis=1)
        assert relative_error(found, logits[:, np.cumsum(pieces) - 1]) < 1e-12, pieces
        assert decoder.length == 300


@pytest.mark.parametrize("family", FAMILIES)
def test_large_matrices_are_not_copied_and_give_the_same(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config, parameters = model(**FAMILIES[family])
    tokens = np.random.default_rng(3).integers(11, size=(2, 9))
    together = read(Decoder(parameters.tree, config, 2), tokens, [4, 1, 4])
    monkeypatch.setattr("handgrad.model.decoder.ONE_PRODUCT", 0)
    apart = read(Decoder(parameters.tree, config, 2), tokens, [4, 1, 4])
    assert relative_error(np.stack(apart), np.stack(together)) < 1e-12


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_forgotten_is_not_seen(family: str) -> None:
    config, parameters = model(**FAMILIES[family])
    tokens = np.random.default_rng(3).integers(11, size=(1, 9))
    decoder = Decoder(parameters.tree, config)
    decoder.read(tokens[:, 3:])
    decoder.forget()
    for found, expected in zip(
        read(decoder, tokens, [4, 5]), read(Decoder(parameters.tree, config), tokens, [4, 5]), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_shared_keys_take_less_memory_and_float32_stays() -> None:
    sizes = []
    for groups in (4, 2, 1):
        config, parameters = model(key_value_heads=groups, positions="rotary")
        single = Parameters(config, parameters.flat.astype(np.float32))
        decoder = Decoder(single.tree, config, batch=3)
        assert decoder.read(np.zeros((3, 70), int)).dtype == np.float32
        sizes.append(decoder.nbytes)
    keys_and_values = 2 * 2 * 3 * 300 * 2 * 4  # both, two blocks, three texts, the context, heads of width 2, float32
    assert sizes == [4 * keys_and_values, 2 * keys_and_values, keys_and_values]


@pytest.mark.parametrize("family", ["default", "llama"])
def test_reading_past_the_context_is_refused(family: str) -> None:
    parts = FAMILIES[family] | {"key_value_heads": 1}
    config = ModelConfig(layers=1, heads=1, width=4, hidden=4, context=5, vocabulary=7, **parts)
    decoder = Decoder(initial_parameters(config).tree, config)
    decoder.read(np.zeros((1, 5), np.int64))
    with pytest.raises(ValueError, match="6 positions, but the context is 5"):
        decoder.read(np.zeros((1, 1), np.int64))
