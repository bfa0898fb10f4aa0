"""One view as a file: all that the page shows, and nothing that it would have to ask for."""

import base64
import errno
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from handgrad.errors import HandgradError
from handgrad.explorer import write_page
from handgrad.explorer.frames import Reply
from handgrad.proof import trace

from .conftest import TEXT, explorer_of, model_of
from .kinds import go_on
from .test_assets import NAMESPACES, NASTY, Scripts

SHORT = NASTY[:31]
"""A text that would end the script which it stands in."""


@pytest.mark.parametrize("family", ["default", "qwen3"])
def test_the_file_has_every_tensor_and_every_answer(family: str, tmp_path: Path) -> None:
    path, heard = tmp_path / "page.html", list[str]()
    explorer = explorer_of(model_of(family))
    assert write_page(explorer, path, heard.append) == []
    assert heard == ["the pass", "the formulas", "the fresh models", "the file"]
    assert [*tmp_path.iterdir()] == [path]
    page = path.read_text(encoding="utf-8")
    traced = trace(model_of(family), TEXT)
    scripts = Scripts(page).found
    found = {
        attributes["data-tensor"]: (attributes, text) for attributes, text in scripts if "data-tensor" in attributes
    }
    expected = {key: x for key, x in traced.tensors().items() if key not in ("tokens", "targets")}
    assert {*found} == {*expected}
    for key, x in expected.items():
        attributes, text = found[key]
        assert json.loads(str(attributes["data-shape"])) == [*x.shape]
        np.testing.assert_array_equal(np.frombuffer(base64.b64decode(text), "<f4"), x.ravel().astype(np.float32))
    (told,) = [text for attributes, text in scripts if attributes.get("id") == "answers"]
    answers = json.loads(told)
    assert {*answers} == {"pass", "sheets", "flow", "training", "tensors"}
    assert (answers["pass"]["text"], answers["pass"]["loss"]) == (TEXT, traced.loss)
    assert answers["pass"] == json.loads(json.dumps(explorer.answers["pass"]({}, go_on).header))
    assert {*answers["sheets"]} == {*traced.activations, *traced.parameters}
    for name in ("norm.output", "blocks.1.attention.w_q"):
        assert answers["sheets"][name] == json.loads(json.dumps(explorer.sheet({"name": name}, go_on).header))
    assert answers["training"] == {"run": None, "active": False}
    listed = answers["flow"]["choices"]
    assert [each["key"] for each in listed] == ["trained", "fresh", "norm", "init", "scale", "residual"]
    courses = {each["key"]: explorer.flow({"key": each["key"]}, go_on).header["course"] for each in listed}
    assert answers["flow"]["courses"] == json.loads(json.dumps(courses))
    assert [courses[each["key"]]["title"] for each in listed] == [each["title"] for each in listed]
    assert {*answers["tensors"]} == {*expected}
    norm = answers["tensors"]["gradients/norm.gamma"]["statistics"]["norm"]
    assert norm == pytest.approx(np.linalg.norm(traced.gradients["norm.gamma"]))
    assert {*re.findall(r"https?://[^\s\"'`<>)\\]*", page)} <= NAMESPACES


def test_a_text_does_not_break_out_of_it(tmp_path: Path) -> None:
    assert "</script>" in SHORT
    write_page(explorer_of(model_of(), SHORT), tmp_path / "page.html")
    scripts = Scripts((tmp_path / "page.html").read_text(encoding="utf-8")).found
    assert [attributes.get("type") for attributes, _ in scripts[:3]] == ["importmap", "module", "application/json"]
    assert {attributes.get("type") for attributes, _ in scripts[3:]} == {"text/plain"}
    assert json.loads(scripts[2][1])["pass"]["text"] == SHORT


def test_too_large_tensors_are_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handgrad.explorer.export.LARGEST_TENSOR", 16 * 256 - 1)
    left_out = [
        "parameters/embedding.token",
        "parameters/head.w_lm",
        "gradients/head.w_lm",
        "gradients/embedding.token",
    ]
    assert write_page(explorer_of(model_of()), tmp_path / "page.html") == left_out
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    scripts = Scripts(page).found
    assert not {attributes.get("data-tensor") for attributes, _ in scripts} & {*left_out}
    answers = json.loads(next(text for attributes, text in scripts if attributes.get("id") == "answers"))
    assert not {*answers["tensors"]} & {*left_out}
    assert "head.w_lm" in answers["sheets"]
    monkeypatch.setattr("handgrad.explorer.export.LARGEST_TENSOR", 16 * 256)
    assert write_page(explorer_of(model_of()), tmp_path / "page.html") == []


