"""The exercises: each solution is right by the complex step and by the library; each file is what a reader can use."""

import ast
import copy
import tomllib
from typing import Any

import numpy as np
import pytest

from handgrad.layers import Array
from handgrad.learn import EXERCISES, HINTS, Exercise
from handgrad.learn.exercise import FOLDER, Question, load
from handgrad.learn.grading.feedback import of_twin
from handgrad.learn.grading.judge import scales, tensors, wrong
from handgrad.proof import BAR, complex_step
from handgrad.training import default_text

each_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=[exercise.name for exercise in EXERCISES])
WITH_FORWARD = [exercise for exercise in EXERCISES if exercise.forward]
WITH_TWIN = [exercise for exercise in EXERCISES if exercise.questions(0)[0].problem.twin is not None]


def places(inputs: Any) -> list[tuple[list[Any], str]]:
    """The way to each array or number of floats among the inputs, and what its gradient is called."""
    found: list[tuple[list[Any], str]] = []

    def visit(value: Any, way: list[Any], name: str) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                visit(item, [*way, key], f"{name}['{key}']" if way else f"d{key}")
        elif isinstance(value, list):
            for n, item in enumerate(value):
                visit(item, [*way, n], f"{name}[{n}]")
        elif np.asarray(value).dtype.kind == "f":
            found.append((way, name))

    visit(dict(inputs), [], "")
    return found


def at(inputs: Any, way: list[Any]) -> Any:
    for key in way:
        inputs = inputs[key]
    return inputs


def with_other(inputs: Any, way: list[Any], x: Array) -> Any:
    inputs = copy.deepcopy(dict(inputs))
    at(inputs, way[:-1])[way[-1]] = x
    return inputs


def scalar(exercise: Exercise, question: Question, inputs: Any) -> Any:
    """The sum of what the forward makes, times the cotangents of the question."""
    forward: Any = getattr(load(exercise.module), str(exercise.forward))
    ys, _ = forward(**inputs)
    ys = ys if isinstance(ys, tuple) else (ys,)
    return sum((np.asarray(y) * dy).sum() for y, dy in zip(ys, question.arguments, strict=False))


@pytest.mark.parametrize("exercise", WITH_FORWARD, ids=[exercise.name for exercise in WITH_FORWARD])
def test_solutions_against_the_complex_step(exercise: Exercise) -> None:
    for question in exercise.questions(seed=3)[: 2 if exercise.name == "gpt" else None]:
        inputs = question.problem.inputs
        right = tensors(question.right, exercise.returns)
        by = scales(right)
        assert {name for _, name in places(inputs)} == right.keys()
        for way, name in places(inputs):

            def moved(x: Array, way: list[Any] = way) -> Any:
                return scalar(exercise, question, with_other(inputs, way, x))  # noqa: B023

            derivative = complex_step(moved, np.asarray(at(inputs, way)))
            assert np.max(np.abs(right[name] - derivative)) <= BAR * by[name], (exercise.name, name)


def test_the_jacobian_against_the_complex_step() -> None:
    forward: Any = load("ex09_softmax_jacobian").softmax_row_forward
    jacobian: Any = load("ex09_softmax_jacobian").softmax_jacobian
    z = np.random.default_rng(0).standard_normal(5)
    for i in range(5):

        def entry(z: Array, i: int = i) -> Any:
            return forward(z)[i]

        row = complex_step(entry, z)
        np.testing.assert_allclose(jacobian(forward(z))[i], row, rtol=0, atol=1e-15)


@pytest.mark.parametrize("exercise", WITH_TWIN, ids=[exercise.name for exercise in WITH_TWIN])
def test_solutions_against_the_library(exercise: Exercise) -> None:
    for question in exercise.questions(seed=5):
        theirs = of_twin(exercise, question)
        assert theirs is not None
        assert not wrong(theirs, tensors(question.right, exercise.returns))


def test_adamw_against_the_formula_in_many_steps() -> None:
    """A run of steps with changing gradients, in the closed form of both means."""
    adamw: Any = load("ex28_adamw").adamw
    gradients = np.random.default_rng(1).standard_normal((6, 3, 2))
    w = np.ones((3, 2))
    mean = mean_square = np.zeros((3, 2))
    for step, dw in enumerate(gradients, start=1):
        before = w
        w, mean, mean_square = adamw(w, dw, mean, mean_square, step, 0.1, 0.02)
        shares = [np.array([beta ** (step - n) for n in range(1, step + 1)]) for beta in (0.9, 0.99)]
        first, second = (
            np.tensordot(share / share.sum(), gradients[:step] ** power, 1)
            for share, power in zip(shares, (1, 2), strict=True)
        )
        np.testing.assert_allclose(w, before - 0.1 * (first / (second**0.5 + 1e-8) + 0.02 * before), rtol=1e-13)


