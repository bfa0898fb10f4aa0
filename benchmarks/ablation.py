"""What each choice of the preset `recipe` gives: removed from it, and alone on top of nanoGPT's recipe."""

from collections.abc import Iterator
from statistics import median
from typing import Any, NamedTuple

from handgrad.model import Tokenizer
from handgrad.training import make_corpus, make_recipe, split

from .learn import NANOGPT, RECIPE_STEPS
from .with_handgrad import train


class Choice(NamedTuple):
    name: str
    removed: dict[str, Any]
    """What stands in the recipe where the choice is undone."""
    alone: dict[str, Any] | None
    """What stands in nanoGPT's recipe where it is taken; None where it means nothing there."""


WARM_UP = RECIPE_STEPS // 20
"""As large a part of the run as nanoGPT's."""
BASES = {
    "recipe": {"steps": RECIPE_STEPS},
    "nanogpt": NANOGPT | {"steps": RECIPE_STEPS, "warmup": WARM_UP},
}
CHOICES = [
    Choice(
        "Muon",
        {"optimizer": "adamw", "learning_rate": 4e-3},
        {"optimizer": "muon", "learning_rate": 1.8e-2, "momentum": 0.8},
    ),
    Choice("momentum 0.8, not 0.95", {"momentum": 0.95}, None),
    Choice("rotary positions", {"positions": "learned"}, {"positions": "rotary"}),
    Choice("norms of queries and keys", {"query_key_norm": False}, {"query_key_norm": True}),
    Choice(
        "a head of its own, embeddings of size 1",
        {"tied": True, "embedding_std": 0.02},
        {"tied": False, "embedding_std": 1.0},
    ),
    Choice("matrices by Xavier", {"init": "normal"}, {"init": "xavier"}),
    Choice("SwiGLU", {"feed_forward": "gelu", "hidden": 512}, {"feed_forward": "swiglu", "hidden": 344}),
    Choice("RMSNorm", {"norm": "layer"}, {"norm": "rms"}),
    Choice("a plateau before the cosine", {"hold": 0.0}, {"hold": 0.4}),
    Choice("no warm-up", {"warmup": WARM_UP}, {"warmup": 0}),
    Choice("16 windows, not 12", {"batch": 12}, {"batch": 16}),
]


class Row(NamedTuple):
    choice: str
    """Empty: as it is."""
    base: str
    """`recipe`, from which it was removed, or `nanogpt`, to which it was added."""
    parameters: int
    losses: list[float]
    """Of each seed, at the end."""
    milliseconds: float
    """An update, in the run that the machine disturbed least."""

    @property
    def loss(self) -> float:
        return median(self.losses)


def find(rows: list[Row], choice: str, base: str) -> Row | None:
    return next((row for row in rows if (row.choice, row.base) == (choice, base)), None)


def variants() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each recipe by the choice that makes it, and the base that it starts from; first the two as they are."""
    for base, settings in BASES.items():
        yield "", base, settings
    for choice in CHOICES:
        yield choice.name, "recipe", BASES["recipe"] | choice.removed
        if choice.alone is not None:
            yield choice.name, "nanogpt", BASES["nanogpt"] | choice.alone


def ablate(text: str, seeds: int, part: float, threads: int) -> Iterator[Row]:
    """Train every variant with every seed."""
    tokenizer = Tokenizer.of_characters(text)
    corpus = make_corpus(split([text]), tokenizer, NANOGPT["context"])
    for choice, base, settings in variants():
        runs = []
        for seed in range(seeds):
            fields = settings | {"seed": seed, "shards": threads, "evaluations": 1}
            recipe = make_recipe(fields, "recipe" if base == "recipe" else None)
            runs.append(train(corpus, recipe.model(tokenizer.vocabulary), recipe.training, part, threads))
        losses = [run["losses"][-1][1] for run in runs]
        pace = min(run["seconds"] / run["losses"][-1][0] for run in runs)
        yield Row(choice, base, runs[0]["parameters"], losses, 1e3 * pace)
