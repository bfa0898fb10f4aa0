"""Starts the training in a process of its own, and tells of it."""

import json
import pickle
import re
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from ...errors import HandgradError, TrainingError
from ...files import naming
from ...layers import Array
from ...model import Model, ModelConfig, Parameters, Tokenizer, initial_parameters, leaves, loss_backward, loss_forward
from ...proof import relative_error
from ...proof.tensor_files import read_npz
from ...training import default_text, make_corpus, split, training_batch
from ..course import Course
from ..exercise import Exercise
from ..grading.run import end, start
from ..ladder import EXERCISES
from ..ladder.model import GPT_NAMES, as_exercise_has_them

CHILD = Path(__file__).with_name("child.py")
CONFIG: dict[str, Any] = {"layers": 2, "heads": 4, "width": 64, "hidden": 168, "context": 64}
STEPS = 800
SETTINGS = {"batch": 16, "first_part": 6, "rate": 6e-3, "warmup": 40, "decay": 0.01, "seed": 0}
HELD_OUT = 64
"""Windows that the loss is taken on in the end."""
TAIL = 5
"""Lines of what the reader's code printed that are shown where the training fails."""
TRUSTED = 1e-9
"""How far the gradients may be off handgrad's for the training to begin."""


class Agreement(NamedTuple):
    """How far the reader's gradients of the first batch are off handgrad's: the worst, and of how many tensors."""

    error: float
    worst: str
    tensors: int


class Step(NamedTuple):
    """An update, counted from 1, and the loss of its batch."""

    step: int
    loss: float


class Trained(NamedTuple):
    """The end."""

    loss: float
    """On held-out text, in nats."""
    model: Model
    """With the parameters that the reader's functions found."""


def needed() -> list[Exercise]:
    """The exercises whose functions the training calls, directly or through others."""
    by_module = {exercise.module: exercise for exercise in EXERCISES}
    found = ["ex26_gpt", "ex28_adamw", "ex29_accumulation"]
    for module in found:
        imported = re.findall(r"^from (ex\w+)", by_module[module].unsolved, re.M)
        found += [other for other in imported if other not in found]
    return [by_module[module] for module in sorted(found)]


def train(course: Course, steps: int = STEPS) -> Generator[Agreement | Step | Trained, None, None]:
    """Train with the reader's functions, and tell of it: how their gradients agree, each step, and the end.

    Forward, backward, accumulation and AdamW are the reader's files'; a process of its own runs them. A
    `TrainingError` shows the reader's line where something fails, or names the gradient that is off.
    """
    text = split([default_text()])
    tokenizer = Tokenizer.of_characters(text.training + text.validation)
    config = ModelConfig(**CONFIG, vocabulary=tokenizer.vocabulary)
    corpus = make_corpus(text, tokenizer, config.context)
    held_out = training_batch(corpus.validation.tokens, config.context, HELD_OUT, seed=0, step=1)
    parameters = initial_parameters(config, dtype=np.float64)
    task = {
        **SETTINGS,
        "steps": steps,
        "parameters": as_exercise_has_them(parameters),
        "heads": config.heads,
        "context": config.context,
        "training": corpus.training,
        "held_out": np.concatenate([held_out.tokens, held_out.targets[:, -1:]], axis=1),
    }
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        work = Path(name)
        with naming(work / "task"):
            (work / "task").write_bytes(pickle.dumps(task))
        with (work / "printed").open("wb") as printed:
            process = start(CHILD, course.folder.resolve(), work, stdout=subprocess.PIPE, stderr=printed)
            assert process.stdout is not None
            try:
                yield from _told(process.stdout, work, parameters, tokenizer)
            except TrainingError as error:
                lines = (work / "printed").read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]
                raise TrainingError(*error.args, *(f"printed: {line}" for line in lines)) from None
            finally:
                end(process)
                process.stdout.close()


def _told(lines: IO[bytes], work: Path, parameters: Parameters, tokenizer: Tokenizer) -> Iterator[Any]:
    """What the process tells. Readers' code runs in it, and can say anything."""
    try:
        yield from _understood(lines, work, parameters, tokenizer)
    except (HandgradError, KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        if isinstance(error, TrainingError):
            raise
        raise TrainingError(f"what the process told that ran your functions cannot be read: {error!r}") from None


def _understood(lines: IO[bytes], work: Path, parameters: Parameters, tokenizer: Tokenizer) -> Iterator[Any]:
    for encoded in lines:
        line: dict[str, Any] = json.loads(encoded)
        if "error" in line:
            raise TrainingError(*line["error"].splitlines())
        if "gradients" in line:
            agreement = _agreement(parameters, work)
            yield agreement
            if not agreement.error <= TRUSTED:
                raise TrainingError(
                    f"your functions together give a wrong {agreement.worst}: `handgrad learn check --all` checks them "
                    "once more, and tells of forwards that are not as they were given"
                )
        elif "step" in line:
            yield Step(line["step"], line["loss"])
        else:
            trained = _tensors_in(work / "trained.npz")
            found = Parameters.from_mapping(parameters.config, {n: x.astype(np.float32) for n, x in trained.items()})
            yield Trained(line["held_out"], Model(parameters.config, found, tokenizer))
            return
    raise TrainingError("the process that ran your functions ended before its time")


def _agreement(parameters: Parameters, work: Path) -> Agreement:
    windows = np.load(work / "windows.npy")
    loss, cached = loss_forward(windows[:, :-1], windows[:, 1:], parameters.tree, parameters.config)
    right = dict(zip(parameters, leaves(loss_backward(np.ones_like(loss), cached)), strict=True))
    mine = _tensors_in(work / "gradients.npz")
    errors = {name: relative_error(mine[name], x) for name, x in right.items()}
    worst = max(errors, key=lambda name: errors[name])
    return Agreement(errors[worst], worst, len(errors))


def _tensors_in(path: Path) -> dict[str, Array]:
    """By the library's names. The child calls blocks.0.w_q what is dp['blocks'][0]['w_q'] in the exercise."""
    arrays = read_npz(path)
    return {theirs: arrays[".".join(re.findall(r"\['?(\w+)'?\]", ours))] for theirs, ours in GPT_NAMES.items()}
