"""Checkpoints that survive: whole or not there, with checksums, and always the one before beside the last.

A checkpoint is the model's folder (config, tokenizer, weights) with the run's record and the optimizer's state. First
the one that is there is kept in the folder `previous`, then the new files are written beside their places, and only
then do they take them, the checksums last. So wherever that is broken off, the last or the one before is whole; and as
a run is a function of its record, going on from either leads to the same bytes.
"""

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConfigError, DamagedError, HandgradError, WeightsError
from ..files import (
    CHECKSUMS_FILE,
    check_together,
    flush_folder,
    naming,
    parse_json_object,
    read_file,
    write_atomically,
    write_together,
)
from ..model import CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE, load, load_metadata, load_tensors, tensors_to_bytes
from ..settings import LARGEST
from .batches import order_seed, windows_per_epoch
from .config import RECORD_FILE
from .corpus import Text, make_corpus
from .metrics import is_a_number, read_metrics
from .ranks import Ranks
from .record import Record
from .trainer import Trainer

OPTIMIZER_FILE = "optimizer.safetensors"
PREVIOUS = "previous"
FILES = (CONFIG_FILE, TOKENIZER_FILE, RECORD_FILE, OPTIMIZER_FILE, WEIGHTS_FILE)


class Best(NamedTuple):
    """The lowest validation loss so far, and after which step it was found."""

    step: int
    loss: float


def save_checkpoint(folder: Path, record: Record, trainer: Trainer, best: Best | None) -> None:
    """Write a checkpoint; the one that is there, if it is whole, becomes the one before."""
    state = json.dumps(_state(trainer, best), sort_keys=True)
    files = {
        **trainer.model.files(),
        RECORD_FILE: record.to_bytes(),
        OPTIMIZER_FILE: tensors_to_bytes(trainer.state(), state),
    }
    if damage_of(folder) is None:
        _keep(folder)
    write_together(folder, {name: files[name] for name in FILES})


def newest_whole(folder: Path) -> tuple[Path | None, str | None]:
    """Where the last whole checkpoint is, and what is wrong with the last of all where it is another.

    None where no checkpoint was ever finished.
    """
    damage = damage_of(folder)
    if damage is None:
        return folder, None
    if damage_of(folder / PREVIOUS) is None:
        return folder / PREVIOUS, damage
    if (folder / CHECKSUMS_FILE).exists() or (folder / PREVIOUS).exists() or read_metrics(folder):
        raise DamagedError(f"{damage}; and there is no whole checkpoint before it")
    return None, None


def damage_of(folder: Path, files: Sequence[str] = FILES) -> str | None:
    """What is wrong with files that were written together, the first thing; nothing where they are whole."""
    try:
        check_together(folder, files)
        return None
    except HandgradError as error:
        return str(error)


def load_checkpoint(
    folder: Path, record: Record, text: Text, threads: int | None, ranks: Ranks | None = None
) -> tuple[Trainer, Best | None]:
    """The trainer as it was when it was saved."""
    model = load(folder)
    training = record.recipe.training
    corpus = make_corpus(text, model.tokenizer, training.sequence(model.config.context))
    trainer = Trainer(model, corpus, training, threads, ranks)
    steps, best = read_position(folder)
    trainer.go_on(steps, partial(load_tensors, folder / OPTIMIZER_FILE))
    return trainer, best


def read_position(folder: Path) -> tuple[int, Best | None]:
    """The updates that the checkpoint in this folder has behind it, and the best evaluation among them."""
    path = folder / OPTIMIZER_FILE
    try:
        state = parse_json_object(load_metadata(path), "metadata")
        step, best = state["step"], None if state["best"] is None else Best(**state["best"])
    except (ConfigError, TypeError, KeyError) as error:
        raise WeightsError(f"{path}: its metadata do not tell the run's position: {error}") from None
    if not (type(step) is int and 0 <= step < LARGEST):
        raise WeightsError(f"{path}: its metadata do not tell the run's position: {step!r} is no step")
    if best and not (type(best.step) is int and 0 <= best.step <= step and is_a_number(best.loss)):
        raise WeightsError(f"{path}: its metadata do not tell the run's position: {best} cannot be the best")
    return step, best


def _state(trainer: Trainer, best: Best | None) -> dict[str, Any]:
    """Where the run stands. The step is all that it needs to go on; the rest says what follows from it."""
    config, step = trainer.config, trainer.optimizer.steps
    windows = windows_per_epoch(len(trainer.corpus.training), trainer.length)
    epoch, window = divmod(step * config.batch, windows)
    seed = order_seed(config.seed, epoch, windows, window)
    return {
        "step": step,
        "position": {"epoch": epoch, "window": window},
        "generator": {"name": "PCG64", "seed": seed},  # of the next window's order
        "best": best and best._asdict(),
    }


def _keep(folder: Path) -> None:
    """Make the checkpoint that is there the one before. Links cost nothing: files are replaced, never written to."""
    previous = folder / PREVIOUS
    previous.mkdir(exist_ok=True)
    (previous / CHECKSUMS_FILE).unlink(missing_ok=True)
    for name in (*FILES, CHECKSUMS_FILE):
        (previous / name).unlink(missing_ok=True)
        try:
            os.link(folder / name, previous / name)
        except OSError:  # a file system without links
            write_atomically(previous / name, read_file(folder / name))
    with naming(previous):
        flush_folder(previous)
