"""What the README shows is what the code is, and the examples of the page on Python run."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from handgrad.layers import layer_norm_backward
from handgrad.model import Model, ModelConfig, Tokenizer, initial_parameters, load
from handgrad.proof import MUTATIONS, all_cases
from handgrad.training import DEFAULT_PRESET, PRESETS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = (ROOT / "docs" / "guides" / "python.md").read_text(encoding="utf-8")
(BACKWARD,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
MODEL, TRAINING, TRACE, LAYERS, TAPS = re.findall(r"```python\n(.*?)```", PYTHON, flags=re.DOTALL)


def bare(source: str) -> str:
    """The code without annotations, docstrings and comments."""
    tree = ast.parse(source)
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        function.returns = None
        function.decorator_list = []
        for argument in function.args.args + function.args.kwonlyargs:
            argument.annotation = None
        if ast.get_docstring(function) is not None:
            del function.body[0]
    return ast.unparse(tree)


def test_the_backward_that_the_readme_shows_is_the_library_s() -> None:
    assert bare(BACKWARD) == bare(inspect.getsource(inspect.unwrap(layer_norm_backward)))


def test_the_readme_counts_right() -> None:
    gradients = sum(len(case.inputs) for case in all_cases().values())
    assert f"\n{gradients} gradients against the complex step" in README
    assert f"plants {len(MUTATIONS)} mistakes" in README


def test_every_page_that_the_readme_points_to_is_there() -> None:
    pages = re.findall(r"\]\(((?:docs/|[A-Z]+\.md)[^)#]*)", README)
    assert len(pages) > 15
    assert [page for page in pages if not (ROOT / page).is_file()] == []


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = Tokenizer.of_characters("The class statement")
    config = ModelConfig(layers=1, heads=2, width=8, hidden=12, context=32, vocabulary=tokenizer.vocabulary)
    Model(config, initial_parameters(config), tokenizer).save(tmp_path / "runs" / "1")
    monkeypatch.chdir(tmp_path)
    for name, value in (("steps", 4), ("evaluations", 2)):
        monkeypatch.setitem(PRESETS[DEFAULT_PRESET].settings, name, value)
    names: dict[str, object] = {}

    exec(MODEL, names)
    first, second = capsys.readouterr().out.rstrip("\n").split("\n", maxsplit=1)
    assert re.fullmatch(r"\d\.\d{3} nats \(8, 8\)", first)
    assert len(second) == 100

    exec(TRAINING, names)
    assert re.fullmatch(r"2 \d\.\d+\n4 \d\.\d+\n", capsys.readouterr().out)
    assert load("runs/small").config.width == 64

    exec(TRACE, names)
    assert re.fullmatch(r"\(1, 2, 18, 18\) \d\.\d{3} nats\n", capsys.readouterr().out)

    exec(LAYERS, names)
    assert 0 < float(capsys.readouterr().out) < 1e-14

    exec(TAPS, names)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "embedding.output (1, 18, 8)"
    assert [line.split()[0] for line in shown].count("head.logits") == 2
