"""One view as a single file, which opens from a disk with no network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import HandgradError
from ..files import write_atomically
from .assets import in_one_file
from .explorer import Explorer, Fields
from .stop import Stop
from .tensors import histogram, statistics

TITLE, BEGINNING = b"<title>handgrad explorer</title>", 4096
"""What tells a page from other files, and in how many bytes of its beginning."""
LARGEST_TENSOR = 1 << 20
"""Entries above which a tensor is left out: tables of a large vocabulary."""
LARGEST_FILE = 64 << 20
"""Bytes of tensors."""


def write_page(explorer: Explorer, path: Path, told: Callable[[str], None] = lambda line: None) -> list[str]:
    """Write the page of the explorer's text to a file; returns the tensors that were too large for it.

    `told` hears what is being worked on.
    """

    def stop() -> None:
        pass

    if path.is_dir():
        raise HandgradError(f"{path}: is a folder; the page is a file")
    if path.is_file():
        with path.open("rb") as file:
            beginning = file.read(BEGINNING)
        if beginning and TITLE not in beginning:
            raise HandgradError(f"{path}: is there already, and no page of the explorer; choose another name")
    fields = {"text": explorer.text}
    told("the pass")
    made = explorer.at(fields, stop)
    tensors = {key: x for key, x in made.traced.tensors().items() if "/" in key}
    left_out = [key for key, x in tensors.items() if x.size > LARGEST_TENSOR]
    tensors = {key: x for key, x in tensors.items() if key not in left_out}
    if (size := 4 * sum(x.size for x in tensors.values())) > LARGEST_FILE:
        parameters = 8 * sum(x.size for key, x in tensors.items() if key.startswith("parameters/"))
        mend = "" if parameters > LARGEST_FILE else ", and a shorter --text makes fewer"
        raise HandgradError(
            f"{path}: the tensors of this model and text are {size / 1e6:,.0f} MB, more than the "
            f"{LARGEST_FILE / 1e6:,.0f} that a page can hold; the live page has no such limit{mend}"
        )
    told("the formulas")
    sheets = {
        name: explorer.sheet(fields | {"name": name}, stop).header
        for name in [*made.traced.activations, *made.traced.parameters]
    }
    told("the fresh models")
    answers: dict[str, Any] = {
        "pass": made.shown.header,
        "sheets": sheets,
        "flow": _flow(explorer, fields, stop),
        "training": explorer.training(fields, stop).header | {"active": False},  # a file does not go on
        "tensors": {
            key: {"statistics": statistics(x)._asdict(), "histogram": histogram(x)._asdict()}
            for key, x in tensors.items()
        },
    }
    told("the file")
    write_atomically(path, in_one_file(answers, tensors))
    return left_out


def _flow(explorer: Explorer, fields: Fields, stop: Stop) -> dict[str, Any]:
    """All courses by their keys."""
    listed = explorer.flow(fields, stop).header["choices"]
    keys = [each["key"] for each in listed]
    courses = {key: explorer.flow({**fields, "key": key}, stop).header["course"] for key in keys}
    return {"choices": listed, "courses": courses}
