"""Beside transformers: the same values, gradients and updates, the same folders, the same texts."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handgrad
from handgrad.interop.families import GPT2, LLAMA, QWEN2, QWEN3, Family, Place
from handgrad.layers import Array
from handgrad.machine import single_threaded_blas
from handgrad.model import Model, ModelConfig, SpecialTokens, generate_tokens, named_shapes
from handgrad.training import AdamW

from .folders import MODELS, write_folder

pytest.importorskip("torch", reason="PyTorch is not installed: the extra parity")
transformers: Any = pytest.importorskip("transformers", reason="transformers is not installed: the extra parity")
pytest.importorskip("transformers.modeling_utils")  # whose table of dtypes is made while float32 is float32

import torch  # noqa: E402 - both may be missing

from benchmarks import parity  # noqa: E402

LENGTH = 30


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """On a busy machine, threads of products as small as these wait for each other longer than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with single_threaded_blas():
        yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", parity.MODELS)
def test_values_gradients_and_updates_are_the_same(name: str) -> None:
    found = parity.errors(name)
    assert found.passed
    assert (parity.EXACT, parity.UPDATES, parity.UNPATCHED) == (1e-10, 1e-8, 1e-5)


def scaled(function: Any, which: int, by: float = 1 + 1e-8) -> Any:
    """A backward one of whose gradients is wrong by so much."""

    def backward(*arguments: Any, **options: Any) -> tuple[Array, ...]:
        gradients = list(function(*arguments, **options))
        gradients[which] = gradients[which] * by
        return tuple(gradients)

    return backward


