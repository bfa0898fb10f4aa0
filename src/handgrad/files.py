"""Reading files with errors that name them; writing files so that they are there whole, or are what they were before.

A folder whose files were written together has their checksums beside them, in the format of the command `sha256sum`.
"""

import contextlib
import hashlib
import json
import os
import re
import stat
import sys
import threading
import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .errors import ConfigError, DamagedError, HandgradError

CHECKSUMS_FILE = "checksums.sha256"
LOOKS = 10
"""At a folder that changes all the time."""
LOCK_FILE = ".lock"
"""In a folder that a process writes to; an export's that was broken off still has it."""
PART = ".part"
"""How the name of a file ends while it is being written."""


def require_folder(path: Path) -> None:
    """Refuse what is no folder, by name."""
    there = path.exists()  # first: it may be made meanwhile
    if not path.is_dir():
        raise HandgradError(f"{path}: {'not a folder' if there else 'no such folder'}")


def require_place(path: Path) -> None:
    """Refuse what no file can be written to, before the work."""
    if path.is_dir():
        raise HandgradError(f"{path}: is a folder, and no place for a file")
    if not path.parent.is_dir():
        raise HandgradError(f"{path}: there is no folder {path.parent}")


def read_file(path: Path, pipes: bool = False) -> bytes:
    """The content of a file. A `HandgradError` says why it cannot be read: devices never are, which may have no end,
    and pipes only where they are asked for, since one may be waited for."""
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or (pipes and stat.S_ISFIFO(mode))):
            raise HandgradError(f"{path}: not a file")
        return path.read_bytes()
    except OSError as error:
        known = {FileNotFoundError: "no such file", IsADirectoryError: "is a folder"}
        raise HandgradError(f"{path}: {known.get(type(error), error.strerror or str(error))}") from None
    except ValueError as error:
        raise HandgradError(f"{str(path)!r}: {error}") from None


def read_text_file(path: Path) -> str:
    """The text of a UTF-8 file, without a byte-order mark, its line ends as they are."""
    return decode_utf8(read_file(path), str(path))


def decode_utf8(content: bytes, name: str) -> str:
    """The text of these bytes, without a byte-order mark; `name` says in an error where they are from."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise HandgradError(f"{name}: not UTF-8 (byte {error.start})") from None


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; a `ConfigError` says why there is none."""
    return parse_json_object(read_text_file(path), str(path))


def parse_json_object(text: str, name: str) -> dict[str, Any]:
    """The object that a text is in JSON; `name` says in an error where it is from."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{name}: not a JSON object")
    return value


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file; a `ConfigError` says why there is none."""
    return parse_toml(read_text_file(path), str(path))


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """The content of a text in TOML; `name` says in an error where it is from."""
    try:
        content = tomllib.loads(text)
        repr(content)  # a number of more digits than Python writes could not even be refused by its value
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: not TOML: {error}") from None
    return content


def write_atomically(path: Path, content: bytes | memoryview | str) -> None:
    """Write to a temporary file beside it, flush it to the disk, then rename; text is UTF-8."""
    write_all({path: content.encode() if isinstance(content, str) else content})


def write_all(files: Mapping[Path, bytes | memoryview]) -> None:
    """Write them all beside their places and flush them to the disk; then rename them, in order."""
    parts = {path: path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}{PART}") for path in files}
    try:
        for path, content in files.items():
            with naming(path), parts[path].open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, part in parts.items():
            with naming(path):
                part.replace(path)
        for folder in {path.parent for path in files}:
            with naming(folder):
                flush_folder(folder)
    except BaseException:
        for part in parts.values():
            with contextlib.suppress(OSError):  # the error that led here is the one to tell
                part.unlink()
        raise


def write_together(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files of a folder, and their checksums.

    All are written under temporary names first, so that a full disk is met while the old ones still stand. Then they
    take their places, the checksums last: wherever that is broken off, the checksums tell that the files do not belong
    together.
    """
    checksums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items())
    write_all({folder / name: content for name, content in [*files.items(), (CHECKSUMS_FILE, checksums.encode())]})


def check_together(folder: Path, names: Iterable[str] = ()) -> None:
    """Compare the files with their checksums: those named, or all that are listed. A `DamagedError` names the first
    that differs."""
    for name, digest in _read_checksums(folder, names).items():
        if hashlib.sha256(read_file(folder / name)).hexdigest() != digest:
            raise DamagedError(
                f"{folder / name}: differs from its checksum in {CHECKSUMS_FILE}: damaged, or written by hand"
            )


def check_unless_being_written(folder: Path, names: Iterable[str] = (), patience: float = 0.5) -> None:
    """`check_together` for a reader of a folder that another process may be writing: it looks twice, and again, some
    times, where the checksums have changed or are gone."""
    path = folder / CHECKSUMS_FILE
    if not path.exists():
        return
    listed = [object()]  # what was seen at each look
    while True:
        try:
            listed.append(path.read_bytes() if path.exists() else None)
            check_together(folder, names)
            return
        except (HandgradError, OSError):
            if len(listed) > LOOKS or listed[-1] == listed[-2]:
                check_together(folder, names)
                return
        time.sleep(patience)


def take_lock(folder: Path, busy: str, patience: float = 0) -> FileLock:
    """The folder's lock, to be released; where another process has it for so many seconds, a `HandgradError` says why
    the folder is busy."""
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        raise HandgradError(f"{folder}: {busy}") from None
    return lock


def remove_parts(folder: Path) -> None:
    """Remove what a process that was killed left half-written. Only for who alone writes to the folder."""
    for path in folder.glob(f".*{PART}"):
        path.unlink(missing_ok=True)


def _read_checksums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    path = folder / CHECKSUMS_FILE
    try:
        lines = read_file(path).decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        lines = ["?"]
    matches = [re.fullmatch(r"([0-9a-f]{64})  ([^/\\]+?)\r?", line) for line in lines]  # nothing else ends a line
    listed = {match[2]: match[1] for match in matches if match}
    if not matches or not all(matches):
        raise DamagedError(f"{path}: not a list of checksums")
    if missing := set(names) - listed.keys():
        raise DamagedError(f"{path}: does not list {min(missing)}")
    return {name: listed[name] for name in names} or listed


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError within names this file: that of a write (a full disk) names none by itself, a rename's the part."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def flush_folder(folder: Path) -> None:
    """Make renames last through a power cut, where the system can (Windows cannot open a folder)."""
    if sys.platform != "win32":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
