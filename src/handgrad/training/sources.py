"""Where a text comes from: files, folders of files, standard input, or the default text."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import TextError
from ..files import CHECKSUMS_FILE, decode_utf8, read_file
from .config import RECORD_FILE

STANDARD_INPUT = "-"
PACKED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1")
"""How files of gzip, zstandard and Parquet begin, none of which is UTF-8 or a likely text."""
DEFAULT_TEXT = "the default text"
FIRST_SHARD = "training-00000.npy"
"""A folder that has it is one of prepared data."""
TEXT_SUFFIXES = (
    *(".txt", ".md", ".rst", ".tex", ".org", ".adoc", ".csv", ".json", ".toml", ".yaml", ".yml", ".html", ".xml"),
    *(".py", ".c", ".h", ".cc", ".cpp", ".hpp", ".cu", ".rs", ".go", ".java", ".kt", ".js", ".ts", ".css", ".sh"),
    *(".r", ".jl", ".lua", ".rb", ".php", ".pl", ".sql", ".swift", ".hs", ".ml", ".scala", ".lisp", ".el"),
)
"""What is read in a folder where no pattern says otherwise."""


class Document(NamedTuple):
    name: str
    text: str


def default_text() -> str:
    """The reference of the Python language, which every CPython carries (it differs a little between versions)."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise TextError("this Python has no pydoc_data.topics, the default text; name a text with --data") from None
    return "\n\n".join(topics[name] for name in sorted(topics))


def read_documents(sources: Sequence[str] = (), glob: str | None = None, kept: bytes | None = None) -> list[Document]:
    """The texts of all sources, in their order; without any source, the default text.

    A source is a UTF-8 file; a folder, whose files come in the order of their names, those in folders within it too,
    if they match `glob` (such as "**/*.py") or, without one, end like a text (`TEXT_SUFFIXES`); or "-", standard input.
    `kept` is the content of standard input, or the default text, where it was read before. Line ends become \\n; files
    that are blank are left out.
    """
    if glob is not None and (not glob or not any(map(is_folder, sources))):
        raise TextError(f"--glob: {glob!r} has no folder to look in" if glob else "--glob: an empty pattern")
    if not sources:
        return [Document(DEFAULT_TEXT, default_text() if kept is None else decode_utf8(kept, DEFAULT_TEXT))]
    documents = [document for source in sources for document in _read_source(source, glob, kept)]
    if not documents:
        raise TextError(f"{names_of(sources)}: empty or blank")
    return documents


def names_of(sources: Sequence[str]) -> str:
    """The sources in words."""
    return ", ".join("standard input" if source == STANDARD_INPUT else source for source in sources) or DEFAULT_TEXT


def _read_source(source: str, glob: str | None, kept: bytes | None) -> Iterator[Document]:
    if source == STANDARD_INPUT:
        yield from _document(names_of([source]), read_standard_input() if kept is None else kept)
    elif not source:
        raise TextError("--data: an empty path")
    elif not is_folder(source):
        yield from _document(source, read_file(Path(source), pipes=True))
    else:
        for path in files_in(Path(source), glob):
            yield from _document(str(path), read_file(path))


def is_folder(source: str) -> bool:
    try:
        return Path(source).is_dir()
    except (OSError, ValueError):  # a name that is too long, or none
        return False


def read_standard_input() -> bytes:
    if sys.stdin is None:
        raise TextError(f"{names_of([STANDARD_INPUT])}: is closed")
    return sys.stdin.buffer.read()


def is_text(path: Path) -> bool:
    return path.suffix.lower() in TEXT_SUFFIXES


def files_in(folder: Path, glob: str | None, is_wanted: Callable[[Path], bool] = is_text) -> list[Path]:
    """The files of a folder to read. Runs and prepared data within it are passed over, and, without a pattern, what is
    hidden (.git) and what is not wanted."""
    try:
        paths = [path for path in folder.glob(glob or "**/*") if path.is_file()]
    except (ValueError, NotImplementedError, OSError) as error:  # no pattern, or a name that is too long
        why = error.strerror if isinstance(error, OSError) else error
        raise TextError(f"--glob: {glob!r}: {why}") from None
    if glob is None:
        inner = ((path, path.relative_to(folder).parts) for path in paths)
        paths = [path for path, parts in inner if is_wanted(path) and not any(part.startswith(".") for part in parts)]
    runs = {path.parent for path in folder.glob(f"**/{RECORD_FILE}") if (path.parent / CHECKSUMS_FILE).exists()}
    runs |= {path.parent for path in folder.glob(f"**/{FIRST_SHARD}")}
    runs.discard(folder)
    paths = [path for path in paths if runs.isdisjoint(path.parents)]
    if not paths:
        wanted = f"matches {glob!r}" if glob else f"ends like a text ({', '.join(TEXT_SUFFIXES[:3])}, ...); see --glob"
        raise TextError(f"{folder}: no file in it {wanted}")
    return sorted(paths)


def _document(name: str, content: bytes) -> Iterator[Document]:
    if content.startswith(PACKED):
        raise TextError(f"{name}: compressed, or Parquet; handgrad data prepare reads such files, of any size")
    text = decode_utf8(content, name).replace("\r\n", "\n")
    if text.strip():
        yield Document(name, text)
