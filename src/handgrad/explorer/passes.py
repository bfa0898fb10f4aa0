"""The passes that are looked at: traced when they are first asked for, and kept for a while."""

import shlex
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from ..errors import HandgradError, counted
from ..layers import IGNORE_INDEX, Array, softmax_forward
from ..model import Model
from ..proof import Mutation, Trace, trace
from ..proof.manifest import manifest_of
from .frames import Reply, dicts
from .graph import paths_of
from .mutants import Wrong, spread
from .shelf import Checkpoint, Shelf, gone_on
from .stop import Stop, stoppable
from .tensors import KINDS, norm_of, plain
from .view import View

LONGEST = 256
"""Tokens: more make pictures that nobody can read, and their scores do not fit a page."""
KEPT_BYTES = 1 << 30
"""Of passes that are kept, so that what is looked at again need not be computed again; the last one is kept always."""
NAMED_TOKENS = 4096
"""Of a vocabulary that is so small, every token's text is told."""


class Pass(NamedTuple):
    """A traced pass, and what is known of it."""

    model: Model
    traced: Trace
    shown: Reply
    """All that a page needs for its first look."""
    size: int
    """In bytes."""


class Mistaken(NamedTuple):
    """A pass with a mistake in its backward."""

    traced: Trace
    mutation: Mutation
    wrongs: list[Wrong]
    tensors: dict[str, Array]


class Passes:
    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self._kept: OrderedDict[tuple[View, Checkpoint], Pass] = OrderedDict()
        self._mistaken: Mistaken | None = None

    def at(self, view: View, stop: Stop) -> Pass:
        """The pass that a view shows: through the model of its step where it names one, for a run goes on."""
        checkpoint = self.shelf.find(view.checkpoint)
        if view.step is not None:
            checkpoint = checkpoint._replace(step=view.step)
        key = view._replace(checkpoint=checkpoint.name, step=None), checkpoint
        if key not in self._kept:
            if checkpoint != self.shelf.find(view.checkpoint):
                raise gone_on(checkpoint)
            self._kept[key] = self._made(view, checkpoint, stop)
        self._kept.move_to_end(key)
        return self._kept[key]

    def mistaken(self, made: Pass, mutation: Mutation, stop: Stop) -> Mistaken:
        """The same pass with this mistake; the last one is kept."""
        last = self._mistaken
        if last is None or last.traced is not made.traced or last.mutation is not mutation:
            last = Mistaken(made.traced, mutation, *spread(made.traced, mutation, stop))
            self._mistaken = last
        return last

    def _make_room(self) -> None:
        """Before the next pass is made, so that there are never two large ones."""
        self._mistaken = None
        while self._kept and sum(each.size for each in self._kept.values()) > KEPT_BYTES / 2:
            self._kept.popitem(last=False)

    def _made(self, view: View, checkpoint: Checkpoint, stop: Stop) -> Pass:
        model = self.shelf.model(checkpoint)
        tokens, targets = _tokens_of(model, view)
        self._make_room()
        with np.errstate(all="ignore"):  # what is not finite is shown as such
            traced = trace(model, tokens, targets, through=stoppable(stop))
            shown = self._shown(model, view, checkpoint, traced, stop)
        return Pass(model, traced, shown, sum(x.nbytes for x in traced.tensors().values()))

    def _shown(self, model: Model, view: View, checkpoint: Checkpoint, traced: Trace, stop: Stop) -> Reply:
        paths, sums = paths_of(traced)
        tensors = []
        for kind in KINDS:
            for x, entry in _described(traced, kind):
                stop()
                dx = traced.recorded[f"{KINDS[kind]}/{entry['name']}"]
                described = {field: entry[field] for field in ("name", "axes", "shape")}
                tensors.append({**described, "kind": kind, "norm": norm_of(x), "gradient_norm": norm_of(dx)})
        text_of, vocabulary = model.tokenizer.text_of, model.config.vocabulary
        argument = shlex.quote(str(checkpoint.folder)) if checkpoint.folder else self.shelf.argument
        command = f"handgrad trace {argument} --text {shlex.quote(view.text)}"
        return Reply(
            {
                "title": self.shelf.title,
                "trace_command": None if view.targets else command,  # which has the targets of the text
                "text": view.text,
                "checkpoint": checkpoint.name,
                "step": checkpoint.step,
                "config": asdict(model.config),
                "parameters": sum(x.size for x in traced.parameters.values()),
                "loss": plain(traced.loss),
                "tokens": _tokens(model, traced),
                "vocabulary": [text_of(n) for n in range(vocabulary)] if vocabulary <= NAMED_TOKENS else None,
                "tensors": tensors,
                "paths": dicts(paths),
                "sums": sums,
            }
        )


def _tokens_of(model: Model, view: View) -> tuple[Array, Array]:
    """The tokens that are read, and the target of each."""
    tokens = model.tokenizer.encode(view.text).astype(np.int64)
    longest = min(model.config.context, LONGEST)
    if not 2 <= len(tokens) <= longest + 1:
        raise HandgradError(
            f"the text has {counted(len(tokens), 'token')}; from 2 to {longest + 1} can be shown: each but the last is "
            "read, and the next one is its target"
        )
    tokens, targets = tokens[:-1], tokens[1:].copy()
    for position, target in view.targets:
        if not (position < len(targets) and target < model.config.vocabulary):
            raise HandgradError(f"targets: position {position}, token {target}: there is no such position or token")
        targets[position] = target
    if (targets == IGNORE_INDEX).all():
        raise HandgradError("targets: none of them counts, so there is nothing to take the loss of")
    return tokens, targets


def _described(traced: Trace, kind: str) -> Iterable[tuple[Array, dict[str, Any]]]:
    """Each tensor of a kind with its entry in the manifest."""
    known = traced.activations if kind == "activations" else traced.parameters
    keyed = [(f"{kind}/{name}", x) for name, x in known.items()]
    return zip(known.values(), manifest_of(traced.case(), "gpt", keyed), strict=True)


def _tokens(model: Model, traced: Trace) -> list[dict[str, Any]]:
    """Of each position its token and its target, how probable that was, and what was most probable."""
    logits, text_of = traced.activations["head.logits"][0], model.tokenizer.text_of
    probabilities, cache = softmax_forward(logits)
    shown = []
    for n, (token, target) in enumerate(zip(traced.tokens[0].tolist(), traced.targets[0].tolist(), strict=True)):
        counts, guess = target != IGNORE_INDEX, int(np.argmax(logits[n]))
        shown.append(
            {
                "text": text_of(token),
                "target": target,
                "target_text": text_of(target) if counts else "",
                "probability": plain(probabilities[n, target]) if counts else None,
                "loss": plain(cache.maximum[n, 0] - logits[n, target] + np.log(cache.total[n, 0])) if counts else None,
                "guess_text": text_of(guess),
                "guess_probability": plain(probabilities[n, guess]),
            }
        )
    return shown
