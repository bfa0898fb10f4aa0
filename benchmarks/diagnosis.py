"""How good a diagnosis of `handgrad compare` is: mistakes named rightly, and random damage that gets a name.

In small GPTs of all families: each mistake in the first that meets it, and the damages in each of them in turn.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from handgrad.layers import Array
from handgrad.machine import cores
from handgrad.proof import MUTATIONS, Case, Comparison, Mutation, Trace, gpt_case
from handgrad.proof.compare import Reference, compare, read_reference
from handgrad.proof.envelope import record_in
from handgrad.proof.lesson import SMALLEST, config_of, family_of
from handgrad.proof.making import FAMILIES
from handgrad.proof.recording import key_in_trace

DAMAGES = (
    "noise",
    "noise in one row",
    "one entry",
    "another tensor",
    "shuffled",
    "some signs",
    "factors",
)


class Tried(NamedTuple):
    """What became of a mistake, or of random damage."""

    name: str
    dtype: str
    found: bool
    """Beyond the envelope anywhere."""
    named: tuple[str, ...]
    relation: str | None


def diagnose(dtypes: list[str], damages: int) -> Iterator[Tried]:
    """Each mutation, and so many random damages, in each dtype; on all cores, each in a process."""
    mutations = [(dtype, mutation.name) for dtype in dtypes for mutation in MUTATIONS]
    random = [(dtype, seed) for dtype in dtypes for seed in range(damages)]
    with ProcessPoolExecutor(cores(), mp_context=get_context("spawn")) as pool:
        yield from pool.map(_with_mutation, *zip(*mutations, strict=True), chunksize=8)
        if random:
            yield from pool.map(_with_damage, *zip(*random, strict=True), chunksize=8)


def is_false(tried: Tried) -> bool:
    """Whether random damage was given a cause that it has not."""
    local = tried.name in ("noise in one row", "one entry") and str(tried.relation).startswith("it is wrong only at")
    return bool(tried.named) or (tried.relation is not None and not local)


def _with_mutation(dtype: str, name: str) -> Tried:
    (mutation,) = (mutation for mutation in MUTATIONS if mutation.name == name)
    family = family_of(mutation)
    return _tried(name, dtype, family, _mine(dtype, family, mutation))


def _with_damage(dtype: str, seed: int) -> Tried:
    """A random tensor damaged in a random way, from just above the envelope to beyond recognition."""
    generator = np.random.default_rng(seed)
    family = list(FAMILIES)[seed % len(FAMILIES)]
    mine = dict(_mine(dtype, family))
    key = generator.choice(sorted(key for key, x in mine.items() if x.ndim and np.isfinite(x).all()))
    kind = DAMAGES[seed % len(DAMAGES)]
    size = 3 * _envelope(dtype, family)[key] * 10 ** generator.uniform(0, 3)
    mine[key] = _damaged(mine[key], kind, size, generator)
    return _tried(kind, dtype, family, mine)


def _damaged(x: Array, kind: str, size: float, generator: np.random.Generator) -> Array:
    """`size`: relative to the largest entry."""
    noise: Array = size * np.abs(x).max() * generator.standard_normal(x.shape)
    if kind == "noise in one row":
        noise[np.arange(len(x)) != generator.integers(len(x))] = 0
    if kind == "one entry":
        noise.flat[np.arange(x.size) != generator.integers(x.size)] = 0
    if kind == "another tensor":
        noise = generator.standard_normal(x.shape) * x.std() - x
    if kind == "shuffled":
        noise = generator.permutation(x.reshape(-1)).reshape(x.shape) - x
    if kind == "some signs":
        noise = -2.0 * x * (generator.random(x.shape) < 0.3)
    if kind == "factors":
        noise = noise * x / np.abs(x).max()
    damaged: Array = x + noise
    return damaged


def _tried(name: str, dtype: str, family: str, mine: dict[str, Array]) -> Tried:
    found: Comparison = compare(_reference(family), mine, dtype)
    return Tried(name, dtype, found.first is not None, tuple(m.name for m in found.mutations), found.relation)


def _mine(dtype: str, family: str, mutation: Mutation | None = None) -> dict[str, Array]:
    """What somebody's code makes who keeps the tensors in this dtype, and perhaps makes this mistake."""
    case = _case(family).planted(mutation) if mutation else _case(family)
    recorded = record_in(case, "gpt", np.ones(()), dtype)
    return {key_in_trace(key): x.astype(np.float64) for key, x in recorded.items()}


@cache
def _case(family: str) -> Case:
    return gpt_case(config_of(family, **SMALLEST), np.random.default_rng(0))


@cache
def _envelope(dtype: str, family: str) -> dict[str, float]:
    return _reference(family).envelope(dtype)


@cache
def _reference(family: str) -> Reference:
    case = _case(family)
    tokens, targets = case.given["tokens"], case.given["targets"]
    trace = Trace(case.given["config"], tokens, targets, case.inputs, _mine("float64", family))
    with TemporaryDirectory() as folder:
        path = Path(folder, "reference.safetensors")
        trace.save(path)
        return read_reference(path)
