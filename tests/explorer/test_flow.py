"""The sizes of signals by depth: those of passes through models that the test makes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from handgrad.explorer.flow import Course, choices, course_of
from handgrad.layers import Array
from handgrad.model import Model, initial_parameters
from handgrad.proof import Trace, trace

from .conftest import model_of
from .kinds import KINDS, go_on, model_of_kind, traced_of_kind

LEFT_OUT: dict[str, dict[str, Any]] = {
    "norm": {"norm": "none"},
    "init": {"init": "unit"},
    "scale": {"score_scale": False},
    "residual": {"residual": False},
}


def finite(x: Any) -> float | None:
    return float(x) if np.isfinite(x) else None


def close(found: float | None, expected: float | None) -> bool:
    return found == expected or (None not in (found, expected) and found == pytest.approx(expected, rel=1e-12))


def assert_is_that_of(course: Course, traced: Trace) -> None:
    expected = [name for name in traced.activations if name != "loss" and "masked" not in name]
    assert [point.name for point in course.points] == expected
    assert close(course.loss, finite(traced.loss))
    with np.errstate(all="ignore"):
        for name, std, norm in course.points:
            x, dx = traced.activations[name].ravel(), traced.cotangents[name].ravel()
            assert close(std, finite(np.sqrt(np.mean((x - x.mean()) ** 2)))), name
            assert close(norm, finite(np.sqrt((dx * dx).sum()))), name
    assert len(course.sharpest) == traced.config.layers
    for n, found in enumerate(course.sharpest):
        assert close(found, sharpest(traced.activations[f"blocks.{n}.attention.weights"][0]))


def sharpest(weights: Array) -> float | None:
    rows = [max(row) for head in weights.tolist() for row in head[1:]]
    return finite(np.mean(rows)) if rows else None


@pytest.mark.parametrize(("kind", "layers"), [*((kind, 1) for kind in KINDS), ("default", 3), ("mistral", 3)])
def test_the_courses_are_those_of_fresh_models_with_a_choice_left_out(kind: str, layers: int) -> None:
    model, traced = model_of_kind(kind), traced_of_kind(kind)
    known = choices(model.config)
    courses = {key: course_of(key, model, traced, layers, go_on) for key in known}
    assert [(course.key, course.title) for course in courses.values()] == [*known.items()]
    lacking = {
        key for key, fields in LEFT_OUT.items() if all(getattr(model.config, name) == x for name, x in fields.items())
    }
    assert [*courses] == ["trained", "fresh", *(key for key in LEFT_OUT if key not in lacking)]
    assert ("norm" in lacking) == ("no norm" in kind)
    assert_is_that_of(courses.pop("trained"), traced)
    for key, course in courses.items():
        config = replace(model.config, layers=layers, **LEFT_OUT.get(key, {}))
        fresh = Model(config, initial_parameters(config, 0), model.tokenizer)
        with np.errstate(all="ignore"):
            assert_is_that_of(course, trace(fresh, traced.tokens, traced.targets))
    titles = {course.title for course in courses.values()}
    assert len(titles) == len(courses)


def test_a_choice_that_the_model_lacks_is_not_left_out_once_more() -> None:
    model = model_of(init="unit", residual=False, norm="none", score_scale=False)
    assert [*choices(model.config)] == ["trained", "fresh"]


def test_one_token_has_no_sharpest_weight() -> None:
    model = model_of()
    traced = trace(model, "ab")
    for key in choices(model.config):
        assert course_of(key, model, traced, 2, go_on).sharpest == [None, None]


def test_the_seed_decides_the_fresh_models() -> None:
    model, traced = model_of_kind("default"), traced_of_kind("default")
    first, again, other = (
        [course_of(key, model, traced, 2, go_on, seed) for key in choices(model.config)] for seed in (0, 0, 1)
    )
    assert first == [course_of(key, model, traced, 2, go_on) for key in choices(model.config)]
    assert first == again
    assert first[0] == other[0]
    assert all(one != another for one, another in zip(first[1:], other[1:], strict=True))


def test_what_overflows_is_none_and_no_warning() -> None:
    model = model_of()
    model.parameters["blocks.0.attention.w_o"][...] = 1e200
    model.parameters["head.w_lm"][0, 0] = np.nan
    with np.errstate(all="ignore"):
        traced = trace(model, "ab c")
    trained = course_of("trained", model, traced, 2, go_on)
    sizes = {point.name: point for point in trained.points}
    assert sizes["blocks.0.attention.output"].std is None
    assert sizes["embedding.output"].std is not None
    assert trained.loss is None


def test_it_is_given_up_when_nobody_waits() -> None:
    def stop() -> None:
        raise InterruptedError

    model, traced = model_of_kind("default"), traced_of_kind("default")
    assert course_of("trained", model, traced, 2, stop).key == "trained"  # which is there
    for key in ("fresh", "norm"):
        with pytest.raises(InterruptedError):
            course_of(key, model, traced, 2, stop)
