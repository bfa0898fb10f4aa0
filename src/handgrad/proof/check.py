"""The proof: every gradient of a case against the complex step, in float64, with a random cotangent."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np

from ..layers import Array
from ..machine import cores
from .case import Case
from .cases import all_cases
from .derivative import complex_step, complex_step_along, relative_error
from .lesson import Lesson, lesson
from .mutations import Mutation

BAR = 1e-12
"""The largest relative error that passes. Right gradients stay near 1e-15; wrong ones are seldom below 1e-3."""


MANY = 4_000_000
"""Entries above which a model is checked block by block, each of which takes a forward pass in complex numbers."""


class Verdict(NamedTuple):
    """How far a backward's gradient of one tensor is from the complex step's."""

    tensor: str
    shape: tuple[int, ...]
    error: float
    """Relative, see `relative_error`."""

    @property
    def passed(self) -> bool:
        """Whether the error is within `BAR`."""
        return self.error <= BAR


def check_case(case: Case, seed: int = 0) -> Iterator[Verdict]:
    """For each input of a case: how far the backward's gradient is from the complex step's.

    The scalar that is differentiated is the sum of y times a random cotangent dy. Random, because ones hide mistakes: a
    row of a softmax or of a LayerNorm sums to a constant, so with ones its gradient is zero, and a backward that
    returns zeros would pass.
    """
    y, cache = case.run()
    dy = np.asarray(np.random.default_rng(seed).standard_normal(y.shape))
    gradients = case.gradients(dy, cache)
    largest = largest_entry(gradients)
    in_complex = {name: x.astype(np.complex128) for name, x in case.inputs.items()}
    for name, x in case.inputs.items():

        def scalar(moved: Array, name: str = name) -> Array:
            y, _ = case.run(in_complex | {name: moved})
            return np.asarray((y * dy).sum())

        scale = largest if name in case.vanishing else None
        yield Verdict(name, x.shape, relative_error(gradients[name], complex_step(scalar, x), scale))


def check_along(case: Case, seed: int = 0) -> Iterator[Verdict]:
    """For the inputs of a case that has too many entries to visit: the gradient along random directions.

    One direction for each input or, where all have more than `MANY` entries, for all those of a block together, which
    the verdict has as `blocks.0.*`. The error is relative to the gradient's norm: what such a derivative is about.
    """
    y, cache = case.run()
    generator = np.random.default_rng(seed)
    dy = np.asarray(generator.standard_normal(y.shape))
    gradients = case.gradients(dy, cache)
    directions = {name: generator.standard_normal(x.shape) for name, x in case.inputs.items()}
    in_complex = {name: x.astype(np.complex128) for name, x in case.inputs.items()}
    norms = {name: float(np.linalg.norm(dx)) for name, dx in gradients.items()}
    for group, names in moved_together(case.inputs).items():

        def scalar(step: Any, names: Sequence[str] = names) -> Array:
            y, _ = case.run(in_complex | {name: case.inputs[name] + step * directions[name] for name in names})
            return np.asarray((y * dy).sum())

        derivative = np.asarray(complex_step_along(scalar, np.zeros(()), np.ones(())))
        computed = np.asarray(sum(float(np.vdot(gradients[name], directions[name])) for name in names))
        vanishes = case.vanishing.issuperset(names)
        scale = max(norms.values()) if vanishes else math.hypot(*(norms[name] for name in names))
        yield Verdict(
            group, case.inputs[group].shape if group in gradients else (), relative_error(computed, derivative, scale)
        )


def moved_together(inputs: Mapping[str, Array]) -> dict[str, list[str]]:
    """The inputs that `check_along` moves together, each alone but for a large model's."""
    if sum(x.size for x in inputs.values()) <= MANY:
        return {name: [name] for name in inputs}
    groups: dict[str, list[str]] = {}
    for name in inputs:
        part = ".".join(name.split(".")[: 2 if name.startswith("blocks.") else 1])
        groups.setdefault(f"{part}.*", []).append(name)
    return groups


def largest_entry(gradients: Mapping[str, Array]) -> float:
    """What a gradient that is zero by mathematics is compared with: the largest of any."""
    return max(float(np.max(np.abs(x), initial=0)) for x in gradients.values())


class Finding(NamedTuple):
    """What became of a mutation."""

    mutation: Mutation
    worst: Verdict
    """Of the gradients of its layer's case, the one that is most wrong; the mutation survives where it passed."""
    lesson: Lesson


def check_mutations(mutations: Sequence[Mutation], seed: int = 0) -> Iterator[Finding]:
    """What the check says of each mutation, and how a small model trains with it; on all cores, each in a process."""
    from concurrent.futures import ProcessPoolExecutor  # slow to import, and only this needs it

    processes = max(1, min(cores(), len(mutations), 61))  # more than 61 are too many for Windows
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(examine, mutations, repeat(seed))


def examine(mutation: Mutation, seed: int = 0) -> Finding:
    """The same of one, here."""
    case = all_cases(seed)[mutation.layer].planted(mutation)
    return Finding(mutation, max(check_case(case, seed), key=lambda verdict: verdict.error), lesson(mutation))
