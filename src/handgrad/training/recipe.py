"""Everything that decides what a run becomes, but for the text: the settings of model, tokenizer and training."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from ..errors import ConfigError, meant, nearest
from ..files import read_toml
from ..model import Model, ModelConfig, Tokenizer
from ..settings import Bounds, Settings
from .config import TrainingConfig
from .presets import DEFAULT_PRESET, FINE_TUNING, OF_AN_OPTIMIZER, PRESETS, RATES
from .sources import STANDARD_INPUT


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig(Settings):
    """How a text is cut into tokens."""

    tokenizer: Literal["chars", "bytes", "bpe", "model", "data"] = "chars"
    """`chars`: the text's characters; `bytes`: the bytes of UTF-8; `bpe`: byte pairs, found in the text; `model`: that
    of the model which training starts from; `data`: that of the prepared data."""
    vocabulary: Annotated[int, Bounds(at_least=256)] = 1024
    """The most tokens that a `bpe` tokenizer may have; the others know theirs."""

    def make(self, learn_from: str, express: str) -> Tokenizer:
        """A tokenizer that knows `express` and, where it learns, has learned from `learn_from`."""
        if self.tokenizer == "model":
            raise ConfigError("tokenizer: 'model', but there is no model to start from; --init names one")
        if self.tokenizer == "data":
            raise ConfigError("tokenizer: 'data', but the data are not prepared; handgrad data prepare makes them so")
        if self.tokenizer == "bytes":
            return Tokenizer.of_bytes()
        if self.tokenizer == "bpe":
            return Tokenizer.of_byte_pairs(learn_from, self.vocabulary)
        return Tokenizer.of_characters(express)


MOST = 5
"""Unknown fields that are told of."""
NO_FIELDS = {
    "dropout": "there is none: few passes over the text leave a small model nothing to overfit, and gradients without "
    "randomness can be proved",
    "threads": "no setting, since it changes no result; --threads says it",
}
"""Names that are asked for, and why they are no fields."""


class Recipe(NamedTuple):
    """The settings of a run, checked."""

    architecture: dict[str, Any]
    """The fields of `ModelConfig` but the vocabulary, which the tokenizer decides."""
    tokenizer: TokenizerConfig
    training: TrainingConfig

    def model(self, vocabulary: int) -> ModelConfig:
        return ModelConfig(**self.architecture, vocabulary=vocabulary)

    def to_dict(self) -> dict[str, Any]:
        """All fields in one dictionary, which `make_recipe` takes."""
        tokenizer = self.tokenizer.to_dict()
        if self.tokenizer.tokenizer != "bpe":
            del tokenizer["vocabulary"]
        return {**self.architecture, **tokenizer, **self.training.to_dict()}


def make_recipe(fields: Mapping[str, Any] | None = None, preset: str | None = DEFAULT_PRESET) -> Recipe:
    """The recipe with a preset's settings, and these in their place; with no preset, with the fields' defaults.

    A `ConfigError` names each field that is wrong.
    """
    if preset is not None and preset not in PRESETS:
        raise ConfigError(f"preset: there is no {preset!r}; {meant(preset, PRESETS)}")
    given = dict(fields or {})
    settings = given if preset is None else _beside(PRESETS[preset].settings, given) | given

    def of(kind: type[Settings]) -> dict[str, Any]:
        return {name: settings[name] for name in kind.meanings() if name in settings}

    problems: list[str] = []
    with _gathered(problems):
        model = ModelConfig.from_dict(of(ModelConfig) | {"vocabulary": 1}).to_dict()
        del model["vocabulary"]
    with _gathered(problems):
        tokenizer = TokenizerConfig(**of(TokenizerConfig))
        if tokenizer.tokenizer != "bpe" and "vocabulary" in given:
            raise ConfigError(
                f"vocabulary: {given['vocabulary']!r}, but a tokenizer of {tokenizer.tokenizer} has its own size"
            )
    with _gathered(problems):
        training = TrainingConfig(**of(TrainingConfig))
    problems += _unknown_fields(given)
    if problems:
        raise ConfigError(*problems)
    if training.length > model["context"]:
        raise ConfigError(f"length: {training.length} is above the model's context, {model['context']}")
    return Recipe(model, tokenizer, training)


@contextmanager
def _gathered(problems: list[str]) -> Iterator[None]:
    """What is wrong within is told later, with the rest."""
    try:
        yield
    except ConfigError as error:
        problems += error.args


def _beside(settings: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What a preset sets; where another optimizer is given, that one's rate and schedule, not those of its own."""
    usual = settings.get("optimizer", TrainingConfig.optimizer)
    if given.get("optimizer", usual) == usual:
        return settings
    others = {name: value for name, value in settings.items() if name not in OF_AN_OPTIMIZER}
    return others | RATES.get(str(given["optimizer"]), {})


