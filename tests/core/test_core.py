"""The course: each script runs with NumPy alone, twice the same, proves itself, and agrees with the library."""

import ast
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handgrad import layers
from handgrad.layers import Array
from handgrad.model import ModelConfig, Parameters, block_backward, block_forward, loss_backward, loss_forward
from handgrad.proof import relative_error
from handgrad.training import AdamW, TrainingConfig, default_text

CORE = Path(__file__).parents[2] / "core"
SCRIPTS = sorted(CORE.glob("*.py"))
normal = np.random.default_rng(0).standard_normal


def load(name: str) -> Any:
    """The script as a module: its functions, with none of its running cells run."""
    (path,) = CORE.glob(f"{name}_*.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SHARED = {
    "numerical_gradient",
    "relative_error",
    "print_check",
    "causal_mask",
    "softmax_forward",
    "softmax_backward",
    "cross_entropy_forward",
    "cross_entropy_backward",
    "split_heads",
    "merge_heads",
    "masked_attention_forward",
    "masked_attention_backward",
    "multi_head_attention_forward",
    "multi_head_attention_backward",
    "layer_norm_forward",
    "layer_norm_backward",
    "sigmoid",
    "swiglu_forward",
    "swiglu_backward",
}

STEPS = r"^STEPS = \d+$"
"""The line of chapter 4 that says how long it trains: most of a minute."""


