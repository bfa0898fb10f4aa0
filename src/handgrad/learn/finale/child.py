"""Trains a GPT with a reader's functions, in a process of its own, which knows nothing of handgrad.

`train.py` starts it as `python -I child.py FOLDER TASK NUMPY`: FOLDER has the reader's exercises, TASK/task the
parameters, the tokens and the settings. It writes a line of JSON for each thing that is done: the gradients of the
first batch (in TASK/gradients.npz), each step, the end (the parameters in TASK/trained.npz), or what went wrong.
"""

import faulthandler
import json
import math
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(sys.argv[-1])  # the folder that NumPy is in

import numpy as np

Named = dict[str, Any]


def main(folder: Path, work: Path) -> None:
    tell = protocol()
    faulthandler.enable()
    task = pickle.loads((work / "task").read_bytes())
    sys.path.append(str(folder))
    sys.dont_write_bytecode = True
    for name in ("handgrad", "torch", "jax", "tensorflow", "autograd"):
        sys.modules[name] = None  # type: ignore[assignment]  # an import of it fails
    try:
        train(task, work, tell)
    except BaseException as error:
        frames = [
            frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(str(folder))
        ]
        lines = [f"{frame.filename}:{frame.lineno}: {frame.line}" for frame in frames[-3:]]
        tell(error="\n".join([*lines, f"{type(error).__name__}: {str(error)[:500]}".rstrip(": ")]))


def protocol() -> Callable[..., None]:
    """A function that writes lines to what was the standard output; what the reader's code prints goes elsewhere."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(**line: Any) -> None:
        print(json.dumps(line), file=lines, flush=True)

    return tell


def train(task: dict[str, Any], work: Path, tell: Callable[..., None]) -> None:
    from ex26_gpt import gpt_backward, gpt_forward
    from ex28_adamw import adamw
    from ex29_accumulation import accumulate

    parameters, H, tokens, held_out = task["parameters"], task["heads"], task["training"], task["held_out"]
    generator = np.random.default_rng(task["seed"])
    state = {name: (np.zeros_like(x), np.zeros_like(x)) for name, x in flat(parameters).items()}

    def gradients_of(windows: Any) -> tuple[float, Named]:
        loss, cache = gpt_forward(windows[:, :-1], windows[:, 1:], parameters, H)
        return loss, flat(gpt_backward(1.0, cache))

    for step in range(1, task["steps"] + 1):
        windows = some(tokens, task["batch"], task["context"], generator)
        parts = np.split(windows, [task["first_part"]])  # not alike, so that each counts as much as it has targets
        losses, gradients = zip(*map(gradients_of, parts), strict=True)
        counts = [part[:, 1:].size for part in parts]
        loss, mean_gradients = accumulate(list(losses), list(gradients), counts)
        if step == 1:
            np.savez(work / "gradients.npz", **mean_gradients)
            np.save(work / "windows.npy", windows)
            tell(gradients=True)
        rate = task["rate"] * min(step / task["warmup"], 1 - (step - 1) / task["steps"])
        updated = {}
        for name, w in flat(parameters).items():
            decay = task["decay"] if w.ndim == 2 else 0.0
            updated[name], *state[name] = adamw(w, mean_gradients[name], *state[name], step, rate, decay)
        parameters = like(parameters, updated)
        if not math.isfinite(loss):
            raise ArithmeticError(f"step {step}: the loss became {loss}")
        tell(step=step, loss=float(loss))
    found = [float(gpt_forward(part[:, :-1], part[:, 1:], parameters, H)[0]) for part in np.split(held_out, 4)]
    np.savez(work / "trained.npz", **flat(parameters))
    tell(held_out=sum(found) / len(found))


def some(tokens: Any, count: int, context: int, generator: np.random.Generator) -> Any:
    """Windows from anywhere in the text: (count, context + 1)."""
    starts = generator.integers(len(tokens) - context, size=count)
    return tokens[starts[:, None] + np.arange(context + 1)]


def flat(parameters: Named) -> Named:
    """The arrays by one name each."""
    found = {name: x for name, x in parameters.items() if name != "blocks"}
    for n, block in enumerate(parameters["blocks"]):
        found |= {f"blocks.{n}.{name}": x for name, x in block.items()}
    return found


def like(parameters: Named, arrays: Named) -> Named:
    """Arrays by their names, in the form of the parameters."""
    made = {name: arrays[name] for name in parameters if name != "blocks"}
    blocks = [{name: arrays[f"blocks.{n}.{name}"] for name in block} for n, block in enumerate(parameters["blocks"])]
    return {**made, "blocks": blocks}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
