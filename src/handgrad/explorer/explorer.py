"""The explorer without its page: what is asked about a view, and the answer to it."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import HandgradError
from ..layers import Array
from ..model import Tokenizer
from ..proof.check import examine
from ..proof.sites import site_of
from ..training import evaluations, is_being_trained, read_record, smoothed
from .flow import choices, course_of
from .frames import Reply, dicts
from .mutants import find, first_wrong, met_by
from .nudge import nudge
from .passes import Pass, Passes
from .sheet import forwards_of, made_by
from .shelf import Shelf, first_text
from .stop import Stop
from .tensors import histogram, plain, statistics, window_of
from .view import View, integer_of, integers_of, read_view, text_of

FIRST_TOKENS = 40
"""Tokens of the text that a page begins with, where none is given."""
TOGETHER = 6
"""Tensors that can be asked for at once."""
DEEPEST = 48
"""Blocks of a fresh model."""
POINTS = 600
"""Of a loss curve."""

Fields = Mapping[str, Any]
Answer = Callable[[Fields, Stop], Reply]


class Explorer:
    """Answers for one model, or for those of a run. One question at a time: nothing here is made for several threads.

    Every answer is a function of a request's fields, which are checked, and of `stop`, which it calls now and then and
    which may raise. A `HandgradError` says what is wrong with a request.
    """

    def __init__(self, shelf: Shelf, text: str | None = None) -> None:
        """`text`: what a page begins with."""
        self.shelf = shelf
        context = shelf.model(shelf.find("")).config.context
        self.text = first_text(shelf, min(FIRST_TOKENS, context) + 1) if text is None else text
        self.passes = Passes(shelf)
        self.answers: dict[str, Answer] = {
            "pass": self.first_look,
            "tensors": self.tensors,
            "sheet": self.sheet,
            "nudge": self.nudge,
            "flow": self.flow,
            "mutations": self.mutations,
            "mutation": self.mutation,
            "training": self.training,
            "token": self.token,
        }

    def at(self, fields: Fields, stop: Stop) -> Pass:
        """The pass that the request is about: of the text to begin with where it names none."""
        return self.passes.at(self.view(fields), stop)

    def view(self, fields: Fields) -> View:
        """What the request asks to look at: the text to begin with where it names none."""
        return read_view({"text": self.text, **fields})

    def first_look(self, fields: Fields, stop: Stop) -> Reply:
        """The tokens, the graph, and what each tensor is."""
        self.shelf.look_again()
        return self.at(fields, stop).shown

    def tensors(self, fields: Fields, stop: Stop) -> Reply:
        """Some tensors of the pass, the same part of each: `keys`, `at`, `row`, `column`; with the mistake `mutation`
        in it, where one is given."""
        made = self.at(fields, stop)
        known = self._tensors(made, fields, stop)
        keys = fields.get("keys")
        if not (isinstance(keys, list) and 0 < len(keys) <= TOGETHER and all(isinstance(key, str) for key in keys)):
            raise HandgradError(f"keys: not a list of 1 to {TOGETHER} names of tensors")
        if unknown := [key for key in keys if key not in known]:
            raise HandgradError(f"keys: the pass has no tensor {unknown[0]!r}")
        shape = known[keys[0]].shape
        if any(known[key].shape != shape for key in keys):
            raise HandgradError("keys: tensors of different shapes")
        row, column = (integer_of(fields, name) for name in ("row", "column"))
        window = window_of(shape, integers_of(fields, "at", 4), row, column)
        facts = {
            key: {"statistics": statistics(known[key])._asdict(), "histogram": histogram(known[key])._asdict()}
            for key in keys
        }
        return Reply({"window": window._asdict(), "tensors": facts}, {key: window.of(known[key]) for key in keys})

    def _tensors(self, made: Pass, fields: Fields, stop: Stop) -> dict[str, Array]:
        """By key, those of the pass, or of its run with the mistake `mutation`."""
        name = text_of(fields, "mutation", "")
        return self.passes.mistaken(made, find(name), stop).tensors if name else made.traced.tensors()

    def sheet(self, fields: Fields, stop: Stop) -> Reply:
        """How a tensor and its gradient are made: formulas, and lines of source. A parameter is given: of that, how the
        tensors are made that it is used in."""
        traced, name = self.at(fields, stop).traced, text_of(fields, "name")
        if name not in traced.activations and name not in traced.parameters:
            raise HandgradError(f"name: the pass has no tensor {name!r}")
        case = traced.case()
        backward = site_of(case, "gpt", name).backward
        ways = {"forward": forwards_of(case, name), "backward": [(name, backward)] if backward else []}
        return Reply(
            {
                way: [{"makes": makes, "made": made_by(source)} for makes, source in sources]
                for way, sources in ways.items()
            }
        )

    def nudge(self, fields: Fields, stop: Stop) -> Reply:
        """What the loss does when the entry `index` of `key` moves by `step`, or by the steps of a sweep; beside the
        gradient of the pass, or of one with the mistake `mutation` in it."""
        made, step = self.at(fields, stop), fields.get("step")
        if not (step is None or (isinstance(step, int | float) and not isinstance(step, bool) and abs(step) < 1e300)):
            raise HandgradError("step: not a number")
        comes_back = self._tensors(made, fields, stop)
        key, index = text_of(fields, "key"), integers_of(fields, "index", 4)
        return Reply(nudge(made.traced, key, index, step, stop, comes_back)._asdict())

    def flow(self, fields: Fields, stop: Stop) -> Reply:
        """Standard deviations and norms by depth: of the pass or, by its `key`, of a fresh model of `layers` blocks."""
        made = self.at(fields, stop)
        layers = fields.get("layers", made.model.config.layers)
        deepest = max(DEEPEST, made.model.config.layers)
        if not (type(layers) is int and 1 <= layers <= deepest):
            raise HandgradError(f"layers: {layers!r} is not a whole number from 1 to {deepest}")
        known, key = choices(made.model.config), text_of(fields, "key", "trained")
        if key not in known:
            raise HandgradError(f"key: {key!r} is none of {', '.join(known)}")
        course = course_of(key, made.model, made.traced, layers, stop)
        listed = [{"key": each, "title": title} for each, title in known.items()]
        return Reply({"choices": listed, "course": course._asdict() | {"points": dicts(course.points)}})

    def mutations(self, fields: Fields, stop: Stop) -> Reply:
        """The catalogue, and which of its mistakes this model can have."""
        met = met_by(self.at(fields, stop).model.config, stop)
        listed = [{"name": each.name, "layer": each.layer, "why": each.why, "met": is_met} for each, is_met in met]
        return Reply({"mutations": listed})

    def mutation(self, fields: Fields, stop: Stop) -> Reply:
        """Where the mistake `name` shows in the pass, and its code."""
        mutation = find(text_of(fields, "name"))
        wrongs = self.passes.mistaken(self.at(fields, stop), mutation, stop).wrongs
        return Reply(
            {
                **{name: getattr(mutation, name) for name in ("name", "right", "wrong", "why")},
                "function": mutation.of.__name__,
                "first": first_wrong(wrongs),
                "wrongs": dicts(wrongs),
            }
        )

    def training(self, fields: Fields, stop: Stop) -> Reply:
        """A run's losses, and the models that it keeps."""
        run = self.shelf.run
        if run is None:
            return Reply({"run": None})
        self.shelf.look_again()
        entries = self.shelf.entries
        losses = [*zip(entries, smoothed(entries), strict=True)]
        shown = losses[: -1 : -(-len(losses) // POINTS) or 1] + losses[-1:]
        return Reply(
            {
                "run": run.name,
                "active": is_being_trained(run),
                "step": entries[-1]["step"] if entries else 0,
                "steps": read_record(run).recipe.training.steps,
                "curve": [{"step": entry["step"], "loss": plain(loss)} for entry, loss in shown],
                "evaluations": [
                    {"step": entry["step"], "loss": plain(entry["validation_loss"])} for entry in evaluations(entries)
                ],
                "checkpoints": [{"name": each.name, "step": each.step} for each in self.shelf.checkpoints.values()],
            }
        )

    def token(self, fields: Fields, stop: Stop) -> Reply:
        """The number of the token that a text is."""
        model, text = self.shelf.model(self.shelf.find(self.view(fields).checkpoint)), text_of(fields, "token")
        numbers = _numbers(model.tokenizer)
        if not text or text not in numbers:  # several stand for no text, such as special ones
            raise HandgradError(f"token: {text!r} is no token of this model's")
        return Reply({"token": numbers[text]})


def verdict(name: str) -> Reply:
    """What the check says of a mutation, and how a small model trains with it: some seconds, and no view's matter."""
    worst, lesson = (found := examine(find(name))).worst, found.lesson
    return Reply(
        {
            "layer": found.mutation.layer,
            "tensor": worst.tensor,
            "error": plain(worst.error),
            "caught": not worst.passed,
            "verdict": lesson.verdict,
            "loss": plain(lesson.loss),
            "right_loss": plain(lesson.right_loss),
        },
        {"losses": np.array(lesson.losses), "right_losses": np.array(lesson.right_losses)},
    )


@lru_cache(maxsize=2)
def _numbers(tokenizer: Tokenizer) -> dict[str, int]:
    """The number of each token by its text; of several with one text, the first."""
    return {tokenizer.text_of(n): n for n in reversed(range(tokenizer.vocabulary))}
