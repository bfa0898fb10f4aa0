"""The model that a command is about."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import HandgradError, nearest
from ..interop import load
from ..model import CONFIG_FILE, Model, Tokenizer, initial_parameters
from ..training import PREVIOUS, make_recipe, newest_run
from . import complete

RunFolder = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        autocompletion=complete.models,
        help="A run's folder, such as runs/1, its best weights: runs/1/best, or those after a step: runs/1/kept/300; "
        "or a Hugging Face folder of GPT-2, Llama, Mistral, Qwen 2 or 3.",
    ),
]


def load_model(run: Path) -> Model:
    """The model in a folder. Where it is damaged, that of the run's checkpoint before it, and a line that says so."""
    return find_model(run)[1]


def find_model(run: Path) -> tuple[Path, Model]:
    """The same, with the folder that it was read from."""
    try:
        return run, load(run)
    except HandgradError as error:
        if inner := newest_run(run):
            raise HandgradError(f"{run}: holds runs, and is none; name one of them, such as {inner}") from None
        try:
            model = load(run / PREVIOUS)
        except HandgradError:
            raise _clearer(error, run) from None
        print(f"handgrad: {error}; this is the checkpoint before it, {run / PREVIOUS}", file=sys.stderr)
        return run / PREVIOUS, model


def _clearer(error: HandgradError, run: Path) -> HandgradError:
    """What to tell somebody who named another folder than was meant."""
    if run.is_dir() and not (run / CONFIG_FILE).exists():
        return HandgradError(f"{run}: holds no model ({CONFIG_FILE} is missing)")
    if run.name and not run.exists() and run.parent.is_dir():
        others = [path.name for path in run.parent.iterdir() if (path / CONFIG_FILE).exists()]
        if near := nearest(run.name, others):
            return HandgradError(f"{error}; did you mean {run.parent / near}?")
    return error


def fresh_model(preset: str, seed: int) -> Model:
    """An untrained model of a preset's architecture, which reads bytes."""
    tokenizer = Tokenizer.of_bytes()
    config = make_recipe({"tokenizer": "bytes"}, preset).model(tokenizer.vocabulary)
    return Model(config, initial_parameters(config, seed), tokenizer)
