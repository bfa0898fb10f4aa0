"""A course whose exercises are all solved."""

from pathlib import Path

import pytest

from handgrad.learn import EXERCISES, Course


@pytest.fixture
def course(tmp_path: Path) -> Course:
    """As it is begun."""
    return Course.start(tmp_path / "course")[0]


@pytest.fixture
def solved(course: Course) -> Course:
    for exercise in EXERCISES:
        course.path(exercise).write_text(exercise.solved, encoding="utf-8")
    return course
