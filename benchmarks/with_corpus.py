"""One turn of `python -m benchmarks corpus`, in a process of its own."""

import json
import resource
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from handgrad.model import Tokenizer
from handgrad.training import fresh_trainer, make_recipe, read_data
from handgrad.training.prepared import make_plan, prepare
from handgrad.training.prepared.stream import PIECE
from handgrad.training.prepared.tokenizing import AT_ONCE

STEPS, WARM_UP = 60, 10


def prepared(text: Path, folder: Path) -> dict[str, Any]:
    plan = make_plan([str(text)], folder)
    start = time.time()
    prepare(plan, folder)
    learned = (folder / "tokenizer.json").stat().st_mtime
    return {"learning": learned - start, "rate": plan.bytes / 1e6 / (time.time() - learned)}


def library(text: Path, folder: Path) -> dict[str, Any]:
    """A plain loop over pieces as long as those of `prepare`; only the library's call is timed."""
    inner = Tokenizer.load(folder / "tokenizer.json").inner
    seconds = 0.0
    with text.open(encoding="utf-8", newline="") as file:
        while section := file.read(AT_ONCE):
            pieces = [section[at : at + PIECE] for at in range(0, len(section), PIECE)]
            start = time.perf_counter()
            inner.encode_batch_fast(pieces, add_special_tokens=False)
            seconds += time.perf_counter() - start
    return {"rate": text.stat().st_size / 1e6 / seconds}


def trained(text: Path, folder: Path) -> dict[str, Any]:
    start = time.perf_counter()
    trainer = fresh_trainer(make_recipe({"tokenizer": "data"}, "tiny"), read_data([str(folder)]).text)
    trainer.step()
    begun = time.perf_counter()
    times = []
    for _ in range(STEPS):
        at = time.perf_counter()
        trainer.step()
        times.append(time.perf_counter() - at)
    at = time.perf_counter()
    trainer.evaluate()
    evaluation = time.perf_counter() - at
    return {"start": begun - start, "step": 1e3 * median(times[WARM_UP:]), "evaluation": evaluation}


def main(what: str, text: str, folder: str) -> None:
    found = {"prepare": prepared, "library": library, "train": trained}[what](Path(text), Path(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps(found | {"peak": peak / 1e6}))


if __name__ == "__main__":
    main(*sys.argv[1:])
