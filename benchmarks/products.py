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

Product = tuple[tuple[int, ...], tuple[int, ...], str]
"""The shapes of two factors as they lie in memory, and which of them is transposed: "first", "second" or none."""


def products(model: SimpleNamespace, batch: int) -> Iterator[Product]:
    """Every product of a step on `batch` sequences."""
    T, C, F, V, H = model.context, model.width, model.hidden, model.vocabulary, model.heads
    N, D = batch * T, C // H
    matrices = [*[(C, C)] * 4, (C, F), (C, F), (F, C)] * model.layers + [(C, V)]
    for fan_in, fan_out in matrices:
        yield (N, fan_in), (fan_in, fan_out), ""  # y = x w
        yield (N, fan_out), (fan_in, fan_out), "second"  # dx = dy wᵀ
        yield (N, fan_in), (N, fan_out), "first"  # dw = xᵀ dy
    for _ in range(model.layers):
        for first in range(0, T, QUERIES):
            rows, seen = min(QUERIES, T - first), min(first + QUERIES, T)
            queries, keys, weights = (batch, H, rows, D), (batch, H, seen, D), (batch, H, rows, seen)
            for _ in range(2):
                yield queries, keys, "second"  # q kᵀ, dy vᵀ
                yield weights, keys, ""  # p v, dz k
                yield weights, queries, "first"  # pᵀ dy, dzᵀ q


def step(folder: Path) -> Callable[[], Turn]:
    plan = read_plan(folder)
    generator = np.random.default_rng(0)
    parts = [plan.training.batch * n // plan.threads for n in range(plan.threads + 1)]

    def operands(batch: int) -> list[tuple[Array, Array, Array]]:
        """Factors and result of each product; equal shapes share their memory, which makes it a floor."""
        factors: dict[tuple[int, ...], Array] = {}
        results: dict[tuple[int, ...], Array] = {}

        def factor(shape: tuple[int, ...], transposed: bool) -> Array:
            if shape not in factors:
                factors[shape] = generator.standard_normal(shape, np.float32)
            return factors[shape].swapaxes(-1, -2) if transposed else factors[shape]

        made = []
        for first, second, transposed in products(plan.model, batch):
            a, b = factor(first, transposed == "first"), factor(second, transposed == "second")
            shape = (*a.shape[:-1], b.shape[-1])
            made.append((a, b, results.setdefault(shape, np.empty(shape, np.float32))))
        return made

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
