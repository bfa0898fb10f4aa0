"""Moving one number: the loss follows as the gradient says, and is that of the model with the number moved."""

from itertools import pairwise

import numpy as np
import pytest

import handgrad.explorer.nudge as module
from handgrad.errors import HandgradError
from handgrad.explorer.nudge import nudge, sweep
from handgrad.layers import Array
from handgrad.model import Model, Parameters
from handgrad.proof import Trace, trace

from .conftest import TEXT, model_of
from .kinds import KINDS, go_on, model_of_kind, traced_of_kind


def tensors_of(traced: Trace) -> dict[str, tuple[Array, Array]]:
    """What can be moved by its key, with its gradient."""
    of_activations = {f"activations/{name}": (x, traced.cotangents[name]) for name, x in traced.activations.items()}
    del of_activations["activations/loss"]
    return of_activations | {f"parameters/{name}": (x, traced.gradients[name]) for name, x in traced.parameters.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_follows_as_the_gradient_says(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the largest gradient, or anywhere, of each tensor but those of the first block: the complex step, and a small
    step."""
    monkeypatch.setattr(module, "DECADES", (-5, -5))
    monkeypatch.setattr(module, "STEPS", 1)
    traced, generator = traced_of_kind(kind), np.random.default_rng(0)
    for n, (key, (x, gradient)) in enumerate(tensors_of(traced).items()):
        if "blocks.0" in key:
            continue
        largest = np.unravel_index(np.argmax(np.abs(gradient)), x.shape)
        anywhere = tuple(int(generator.integers(size)) for size in x.shape)
        index = anywhere if n % 3 == 0 else tuple(int(at) for at in largest)
        found = nudge(traced, key, index, None, go_on)
        scale = max(np.abs(gradient).max(), 1e-3)  # a bias of all keys has none but what rounding leaves
        assert found.value == (x[index] if np.isfinite(x[index]) else "-inf")
        assert found.gradient == gradient[index]
        assert found.loss == traced.loss
        assert found.complex_step is not None
        assert abs(found.complex_step - gradient[index]) <= 1e-11 * scale, key
        (down, up), (below, above) = found.steps, found.losses
        assert below is not None
        assert above is not None
        assert up == -down == pytest.approx(1e-5 * found.unit)
        assert (above - below) / (up - down) == pytest.approx(gradient[index], rel=1e-4, abs=1e-5 * scale), key
        if abs(gradient[index]) * up > 1e-9:
            assert (above - traced.loss) / (gradient[index] * up) == pytest.approx(1, abs=1e-2), key


@pytest.mark.parametrize("kind", KINDS)
def test_a_parameter_that_moved_is_a_model_with_that_parameter(kind: str) -> None:
    traced, model = traced_of_kind(kind), model_of_kind(kind)
    for name in ("embedding.token", "blocks.1.attention.w_k", "blocks.0.feed_forward.w_down"):
        index = (int(traced.tokens[0, 3]), 5) if name == "embedding.token" else (2, 1)
        moved = Parameters(model.config, model.parameters.flat.astype(np.float64))
        moved[name][index] += 0.3
        expected, _ = Model(model.config, moved, model.tokenizer).loss_and_gradients(traced.tokens, traced.targets)
        found = nudge(traced, f"parameters/{name}", index, 0.3, go_on)
        assert (found.steps, found.complex_step) == ([0.3], None)
        assert found.losses == [pytest.approx(expected, rel=1e-13)]
        assert abs(expected - traced.loss) > 1e-6


@pytest.mark.parametrize("step", [0.5, -3, 0, 1e-3, 100])
def test_logits_that_moved_make_the_loss_of_these_logits(step: float) -> None:
    traced = traced_of_kind("default")
    logits = traced.activations["head.logits"][0].copy()
    logits[4, 108] += step
    losses = [np.log(np.exp(z).sum()) - z[target] for z, target in zip(logits, traced.targets[0], strict=True)]
    found = nudge(traced, "activations/head.logits", (0, 4, 108), step, go_on)
    assert found.losses == [pytest.approx(np.mean(losses), rel=1e-13)]


@pytest.mark.parametrize("name", ["scores", "masked_scores", "weights"])
def test_what_the_mask_hides_moves_nothing(name: str) -> None:
    traced = traced_of_kind("default")
    found = nudge(traced, f"activations/blocks.0.attention.{name}", (0, 1, 2, 7), None, go_on)
    if name == "weights":  # which come after the mask: a weight that is not 0 would let the future through
        assert found.gradient != 0
        return
    assert (found.gradient, found.complex_step) == (0, 0)
    assert {*found.losses} == {traced.loss}
    assert found.value == (
        "-inf" if name == "masked_scores" else traced.activations[f"blocks.0.attention.{name}"][0, 1, 2, 7]
    )


def test_the_window_hides_too() -> None:
    traced = traced_of_kind("mistral")
    found = nudge(traced, "activations/blocks.1.attention.scores", (0, 0, 7, 2), None, go_on)
    assert {*found.losses} == {traced.loss}
    assert {*nudge(traced, "activations/blocks.1.attention.scores", (0, 0, 7, 6), None, go_on).losses} != {traced.loss}


def test_a_loss_that_is_not_finite_is_none_and_a_number_that_is_not_a_word() -> None:
    traced = traced_of_kind("default")
    assert nudge(traced, "activations/norm.output", (0, 0, 0), 1.7e308, go_on).losses == [None]
    model = model_of()
    model.parameters["head.w_lm"][0, 0] = np.nan
    with np.errstate(all="ignore"):
        found = nudge(trace(model, TEXT), "parameters/head.w_lm", (0, 0), 1.0, go_on)
    assert (found.value, found.gradient, found.loss, found.losses) == ("nan", "nan", None, [None])


def test_the_unit_is_the_usual_size() -> None:
    traced = traced_of_kind("default")
    x = traced.parameters["head.w_lm"]
    found = nudge(traced, "parameters/head.w_lm", (0, 0), 0.0, go_on)
    assert found.unit == pytest.approx(np.sqrt((x * x).mean()), rel=1e-13)
    hidden = traced.activations["blocks.0.attention.masked_scores"]
    finite = hidden[np.isfinite(hidden)]
    found = nudge(traced, "activations/blocks.0.attention.masked_scores", (0, 0, 1, 0), 0.0, go_on)
    assert found.unit == pytest.approx(np.sqrt((finite * finite).mean()), rel=1e-13)


def test_where_all_is_zero_or_nothing_finite_the_unit_is_1() -> None:
    model = model_of()
    model.parameters["norm.beta"][...] = 0
    model.parameters["head.w_lm"][...] = np.inf
    with np.errstate(all="ignore"):
        traced = trace(model, "ab")
    assert nudge(traced, "parameters/norm.beta", (0,), 1.0, go_on).unit == 1
    assert nudge(traced, "parameters/head.w_lm", (0, 0), 1.0, go_on).unit == 1


def test_a_sweep_ascends_through_zero() -> None:
    for unit in (1e-3, 1.0, 7.0):
        steps = sweep(unit)
        assert len(steps) == 2 * module.STEPS
        assert all(one < next_ for one, next_ in pairwise(steps))
        assert steps == [-step for step in reversed(steps)]
        assert [steps[module.STEPS], steps[-1]] == pytest.approx([1e-9 * unit, 10 * unit])
    found = nudge(traced_of_kind("default"), "parameters/norm.gamma", (3,), None, go_on)
    assert found.steps == sweep(found.unit)
    assert len(found.losses) == len(found.steps)


def test_a_large_model_takes_fewer_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the same decades."""
    traced = traced_of_kind("default")
    size = sum(x.size for x in traced.parameters.values())
    assert 2 <= module.FEW_STEPS < module.STEPS / 2
    for large, count in ((size, module.STEPS), (size - 1, module.FEW_STEPS)):
        monkeypatch.setattr(module, "LARGE", large)
        found = nudge(traced, "parameters/norm.gamma", (3,), None, go_on)
        assert len(found.losses) == len(found.steps) == 2 * count
        assert [found.steps[count], found.steps[-1]] == pytest.approx([1e-9 * found.unit, 10 * found.unit])
        assert found.steps == [-step for step in reversed(found.steps)]
        assert found.complex_step == pytest.approx(found.gradient, rel=1e-9)


def test_beside_another_backward_the_gradient_is_that_one_s() -> None:
    traced = traced_of_kind("default")
    gradient, cotangent = np.arange(16.0), np.full(traced.activations["norm.output"].shape, np.nan)
    comes_back = {"gradients/norm.gamma": gradient, "cotangents/norm.output": cotangent}
    right = nudge(traced, "parameters/norm.gamma", (3,), None, go_on)
    assert nudge(traced, "parameters/norm.gamma", (3,), None, go_on, comes_back) == right._replace(gradient=3.0)
    assert right.gradient == traced.gradients["norm.gamma"][3] != 3
    assert nudge(traced, "activations/norm.output", (0, 1, 2), 0.1, go_on, comes_back).gradient == "nan"


@pytest.mark.parametrize(
    ("key", "index", "wrong"),
    [
        *(
            (key, (0,), f"{key}: no activation and no parameter that can be moved")
            for key in ("activations/loss", "cotangents/norm.output", "gradients/norm.gamma", "tokens", "norm.gamma")
        ),
        ("activations/norm.gamma", (0,), "activations/norm.gamma: no "),
        ("parameters/norm.gamma", (), "parameters/norm.gamma: there is no entry () in the shape (16,)"),
        ("parameters/norm.gamma", (16,), "parameters/norm.gamma: there is no entry (16,) in the shape (16,)"),
        ("parameters/norm.gamma", (-1,), "parameters/norm.gamma: there is no entry (-1,)"),
        ("parameters/norm.gamma", (0, 0), "parameters/norm.gamma: there is no entry (0, 0)"),
        ("activations/norm.output", (0, 11, 0), "activations/norm.output: there is no entry (0, 11, 0)"),
        ("activations/norm.output", (10**30, 0, 0), "activations/norm.output: there is no entry (1000"),
    ],
)
def test_what_is_not_there_cannot_be_moved(key: str, index: tuple[int, ...], wrong: str) -> None:
    with pytest.raises(HandgradError) as raised:
        nudge(traced_of_kind("default"), key, index, 0.1, go_on)
    assert str(raised.value).startswith(wrong)


def test_a_sweep_is_given_up_when_nobody_waits() -> None:
    asked = 0

    def stop() -> None:
        nonlocal asked
        asked += 1
        if asked == 5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        nudge(traced_of_kind("default"), "parameters/norm.gamma", (3,), None, stop)
    assert asked == 5


def test_nothing_of_the_pass_is_changed() -> None:
    traced = trace(model_of(), TEXT)
    before = {key: x.copy() for key, x in traced.tensors().items()}
    for key in ("parameters/head.w_lm", "activations/blocks.0.residual_1", "activations/blocks.1.attention.q"):
        nudge(traced, key, (0,) * tensors_of(traced)[key][0].ndim, None, go_on)
    for key, x in traced.tensors().items():
        np.testing.assert_array_equal(x, before[key])
