"""The floor: nothing but a step's matrix products, on as many threads, each with memory of its own."""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace

import numpy as np

from handgrad.layers import Array
from handgrad.machine import single_threaded_blas

from .plan import Turn, read_plan

QUERIES = 64
"""A causal product leaves out the tiles above the diagonal, of so many queries each."""

Shapes = tuple[tuple[int, ...], tuple[int, ...]]


def shapes(model: SimpleNamespace, batch: int) -> Iterator[Shapes]:
    """The shapes of the two factors of every product in a step on `batch` sequences."""
    T, C, F, V, H = model.context, model.width, model.hidden, model.vocabulary, model.heads
    N, D = batch * T, C // H
    block = [(C, 3 * C), (C, C), (C, 2 * F), (F, C)]
    for fan_in, fan_out in [*block * model.layers, (C, V)]:
        yield (N, fan_in), (fan_in, fan_out)  # y = x w
        yield (N, fan_out), (fan_out, fan_in)  # dx = dy wᵀ
        yield (fan_in, N), (N, fan_out)  # dw = xᵀ dy
    for _ in range(model.layers):
        for first in range(0, T, QUERIES):
            rows, seen = min(QUERIES, T - first), min(first + QUERIES, T)
            heads = (batch, H)
            for _ in range(2):  # q kᵀ, dy vᵀ
                yield (*heads, rows, D), (*heads, D, seen)
            for _ in range(2):  # p v, dz k
                yield (*heads, rows, seen), (*heads, seen, D)
            for _ in range(2):  # pᵀ dy, dzᵀ q
                yield (*heads, seen, rows), (*heads, rows, D)


def step(folder: Path) -> Callable[[], Turn]:
    plan = read_plan(folder)
    generator = np.random.default_rng(0)
    parts = [plan.training.batch * n // plan.threads for n in range(plan.threads + 1)]

    def operands(batch: int) -> list[tuple[Array, Array, Array]]:
        factors: dict[tuple[int, ...], Array] = {}
        results: dict[tuple[int, ...], Array] = {}

        def factor(shape: tuple[int, ...]) -> Array:
            if shape not in factors:
                factors[shape] = generator.standard_normal(shape, np.float32)
            return factors[shape]

        def result(shape: tuple[int, ...]) -> Array:
            return results.setdefault(shape, np.empty(shape, np.float32))

        return [(factor(a), factor(b), result((*a[:-1], b[-1]))) for a, b in shapes(plan.model, batch)]

    shards = [operands(end - start) for start, end in itertools.pairwise(parts)]
    pool = ThreadPoolExecutor(plan.threads)

    def multiply(shard: list[tuple[Array, Array, Array]]) -> None:
        for a, b, out in shard:
            np.matmul(a, b, out=out)

    def turn() -> Turn:
        start = perf_counter()
        with single_threaded_blas():
            for _ in range(plan.steps):
                list(pool.map(multiply, shards))
        return {"seconds": (perf_counter() - start) / plan.steps}

    return turn
