"""The files that are to be prepared."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ...errors import HandgradError, TextError
from ..sources import STANDARD_INPUT, TEXT_SUFFIXES, files_in, is_folder
from .formats import BY_SUFFIX, LINES, PARQUET, format_of, telling
from .manifest import Source

PACKED_TO_TEXT = 3
"""Bytes of text in a byte that is compressed, about."""


def sources_of(names: Sequence[str], glob: str | None, out: Path) -> list[Source]:
    """All files of these sources, in their order; those in folders in the order of names, but for what is in `out`."""
    if glob is not None and (not glob or not any(map(is_folder, names))):
        raise TextError(f"--glob: {glob!r} has no folder to look in" if glob else "--glob: an empty pattern")
    paths = [path for name in names for path in _paths(name, glob, out)]
    for path, times in Counter(paths).items():
        if times > 1:
            raise HandgradError(f"{path}: given {times} times; its text would count as often")
    return [_source(path) for path in paths]


def refuse_rows(sources: Sequence[str]) -> None:
    """Refuse JSON lines where a text is wanted: a model would learn braces and field names."""
    for source in sources:
        if BY_SUFFIX.get(Path(source).suffix.lower()) == LINES and not is_folder(source):
            raise TextError(
                f"{source}: JSON lines, and no text; handgrad data prepare takes the texts out of them, and "
                "its folder is what --data wants"
            )


def _paths(name: str, glob: str | None, out: Path) -> list[Path]:
    if name == STANDARD_INPUT:
        raise HandgradError("-: standard input cannot be read twice, to go on or to learn from; write it to a file")
    if not name:
        raise TextError("an empty path")
    if not is_folder(name):
        with telling(Path(name)):
            return [Path(name).resolve()]
    within = out.resolve()
    found = [path.resolve() for path in files_in(Path(name), glob, _is_read)]
    if paths := [path for path in found if within not in path.parents]:
        return paths
    raise TextError(f"{name}: no file in it to read but what is in {out}, which is --out")


def _is_read(path: Path) -> bool:
    """Whether a file of this name is read where no pattern says so."""
    suffix = path.with_suffix("").suffix if path.suffix.lower() in (".gz", ".zst") else path.suffix
    return suffix.lower() in (*TEXT_SUFFIXES, *BY_SUFFIX)


def _source(path: Path) -> Source:
    format_of(path)  # what cannot be read is refused before the work begins
    with telling(path):
        status = path.stat()
    return Source(str(path), status.st_size, status.st_mtime_ns)


def text_bytes(sources: Sequence[Source]) -> int:
    """About how many bytes of text they have."""
    forms = [format_of(Path(source.path)) for source in sources]
    packed = [bool(form.packing) or form.kind == PARQUET for form in forms]
    return sum(source.bytes * (PACKED_TO_TEXT if yes else 1) for source, yes in zip(sources, packed, strict=True))
