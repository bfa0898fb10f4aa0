"""Reading a text file with errors that name it; writing a file so that it is there whole, or is what it was before."""

import os
import threading
from pathlib import Path

from .errors import HandgradError


def read_text_file(path: Path) -> str:
    """The text of a UTF-8 file, without a byte-order mark, its line ends as they are.

    A `HandgradError` says why it cannot be read.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise HandgradError(f"{path}: not UTF-8 (byte {error.start})") from None
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else (error.strerror or str(error))
        raise HandgradError(f"{path}: {'is a folder' if path.is_dir() else reason}") from None


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write to a temporary file beside it, flush it to the disk, then rename; text is UTF-8."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