def field_meanings() -> dict[str, str]:
    """Every field that a recipe can have, and what it means."""
    return ModelConfig.meanings() | TokenizerConfig.meanings() | TrainingConfig.meanings()


def recipe_for(model: Model, fields: Mapping[str, Any]) -> Recipe:
    """The recipe to go on with a model: its architecture, gentle settings of training, and these fields in their place.

    A field of the architecture may be repeated, but not changed.
    """
    architecture = model.config.to_dict()
    del architecture["vocabulary"]
    for name, value in fields.items():
        if name in architecture and value != architecture[name]:
            raise ConfigError(f"{name}: {value!r}, but the model to start from has {architecture[name]!r}")
        if name in ("tokenizer", "vocabulary"):
            raise ConfigError(f"{name}: {value!r}, but the model to start from has a tokenizer")
    tuning = FINE_TUNING | {"length": min(FINE_TUNING["length"], model.config.context)}
    return make_recipe(architecture | tuning | dict(fields) | {"tokenizer": "model"}, preset=None)


class Plan(NamedTuple):
    """The content of a settings file."""

    settings: dict[str, Any]
    """Fields for `make_recipe`."""
    preset: str | None
    data: list[str] | None
    glob: str | None


def read_plan(path: Path) -> Plan:
    """Read a TOML file: fields, and `preset`, `glob` and `data`, paths that count from the file's folder."""
    settings = read_toml(path)
    preset, data, glob = (settings.pop(name, None) for name in ("preset", "data", "glob"))
    for name, value in settings.items():
        if isinstance(value, dict):
            raise ConfigError(f"{path}: [{name}]: a table, and settings have none; a line each, such as width = 256")
    for name, value in (("preset", preset), ("glob", glob)):
        if not isinstance(value, str | None):
            raise ConfigError(f"{path}: {name}: {value!r} is not a text")
    sources = [data] if isinstance(data, str) else data
    if not (sources is None or (isinstance(sources, list) and all(isinstance(source, str) for source in sources))):
        raise ConfigError(f"{path}: data: {data!r} is neither a path nor a list of paths")
    if sources is not None:
        sources = [
            source if source == STANDARD_INPUT or not source else str(path.parent / source) for source in sources
        ]
    return Plan(settings, preset, sources, glob)


def _unknown_fields(given: Mapping[str, Any]) -> list[str]:
    """What to tell of fields that there are not: the first few, and once, at the end, which there are."""
    known = field_meanings()
    unknown = [name for name in given if name not in known]
    told = [f"{name}: {_unknown(name, known)} (value {given[name]!r})" for name in unknown[:MOST]]
    if len(unknown) > MOST:
        told.append(f"and {len(unknown) - MOST} more unknown fields")
    if any(name not in NO_FIELDS and nearest(name, known) is None for name in unknown):
        told[-1] += f"; the fields are {', '.join(known)}"
    return told


def _unknown(name: str, known: Collection[str]) -> str:
    if name in NO_FIELDS:
        return NO_FIELDS[name]
    near = nearest(name, known)
    return "unknown field" + (f"; did you mean {near}?" if near else "")
