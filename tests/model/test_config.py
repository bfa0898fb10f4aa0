"""Settings refuse what contradicts itself, naming the field and the value."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from handgrad.errors import ConfigError
from handgrad.layers import Rotary
from handgrad.model import ModelConfig
from handgrad.training import TrainingConfig

GOOD = {"layers": 2, "heads": 2, "width": 8, "hidden": 12, "context": 6, "vocabulary": 7}


def test_a_config_survives_its_dictionary() -> None:
    config = ModelConfig.from_dict(GOOD)
    assert ModelConfig.from_dict(config.to_dict()) == config
    assert (config.norm, config.residual, config.score_scale, config.init) == ("layer", True, True, "xavier")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"heads": 3}, "heads: 3 does not divide width 8"),
    ({"layers": 0}, "layers: 0 is not a whole number of at least 1"),
    ({"width": 8.0}, "width: 8.0 is not a whole number of at least 1"),
    ({"context": True}, "context: True is not a whole number of at least 1"),
    ({"hidden": "12"}, "hidden: '12' is not a whole number of at least 1"),
    ({"vocabulary": None}, "vocabulary: None is not a whole number of at least 1"),
    ({"key_value_heads": 4}, "key_value_heads: 4 does not divide heads 2"),
    ({"key_value_heads": -1}, "key_value_heads: -1 is not a whole number of at least 0"),
    ({"head_width": -2}, "head_width: -2 is not a whole number of at least 0"),
    ({"head_width": 3, "positions": "rotary"}, "head_width: 3 is odd; rotary positions turn pairs"),
    ({"width": 6, "positions": "rotary"}, "head_width: 3 is odd; rotary positions turn pairs"),
    ({"positions": "alibi"}, "positions: 'alibi' is not one of learned, rotary"),
    ({"rotary_base": 0}, "rotary_base: 0 is not a number above 0"),
    ({"rotary_factor": 0.5}, "rotary_factor: 0.5 is not a number of at least 1"),
    ({"rotary_low_factor": 0.0}, "rotary_low_factor: 0.0 is not a number above 0"),
    ({"rotary_low_factor": 5}, "rotary_high_factor: 4.0 is not above rotary_low_factor 5.0"),
    ({"rotary_high_factor": 1}, "rotary_high_factor: 1.0 is not above rotary_low_factor 1.0"),
    ({"rotary_high_factor": float("inf")}, "rotary_high_factor: inf is not a number above 0"),
    ({"rotary_first_context": 0}, "rotary_first_context: 0 is not a whole number of at least 1"),
    ({"norm": "batch"}, "norm: 'batch' is not one of layer, rms, none"),
    ({"norm_epsilon": 0.0}, "norm_epsilon: 0.0 is not a number above 0"),
    ({"query_key_norm": "rms"}, "query_key_norm: 'rms' is not true or false"),
    ({"attention_bias": True}, "attention_bias: True is not one of none, qkv, all"),
    ({"window": -1}, "window: -1 is not a whole number of at least 0"),
    ({"full_blocks": 0.5}, "full_blocks: 0.5 is not a whole number of at least 0"),
    ({"feed_forward": "relu"}, "feed_forward: 'relu' is not one of swiglu, gelu"),
    ({"bias": "none"}, "bias: 'none' is not true or false"),
    ({"tied": 0}, "tied: 0 is not true or false"),
    ({"residual": 1}, "residual: 1 is not true or false"),
    ({"score_scale": None}, "score_scale: None is not true or false"),
    ({"init": ["he"]}, "init: ['he'] is not one of xavier, he, lecun, normal, unit"),
    ({"embedding_std": 0}, "embedding_std: 0 is not a number above 0 and below 1000"),
    ({"embedding_std": 1e39}, "embedding_std: 1e+39 is not a number above 0 and below 1000"),
    ({"dropout": 0.1}, "dropout: unknown field (value 0.1); the fields are layers, heads, width"),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=str)
def test_a_wrong_field_is_named_with_its_value(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        ModelConfig.from_dict(GOOD | change)
    assert str(raised.value).startswith(message)


def test_no_field_takes_everything() -> None:
    assert {message.partition(":")[0] for _, message in WRONG} - {"dropout"} == {
        field.name for field in dataclasses.fields(ModelConfig)
    }


def test_what_is_left_out_is_as_it_was_before_there_were_families() -> None:
    config = ModelConfig.from_dict(GOOD)
    assert (config.G, config.D, config.rotary) == (2, 4, None)
    assert {config.window_of(n) for n in range(2)} == {None}
    fields = ("norm", "positions", "feed_forward", "attention_bias", "bias", "query_key_norm", "tied", "norm_epsilon")
    values = [getattr(config, field) for field in fields]
    assert values == ["layer", "learned", "swiglu", "none", True, False, False, 1e-5]


def test_heads_of_their_own_width_need_not_divide_the_width() -> None:
    config = ModelConfig.from_dict(GOOD | {"heads": 3, "head_width": 6, "positions": "rotary", "key_value_heads": 1})
    assert (config.head_width, config.key_value_heads) == (6, 1)
    assert ModelConfig.from_dict(config.to_dict()) == config


def test_the_fields_of_a_rotation_are_one_thing() -> None:
    fields = {"base": 5e5, "factor": 8.0, "low_factor": 0.5, "high_factor": 3.0, "first_context": 512}
    config = ModelConfig.from_dict(GOOD | {f"rotary_{name}": x for name, x in fields.items()} | {"positions": "rotary"})
    assert config.rotary == Rotary(**fields)  # type: ignore[arg-type]
    assert ModelConfig.from_dict(GOOD | {"positions": "rotary"}).rotary == Rotary()


def test_the_first_blocks_may_have_no_window() -> None:
    config = ModelConfig.from_dict(GOOD | {"layers": 4, "window": 5, "full_blocks": 2})
    assert [config.window_of(n) for n in range(4)] == [None, None, 5, 5]
    assert ModelConfig.from_dict(GOOD | {"window": 5}).window_of(0) == 5


def test_a_missing_field_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^hidden: missing field$"):
        ModelConfig.from_dict({name: value for name, value in GOOD.items() if name != "hidden"})


def test_a_number_of_numpy_s_becomes_a_plain_one() -> None:
    config = ModelConfig.from_dict(GOOD | {"vocabulary": np.int64(7)})
    assert type(config.vocabulary) is int
    assert config == ModelConfig.from_dict(GOOD)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("learning_rate", 0, "learning_rate: 0 is not a number above 0"),
        ("learning_rate", float("nan"), "learning_rate: nan is not a number above 0"),
        ("clip", float("inf"), "clip: inf is not a number above 0"),
        ("beta_1", 1.0, "beta_1: 1.0 is not a number of at least 0 and below 1"),
        ("weight_decay", -0.1, "weight_decay: -0.1 is not a number of at least 0"),
        ("seed", -1, "seed: -1 is not a whole number of at least 0"),
        ("learning_rate", 1e-5, "final_learning_rate: 0.0001 is above learning_rate 1e-05"),
        ("steps", 1e3, "steps: 1000.0 is not a whole number of at least 1"),
    ],
)
def test_training_settings_have_their_bounds(field: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        TrainingConfig.from_dict({field: value})
    assert str(raised.value) == message
