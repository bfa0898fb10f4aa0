"""The folder that text is prepared in: begun, gone on with, or complete."""

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ...errors import ConfigError, DamagedError, HandgradError
from ...files import LOCK_FILE, read_file, remove_parts, take_lock
from ...model import TOKENIZER_FILE, Tokenizer
from .formats import BLOCK, Counted, format_of
from .inputs import sources_of, text_bytes
from .learning import MADE, Told, load_tokenizer, make_tokenizer
from .manifest import MANIFEST_FILE, PROGRESS_FILE, Manifest, Options, Source, TokenizerRecord, read_manifest
from .progress import Saved, read_progress, save_progress
from .text import PreparedText
from .tokenizing import tokenizer_file, tokens_to_disk
from .units import Position

COLUMN = "text"
"""Of rows, the one that has the text."""
SHARE = 0.1
HELD_OUT = 256 << 10
"""Bytes of text that are held out at most, about, where no share is given: each evaluation reads all of them."""
VOCABULARY = 4096
LARGEST_VOCABULARY = 1 << 20


class Plan(NamedTuple):
    """What is asked for."""

    options: Options
    sources: tuple[Source, ...]

    @property
    def bytes(self) -> int:
        """Of all sources together, as they lie on the disk."""
        return sum(source.bytes for source in self.sources)


class Prepared(NamedTuple):
    """Prepared data, as a command left them."""

    manifest: Manifest
    was_complete: bool
    """Before the command was given."""


def make_plan(
    names: Sequence[str],
    out: Path,
    *,
    glob: str | None = None,
    tokenizer: str = "bpe",
    vocabulary: int | None = None,
    column: str = COLUMN,
    share: float | None = None,
) -> Plan:
    """What these sources and options come to. A `HandgradError` names what cannot be."""
    if tokenizer != "bpe" and vocabulary is not None:
        raise ConfigError(f"--vocabulary: {vocabulary}, but a tokenizer of {tokenizer} has its own size")
    if vocabulary is not None and not 256 <= vocabulary <= LARGEST_VOCABULARY:
        raise ConfigError(f"--vocabulary: {vocabulary} is not a whole number from 256 to {LARGEST_VOCABULARY:,}")
    if share is not None and not 0 < share < 1:
        raise ConfigError(f"--held-out: {share:g} is not between 0 and 1")
    if not column:
        raise ConfigError("--column: an empty name")
    if tokenizer not in MADE:
        load_tokenizer(Path(tokenizer))  # what cannot be read is refused before the work begins
        tokenizer = str(Path(tokenizer).resolve())
    sources = tuple(sources_of(names, glob, out))
    if column != COLUMN and not any(format_of(Path(source.path)).has_rows for source in sources):
        raise ConfigError(f"--column: {column!r}, but the sources are plain text; JSON lines and Parquet have columns")
    if share is None:
        share = min(SHARE, HELD_OUT / max(1, text_bytes(sources)))
    most = (vocabulary or VOCABULARY) if tokenizer == "bpe" else None
    return Plan(Options(tokenizer, most, column, share), sources)


def prepare(plan: Plan, folder: Path, told: Told = lambda what, done: None) -> Prepared:
    """Make the folder, or go on with it where it was broken off; one that is complete stays as it is.

    Broken off anywhere and gone on with, it ends with the same bytes. A `HandgradError` where the folder was begun with
    other sources or options, or holds other files; a folder that was made for what is refused is removed again.
    """
    if folder.exists() and not folder.is_dir():
        raise HandgradError(f"{folder}: not a folder")
    refuse_other_files(folder)
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return _prepared(plan, folder, told)
    except HandgradError:
        if made and {path.name for path in folder.iterdir()} <= {PROGRESS_FILE, TOKENIZER_FILE, LOCK_FILE}:
            shutil.rmtree(folder)
        raise


def _prepared(plan: Plan, folder: Path, told: Told) -> Prepared:
    with _locked(folder):
        refuse_other_files(folder)
        remove_parts(folder)
        if (folder / MANIFEST_FILE).exists():
            manifest = read_manifest(folder)
            _require_same(folder, plan, manifest.options, manifest.sources)
            _require_whole(folder)
            (folder / PROGRESS_FILE).unlink(missing_ok=True)
            return Prepared(manifest, was_complete=True)
        saved = _begun(folder, plan)
        tokenizer, saved = _tokenizer(folder, saved, told)
        return Prepared(tokens_to_disk(folder, saved, tokenizer, told), was_complete=False)


def _require_whole(folder: Path) -> None:
    """Files of the right sizes; `check_prepared` would read them all."""
    text = PreparedText(folder)
    try:
        text.learn_from(text.tokenizer)
        text.held_out(text.tokenizer)
    except HandgradError as error:
        raise DamagedError(f"{error}; remove {folder}, or choose another --out, and prepare anew") from None


def refuse_other_files(folder: Path) -> None:
    """Refuse a folder in which nothing was prepared, but that is not empty."""
    begun = any((folder / name).exists() for name in (MANIFEST_FILE, PROGRESS_FILE))
    if not begun and folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise HandgradError(f"{folder}: holds other files; prepared data want a folder of their own")


def _begun(folder: Path, plan: Plan) -> Saved:
    """Where it stands, at the beginning or later. Where no token was saved, another plan may take its place."""
    if (folder / PROGRESS_FILE).exists():
        saved = read_progress(folder)
        try:
            _require_same(folder, plan, saved.options, saved.sources)
            return saved
        except ConfigError:
            if saved.position != Position():
                raise
    saved = Saved(plan.options, plan.sources)
    save_progress(folder, saved)
    return saved


def _tokenizer(folder: Path, saved: Saved, told: Told) -> tuple[Tokenizer, Saved]:
    """The tokenizer, made and written unless it is there."""
    if saved.tokenizer is None:
        made, learned_from = make_tokenizer(saved.options, saved.sources, told)
        record = TokenizerRecord(tokenizer_file(folder, made), made.vocabulary, learned_from)
        saved = saved._replace(tokenizer=record)
        save_progress(folder, saved)
    path = folder / TOKENIZER_FILE
    assert saved.tokenizer is not None
    if hashlib.sha256(read_file(path)).hexdigest() != saved.tokenizer.sha256:
        raise ConfigError(f"{path}: not the tokenizer that was written; begin anew in another folder")
    return Tokenizer.load(path), saved


def _require_same(folder: Path, plan: Plan, options: Options, sources: Sequence[Source]) -> None:
    """Refuse other sources and options than those that the folder was begun with."""
    if [source.path for source in plan.sources] != [source.path for source in sources]:
        raise ConfigError(f"{folder}: was begun with other sources; choose another --out")
    for now, then in zip(plan.sources, sources, strict=True):
        if now.bytes != then.bytes or (now.modified != then.modified and _sha256(now) != then.sha256):
            raise ConfigError(f"{now.path}: has changed since {folder} was begun; choose another --out")
    for name, now_, then_ in zip(Options._fields, plan.options, options, strict=True):
        if now_ != then_:
            option = "--held-out" if name == "share" else f"--{name}"
            raise ConfigError(f"{option}: {now_!r}, but {folder} was begun with {then_!r}; choose another --out")


def _sha256(source: Source) -> str:
    raw = Counted(Path(source.path))
    with raw:
        while raw.read(BLOCK):
            pass
        return raw.digest.hexdigest()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = take_lock(folder, "another process is preparing data in it")
    try:
        yield
    finally:
        lock.release()
