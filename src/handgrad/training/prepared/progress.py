"""Where a preparation stands: progress.json, which is there until it is complete."""

from pathlib import Path
from typing import Any, NamedTuple

from ...errors import ConfigError
from ...files import read_json_object, write_atomically
from .manifest import FORMAT, PROGRESS_FILE, VERSION, Fields, Options, Part, Source, TokenizerRecord, to_json
from .units import Position


class Standing(NamedTuple):
    """A part's counts, and how many of its tokens lie in a shard that is not closed."""

    part: Part = Part()
    waiting: int = 0


class Saved(NamedTuple):
    options: Options
    sources: tuple[Source, ...]
    tokenizer: TokenizerRecord | None = None
    """None while it is not made."""
    position: Position = Position()
    training: Standing = Standing()
    held_out: Standing = Standing()


def save_progress(folder: Path, saved: Saved) -> None:
    write_atomically(folder / PROGRESS_FILE, to_json({"format": FORMAT, "version": VERSION, **saved._asdict()}))


def read_progress(folder: Path) -> Saved:
    """A `ConfigError` where the file is not what `save_progress` wrote."""
    path = folder / PROGRESS_FILE
    content = read_json_object(path)
    fields = Fields(str(path))
    if (content.get("format"), content.get("version")) != (FORMAT, VERSION):
        raise ConfigError(f"{path}: not the progress of this version of handgrad")
    tokenizer = content.get("tokenizer")
    return Saved(
        fields.record(Options, content.get("options")),
        _sources(fields, content.get("sources")),
        None if tokenizer is None else fields.record(TokenizerRecord, tokenizer),
        _position(fields, fields.dict(content.get("position"), "position")),
        *(_standing(fields, fields.dict(content.get(part), part)) for part in ("training", "held_out")),
    )


def _sources(fields: Fields, value: Any) -> tuple[Source, ...]:
    return tuple(fields.record(Source, source) for source in fields.list(value, "sources"))


def _standing(fields: Fields, content: dict[str, Any]) -> Standing:
    waiting = fields.record(_Waiting, content).waiting
    part = fields.dict(content.get("part"), "part")
    return Standing(fields.part(part, waiting), waiting)


def _position(fields: Fields, content: dict[str, Any]) -> Position:
    begun, rest = (fields.list(content.get(name), name) for name in ("begun", "rest"))
    if [type(x) for x in (*begun, *rest)] != [bool, bool, str, str]:
        raise ConfigError(f"{fields.name}: position: {begun!r} and {rest!r} cannot be")
    numbers = fields.record(_Numbers, content)
    done = _sources(fields, content.get("done"))
    return Position(done, *numbers, begun=(begun[0], begun[1]), rest=(rest[0], rest[1]))


class _Waiting(NamedTuple):
    waiting: int


class _Numbers(NamedTuple):
    """Those of a `Position`."""

    sections: int
    characters: int
    held_out: int
