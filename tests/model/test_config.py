"""Settings refuse what contradicts itself, naming the field and the value."""

from typing import Any

import numpy as np
import pytest

from handgrad.errors import ConfigError
from handgrad.model import ModelConfig
from handgrad.training import TrainingConfig

GOOD = {"layers": 2, "heads": 2, "width": 8, "hidden": 12, "context": 6, "vocabulary": 7}


def test_a_config_survives_its_dictionary() -> None:
    config = ModelConfig.from_dict(GOOD)
    assert ModelConfig.from_dict(config.to_dict()) == config
    assert (config.norm, config.residual, config.score_scale, config.init) == ("layer", True, True, "xavier")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 3}, "heads: 3 does not divide width 8"),
        ({"layers": 0}, "layers: 0 is not a whole number of at least 1"),
        ({"width": 8.0}, "width: 8.0 is not a whole number of at least 1"),
        ({"context": True}, "context: True is not a whole number of at least 1"),
        ({"hidden": "12"}, "hidden: '12' is not a whole number of at least 1"),
        ({"vocabulary": None}, "vocabulary: None is not a whole number of at least 1"),
        ({"residual": 1}, "residual: 1 is not true or false"),
        ({"norm": "batch"}, "norm: 'batch' is not one of layer, none"),
        ({"init": ["he"]}, "init: ['he'] is not one of xavier, he, lecun, unit"),
        ({"dropout": 0.1}, "dropout: unknown field (value 0.1); the fields are layers, heads, width"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named_with_its_value(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        ModelConfig.from_dict(GOOD | change)
    assert str(raised.value).startswith(message)


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
