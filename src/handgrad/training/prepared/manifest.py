"""What a folder of prepared tokens holds, and what it was made from: manifest.json."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from ...errors import ConfigError, DamagedError, HandgradError, counted
from ...files import read_file, read_json_object, require_folder
from ...model import TOKENIZER_FILE
from ...settings import LARGEST
from ..sources import FIRST_SHARD, is_folder
from .tokens import Shard

MANIFEST_FILE = "manifest.json"
PROGRESS_FILE = "progress.json"
FORMAT, VERSION = "handgrad prepared data", 1
DTYPES: dict[str, np.dtype[Any]] = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}
Record = TypeVar("Record", bound=tuple[Any, ...])
LOOKED_AT = 1 << 12
"""Bytes at the beginning of a manifest, among which its format is told."""


class Source(NamedTuple):
    """A file that was read."""

    path: str
    bytes: int
    modified: int
    """In nanoseconds since 1970."""
    sha256: str = ""
    """Empty while it was not read to its end."""
    documents: int = 0


class ShardRecord(NamedTuple):
    """A file of tokens."""

    name: str
    tokens: int
    sha256: str


class Part(NamedTuple):
    """The text to learn from, or that which is held out."""

    tokens: int = 0
    characters: int = 0
    bytes: int = 0
    documents: int = 0
    first_characters: int = 0
    """That the first token completes, and its bytes: nothing predicts them."""
    first_bytes: int = 0
    shards: tuple[ShardRecord, ...] = ()


class Options(NamedTuple):
    """What decides the tokens, beside the sources."""

    tokenizer: str
    """chars, bytes, bpe, or the path of one that is there already."""
    vocabulary: int | None
    """The most tokens of a bpe tokenizer."""
    column: str
    """Of JSON lines and Parquet."""
    share: float
    """Of the characters that is held out."""


class TokenizerRecord(NamedTuple):
    """The tokenizer that made the tokens."""

    sha256: str
    """Of tokenizer.json."""
    vocabulary: int
    learned_from: int
    """Characters of the text to learn from that were read for it; 0 where there was nothing to learn."""


class Manifest(NamedTuple):
    """What prepared data are: what they were made from, how, and the files that they are in."""

    options: Options
    sources: tuple[Source, ...]
    tokenizer: TokenizerRecord
    dtype: str
    """Of a token in the files."""
    training: Part
    held_out: Part
    made_by: dict[str, str]
    """The versions of handgrad and its libraries."""

    @property
    def sha256(self) -> str:
        """Of all that training reads, by the checksums of the files: the same where others prepare the same text."""
        content = [self.tokenizer, self.dtype, self.training, self.held_out]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @property
    def documents(self) -> int:
        """Of all sources together."""
        return sum(source.documents for source in self.sources)

    def to_bytes(self) -> bytes:
        """The file's content."""
        return to_json({"format": FORMAT, "version": VERSION, **self._asdict()})

    def shards(self, folder: Path, part: Literal["training", "held_out"]) -> list[Shard]:
        """The files of a part, in the order of the text."""
        return [Shard(folder / shard.name, shard.tokens) for shard in getattr(self, part).shards]


def to_json(content: dict[str, Any]) -> bytes:
    return (json.dumps(_plain(content), indent=1) + "\n").encode()


