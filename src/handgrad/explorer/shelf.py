"""The models that can be looked at: one, or those that a run has kept of itself."""

import re
import shlex
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ..errors import HandgradError, TextError
from ..files import check_unless_being_written
from ..interop import load
from ..model import Model
from ..training import (
    BEST,
    Entry,
    best_of,
    evaluations,
    follow_metrics,
    kept_models,
    read_data_again,
    read_position,
    read_record,
    run_of,
)

OPEN = 3
"""Models that are kept open at once."""
LAST = "last"
SAMPLE = "The quick brown fox jumps over the lazy dog, and the dog sleeps on."


class Checkpoint(NamedTuple):
    """A model of a run, or the one that there is."""

    name: str
    """As a view has it: `last`, `best`, or the step; empty where there is no run."""
    step: int | None
    folder: Path | None


class Shelf:
    """A model and, where it is a run's, the run's others; each is read when it is first asked for."""

    def __init__(self, title: str, model: Model, argument: str = "", folder: Path | None = None) -> None:
        """`argument`: what names the model on a command line; `folder`: where it was read from, if it was."""
        self.title = title
        self.argument = argument
        self.run = run_of(folder) if folder else None
        self.entries: list[Entry] = []
        """Of the run's metrics."""
        self.checkpoints: Mapping[str, Checkpoint] = {}
        self._looks = follow_metrics(self.run) if self.run else iter(())
        self.look_again()
        self.opened = self._name_of(folder)
        """The name of the model that was opened."""
        self._alone = None if self.opened else model  # a run's is read once more, so that its step is certain
        self._open: OrderedDict[Checkpoint, Model] = OrderedDict()

    def look_again(self) -> None:
        """Take in what a run that is being trained has kept in the meantime."""
        if self.run is not None:
            self.entries = next(self._looks)
            self.checkpoints = {each.name: each for each in _checkpoints(self.run, self.entries)}

    def find(self, name: str) -> Checkpoint:
        """The checkpoint of this name; without a name, the one that was opened."""
        name = name or self.opened
        if not name:
            return Checkpoint("", None, None)
        if name not in self.checkpoints:
            raise HandgradError(f"checkpoint: the run keeps none of the name {name!r}")
        return self.checkpoints[name]

    def model(self, checkpoint: Checkpoint) -> Model:
        """The checkpoint's model, read unless it is open; a `HandgradError` where the run has gone on from it."""
        if checkpoint.folder is None:
            if self._alone is None:
                raise HandgradError("checkpoint: there is no model without a name")
            return self._alone
        if checkpoint not in self._open:
            check_unless_being_written(checkpoint.folder)  # its step is known before its weights are there
            model = load(checkpoint.folder)
            self.look_again()  # what was read may be what the run has written in the meantime
            if self.find(checkpoint.name) != checkpoint:
                raise gone_on(checkpoint)
            self._open[checkpoint] = model
        self._open.move_to_end(checkpoint)
        if len(self._open) > OPEN:
            self._open.popitem(last=False)
        return self._open[checkpoint]

    def _name_of(self, folder: Path | None) -> str:
        """What the model of this folder is called among the run's; one that is not among them has no name."""
        if self.run is None or folder is None:
            return ""
        there = folder.resolve()
        names = [each.name for each in self.checkpoints.values() if each.folder and each.folder.resolve() == there]
        return names[-1] if names else ""


def gone_on(checkpoint: Checkpoint) -> HandgradError:
    return HandgradError(f"checkpoint: the run has gone on from step {checkpoint.step:,}; load the page again")


def shelf_of(folder: Path, model: Model) -> Shelf:
    """The shelf of a model's folder: with its run's other models where it is one's, or a part of one."""
    return Shelf(str(folder), model, shlex.quote(str(folder)), folder)


def first_text(shelf: Shelf, tokens: int) -> str:
    """A text to begin with, of so many tokens at most: from what the run held out, or what the model itself writes."""
    model = shelf.model(shelf.find(""))
    encode = model.tokenizer.encode
    for text in (_held_out(shelf.run), SAMPLE):
        try:
            cut = model.tokenizer.decode(encode(text[: 20 * tokens])[:tokens])
            while len(encode(cut)) > tokens:  # a character that was cut in two is more of them
                cut = cut[:-1]
            if len(encode(cut)) >= 2:
                return cut
        except TextError:
            continue
    return model.generate(tokens=tokens, temperature=0.0)


def _held_out(run: Path | None) -> str:
    if run is None:
        return ""
    try:
        text = read_data_again(read_record(run), run).text.excerpt()
    except (HandgradError, OSError):  # it has moved, or it is standard input of long ago
        return ""
    sentence = re.search(r"^[A-Z][^\n]{50,}", text, re.MULTILINE)  # easier to look at than where the cut fell
    return text[sentence.start() :] if sentence else text.lstrip()


def _checkpoints(run: Path, entries: list[Entry]) -> list[Checkpoint]:
    """Those of a run by their steps, its best and its last one at the end.

    A new best model is written after its line in the metrics, and before the position that knows of it: there is a best
    one where the two agree, and so are not just being written.
    """
    found = [Checkpoint(str(step), step, folder) for step, folder in kept_models(run).items()]
    try:
        step, best = read_position(run)
    except HandgradError:  # nothing is saved yet
        return found
    evaluated = evaluations(entries)
    if best is not None and evaluated and best_of(evaluated)["step"] == best.step:
        found.append(Checkpoint("best", best.step, run / BEST))
    return [*found, Checkpoint(LAST, step, run)]
