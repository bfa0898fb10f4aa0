"""The model that a command is about."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import HandgradError
from ..interop import load
from ..model import Model, Tokenizer, initial_parameters
from ..training import PREVIOUS, make_recipe, newest_run
from . import complete

RunFolder = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        autocompletion=complete.runs,
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
            raise error from None
        print(f"handgrad: {error}; this is the checkpoint before it, {run / PREVIOUS}", file=sys.stderr)
        return run / PREVIOUS, model


def fresh_model(preset: str, seed: int) -> Model:
    """An untrained model of a preset's architecture, which reads bytes."""
    tokenizer = Tokenizer.of_bytes()
    config = make_recipe({"tokenizer": "bytes"}, preset).model(tokenizer.vocabulary)
    return Model(config, initial_parameters(config, seed), tokenizer)
