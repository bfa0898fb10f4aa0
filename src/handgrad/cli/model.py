"""The model that a command is about."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import HandgradError
from ..model import Model, load
from ..training import BEST, PREVIOUS, RECORD_FILE

RunFolder = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run's folder, such as runs/1, or its best weights: runs/1/best.")
]


def run_of(folder: Path) -> Path | None:
    """The folder of the run that a model's folder belongs to: itself, or the one above its best and previous."""
    inner = folder.resolve().name in (BEST, PREVIOUS)
    run = folder.resolve().parent if inner and (folder.resolve().parent / RECORD_FILE).exists() else folder
    return run if (run / RECORD_FILE).exists() else None


def load_model(run: Path) -> Model:
    """The model in a folder. Where it is damaged, that of the run's checkpoint before it, and a line that says so."""
    try:
        return load(run)
    except HandgradError as error:
        try:
            model = load(run / PREVIOUS)
        except HandgradError:
            raise error from None
        print(f"handgrad: {error}; this is the checkpoint before it, {run / PREVIOUS}", file=sys.stderr)
        return model
