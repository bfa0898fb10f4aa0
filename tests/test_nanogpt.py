"""The peer in whole trainings, nanoGPT in PyTorch, is the model that handgrad trains under that name."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.learn import NANOGPT
from handgrad.model import initial_parameters, loss_backward, loss_forward
from handgrad.training import TrainingConfig, learning_rate, make_recipe
from handgrad.training.optimizers import AdamW

pytest.importorskip("torch", reason="PyTorch is not installed: the group benchmarks")

import torch
from torch.nn import functional as F

from benchmarks import nanogpt
from benchmarks.torch_gpt import make_optimizer

SMALL = NANOGPT | {"layers": 2, "heads": 2, "width": 8, "hidden": 32, "context": 6}


def test_loss_gradients_and_an_update_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64, from the same weights, with the tanh form of the GELU in both."""
    tanh = F.gelu
    monkeypatch.setattr(F, "gelu", lambda x: tanh(x, approximate="tanh"))
    recipe = make_recipe(SMALL, preset=None)
    config = recipe.model(7)
    parameters = initial_parameters(config, dtype=np.float64)
    generator = np.random.default_rng(0)
    parameters.flat += generator.normal(0, 0.2, parameters.flat.size)  # gains too, and larger than at the beginning
    model = nanogpt.NanoGPT(SimpleNamespace(**config.to_dict())).double()
    ours = {name: torch.from_numpy(x.copy()) for name, x in parameters.items()}
    theirs = dict(model.named_parameters())
    with torch.no_grad():
        for name, target in theirs.items():
            target.copy_(torch.from_numpy(there(name, ours)))
    tokens, targets = generator.integers(7, size=(2, 3, 6))
    loss, cache = loss_forward(tokens, targets, parameters.tree, config)
    gradients = loss_backward(np.ones_like(loss), cache)
    found = model(torch.from_numpy(tokens), torch.from_numpy(targets))
    found.backward()
    assert found.item() == pytest.approx(float(loss), rel=1e-12)
    named = type(parameters).from_tree(config, gradients)
    for name, parameter in theirs.items():
        np.testing.assert_allclose(parameter.grad, there(name, dict(named)), rtol=1e-9, atol=1e-13, err_msg=name)
    make_optimizer(model, SimpleNamespace(**recipe.training.to_dict())).step()
    AdamW(parameters, recipe.training).step(gradients, recipe.training.learning_rate)
    for name, parameter in theirs.items():
        np.testing.assert_allclose(
            parameter.detach(), there(name, dict(parameters)), rtol=1e-7, atol=1e-9, err_msg=name
        )


def there(name: str, ours: dict[str, object]) -> np.ndarray:
    """The tensor of handgrad's that the other calls by this name, in its layout: (out, in)."""
    name = name.removesuffix(".weight")
    if name in ("token", "position"):
        return np.asarray(ours[f"embedding.{name}"])
    if name.endswith(("norm", "norm_1", "norm_2")):
        return np.asarray(ours[f"{name}.gamma"])
    block, _, kind = name.rpartition(".")
    names = {"qkv": ("q", "k", "v"), "out": ("o",), "up": ("up",), "down": ("down",)}[kind]
    part = "feed_forward" if kind in ("up", "down") else "attention"
    return np.concatenate([np.asarray(ours[f"{block}.{part}.w_{each}"]) for each in names], axis=1).T


def test_the_schedules_are_the_same() -> None:
    config = TrainingConfig(**{name: NANOGPT[name] for name in TrainingConfig.meanings() if name in NANOGPT})
    for step in range(1, config.steps + 1):
        expected = learning_rate(step, config)
        assert nanogpt.learning_rate(step, SimpleNamespace(**config.to_dict())) == pytest.approx(expected, rel=1e-12)


def test_fresh_weights_have_nanogpt_s_size() -> None:
    torch.manual_seed(0)
    model = nanogpt.NanoGPT(SimpleNamespace(**make_recipe(NANOGPT, preset=None).model(65).to_dict()))
    parameters = initial_parameters(make_recipe(NANOGPT, preset=None).model(65), seed=1)
    for name, parameter in model.named_parameters():
        other = there(name, dict(parameters))
        assert parameter.shape == other.shape
        assert float(parameter.detach().std(correction=0)) == pytest.approx(other.std(), rel=0.05), name


@pytest.mark.parametrize("length", [6, 13, 14, 200])
def test_the_loss_is_the_mean_over_all_tokens_in_windows_side_by_side(length: int) -> None:
    torch.manual_seed(0)
    config = SimpleNamespace(**make_recipe(SMALL, preset=None).model(7).to_dict())
    model, tokens = nanogpt.NanoGPT(config), torch.randint(7, (length,))
    total = 0.0
    for start in range(0, length - 1, 6):
        targets = tokens[start + 1 : start + 7]
        total += model(tokens[None, start : start + len(targets)], targets[None]).item() * len(targets)
    assert nanogpt.evaluate(model, tokens) == pytest.approx(total / (length - 1), rel=1e-5)