def _plain(value: Any) -> Any:
    """Records as objects."""
    if isinstance(value, dict):
        return {name: _plain(x) for name, x in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _plain(value._asdict())
    return [_plain(x) for x in value] if isinstance(value, list | tuple) else value


def is_prepared(folder: Path) -> bool:
    """Whether a folder holds prepared tokens, complete or not; a `ConfigError` where they are not complete."""
    if _tells_format(folder / MANIFEST_FILE):
        return True
    if _tells_format(folder / PROGRESS_FILE):
        raise ConfigError(f"{folder}: is not prepared to the end; the command that began it goes on")
    if is_folder(str(folder)) and (folder / FIRST_SHARD).exists():
        raise ConfigError(f"{folder}: prepared data, but {MANIFEST_FILE} is missing: not all of its files were copied")
    return False


def prepared_among(sources: Sequence[str]) -> str | None:
    """The first of these paths that is a folder of prepared data; errors as in `is_prepared`."""
    return next((source for source in sources if source not in ("", "-") and is_prepared(Path(source))), None)


def _tells_format(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return FORMAT.encode() in file.read(LOOKED_AT)
    except (OSError, ValueError):  # a name that is too long, or none
        return False


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder; a `ConfigError` says what is wrong with it."""
    path = folder / MANIFEST_FILE
    content = read_json_object(path)
    if content.get("format") != FORMAT:
        raise ConfigError(f"{path}: not the manifest of prepared data")
    if content.get("version") != VERSION:
        raise ConfigError(f"{path}: version {content.get('version')!r}, but this handgrad reads version {VERSION}")
    fields = Fields(str(path))
    tokenizer = fields.record(TokenizerRecord, content.get("tokenizer"))
    manifest = Manifest(
        fields.record(Options, content.get("options")),
        tuple(fields.record(Source, source) for source in fields.list(content.get("sources"), "sources")),
        tokenizer,
        str(content.get("dtype")),
        fields.part(content.get("training")),
        fields.part(content.get("held_out")),
        {str(name): str(value) for name, value in fields.dict(content.get("made_by"), "made_by").items()},
    )
    if manifest.dtype not in DTYPES:
        raise ConfigError(f"{path}: dtype: {manifest.dtype!r} is none of {', '.join(DTYPES)}")
    return manifest


class Fields:
    """Reads records out of JSON; a `ConfigError` names the file and the field."""

    def __init__(self, name: str) -> None:
        self.name = name

    def record(self, kind: type[Record], value: Any) -> Record:
        """A record of numbers and texts, each of the kind that the field says."""
        content, found = self.dict(value, kind.__name__), dict[str, Any]()
        for field, wanted in kind.__annotations__.items():
            x = content.get(field)
            if not isinstance(x, wanted) or isinstance(x, bool) or (isinstance(x, int) and not 0 <= x < LARGEST):
                raise ConfigError(f"{self.name}: {kind.__name__}: {field}: {x!r} cannot be")
            found[field] = x
        return kind(**found)

    def part(self, value: Any, waiting: int = 0) -> Part:
        """`waiting`: its tokens that no shard has."""
        content = self.dict(value, "part")
        numbers = self.record(_Numbers, content)
        shards = [self.record(ShardRecord, shard) for shard in self.list(content.get("shards"), "shards")]
        for shard in shards:
            if not re.fullmatch(r"(training|held-out)-\d{5}\.npy", shard.name):
                raise ConfigError(f"{self.name}: shards: name: {shard.name!r} cannot be")
        if sum(shard.tokens for shard in shards) + waiting != numbers.tokens:
            raise ConfigError(f"{self.name}: its shards have not {counted(numbers.tokens, 'token')} together")
        return Part(*numbers, tuple(shards))

    def dict(self, value: Any, what: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ConfigError(f"{self.name}: {what}: not an object")
        return value

    def list(self, value: Any, what: str) -> list[Any]:
        if not isinstance(value, list):
            raise ConfigError(f"{self.name}: {what}: not a list")
        return value


class _Numbers(NamedTuple):
    """The numbers of a `Part`."""

    tokens: int
    characters: int
    bytes: int
    documents: int
    first_characters: int
    first_bytes: int


def check_prepared(folder: Path, manifest: Manifest) -> int:
    """Compare all files with their checksums, and count their bytes. A `DamagedError` names the first that differs."""
    shards = [*manifest.training.shards, *manifest.held_out.shards]
    listed = {TOKENIZER_FILE: manifest.tokenizer.sha256} | {shard.name: shard.sha256 for shard in shards}
    count = 0
    for name, digest in listed.items():
        content = read_file(folder / name)
        count += len(content)
        if hashlib.sha256(content).hexdigest() != digest:
            raise DamagedError(
                f"{folder / name}: differs from its checksum in {MANIFEST_FILE}: damaged, or not its file"
            )
    return count


def require_manifest(folder: Path) -> Manifest:
    """The manifest of a folder that is prepared to the end."""
    require_folder(folder)
    if not (folder / MANIFEST_FILE).exists() and not is_prepared(folder):
        raise HandgradError(f"{folder}: holds no prepared data ({MANIFEST_FILE} is missing)")
    return read_manifest(folder)
