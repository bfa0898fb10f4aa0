"""Settings: presets, what stands in for what, and that whatever is wrong is named."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from handgrad.errors import ConfigError, HandgradError
from handgrad.model import Model, ModelConfig, Tokenizer, initial_parameters
from handgrad.settings import Settings, Size, read_assignment
from handgrad.training import (
    PRESETS,
    TrainingConfig,
    field_meanings,
    make_recipe,
    read_plan,
    recipe_for,
)
from handgrad.training.recipe import TokenizerConfig

CONFIGS: list[type[Settings]] = [ModelConfig, TokenizerConfig, TrainingConfig]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("vocabulary", [1, 65, 1024])
def test_every_preset_is_a_model_and_a_training(preset: str, vocabulary: int) -> None:
    recipe = make_recipe(preset=preset)
    config = recipe.model(vocabulary)
    assert config.vocabulary == vocabulary
    for name, value in PRESETS[preset].settings.items():
        assert recipe.to_dict()[name] == value
    assert recipe.training.warmup <= recipe.training.steps // 2
    assert recipe.training.batch % recipe.training.accumulation == 0
    assert recipe.training.evaluations <= recipe.training.steps
    assert recipe.tokenizer.tokenizer == "chars"
    assert recipe.training.keep == (preset != "medium")  # whose models are large
    assert PRESETS[preset].purpose


def test_fields_stand_in_for_the_preset_s_and_these_for_the_defaults() -> None:
    fields = {"width": 96, "learning_rate": 0.25, "seed": 7, "norm": "none"}
    recipe = make_recipe(fields, "tiny")
    tiny = PRESETS["tiny"].settings
    sizes = {name: tiny[name] for name in ("layers", "heads", "hidden", "context")}
    assert recipe.architecture.items() >= (sizes | {"width": 96, "norm": "none", "residual": True}).items()
    assert {**recipe.architecture, "vocabulary": 9} == recipe.model(9).to_dict()
    assert recipe.training == TrainingConfig(steps=tiny["steps"], learning_rate=0.25, seed=7, keep=True)
    assert recipe.tokenizer == TokenizerConfig()
    assert make_recipe() == make_recipe({}, "default") != make_recipe({}, "tiny")


def test_a_recipe_does_not_write_into_what_it_is_made_from() -> None:
    before = {name: dict(preset.settings) for name, preset in PRESETS.items()}
    fields = {"width": 8, "heads": 1}
    make_recipe(fields, "tiny").architecture["width"] = 1
    assert fields == {"width": 8, "heads": 1}
    assert {name: preset.settings for name, preset in PRESETS.items()} == before


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"widht": 3}, "widht: unknown field; did you mean width? (value 3)"),
        ({"learning-rate": 0.1}, "learning-rate: unknown field; did you mean learning_rate? (value 0.1)"),
        ({"qqq": "x"}, "qqq: unknown field (value 'x'); the fields are layers, heads, width, "),
        ({"": 1}, ": unknown field (value 1); the fields are layers, "),
        ({"dropout": 0.1}, "dropout: there is none: few passes over the text leave a small model nothing to overfit"),
        ({"vocabulary": 500}, "vocabulary: 500, but a tokenizer of chars has its own size"),
        ({"vocabulary": 256, "tokenizer": "bytes"}, "vocabulary: 256, but a tokenizer of bytes has its own size"),
        ({"vocabulary": 255, "tokenizer": "bpe"}, "vocabulary: 255 is not a whole number of at least 256"),
        ({"vocabulary": 1e3, "tokenizer": "bpe"}, "vocabulary: 1000.0 is not a whole number of at least 256"),
        ({"tokenizer": "words"}, "tokenizer: 'words' is not one of chars, bytes, bpe"),
        ({"tokenizer": ["bpe"]}, "tokenizer: ['bpe'] is not one of chars, bytes, bpe"),
        ({"width": "wide"}, "width: 'wide' is not a whole number of at least 1"),
        ({"width": 64.0}, "width: 64.0 is not a whole number of at least 1"),
        ({"width": True}, "width: True is not a whole number of at least 1"),
        ({"width": None}, "width: None is not a whole number of at least 1"),
        ({"width": 130}, "heads: 4 does not divide width 130"),
        ({"layers": 0}, "layers: 0 is not a whole number of at least 1"),
        ({"residual": 1}, "residual: 1 is not true or false"),
        ({"norm": "batch"}, "norm: 'batch' is not one of layer, rms, none"),
        ({"steps": -1}, "steps: -1 is not a whole number of at least 1"),
        ({"seed": -1}, "seed: -1 is not a whole number of at least 0"),
        ({"learning_rate": 0}, "learning_rate: 0 is not a number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate: nan is not a number above 0"),
        ({"learning_rate": float("inf")}, "learning_rate: inf is not a number above 0"),
        ({"learning_rate": 1e-5}, "final_learning_rate: 0.0001 is above learning_rate 1e-05"),
        ({"beta_1": 1}, "beta_1: 1 is not a number of at least 0 and below 1"),
        ({"clip": [1]}, "clip: [1] is not a number above 0"),
        ({"weight_decay": {"all": 1}}, "weight_decay: {'all': 1} is not a number of at least 0"),
        ({"model": {"width": 64}}, "model: unknown field (value {'width': 64}); "),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_wrong_with_a_field_is_said_by_its_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        make_recipe(fields)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_what_is_wrong_with_several_fields_is_said_of_each() -> None:
    """Whichever of the records they belong to; and the fields that there are once, at the end."""
    wrong = {"qqq": 1, "steps": 0, "zzz": 2, "vocabulary": 9, "width": "a", "widht": 3, "heads": 0, "dropout": 0.1}
    with pytest.raises(ConfigError) as raised:
        make_recipe(wrong)
    told = [problem.partition(":")[0] for problem in raised.value.args]
    assert told == ["heads", "width", "vocabulary", "steps", "qqq", "zzz", "widht", "dropout"]
    assert str(raised.value).count("the fields are") == 1
    assert str(raised.value).endswith(f"(value 0.1); the fields are {', '.join(field_meanings())}")


def test_without_a_preset_the_fields_have_their_defaults() -> None:
    """As a run of an older version has, which lacks them in its record, and fine-tuning."""
    sizes = {"layers": 1, "heads": 2, "width": 8, "hidden": 12, "context": 8}
    recipe = make_recipe(sizes, preset=None)
    assert recipe.training == TrainingConfig()
    assert recipe.model(7) == ModelConfig.from_dict(sizes | {"vocabulary": 7})
    assert make_recipe(sizes).training != TrainingConfig()
    with pytest.raises(ConfigError, match=r"^layers: missing field$"):
        make_recipe({}, preset=None)
    config = recipe.model(7)
    model = Model(config, initial_parameters(config), Tokenizer.of_characters("abcdefg"))
    tuning = recipe_for(model, {"steps": 3}).training
    assert (tuning.optimizer, tuning.steps, tuning.batch, tuning.hold, tuning.keep) == ("adamw", 3, 8, 0, False)


def test_another_optimizer_than_the_preset_s_has_its_own_rate_and_schedule() -> None:
    """A rate that is right for Muon ruins AdamW."""
    defaults, preset = TrainingConfig(), PRESETS["recipe"].settings
    other = make_recipe({"optimizer": "adamw"}, "recipe")
    assert other.training == dataclasses.replace(defaults, steps=preset["steps"], batch=preset["batch"], keep=True)
    assert other.architecture["positions"] == "rotary"
    same = make_recipe({"optimizer": "muon"}, "recipe").training
    assert (same.learning_rate, same.hold, same.momentum) == (preset["learning_rate"], 0.4, 0.8)
    assert make_recipe({"optimizer": "adamw"}, "tiny") == make_recipe({}, "tiny")
    tiny = make_recipe({"optimizer": "muon"}, "tiny").training
    assert (tiny.learning_rate, tiny.warmup, tiny.hold, tiny.momentum, tiny.steps) == (1e-2, 0, 0.4, 0.8, 1000)
    assert make_recipe({"optimizer": "adamw", "learning_rate": 0.25}).training.learning_rate == 0.25


def test_a_preset_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^preset: there is no 'huge'; there are tiny, default, recipe, medium$"):
        make_recipe({}, "huge")


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "fields", [{}, {"tokenizer": "bytes"}, {"tokenizer": "bpe"}, {"tokenizer": "bpe", "vocabulary": 300, "init": "he"}]
)
def test_a_recipe_comes_back_from_its_dictionary(preset: str, fields: dict[str, Any]) -> None:
    """Whatever the presets are by then: all fields are in it. It survives JSON."""
    recipe = make_recipe(fields, preset)
    written = json.loads(json.dumps(recipe.to_dict()))
    for other in PRESETS:
        assert make_recipe(written, other) == recipe
    assert set(recipe.to_dict()) == set(field_meanings()) - (
        {"vocabulary"} if recipe.tokenizer.tokenizer != "bpe" else set()
    )


@pytest.mark.parametrize("config", CONFIGS)
def test_every_field_says_what_it_means(config: type[Settings]) -> None:
    """A field without a text below it would be missing here, and could not be set either."""
    meanings = config.meanings()
    assert list(meanings) == [field.name for field in dataclasses.fields(config)]
    for name, meaning in meanings.items():
        assert len(meaning) > 5, name
        assert meaning == " ".join(meaning.split()), name
        assert meaning.endswith((".", "1")), name
        assert field_meanings()[name], name


@dataclass(frozen=True, kw_only=True)
class Undocumented(Settings):
    """A text about all of them."""

    first: Size = 1
    """What the first
    means."""
    second: Size = 2
    third: Size = 3
    """What the third means."""


def test_a_meaning_is_the_text_right_below_the_field() -> None:
    assert Undocumented.meanings() == {"first": "What the first means.", "third": "What the third means."}


def test_the_meanings_are_of_all_fields_and_the_vocabulary_s_is_the_one_that_can_be_set() -> None:
    assert set(field_meanings()) == {field.name for config in CONFIGS for field in dataclasses.fields(config)}
    assert field_meanings()["vocabulary"] == TokenizerConfig.meanings()["vocabulary"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("width=256", ("width", 256)),
        (" width = 256 ", ("width", 256)),
        ("learning_rate=1e-3", ("learning_rate", 1e-3)),
        ("learning_rate=0.5", ("learning_rate", 0.5)),
        ("seed=1_000", ("seed", 1000)),
        ("clip=-inf", ("clip", float("-inf"))),
        ("residual=false", ("residual", False)),
        ("residual=False", ("residual", "False")),
        ("tokenizer=bpe", ("tokenizer", "bpe")),
        ('tokenizer="bpe"', ("tokenizer", "bpe")),
        ("name=a b=c", ("name", "a b=c")),
        ("name='1'", ("name", "1")),
        ("name=[1", ("name", "[1")),
        ("name=[1, 2]", ("name", [1, 2])),
        ("name=007", ("name", "007")),
        ("name=" + "[" * 5000, ("name", "[" * 5000)),
        ("name=" + "9" * 5000, ("name", "9" * 5000)),
        ("name=0x" + "f" * 5000, ("name", "0x" + "f" * 5000)),
    ],
)
def test_an_assignment_is_a_name_and_a_value(text: str, expected: tuple[str, Any]) -> None:
    name, value = read_assignment(text)
    assert (name, value, type(value)) == (*expected, type(expected[1]))


@pytest.mark.parametrize("text", ["", "width", "width=", "=256", " = 256", "width= ", "="])
def test_what_is_no_assignment_is_quoted(text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_assignment(text)
    assert str(raised.value) == f"{text!r} is not of the form field=value"


def test_an_assignment_is_one() -> None:
    """A second line is not dropped without a word."""
    try:
        _, value = read_assignment("layers=2\nwidth=9")
    except ConfigError:
        return
    assert value != 2


def test_settings_are_read_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_bytes(
        b"\xef\xbb\xbf# mine\r\nwidth = 64\r\ntokenizer = 'bpe'\r\nresidual = true\r\ndata = ['a', 'b']\r\n"
    )
    settings = {"width": 64, "tokenizer": "bpe", "residual": True}
    assert read_plan(path) == (settings, None, [str(tmp_path / "a"), str(tmp_path / "b")], None)
    path.write_text("data = '-'\npreset = 'tiny'\nglob = '*.md'")
    assert read_plan(path) == ({}, "tiny", ["-"], "*.md")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"width = ", "not TOML: Invalid value (at "),
        (b"width: 3", "not TOML: Expected '=' after a key"),
        (b"width = 1\nwidth = 2", "not TOML: Cannot overwrite a value"),
        (b'{"width": 3}', "not TOML: Invalid statement"),
        (b"width = " + b"[" * 100_000, "not TOML: "),
        (b"# caf\xe9", "not UTF-8 (byte 5)"),
        (b"preset = ['tiny']", "preset: ['tiny'] is not a text"),
        (b"glob = 3", "glob: 3 is not a text"),
        (b"data = {}", "data: {} is neither a path nor a list of paths"),
        (b"data = ['a', 3]", "data: ['a', 3] is neither a path nor a list of paths"),
        (None, "no such file"),
    ],
    ids=["value", "yaml", "twice", "json", "deep", "latin", "preset", "glob", "table", "number", "missing"],
)
def test_a_settings_file_that_cannot_be_read_is_named(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(HandgradError) as raised:
        read_plan(path)
    assert str(raised.value).startswith(f"{path}: {message}")


def test_a_tokenizer_of_characters_knows_what_it_must_express() -> None:
    tokenizer = TokenizerConfig().make("ab", "abc")
    assert tokenizer.to_json() == Tokenizer.of_characters("abc").to_json()


def test_a_tokenizer_of_bytes_has_256() -> None:
    tokenizer = TokenizerConfig(tokenizer="bytes").make("ab", "abc")
    assert tokenizer.vocabulary == 256
    assert tokenizer.encode("漢").tolist() == list("漢".encode())


def test_a_tokenizer_of_byte_pairs_learns_from_what_it_may_learn_from() -> None:
    """From what is held out it learns nothing."""
    config = TokenizerConfig(tokenizer="bpe", vocabulary=260)
    tokenizer = config.make("the the the the", "xyz xyz xyz xyz xyz the")
    assert tokenizer.vocabulary == 259  # th, the, and that with the space before it
    assert tokenizer.to_json() == Tokenizer.of_byte_pairs("the the the the", 260).to_json()
    assert len(tokenizer.encode("the the")) == 2
    assert len(tokenizer.encode("xyz")) == 3
