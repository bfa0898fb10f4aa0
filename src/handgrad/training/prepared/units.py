"""The sources in order, as pieces to be tokenized, and after each step where one stands."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from ...errors import TextError
from .formats import Counted, format_of, telling
from .manifest import Options, Source
from .sections import Splitter, sections_of
from .stream import Piece, Stream


class Position(NamedTuple):
    """How far the sources were read: all that it takes to go on from there."""

    done: tuple[Source, ...] = ()
    """Those that were read to their end."""
    sections: int = 0
    """Of the source after them."""
    characters: int = 0
    """Of all rows, and of those that were held out."""
    held_out: int = 0
    begun: tuple[bool, bool] = (False, False)
    """For both parts, whether there was a document; and what text waits for what comes after it."""
    rest: tuple[str, str] = ("", "")


class Unit(NamedTuple):
    """A section's text, of both parts; at the end of all sources what has waited."""

    path: str
    pieces: tuple[list[Piece], list[Piece]]
    documents: tuple[int, int]
    after: Callable[[], Position]
    """Where one stands after it; made when it is saved only, since it lists all sources that were read."""
    bytes: int
    """Of all sources, that were read when it was made."""


def units(options: Options, sources: Sequence[Source], begin: Position, whole: bool) -> Iterator[Unit]:
    """What comes after a position. `whole`: whether the tokenizer takes texts as `Stream` joins them.

    What was read before is read again, but not used again; a `TextError` where a source is no longer what it was.
    """
    splitter = Splitter(options.share, begin.characters, begin.held_out)
    streams = [Stream(whole, *state) for state in zip(begin.begun, begin.rest, strict=True)]
    done, skipped, before = list(begin.done), begin.sections, sum(each.bytes for each in begin.done)

    def position(sections: int) -> Callable[[], Position]:
        count, numbers = len(done), (sections, splitter.characters, splitter.held_out)
        begun, rest = (streams[0].begun, streams[1].begun), (streams[0].rest, streams[1].rest)
        return lambda: Position(tuple(done[:count]), *numbers, begun=begun, rest=rest)

    for source in sources[len(done) :]:
        path, documents = Path(source.path), 0
        form = format_of(path)
        with closing(Counted(path)) as raw:
            for number, section in enumerate(sections_of(raw, path, form, options.column), 1):
                documents += section.documents
                if number <= skipped:
                    continue
                split = splitter.split(section, form.has_rows)
                pieces = (streams[0].add(split.training), streams[1].add(split.held_out))
                counts = [len(texts) if form.has_rows else min(section.documents, len(texts)) for texts in split]
                yield Unit(source.path, pieces, (counts[0], counts[1]), position(number), before + raw.count)
            done.append(_read_to_the_end(source, raw, documents))
        before += source.bytes
        skipped = 0
    pieces = (streams[0].end(), streams[1].end())
    yield Unit(sources[-1].path, pieces, (0, 0), position(0), before)


def _read_to_the_end(source: Source, raw: Counted, documents: int) -> Source:
    raw.advance(source.bytes + 1)
    path = Path(source.path)
    with telling(path):
        status = path.stat()
    if (raw.count, status.st_size, status.st_mtime_ns) != (source.bytes, source.bytes, source.modified):
        raise TextError(f"{path}: has changed while it was read")
    return source._replace(sha256=raw.digest.hexdigest(), documents=documents)
