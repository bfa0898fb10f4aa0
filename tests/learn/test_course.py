"""A reader's folder: begun, gone on with, damaged, and never emptied of what the reader wrote."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from handgrad import HandgradError
from handgrad.learn import EXERCISES, Course, Grade, find, grade_file
from handgrad.learn.course import PROGRESS_FILE, README_FILE

FIRST, SECOND = EXERCISES[:2]


def test_start_writes_all_files_unsolved(course: Course) -> None:
    names = {path.name for path in course.folder.iterdir()}
    assert names == {exercise.file for exercise in EXERCISES} | {README_FILE, PROGRESS_FILE}
    for exercise in EXERCISES:
        assert course.source(exercise) == exercise.unsolved
        assert course.standing(exercise) == "untouched"
        assert exercise.solution not in course.source(exercise)
    assert course.next() == FIRST
    assert all(exercise.file in (course.folder / README_FILE).read_text(encoding="utf-8") for exercise in EXERCISES)


def test_start_writes_what_is_missing_and_nothing_else(course: Course) -> None:
    course.path(FIRST).write_text("mine", encoding="utf-8")
    course.path(SECOND).unlink()
    again, written = Course.start(course.folder)
    assert written == [SECOND.file]
    assert again.source(FIRST) == "mine"


@pytest.mark.parametrize("made", ["file", "folder with a file"])
def test_start_refuses_what_is_no_course(tmp_path: Path, made: str) -> None:
    path = tmp_path / "there"
    if made == "file":
        path.write_text("x", encoding="utf-8")
    else:
        path.mkdir()
        (path / "notes.txt").write_text("x", encoding="utf-8")
    with pytest.raises(HandgradError, match="not a folder" if made == "file" else "not empty"):
        Course.start(path)
    assert not (path / FIRST.file).exists()


def test_what_passed_is_known_until_it_is_changed(course: Course) -> None:
    course.path(FIRST).write_text(FIRST.solved, encoding="utf-8")
    course.record([Grade(FIRST, "passed", source=FIRST.solved)])
    for seen in (course, Course(course.folder)):
        assert seen.standing(FIRST) == "passed"
        assert seen.next() == SECOND
        assert seen.passed == 1
    course.path(FIRST).write_text(FIRST.solved + "#", encoding="utf-8")
    assert course.standing(FIRST) == "begun"
    assert course.next() == FIRST
    course.path(FIRST).write_text(FIRST.solved, encoding="utf-8")
    assert course.standing(FIRST) == "passed"
    course.record([Grade(FIRST, "wrong", source=FIRST.solved)])
    assert Course(course.folder).standing(FIRST) == "begun"


def test_what_is_hidden_does_not_keep_a_course_away(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    assert len(Course.start(tmp_path)[1]) == len(EXERCISES) + 1


def test_many_at_once(course: Course) -> None:
    def record(number: int) -> None:
        Course(course.folder).record([Grade(EXERCISES[number], "passed", source=EXERCISES[number].unsolved)])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(record, range(16)))
    assert Course(course.folder).passed == 16


def test_two_do_not_forget_what_the_other_found(course: Course) -> None:
    other = Course(course.folder)
    course.record([Grade(FIRST, "passed", source=FIRST.unsolved)])
    other.record([Grade(SECOND, "passed", source=SECOND.unsolved)])
    assert Course(course.folder).passed == 2


def test_hints_are_remembered(course: Course) -> None:
    course.record_hints(FIRST, 2)
    assert Course(course.folder).hints_shown == {FIRST.name: 2}


def test_what_a_later_version_writes_is_kept(course: Course) -> None:
    path = course.folder / PROGRESS_FILE
    later = json.loads(path.read_text(encoding="utf-8")) | {"new": [1], "passed": {"unknown": "x"}}
    path.write_text(json.dumps(later), encoding="utf-8")
    Course(course.folder).record_hints(FIRST, 1)
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found == later | {"hints": {FIRST.name: 1}}


def test_a_start_that_was_broken_off_is_gone_on_with(course: Course) -> None:
    for exercise in EXERCISES:
        course.path(exercise).unlink()
    assert len(Course.start(course.folder)[1]) == len(EXERCISES)


def test_a_file_of_progress_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / PROGRESS_FILE
    path.write_text('{"mine": 1}', encoding="utf-8")
    with pytest.raises(HandgradError, match="not empty"):
        Course.start(tmp_path)
    with pytest.raises(HandgradError, match="not that of a course"):
        Course(tmp_path)
    assert path.read_text(encoding="utf-8") == '{"mine": 1}'


def test_line_ends_of_another_system(course: Course) -> None:
    for end in ("\r\n", "\r"):
        course.path(FIRST).write_bytes(FIRST.unsolved.replace("\n", end).encode())
        assert course.standing(FIRST) == "untouched"
    course.path(FIRST).write_bytes(FIRST.solved.replace("\n", "\r").replace("du = dy", "oops\r    du = dy").encode())
    found = grade_file(FIRST, course.path(FIRST), seed=0)
    assert found.headline == "NameError: name 'oops' is not defined"
    assert ": oops" in found.message


def test_reset_keeps_what_was_there(course: Course) -> None:
    for number in (1, 2):
        course.path(FIRST).write_text(f"mine {number}", encoding="utf-8")
        kept = course.reset(FIRST)
        assert kept is not None
        assert kept.read_text(encoding="utf-8") == f"mine {number}"
        assert course.source(FIRST) == FIRST.unsolved
    assert {path.read_text(encoding="utf-8") for path in (course.folder / "kept").iterdir()} == {"mine 1", "mine 2"}
    (course.folder / "kept" / f"{FIRST.file}.1~").write_text("an editor's", encoding="utf-8")
    assert course.reset(FIRST) is None  # it is as it was given
    course.path(FIRST).write_text("mine 3", encoding="utf-8")
    assert course.reset(FIRST) == course.folder / "kept" / f"{FIRST.file}.3"
    course.path(SECOND).unlink()
    assert course.standing(SECOND) == "missing"
    assert course.reset(SECOND) is None
    assert course.standing(SECOND) == "untouched"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        '{"course": "handgrad", "passed": 3, "hints": []}',
        '{"course": "handgrad", "hints": {"linear": "x"}}',
    ],
)
def test_a_damaged_progress_file(course: Course, content: str) -> None:
    (course.folder / PROGRESS_FILE).write_text(content, encoding="utf-8")
    if content.endswith("}"):
        damaged = Course(course.folder)
        assert damaged.passed == 0
        damaged.record_hints(SECOND, 1)
        assert Course(course.folder).hints_shown == {SECOND.name: 1}
        return
    with pytest.raises(HandgradError, match=f"{PROGRESS_FILE}: .*delete it, then `handgrad learn start .`"):
        Course(course.folder)
    (course.folder / PROGRESS_FILE).unlink()
    course.path(FIRST).write_text("mine", encoding="utf-8")
    with pytest.raises(HandgradError, match=r"progress.json is missing; `handgrad learn start \."):
        Course(course.folder)
    assert Course.start(course.folder)[1] == []
    assert course.source(FIRST) == "mine"


@pytest.mark.parametrize(
    "name", ["linear", "2", "02", "ex02_linear", "ex02_linear.py", "./ex02_linear.py", "ex02", "Linear"]
)
def test_an_exercise_is_found_by(name: str) -> None:
    assert find(name) is SECOND


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("liner", "did you mean linear?"),
        ("99", "learn list"),
        ("", "learn list"),
        ("/a/b/ex02_linear.py", "no exercise"),
    ],
)
def test_no_such_exercise(name: str, said: str) -> None:
    with pytest.raises(HandgradError, match=said):
        find(name)
