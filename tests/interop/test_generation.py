"""Generation by every family: side by side as each alone, over the context's end, to the token that ends a text."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handgrad
from handgrad.layers import Array
from handgrad.model import Model, Parameters, SpecialTokens, generate_tokens

from .folders import LLAMA, MODELS, write_folder

LENGTHS = (1, 5, 15, 16, 19)
"""Of prompts, in a context of 16."""
TOKENS = 24
Drawn = list[list[int]]


@pytest.fixture(scope="module", params=MODELS)
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Drawn]:
    """A model in float64, where rounding decides no token, and how it goes on with each prompt alone."""
    model = handgrad.load(write_folder(tmp_path_factory.mktemp("model"), MODELS[request.param]))
    model = replace(model, parameters=Parameters(model.config, model.parameters.flat.astype(np.float64)))
    return model, [alone(model, prompt) for prompt in prompts()]


def prompts() -> list[Array]:
    random = np.random.default_rng(3)
    return [random.integers(32, size=length) for length in LENGTHS]


def alone(model: Model, prompt: Array) -> list[int]:
    """Greedy, nothing kept: the whole model for every token. A full window loses its oldest quarter."""
    context = model.config.context
    window, drawn = prompt[-context:].tolist(), list[int]()
    while len(drawn) < TOKENS:
        drawn.append(int(model.logits(window)[-1].argmax()))
        window.append(drawn[-1])
        if len(window) > context:
            window = window[-(context - context // 4) :]
    return drawn


def until(ends: Sequence[int], drawn: list[int]) -> list[int]:
    return drawn[: next((n for n, token in enumerate(drawn, 1) if token in ends), len(drawn))]


def together(model: Model, starts: Sequence[Array], ends: Sequence[int] = ()) -> Drawn:
    drawn: Drawn = [[] for _ in starts]
    tree, config = model.parameters.tree, model.config
    options: dict[str, Any] = {"tokens": TOKENS, "temperature": 0.0, "over": lambda row, token: token in ends}
    for row, token in generate_tokens(starts, tree, config, **options):
        drawn[row].append(token)
    return drawn


def test_side_by_side_as_each_alone(models: tuple[Model, Drawn]) -> None:
    model, expected = models
    assert together(model, prompts()) == expected
    assert together(model, prompts()[::-1]) == expected[::-1]
    for n in (1, 4):
        assert together(model, prompts()[n : n + 1]) == expected[n : n + 1]
    assert len(set(map(tuple, expected))) > 1


def test_each_ends_by_itself(models: tuple[Model, Drawn]) -> None:
    model, expected = models
    tried = sorted({expected[0][0], expected[1][3], expected[2][15]})
    for ends in ([token] for token in tried):
        assert together(model, prompts(), ends) == [until(ends, drawn) for drawn in expected]
    assert together(model, prompts(), tried) == [until(tried, drawn) for drawn in expected]


def test_the_config_says_what_ends_a_text(tmp_path: Path) -> None:
    model = handgrad.load(write_folder(tmp_path / "endless", LLAMA))
    text = model.generate("a cat", 30, temperature=0.0)
    last = max(map(text.index, text))  # of the letters, that which comes last for the first time
    assert last > 1
    (token,) = model.tokenizer.encode(text[last]).tolist()
    ending = handgrad.load(write_folder(tmp_path / "ending", LLAMA | {"eos_token_id": [31, token]}))
    assert ending.special == SpecialTokens(1, (31, token))
    assert ending.generate("a cat", 30, temperature=0.0) == text[: last + 1]
    assert ending.generate_batch(["a cat", "a cat"], 30, temperature=0.0) == [text[: last + 1]] * 2


def test_a_text_without_a_prompt_begins_with_the_token_that_says_so(tmp_path: Path) -> None:
    model = handgrad.load(write_folder(tmp_path, LLAMA | {"bos_token_id": 7}))
    start = model.tokenizer.decode([7])
    assert len(start) == 1
    plain = replace(model, special=SpecialTokens())
    assert model.generate(tokens=20, temperature=0.0) == plain.generate(start, 20, temperature=0.0)
    assert model.generate(tokens=20, temperature=0.0) != plain.generate(tokens=20, temperature=0.0)
    assert model.generate_batch(["", "a"], 20, temperature=0.0) == [
        plain.generate(start, 20, temperature=0.0),
        plain.generate("a", 20, temperature=0.0),
    ]
    assert model.generate(tokens=20, seed=1) == plain.generate(start, 20, seed=1)