@pytest.mark.parametrize(
    ("name", "where", "which"),
    [
        ("GPT-2", "layer_norm_backward", 2),
        ("Llama", "rms_norm_backward", 1),
        ("Qwen 2, tied", "rms_norm_backward", 0),
    ],
)
def test_a_gradient_that_is_slightly_wrong_is_seen(
    name: str, where: str, which: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from handgrad.model import norm

    monkeypatch.setattr(norm, where, scaled(getattr(norm, where), which))
    found = parity.errors(name)
    assert not found.passed
    assert found.gradients > parity.EXACT > max(found.logits, found.loss)


Q, K, V, O = (f"blocks.*.attention.w_{x}" for x in "qkvo")  # noqa: E741
PLACES: dict[str, tuple[str, Any, str, Any]] = {
    "thirds": ("GPT-2", GPT2, Q, GPT2.places[K]),
    "thirds of a bias": ("GPT-2", GPT2, "blocks.*.attention.b_v", GPT2.places["blocks.*.attention.b_q"]),
    "transposed": ("GPT-2", GPT2, O, GPT2.places[O]._replace(transposed=True)),
    "keys for values": ("Llama", LLAMA, V, LLAMA.places[K]),
    "not transposed": ("Llama", LLAMA, O, LLAMA.places[O]._replace(transposed=False)),
    "gate and up": ("Llama", LLAMA, "blocks.*.feed_forward.w_up", LLAMA.places["blocks.*.feed_forward.w_gate"]),
    "norms": ("Qwen 2, tied", QWEN2, "blocks.*.norm_2.gamma", QWEN2.places["blocks.*.norm_1.gamma"]),
    "norms of keys": ("Qwen 3", QWEN3, "blocks.*.attention.gamma_k", QWEN3.places["blocks.*.attention.gamma_q"]),
}


@pytest.mark.parametrize("what", PLACES)
def test_a_parameter_in_another_place_is_seen(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, family, parameter, place = PLACES[what]
    monkeypatch.setitem(family.places, parameter, place)
    monkeypatch.setattr("handgrad.interop.weights._places", unchecked)
    assert parity.errors(name).logits > 1e-6


def unchecked(config: ModelConfig, family: Family, *_: Any) -> dict[str, Place]:
    """That a tensor is left over would be an error of its own."""
    return {name: family.place_of(name) for name in named_shapes(config)}


@pytest.mark.parametrize("name", ["Mistral, window of 5", "Qwen 2, window of 5 in one of two blocks"])
@pytest.mark.parametrize("off", [-1, 1])
def test_a_window_that_is_off_by_one_is_seen(name: str, off: int, monkeypatch: pytest.MonkeyPatch) -> None:
    window_of = ModelConfig.window_of
    monkeypatch.setattr(ModelConfig, "window_of", lambda self, n: (x := window_of(self, n)) and x + off)
    assert parity.errors(name).logits > 1e-6


def test_an_update_that_is_slightly_wrong_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hasty(AdamW):
        def step(self, gradients: Any, learning_rate: float, *rest: Any, **options: Any) -> None:
            super().step(gradients, learning_rate * (1 + 1e-6), *rest, **options)

    monkeypatch.setattr(parity, "AdamW", Hasty)
    found = parity.errors("Llama")
    assert not found.passed
    assert found.updates > parity.UPDATES
    assert found.gradients < parity.EXACT


# folders


def opened(folder: Path) -> Any:
    """Its numbers copied from the file to where they are aligned, which their sums round by."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return model


@pytest.mark.parametrize("name", MODELS)
def test_transformers_opens_what_is_written(name: str, tmp_path: Path) -> None:
    options = MODELS[name] | {"bos_token_id": 1, "eos_token_id": [2, 3]}
    model = handgrad.load(write_folder(tmp_path / "theirs", options))
    architecture = handgrad.export(model, tmp_path / "ours")
    first, again = opened(tmp_path / "theirs"), opened(tmp_path / "ours")
    assert type(again).__name__ == architecture
    assert first.state_dict().keys() == again.state_dict().keys()
    for key, x in first.state_dict().items():
        assert torch.equal(x, again.state_dict()[key]), key
    tokens = np.random.default_rng(5).integers(32, size=(3, 16))
    with torch.no_grad():
        logits = first(torch.tensor(tokens)).logits
        assert torch.equal(logits, again(torch.tensor(tokens)).logits)
    np.testing.assert_allclose(model.logits(tokens), logits.numpy(), atol=1e-5 * float(logits.abs().max()))
    assert (again.generation_config.bos_token_id, again.generation_config.eos_token_id) == (1, [2, 3])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_transformers_reads_16_bits_as_they_were_written(dtype: str, tmp_path: Path) -> None:
    model = handgrad.load(write_folder(tmp_path / "theirs", MODELS["Llama"]))
    handgrad.export(model, tmp_path / "ours", dtype)
    assert opened(tmp_path / "ours").dtype == getattr(torch, dtype)  # that of the file
    rounded = opened(tmp_path / "theirs").to(getattr(torch, dtype)).state_dict()
    for key, x in opened(tmp_path / "ours").state_dict().items():
        assert torch.equal(x, rounded[key]), key


def test_transformers_cuts_texts_into_the_same_tokens(tmp_path: Path) -> None:
    options = MODELS["Llama"] | {"bos_token_id": 1, "eos_token_id": 2}
    model = handgrad.load(write_folder(tmp_path / "theirs", options))
    handgrad.export(model, tmp_path / "ours")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    text = "a cat . sat ,on\nthe mat".replace(",", "")
    tokens = model.tokenizer.encode(text).tolist()
    assert tokenizer(text)["input_ids"] == tokens
    assert tokenizer.decode(tokens) == text  # no space before a point is cleaned away
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.model_max_length) == (1, 2, 16)


# texts


def greedy(model: Any, prompt: Array) -> list[int]:
    found = model.generate(torch.tensor(prompt[None]), do_sample=False, max_new_tokens=LENGTH, pad_token_id=0)
    drawn: list[int] = found[0, len(prompt) :].tolist()
    return drawn


def ours(model: Model, prompt: Array) -> list[int]:
    tree, ends = model.parameters.tree, model.special.eos_token_id
    options: dict[str, Any] = {"tokens": LENGTH, "temperature": 0.0, "over": lambda row, token: token in ends}
    return [token for _, token in generate_tokens([prompt], tree, model.config, **options)]


@pytest.mark.parametrize("name", MODELS)
def test_both_write_the_same(name: str, tmp_path: Path) -> None:
    """30 tokens, and up to the one that ends a text."""
    options = MODELS[name] | {"bos_token_id": 1}
    options |= {size: 64 for size in ("n_positions", "max_position_embeddings") if size in options}
    folder = write_folder(tmp_path, options | {"eos_token_id": 31})
    prompt = np.array([5, 9, 20])
    model = replace(handgrad.load(folder), special=SpecialTokens())
    drawn = ours(model, prompt)
    assert len(drawn) == LENGTH
    for end in (31, [31, drawn[12]]):
        write_folder(folder, options | {"eos_token_id": end})
        ends = [end] if isinstance(end, int) else end
        ended = drawn[: min((drawn.index(token) + 1 for token in ends if token in drawn), default=LENGTH)]
        assert ours(handgrad.load(folder), prompt) == ended
        assert greedy(opened(folder), prompt) == ended
