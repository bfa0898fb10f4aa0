"""The shapes in signatures are enforced wherever there are any, at the first call and at every other one."""

import ast
import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import jaxtyping
import numpy as np
import pytest
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import AbstractDtype, Float, TypeCheckError, jaxtyped

from handgrad.layers import Array, linear_forward

from .shapes import SOURCE, modules_with_shapes, once

KINDS = {name for name, x in vars(jaxtyping).items() if inspect.isclass(x) and issubclass(x, AbstractDtype)}


@pytest.mark.parametrize("module", modules_with_shapes())
def test_every_function_of_a_module_with_shapes_in_its_signatures_is_enforced(module: str) -> None:
    enforced = import_module(module)
    classes = [x for x in vars(enforced).values() if inspect.isclass(x) and x.__module__ == module]
    functions = [x for owner in (enforced, *classes) for x in vars(owner).values() if inspect.isfunction(x)]
    own = [x for x in functions if inspect.unwrap(x).__code__.co_filename == enforced.__file__]
    assert own
    assert [x.__qualname__ for x in own if x is inspect.unwrap(x)] == []


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_shapes_are_imported_in_one_form_only(path: Path) -> None:
    """By another, from another module, or through another name, they would not be seen."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = [
        x for x in ast.walk(tree) if isinstance(x, ast.Import | ast.ImportFrom) and "jaxtyping" in ast.unparse(x)
    ]
    known = ".".join(path.relative_to(SOURCE).with_suffix("").parts) in modules_with_shapes()
    assert len(imports) == known
    names = [alias.name for x in imports for alias in x.names]
    assert [ast.unparse(x) for x in imports] == [f"from jaxtyping import {', '.join(names)}"] * known
    assert {x.id for x in ast.walk(tree) if isinstance(x, ast.Name)} & KINDS == set(names)
    named = [x.value for x in ast.walk(tree) if isinstance(x, ast.Assign)]
    assert not [x for x in named if isinstance(x, ast.Subscript) and ast.unparse(x.value) in names]


@pytest.mark.parametrize("module", modules_with_shapes())
def test_functions_within_functions_have_no_shapes(module: str) -> None:
    """Which nothing would check."""
    tree = ast.parse((SOURCE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
    for outer in ast.walk(tree):
        for inner in ast.walk(outer) if isinstance(outer, ast.FunctionDef) else ():
            if isinstance(inner, ast.FunctionDef) and inner is not outer:
                assert "[Array," not in f"{ast.unparse(inner.args)} {inner.returns and ast.unparse(inner.returns)}"


def test_what_is_wrong_is_refused_each_time_and_what_was_right_in_other_shapes_too() -> None:
    x, w = np.ones((2, 3)), np.ones((3, 5))
    for _ in range(2):
        linear_forward(x, w)
        for wrong in ((x, w.T), (x.astype(int), w), (x[:, :2], w), ("x", w)):
            with pytest.raises(TypeCheckError):
                linear_forward(*wrong)
    linear_forward(x[:, :2], w[:2])


def module_level(function: Callable[..., Any]) -> Callable[..., Any]:
    function.__qualname__ = function.__name__
    return function


def test_a_result_is_checked_though_the_arguments_are_as_before() -> None:
    results = [np.ones(3), np.ones(4), np.ones(3, int), np.ones((3, 1)), np.ones(3)]

    @jaxtyped(typechecker=once)
    @module_level
    def passed_on(x: Float[Array, "n"]) -> Float[Array, "n"]:
        return results.pop(0)

    refused = []
    while results:
        try:
            passed_on(np.ones(3))
        except TypeCheckError:
            refused.append(len(results))
    assert refused == [3, 2, 1]


def test_values_and_what_is_in_containers_count_as_well() -> None:
    @once
    @module_level
    def check(
        letter: Literal["a", "b"], x: Array | None, pair: tuple[int, Array], named: Mapping[str, Array]
    ) -> None: ...

    right: tuple[Any, ...] = ("a", None, (1, np.ones(2)), {"x": np.ones(2)})
    wrong: tuple[Any, ...] = ("c", 1.0, (1, 2), {"x": 1})
    for _ in range(2):
        check(*right)
        for n, x in enumerate(wrong):
            with pytest.raises(BeartypeCallHintViolation):
                check(*right[:n], x, *right[n + 1 :])