def test_accumulation_against_the_uncut_batch() -> None:
    accumulate: Any = load("ex29_accumulation").accumulate
    generator = np.random.default_rng(2)
    w, x, y = generator.standard_normal(4), generator.standard_normal((11, 4)), generator.standard_normal(11)

    def mean_loss(x: Array, y: Array) -> tuple[float, dict[str, Array]]:
        off = x @ w - y
        return float((off**2).mean()), {"w": 2 * x.T @ off / len(x)}

    cut = [slice(0, 2), slice(2, 3), slice(3, 11)]
    losses, gradients = zip(*(mean_loss(x[part], y[part]) for part in cut), strict=True)
    loss, found = accumulate(list(losses), list(gradients), [2, 1, 8])
    whole, whole_gradients = mean_loss(x, y)
    assert loss == pytest.approx(whole, rel=1e-14)
    np.testing.assert_allclose(found["w"], whole_gradients["w"], rtol=1e-13)


@each_exercise
def test_files_are_short_and_say_what_is_asked(exercise: Exercise) -> None:
    lines = exercise.unsolved.splitlines()
    assert 20 <= len(lines) <= 60
    assert max(map(len, lines)) <= 100
    tree = ast.parse(exercise.unsolved)
    text = ast.get_docstring(tree)
    assert text
    assert "\n\nQuestion: " in text
    assert lines[-1].strip() == "raise NotImplementedError"
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert functions[-1] == exercise.function
    assert functions.count(exercise.function) == 1
    asked = lines[-2].partition("returns ")[2].rstrip(":")
    assert asked
    for name in exercise.returns:
        assert name in asked
    assert compile(exercise.solved, exercise.file, "exec")
    assert not set(exercise.solution.splitlines()) & set(lines)


@each_exercise
def test_files_need_what_came_before_only(exercise: Exercise) -> None:
    earlier = {other.module for other in EXERCISES if other.number < exercise.number}
    imports = [node for node in ast.walk(ast.parse(exercise.solved)) if isinstance(node, ast.ImportFrom)]
    assert {node.module for node in imports} <= earlier
    for node in imports:
        for alias in node.names:
            assert hasattr(load(str(node.module)), alias.name)


@each_exercise
def test_an_answer_and_three_hints(exercise: Exercise) -> None:
    assert exercise.question.endswith((".", "?"))
    assert len(exercise.answer) > 10
    assert len(exercise.hints) == HINTS
    assert len({hint for hint in exercise.hints if len(hint) > 40}) == HINTS
    lines = [line for hint in exercise.hints for line in hint.splitlines() if line.startswith("    ")]
    assert all(len(line) <= 76 for line in lines)  # code is not wrapped


def test_the_words_are_those_of_the_exercises() -> None:
    words = tomllib.loads((FOLDER / "words.toml").read_text(encoding="utf-8"))
    assert list(words) == [exercise.name for exercise in EXERCISES]


def test_all_files_are_on_the_ladder() -> None:
    assert sorted(path.name for path in FOLDER.glob("ex*.py")) == [exercise.file for exercise in EXERCISES]
    assert [exercise.number for exercise in EXERCISES] == list(range(1, len(EXERCISES) + 1))
    assert len(default_text()) > 100_000  # the end piece has something to learn


def test_sizes_suit_the_exercises() -> None:
    for exercise in EXERCISES:
        for question in exercise.questions(0):
            sizes = question.sizes
            assert sizes["C"] % sizes["H"] == 0
            assert sizes["D"] % 2 == 0 or exercise.name != "rotary"
            assert sizes["H"] % sizes.get("G", 1) == 0
            assert len({sizes["C"], sizes["F"], sizes["V"]}) == 3


@each_exercise
def test_cases_are_random_and_hold_the_edges(exercise: Exercise) -> None:
    sizes = [question.sizes for question in exercise.questions(0)]
    assert any(size["B"] == 1 for size in sizes)
    assert any(size["T"] == 1 and size["H"] == 1 for size in sizes)
    first, again, other = (exercise.questions(seed)[0] for seed in (0, 0, 1))
    one, same, another = (tensors(question.right, exercise.returns) for question in (first, again, other))
    for name, x in one.items():
        assert x.dtype == np.float64
        np.testing.assert_array_equal(x, same[name])
        assert not np.array_equal(x, another[name])