def test_a_file_that_would_be_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "page.html"
    traced = trace(model_of(), TEXT)
    size = 4 * sum(x.size for key, x in traced.tensors().items() if "/" in key)
    monkeypatch.setattr("handgrad.explorer.export.LARGEST_FILE", size - 1)
    with pytest.raises(HandgradError) as raised:
        write_page(explorer_of(model_of()), path)
    assert str(raised.value) == (
        f"{path}: the tensors of this model and text are {size / 1e6:,.0f} MB, more than the {(size - 1) / 1e6:,.0f} "
        "that a page can hold; the live page has no such limit, and a shorter --text makes fewer"
    )
    assert [*tmp_path.iterdir()] == []
    monkeypatch.setattr("handgrad.explorer.export.LARGEST_FILE", size)
    write_page(explorer_of(model_of()), path)
    assert path.exists()


def test_a_shorter_text_is_advised_where_that_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not where the parameters and their gradients alone are too large; those that are left out do not count."""
    path, model = tmp_path / "page.html", model_of()
    parameters = 8 * sum(x.size for x in model.parameters.values())
    for limit, helps in ((parameters, True), (parameters - 1, False), (3_000, False)):
        monkeypatch.setattr("handgrad.explorer.export.LARGEST_FILE", limit)
        with pytest.raises(HandgradError) as raised:
            write_page(explorer_of(model), path)
        said = f" that a page can hold; the live page has no such limit{', and a shorter --text makes fewer' * helps}"
        assert str(raised.value).endswith(f", more than the {limit / 1e6:,.0f}{said}")
    monkeypatch.setattr("handgrad.explorer.export.LARGEST_TENSOR", 16 * 256 - 1)
    parameters -= 8 * 2 * 16 * 256
    for limit, helps in ((parameters, True), (parameters - 1, False)):
        monkeypatch.setattr("handgrad.explorer.export.LARGEST_FILE", limit)
        with pytest.raises(HandgradError) as raised:
            write_page(explorer_of(model), path)
        assert str(raised.value).endswith("fewer") == helps
    assert [*tmp_path.iterdir()] == []


def test_a_file_does_not_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its run is being trained, the page asks now and then for more; a file would ask nobody."""
    told = {"run": "mine", "active": True, "curve": []}
    explorer = explorer_of(model_of())
    monkeypatch.setattr(explorer, "training", lambda fields, stop: Reply(told))
    write_page(explorer, tmp_path / "page.html")
    scripts = Scripts((tmp_path / "page.html").read_text(encoding="utf-8")).found
    answers = json.loads(next(text for attributes, text in scripts if attributes.get("id") == "answers"))
    assert answers["training"] == told | {"active": False}


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(HandgradError, match=r": is a folder; the page is a file$"):
        write_page(explorer_of(model_of()), tmp_path)


def test_a_file_that_is_no_page_stays(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(HandgradError, match=r"page.html: is there already, and no page of the explorer; "):
        write_page(explorer_of(model_of()), path)
    assert path.read_text(encoding="utf-8") == "mine"


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "page.html"
    before = "<title>handgrad explorer</title>mine"
    path.write_text(before, encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_page(explorer_of(model_of()), path)
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_text(encoding="utf-8") == before
    with pytest.raises(FileNotFoundError):
        write_page(explorer_of(model_of()), tmp_path / "nowhere" / "page.html")
    assert [*tmp_path.iterdir()] == [path]


def test_a_text_that_cannot_be_shown_writes_nothing(tmp_path: Path) -> None:
    for text in ("", "x", "x" * 40):
        with pytest.raises(HandgradError, match=r"^the text has "):
            write_page(explorer_of(model_of(), text), tmp_path / "page.html")
    assert [*tmp_path.iterdir()] == []