def run(path: Path) -> subprocess.CompletedProcess[str]:
    """Run a script where warnings are errors (but for the one that pyproject.toml tells of), in ASCII."""
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    ignored = "ignore:invalid value encountered in matmul:RuntimeWarning"
    command = [sys.executable, "-W", "error", "-W", ignored, str(path)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_script_runs_and_prints_the_same_twice(path: Path, tmp_path: Path) -> None:
    """Chapter 4 trains for a few steps only, in a copy: all its lines run, in seconds. The gate runs it in full."""
    text = path.read_text(encoding="utf-8")
    shortened, count = re.subn(STEPS, "STEPS = 20", text, flags=re.MULTILINE)
    assert count == (path.name[:2] == "04")
    if count:
        path = tmp_path / path.name
        path.write_text(shortened, encoding="utf-8")
    first, second = run(path), run(path)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout == second.stdout
    assert len(first.stdout.splitlines()) > 50


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_loading_a_script_runs_nothing(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load(path.name[:2])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_script_imports_nothing_but_numpy(path: Path) -> None:
    """Wherever in the script: `ast` finds imports inside functions as well."""
    imports = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imports.add(node.module or "")
    standard_library = {"os", "pydoc_data.topics", "sys"} if path.name.startswith("04") else {"sys"}
    assert imports <= standard_library | {"numpy"}


@pytest.mark.parametrize(
    ("chapter", "line", "tensor"),
    [
        ("01", "dW_k = sentence_embedding.T @ dK", "W_k"),
        ("02", "dW_o = merged.T @ dy", "W_o"),
        ("03", "dW_up = x.T @ dup", "W_up"),
        ("03", "dgamma = np.sum(dy * x_hat, axis=0)", "gamma_1"),
        ("04", "dP[:T] = dx.reshape(B, T, -1).sum(axis=0)", "P"),
        ("04", "dW_q = x.T @ dQ", "blocks.0.W_q"),
        ("04", "dW_down = hidden.T @ dy", "blocks.1.W_down"),
    ],
)
def test_a_script_with_a_gradient_off_by_a_millionth_names_it_and_stops(
    chapter: str, line: str, tensor: str, tmp_path: Path
) -> None:
    (path,) = CORE.glob(f"{chapter}_*.py")
    text = path.read_text(encoding="utf-8")
    name, formula = line.split(" = ")
    assert text.count(f"\n    {line} ") == 1
    broken = tmp_path / path.name
    broken.write_text(text.replace(f"\n    {line} ", f"\n    {name} = (1 + 1e-6) * {formula} "), encoding="utf-8")
    result = run(broken)
    assert (result.returncode, result.stderr) == (1, "")
    assert re.search(rf"^ +{re.escape(tensor)} .* 1e-06 +WRONG$", result.stdout, flags=re.MULTILINE)
    assert re.search(r"^ +W_lm .* ok$", result.stdout, flags=re.MULTILINE)
    assert "Training" not in result.stdout


def test_what_the_chapters_share_is_the_same_text() -> None:
    """Each chapter is complete in itself, so some functions stand in several: they must not drift apart."""
    chapters = [load(path.name[:2]) for path in SCRIPTS]
    for name in SHARED:
        sources = [inspect.getsource(getattr(chapter, name)) for chapter in chapters if hasattr(chapter, name)]
        assert len(sources) >= 2, name
        assert len(set(sources)) == 1, name


def assert_pairs_agree(course: tuple[Any, ...], library: tuple[Any, ...]) -> None:
    for ours, theirs in zip(course, library, strict=True):
        assert relative_error(np.asarray(ours), np.asarray(theirs)) < 1e-12


@pytest.mark.parametrize("chapter", ["01", "02", "03", "04"])
def test_softmax_and_cross_entropy_agree_with_the_library(chapter: str) -> None:
    core = load(chapter)
    z, dy = normal((4, 5)), normal((4, 5))
    course_s, course_cache = core.softmax_forward(z)
    s, softmax_cache = layers.softmax_forward(z)
    assert_pairs_agree(
        (course_s, core.softmax_backward(dy, course_cache)), (s, layers.softmax_backward(dy, softmax_cache))
    )
    targets, dloss = np.array([1, 4, 0, 4]), np.asarray(0.7)
    course_loss, course_cache = core.cross_entropy_forward(z, targets)
    loss, cache = layers.cross_entropy_forward(z, targets)
    assert_pairs_agree(
        (course_loss, core.cross_entropy_backward(0.7, course_cache)),
        (loss, layers.cross_entropy_backward(dloss, cache)),
    )


def test_the_softmax_jacobian_agrees_with_the_row_form_of_the_library() -> None:
    core = load("01")
    z, dy = normal((4, 5)), normal((4, 5))
    y, cache = layers.softmax_forward(z)
    explicit = np.stack([core.softmax_jacobian(row).T @ d for row, d in zip(y, dy, strict=True)])
    assert_pairs_agree((explicit, core.softmax_backward_by_jacobian(dy, y)), (layers.softmax_backward(dy, cache),) * 2)


@pytest.mark.parametrize("chapter", ["02", "03"])
def test_multi_head_attention_agrees_with_the_library(chapter: str) -> None:
    core = load(chapter)
    x, dy, (w_q, w_k, w_v, w_o) = normal((5, 6)), normal((5, 6)), normal((4, 6, 6))
    y, cache = core.multi_head_attention_forward(x, w_q, w_k, w_v, w_o, 3)
    gradients = core.multi_head_attention_backward(dy, cache)
    library, library_cache = layers.multi_head_attention_forward(x[None], w_q, w_k, w_v, w_o, heads=3)
    library_dx, dw_q, dw_k, dw_v, dw_o, *_ = layers.multi_head_attention_backward(dy[None], library_cache)
    assert_pairs_agree((y, *gradients), (library[0], library_dx[0], dw_q, dw_k, dw_v, dw_o))


def test_embedding_and_positions_agree_with_the_library() -> None:
    for core in (load("02"), load("03")):
        tokens, table, position, dy = np.array([1, 3, 1]), normal((4, 5)), normal((6, 5)), normal((3, 5))
        x, cache = core.embedding_forward(tokens, table, position)
        dtable, dposition = core.embedding_backward(dy, cache)
        embedded, token_cache = layers.embedding_forward(tokens[None], table)
        positioned, position_cache = layers.positions_forward(embedded, position)
        dembedded, library_dposition = layers.positions_backward(dy[None], position_cache)
        library_dtable = layers.embedding_backward(dembedded, token_cache)
        assert_pairs_agree((x, dtable, dposition), (positioned[0], library_dtable, library_dposition))


def test_layer_norm_and_swiglu_agree_with_the_library() -> None:
    core = load("03")
    x, gamma, beta, dy = normal((5, 6)), normal(6), normal(6), normal((5, 6))
    y, cache = core.layer_norm_forward(x, gamma, beta)
    library, library_cache = layers.layer_norm_forward(x, gamma, beta)
    assert_pairs_agree(
        (y, *core.layer_norm_backward(dy, cache)), (library, *layers.layer_norm_backward(dy, library_cache))
    )
    assert (
        relative_error(sum(core.layer_norm_routes(dy, cache)), layers.layer_norm_backward(dy, library_cache)[0]) < 1e-12
    )
    w_gate, w_up, w_down = normal((6, 4)), normal((6, 4)), normal((4, 6))
    y, cache = core.swiglu_forward(x, w_gate, w_up, w_down)
    dx, dw_gate, dw_up, dw_down = core.swiglu_backward(dy, cache)
    library, swiglu_cache = layers.swiglu_forward(x, w_gate, w_up, w_down)
    assert_pairs_agree((y, dx, dw_gate, dw_up, dw_down), (library, *layers.swiglu_backward(dy, swiglu_cache)))


NAMES = {
    "embedding.token": "E",
    "embedding.position": "P",
    "blocks.0.norm_1.gamma": "gamma_1",
    "blocks.0.norm_1.beta": "beta_1",
    "blocks.0.attention.w_q": "W_q",
    "blocks.0.attention.w_k": "W_k",
    "blocks.0.attention.w_v": "W_v",
    "blocks.0.attention.w_o": "W_o",
    "blocks.0.norm_2.gamma": "gamma_2",
    "blocks.0.norm_2.beta": "beta_2",
    "blocks.0.feed_forward.w_gate": "W_gate",
    "blocks.0.feed_forward.w_up": "W_up",
    "blocks.0.feed_forward.w_down": "W_down",
    "norm.gamma": "gamma_f",
    "norm.beta": "beta_f",
    "head.w_lm": "W_lm",
}


def chapter_3_model() -> tuple[Any, dict[str, Array], ModelConfig, Parameters]:
    """Chapter 3's parameters, none of them at a trivial value, and the same in the library's form."""
    core = load("03")
    config = ModelConfig(layers=1, heads=2, width=6, hidden=5, context=4, vocabulary=7)
    parameters = Parameters(config, normal(Parameters(config).flat.size))
    return core, {NAMES[name]: tensor.copy() for name, tensor in parameters.items()}, config, parameters


def test_the_whole_model_of_chapter_3_agrees_with_the_library() -> None:
    core, course_parameters, config, parameters = chapter_3_model()
    tokens, targets = np.array([1, 6, 1, 0]), np.array([6, 1, 0, 2])
    loss, cache = core.model_forward(course_parameters, tokens, targets, 2)
    gradients = core.model_backward(1.0, cache)
    library_loss, library_cache = loss_forward(tokens[None], targets[None], parameters.tree, config)
    library = Parameters.from_tree(config, loss_backward(np.ones_like(library_loss), library_cache))
    assert_pairs_agree((loss,), (library_loss,))
    for name, gradient in library.items():
        assert relative_error(gradients[NAMES[name]], gradient) < 1e-12, name


def test_the_block_of_chapter_3_agrees_with_the_library_and_the_trap_does_not() -> None:
    core, course_parameters, config, parameters = chapter_3_model()
    x, dy = 2 + 3 * normal((4, 6)), normal((4, 6))
    y, cache = core.block_forward(x, course_parameters, 2)
    dx, gradients = core.block_backward(dy, cache)
    library_y, library_cache = block_forward(x[None], parameters.tree.blocks[0], config)
    library_dx, library_gradients = block_backward(dy[None], library_cache)
    assert_pairs_agree((y, dx), (library_y[0], library_dx[0]))
    _, trapped = core.block_backward(dy, cache, planted_bug=True)
    for part in "qkvo":
        expected = getattr(library_gradients.attention, f"w_{part}")
        assert relative_error(gradients[f"W_{part}"], expected) < 1e-12
        assert (relative_error(trapped[f"W_{part}"], expected) > 0.5) == (part != "o")


# Chapter 4: the whole GPT, with a batch axis, and how it is trained.


def chapter_4_name(name: str) -> str:
    """The library's `blocks.1.attention.w_q` is the course's `blocks.1.W_q`."""
    scope, number, rest = re.fullmatch(r"(blocks\.)?(?:(\d+)\.)?(.+)", name).groups()  # type: ignore[union-attr]
    return f"{scope}{number}." + NAMES[f"blocks.0.{rest}"] if scope else NAMES[rest]


def chapter_4_model(vocabulary: int = 7) -> tuple[Any, dict[str, Array], ModelConfig, Parameters]:
    """A chapter 4 model with random parameters in float64, and the same in the library's form."""
    core = load("04")
    config = ModelConfig(layers=2, heads=3, width=6, hidden=5, context=5, vocabulary=vocabulary)
    parameters = Parameters(config, np.random.default_rng(4).standard_normal(Parameters(config).flat.size))
    return core, {chapter_4_name(name): tensor.copy() for name, tensor in parameters.items()}, config, parameters


def test_the_whole_gpt_of_chapter_4_agrees_with_the_library() -> None:
    core, course_parameters, config, parameters = chapter_4_model()
    tokens, targets = np.random.default_rng(5).integers(7, size=(2, 3, 4))  # a batch of 3, shorter than the context
    loss, gradients = core.loss_and_gradients(course_parameters, tokens, targets, 3)
    library_loss, cache = loss_forward(tokens, targets, parameters.tree, config)
    library = Parameters.from_tree(config, loss_backward(np.ones_like(library_loss), cache))
    assert_pairs_agree((loss, core.gpt_loss(course_parameters, tokens, targets, 3)), (library_loss, library_loss))
    assert gradients.keys() == course_parameters.keys() == {chapter_4_name(name) for name in library}
    for name, gradient in library.items():
        assert relative_error(gradients[chapter_4_name(name)], gradient) < 1e-12, name


def test_fresh_parameters_of_chapter_4_have_the_librarys_names_and_shapes_in_float32() -> None:
    core, course_parameters, _, _ = chapter_4_model()
    fresh = core.initial_parameters(np.random.default_rng(0), V=7, T_max=5, C=6, F=5, N=2)
    shapes = {name: value.shape for name, value in course_parameters.items()}
    assert {name: value.shape for name, value in fresh.items()} == shapes
    tokens = np.array([[1, 2, 3]])
    loss, gradients = core.loss_and_gradients(fresh, tokens, tokens, 3)
    assert {loss.dtype, *(value.dtype for value in (fresh | gradients).values())} == {np.dtype(np.float32)}
    wide = core.initial_parameters(np.random.default_rng(0), V=7, T_max=5, C=64, F=48, N=8)
    for name, std in (("W_q", 1 / 8), ("W_gate", 1 / 8), ("W_o", 1 / 8 / 4), ("W_down", 48**-0.5 / 4)):
        assert wide[f"blocks.3.{name}"].std() == pytest.approx(std, rel=0.1)


def test_adamw_of_chapter_4_agrees_with_the_library() -> None:
    core, course_parameters, config, parameters = chapter_4_model()
    gradients = Parameters(config, dtype=np.float64)
    optimizer = AdamW(parameters, TrainingConfig())  # its defaults are the chapter's
    moments: dict[str, Any] = {}
    for step in (1, 2, 3, 4):
        gradients.flat[:] = np.random.default_rng(step).standard_normal(gradients.flat.size)
        course_gradients = {chapter_4_name(name): gradient.copy() for name, gradient in gradients.items()}
        norm = core.clip_gradients(course_gradients, bound=2.0)
        assert norm == pytest.approx(np.linalg.norm(gradients.flat))
        core.adamw_step(course_parameters, course_gradients, moments, step, 0.01 * step)
        optimizer.step(gradients.tree, 0.01 * step, scale=2.0 / norm)
    for name, tensor in parameters.items():
        assert relative_error(course_parameters[chapter_4_name(name)], tensor) < 1e-12, name


def test_clipping_in_chapter_4_leaves_short_gradients_alone() -> None:
    gradients = {"a": np.array([0.3, 0.0]), "b": np.array([[0.4]])}
    assert load("04").clip_gradients(gradients, bound=1.0) == pytest.approx(0.5)
    np.testing.assert_array_equal(np.concatenate([gradients["a"], gradients["b"][0]]), [0.3, 0.0, 0.4])


def test_the_learning_rate_of_chapter_4_rises_then_falls() -> None:
    core = load("04")
    rates = [core.learning_rate(step, steps=1000, peak=0.5, warmup=100) for step in range(1, 1001)]
    assert rates[49] == pytest.approx(0.25, rel=0.01)
    assert np.argmax(rates) + 1 == 100
    assert rates[499] == pytest.approx(0.25)
    assert 0 <= rates[-1] < 1e-6
    assert all(np.diff(rates[:100]) > 0)
    assert all(np.diff(rates[99:]) < 0)


def test_an_epoch_of_chapter_4_visits_each_window_once_in_random_order() -> None:
    core = load("04")
    text = np.arange(1000)  # each token tells its place
    orders, offsets = set(), set()
    for seed in range(5):
        batches = list(core.epoch_batches(np.random.default_rng(seed), text, T=7, B=8))
        inputs, targets = (np.concatenate(part) for part in zip(*batches, strict=True))
        np.testing.assert_array_equal(targets, inputs + 1)
        np.testing.assert_array_equal(np.diff(np.sort(inputs, axis=None)), 1)  # side by side, none missing, none twice
        assert inputs.min() < 7
        assert targets.max() > 999 - 7
        assert [len(batch) for batch, _ in batches[:-1]] == [8] * (len(batches) - 1)
        offsets.add(inputs.min())
        orders.add(tuple((inputs[:, 0] - inputs.min()).tolist()))
        assert (np.diff(inputs[:, 0]) < 0).any()
    assert len(orders) == 5
    assert len(offsets) > 1


def test_the_held_out_loss_of_chapter_4_is_the_mean_over_its_windows() -> None:
    core, course_parameters, _, _ = chapter_4_model()
    tokens = np.random.default_rng(6).integers(7, size=107)  # 21 windows of 5 characters, in batches of 4
    losses = [
        core.gpt_loss(course_parameters, tokens[None, at : at + 5], tokens[None, at + 1 : at + 6], 3)
        for at in range(0, 105, 5)
    ]
    assert core.held_out_loss(course_parameters, tokens, 3, B=4) == pytest.approx(np.mean(losses))
    assert core.held_out_loss(course_parameters, tokens, 3, every=4, B=4) == pytest.approx(np.mean(losses[::4]))


def test_training_in_chapter_4_learns_and_is_reproducible(capsys: pytest.CaptureFixture[str]) -> None:
    """In this text the last two characters tell the next, and the last one alone does not: attention has to learn."""
    core = load("04")
    tokens = np.tile([0, 1, 1], 150)
    fresh = core.initial_parameters(np.random.default_rng(0), V=2, T_max=8, C=16, F=24, N=2)
    before = {name: value.copy() for name, value in fresh.items()}
    runs = [core.train(fresh, tokens, tokens, np.random.default_rng(1), 120, B=4, heads=2, peak=0.01) for _ in range(2)]
    (trained, losses), (again, losses_again) = runs
    assert losses == losses_again
    assert len(losses) == 120
    assert all((trained[name] == again[name]).all() and (fresh[name] == before[name]).all() for name in fresh)
    assert core.pair_table_loss(tokens, tokens, 2) == pytest.approx(2 / 3 * np.log(2), abs=0.01)
    assert core.held_out_loss(trained, tokens, 2) < 0.1  # after the first character of a window it must guess: 0.06
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 20
    assert lines[:10] == lines[10:]
    continued = core.generate(trained, [0, 1, 1], 9, 0.5, np.random.default_rng(2), 2)
    assert continued == [0, 1, 1] * 4


def test_sampling_in_chapter_4_sharpens_with_the_temperature_and_slides_its_window() -> None:
    core, course_parameters, _, _ = chapter_4_model()
    cold = [core.generate(course_parameters, [1, 2], 20, 1e-6, np.random.default_rng(seed), 3) for seed in (0, 1)]
    assert cold[0] == cold[1]
    for at in range(2, 22):  # the likeliest each time, given the last five at most
        logits, _ = core.gpt_forward(course_parameters, np.array([cold[0][max(0, at - 5) : at]]), 3)
        assert cold[0][at] == logits[-1].argmax()
    logits, _ = core.gpt_forward(course_parameters, np.array([[1, 2]]), 3)
    rng = np.random.default_rng(7)
    drawn = [core.generate(course_parameters, [1, 2], 1, 2.0, rng, 3)[-1] for _ in range(2000)]
    expected = np.exp(logits[-1] / 2) / np.exp(logits[-1] / 2).sum()
    np.testing.assert_allclose(np.bincount(drawn, minlength=7) / 2000, expected, atol=0.05)


def test_chapter_4_sees_a_batch_mixed_up_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What passes the gradient check: heads cut wrongly, but consistently. The two further tests must notice."""
    core = load("04")
    parameters = core.parameters_for_check(np.random.default_rng(0))
    tokens = core.CHECK_TOKENS
    assert core.check_batch(parameters, tokens, tokens, 2) < 1e-12
    forbidden, wanted = core.check_independence(parameters, tokens, 2)
    assert forbidden < 1e-12
    assert wanted > 1e-3

    def wrong_heads(x: Array, B: int, heads: int) -> Array:
        return x.reshape(len(x) // B, B, heads, -1).transpose(1, 2, 0, 3)  # (T, B) where (B, T) belongs

    def wrong_rows(x: Array) -> Array:
        B, heads, T, D = x.shape
        return x.transpose(2, 0, 1, 3).reshape(B * T, heads * D)

    monkeypatch.setattr(core, "rows_to_heads", wrong_heads)
    monkeypatch.setattr(core, "heads_to_rows", wrong_rows)
    assert max(core.check_gradients(parameters, tokens, tokens, 2).values()) < 1e-7
    assert core.check_batch(parameters, tokens, tokens, 2) > 1e-3
    assert core.check_independence(parameters, tokens, 2)[0] > 1e-3


def test_chapter_4_says_in_a_line_that_its_text_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(SystemExit) as stop:
        load("04").default_text()
    assert stop.value.code == 1
    assert capsys.readouterr().out == "this Python has no pydoc_data.topics, the text to train on\n"


def test_chapter_4_trains_on_the_text_of_the_library() -> None:
    core = load("04")
    text = core.default_text()
    assert text == default_text()
    vocabulary = sorted(set(text))
    assert core.decode(core.encode(text, vocabulary), vocabulary) == text
