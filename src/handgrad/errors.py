"""The errors that a user can mend. Each problem is one line that names what is wrong and where."""

import difflib
import errno
from collections.abc import Collection, Iterable

LONGEST = 1500
"""Characters of a line that tells an error."""


def one_line(text: str) -> str:
    """The text as a line to read: names and values come from files, and may hold anything. Whatever does not print is
    written as an escape, and of a long text the middle is left out."""
    # once before, so that escapes are not made of what is left out, and once after, since they are longer
    return _shortened("".join(x if x.isprintable() else x.encode("unicode_escape").decode() for x in _shortened(text)))


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 400]} ... {text[-300:]}"


def listed(names: Iterable[str], most: int = 3) -> str:
    """The first few in their order, and how many more there are."""
    ordered = sorted(names)
    return ", ".join(ordered[:most]) + (f" and {len(ordered) - most} more" if len(ordered) > most else "")


def counted(count: int, one: str, many: str = "") -> str:
    """So many of them: 1 token, 2 tokens; `many` where that is not `one` and an s."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Which of these names is so near that it was probably meant."""
    lower = {known.lower(): known for known in names}
    near = difflib.get_close_matches(name.lower(), lower, n=1)
    return lower[near[0]] if near else None


def meant(name: str, names: Collection[str], otherwise: str = "") -> str:
    """What to add where a name is refused: which of these was meant; where none is near, all, or `otherwise`."""
    near = nearest(name, names)
    return f"did you mean {near}?" if near else otherwise or f"there are {', '.join(names)}"


def installing(extra: str) -> str:
    """The command that installs what an extra brings."""
    return f"python3 -m pip install 'handgrad[{extra}]'"


class HandgradError(Exception):
    """Input that cannot be used: a file, a field, an option, a text. Several arguments are several problems."""

    exit_status = 2

    def __str__(self) -> str:
        return "\n".join(one_line(problem) for problem in self.args)


class ConfigError(HandgradError):
    """A configuration that is wrong in itself."""


class WeightsError(HandgradError):
    """Weights that cannot be read, or do not fit their configuration."""


class TextError(HandgradError):
    """A text that is too short, or that a tokenizer cannot express."""


class TrainingError(HandgradError):
    """A run that cannot go on."""

    exit_status = 1


class DamagedError(HandgradError):
    """A file that is not what was written, by its checksum."""


def as_told(error: BaseException) -> tuple[str, int] | None:
    """What to say of an error that a user can mend, or the system is to blame for, and the exit status; else None."""
    if isinstance(error, HandgradError):
        return str(error), error.exit_status
    if isinstance(error, MemoryError):
        return f"out of memory: {error}" if str(error) else "out of memory", 1
    if isinstance(error, OSError):
        why = error.strerror or str(error)
        name = error.filename or ("standard output" if error.errno == errno.ENOSPC else "")  # a file's name is told
        return one_line(f"{name}: {why}" if name else why), 1
    return None
