"""handgrad's turns, by the parts that a user calls."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace

import numpy as np
from threadpoolctl import threadpool_limits

from handgrad.interop import load
from handgrad.layers import Array, Tap, causal_attention_backward, causal_attention_forward, no_tap
from handgrad.machine import keep_freed_memory, single_threaded_blas
from handgrad.model import (
    Decoder,
    Model,
    ModelConfig,
    Tokenizer,
    generate_tokens,
    initial_parameters,
    load_parameters,
)
from handgrad.training import Corpus, Passage, Ranks, Trainer, TrainingConfig, follow, join
from handgrad.training.ranks.ownership import part_of

from .plan import HELD_OUT, TOKENS, WEIGHTS, Turn, attention_inputs, projections, read_plan, schedule


def step(folder: Path) -> Callable[[], Turn]:
    """By as many ranks as this was started as, which have the threads among them."""
    ranks = join()
    threads = read_plan(folder).threads // ranks.size
    if ranks.rank:
        with ranks:
            follow(ranks, threads)
        sys.exit()
    return _step(folder, threads, ranks)


def step_on_one_thread(folder: Path) -> Callable[[], Turn]:
    return _step(folder, 1, Ranks())


def _step(folder: Path, threads: int, ranks: Ranks) -> Callable[[], Turn]:
    plan = read_plan(folder)
    tokens = np.load(folder / TOKENS)
    training = TrainingConfig(**vars(plan.training))
    trainer = Trainer(_model(folder), Corpus(tokens, Passage(tokens, 0, 0)), training, threads, ranks)

    def turn() -> Turn:
        before = ranks.traffic
        start = perf_counter()
        made = [trainer.step() for _ in range(plan.steps)]
        seconds = (perf_counter() - start) / plan.steps
        sent, exchanging = ((now - then) / plan.steps for now, then in zip(ranks.traffic, before, strict=True))
        turn = {"seconds": seconds, "losses": [x.loss for x in made], "norms": [x.gradient_norm for x in made]}
        if ranks.size > 1:
            weights, parts = (
                trainer.model.parameters.flat.nbytes,
                len({part_of(name) for name in trainer.model.parameters}),
            )
            turn |= {"sent": sent, "exchanging": exchanging}
            turn["exchange"] = {"ranks": ranks.size, "weights": weights, "parts": parts}
        return turn

    return turn


def decode(folder: Path) -> Callable[[], Turn]:
    plan = read_plan(folder)
    keep_freed_memory()
    model = _model(folder)
    decoder = Decoder(model.parameters.tree, model.config, plan.batch)

    def turn() -> Turn:
        decoder.forget()
        tokens = np.zeros((plan.batch, 1), np.int64)
        chosen = []
        start = perf_counter()
        with threadpool_limits(plan.threads, "blas"):
            for _ in range(plan.tokens):
                tokens = decoder.read(tokens).argmax(axis=-1)[:, None]
                chosen.append(tokens)
        return {"seconds": (perf_counter() - start) / plan.tokens, "chosen": np.hstack(chosen).tolist()}

    return turn


def decode_folder(folder: Path) -> Callable[[], Turn]:
    plan = read_plan(folder)
    keep_freed_memory()
    model = load(plan.source)
    prompts = [np.array([model.special.bos_token_id or 0])] * plan.batch

    def turn() -> Turn:
        chosen: list[list[int]] = [[] for _ in prompts]
        start = perf_counter()
        with threadpool_limits(plan.threads, "blas"):
            drawn = generate_tokens(prompts, model.parameters.tree, model.config, tokens=plan.tokens, temperature=0)
            for row, token in drawn:
                chosen[row].append(token)
        return {"seconds": (perf_counter() - start) / plan.tokens, "chosen": chosen}

    return turn


def attention(folder: Path) -> Callable[[], Turn]:
    return _attention(folder, no_tap)


def attention_in_one_tile(folder: Path) -> Callable[[], Turn]:
    """The quadratic form: a tap wants to see all scores."""
    return _attention(folder, lambda name, x: x)


def _attention(folder: Path, tap: Tap) -> Callable[[], Turn]:
    """A sequence a thread, as in training."""
    plan = read_plan(folder)
    keep_freed_memory()
    inputs = attention_inputs(plan)
    sequences = [[x[n : n + 1] for x in inputs] for n in range(plan.batch)]
    pool = ThreadPoolExecutor(plan.threads)

    def both(sequence: list[Array]) -> tuple[Array, ...]:
        q, k, v, dy = sequence
        y, cache = causal_attention_forward(q, k, v, scale=q.shape[-1] ** -0.5, tap=tap)
        return y, *causal_attention_backward(dy, cache, tap=tap)

    def turn() -> Turn:
        start = perf_counter()
        with single_threaded_blas():
            for _ in range(plan.steps):
                found = list(pool.map(both, sequences))
        seconds = (perf_counter() - start) / plan.steps
        return {"seconds": seconds, "projections": projections(map(np.concatenate, zip(*found, strict=True)))}

    return turn


def _model(folder: Path) -> Model:
    config = ModelConfig(**vars(read_plan(folder).model))
    parameters = load_parameters(folder / WEIGHTS, config)
    return Model(config, parameters, Tokenizer.of_bytes())  # nobody asks the tokenizer


def learn_nanogpt(folder: Path) -> Callable[[], Turn]:
    return _learn(folder, read_plan(folder).nanogpt)


def learn_recipe(folder: Path) -> Callable[[], Turn]:
    return _learn(folder, read_plan(folder).recipe)


def _learn(folder: Path, recipe: SimpleNamespace) -> Callable[[], Turn]:
    plan = read_plan(folder)
    held_out = np.load(folder / HELD_OUT)
    corpus = Corpus(np.load(folder / TOKENS), Passage(held_out, len(held_out) - 1, len(held_out) - 1))
    config, training = ModelConfig(**vars(recipe.model)), vars(recipe.training)
    runs = iter(plan.runs)

    def turn() -> Turn:
        run = next(runs)
        return train(corpus, config, TrainingConfig(**training | {"seed": run.seed}), run.part, plan.threads)

    return turn


def train(corpus: Corpus, config: ModelConfig, training: TrainingConfig, part: float, threads: int) -> Turn:
    """The first part of a training: what its updates took, what all took, and the loss on the held-out text."""
    start = perf_counter()
    model = Model(config, initial_parameters(config, training.seed), Tokenizer.of_bytes())  # nobody asks the tokenizer
    trainer = Trainer(model, corpus, training, threads)
    seconds, losses = 0.0, []
    steps, evaluated = schedule(training.steps, training.evaluations, part)
    for step in range(1, steps + 1):
        begun = perf_counter()
        trainer.step()
        seconds += perf_counter() - begun
        if step in evaluated:
            losses.append((step, trainer.evaluate().loss))
    parameters = model.parameters.flat.size
    return {"seconds": seconds, "whole": perf_counter() - start, "losses": losses, "parameters": parameters}
