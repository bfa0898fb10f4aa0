"""Records of settings that check themselves: a wrong field is refused by name, with its value."""

import ast
import dataclasses
import inspect
import itertools
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args, get_origin, get_type_hints

from .errors import ConfigError, meant
from .files import parse_toml

LARGEST = 2**63
"""Sizes beyond it are hostile, and no float need hold them."""


class Bounds(NamedTuple):
    """The values that a number may take."""

    at_least: float = -math.inf
    above: float = -math.inf
    below: float = math.inf

    def admit(self, value: float) -> bool:
        return self.at_least <= value and self.above < value < self.below

    def __str__(self) -> str:
        words = zip(("of at least", "above", "below"), self, strict=True)
        return " and ".join(f"{word} {bound:g}" for word, bound in words if math.isfinite(bound))

    def __repr__(self) -> str:  # in the annotations that the reference shows
        return str(self)


Size = Annotated[int, Bounds(at_least=1)]
Count = Annotated[int, Bounds(at_least=0)]
Positive = Annotated[float, Bounds(above=0)]
NonNegative = Annotated[float, Bounds(at_least=0)]
Decay = Annotated[float, Bounds(at_least=0, below=1)]
Share = Annotated[float, Bounds(at_least=0, below=1)]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A frozen dataclass whose annotations are enforced: a number with `Bounds`, bool, or a `Literal` of strings."""

    def __post_init__(self) -> None:
        kinds = get_type_hints(type(self), include_extras=True)
        misfits = {name: _mismatch(getattr(self, name), kind) for name, kind in kinds.items()}
        if problems := [f"{name}: {getattr(self, name)!r} is not {x}" for name, x in misfits.items() if x]:
            raise ConfigError(*problems)
        for name, kind in kinds.items():
            value = getattr(self, name)
            if get_origin(kind) is not Literal and kind is not bool:
                object.__setattr__(self, name, get_args(kind)[0](value))  # a plain number, as it comes back from JSON

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The settings with these fields; unknown and missing ones are refused by name."""
        known = {field.name: field for field in dataclasses.fields(cls)}
        for name, value in fields.items():
            if name not in known:
                hint = meant(name, known, f"the fields are {', '.join(known)}")
                raise ConfigError(f"{name}: unknown field (value {value!r}); {hint}")
        for name, field in known.items():
            if name not in fields and field.default is field.default_factory is dataclasses.MISSING:
                raise ConfigError(f"{name}: missing field")
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def meanings(cls) -> dict[str, str]:
        """What each field means: the text below it in the source, as one line."""
        return dict(cls._meanings())

    @classmethod
    @cache
    def _meanings(cls) -> dict[str, str]:
        return meanings_of(cls)


def meanings_of(record: type) -> dict[str, str]:
    """What the fields of a class mean: the text below each in the source, as one line; without one it is left out."""
    (body,) = (node.body for node in ast.parse(inspect.getsource(record)).body if isinstance(node, ast.ClassDef))
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }


def read_assignment(text: str) -> tuple[str, Any]:
    """`name=value` as a name and a value in TOML's notation, where a text needs no quotes."""
    name, separator, value = text.partition("=")
    if not (separator and name.strip() and value.strip()):
        raise ConfigError(f"{text!r} is not of the form field=value")
    try:
        values = list(parse_toml(f"value = {value}", text).values())
    except ConfigError:
        values = [value.strip()]
    if len(values) > 1:
        raise ConfigError(f"{text!r} is more than one field=value")
    return name.strip(), values[0]


def written(value: Any) -> str:
    """The value as `read_assignment` takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _mismatch(value: Any, kind: Any) -> str | None:
    """What the value should have been, where it is not."""
    if get_origin(kind) is Literal:
        return None if value in get_args(kind) else f"one of {', '.join(get_args(kind))}"
    if kind is bool:
        return None if type(value) is bool else "true or false"
    number, bounds = get_args(kind)
    fits = isinstance(value, numbers.Integral if number is int else numbers.Real) and not isinstance(value, bool)
    if fits and bounds.admit(value):
        large = isinstance(value, numbers.Integral) and abs(int(value)) >= LARGEST
        return "a number of at most 64 bits" if large else None
    return f"a {'whole number' if number is int else 'number'} {bounds}"
