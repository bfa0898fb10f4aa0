"""The course: each script runs with NumPy alone, twice the same, proves itself, and agrees with the library."""

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
}


def run(path: Path) -> subprocess.CompletedProcess[str]:
    """Run a script where warnings are errors (but for the one that pyproject.toml tells of), in ASCII."""
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    ignored = "ignore:invalid value encountered in matmul:RuntimeWarning"
    command = [sys.executable, "-W", "error", "-W", ignored, str(path)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_script_runs_and_prints_the_same_twice(path: Path) -> None:
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
    imports = [
        line.split()[1]
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith(("import ", "from "))
    ]
    assert set(imports) <= {"sys", "numpy"}


@pytest.mark.parametrize(
    ("chapter", "line", "tensor"),
    [
        ("01", "dW_k = sentence_embedding.T @ dK", "W_k"),
        ("02", "dW_o = merged.T @ dy", "W_o"),
        ("03", "dW_up = x.T @ dup", "W_up"),
        ("03", "dgamma = np.sum(dy * x_hat, axis=0)", "gamma_1"),
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
    assert re.search(rf"^ +{tensor} .* 1e-06 +WRONG$", result.stdout, flags=re.MULTILINE)
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


@pytest.mark.parametrize("chapter", ["01", "02", "03"])
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
    dx, *dw_qkv, dw_o = core.multi_head_attention_backward(dy, cache)
    library, library_cache = layers.multi_head_attention_forward(x[None], np.hstack([w_q, w_k, w_v]), w_o, heads=3)
    library_dx, library_dw_qkv, library_dw_o = layers.multi_head_attention_backward(dy[None], library_cache)
    assert_pairs_agree((y, dx, np.hstack(dw_qkv), dw_o), (library[0], library_dx[0], library_dw_qkv, library_dw_o))


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
    library, swiglu_cache = layers.swiglu_forward(x, np.hstack([w_gate, w_up]), w_down)
    assert_pairs_agree(
        (y, dx, np.hstack([dw_gate, dw_up]), dw_down), (library, *layers.swiglu_backward(dy, swiglu_cache))
    )


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
    dw_qkv = library_gradients.attention.w_qkv
    assert relative_error(np.hstack([gradients[f"W_{part}"] for part in "qkv"]), dw_qkv) < 1e-12
    _, trapped = core.block_backward(dy, cache, planted_bug=True)
    assert relative_error(np.hstack([trapped[f"W_{part}"] for part in "qkv"]), dw_qkv) > 0.5
    assert relative_error(trapped["W_o"], library_gradients.attention.w_o) < 1e-12
