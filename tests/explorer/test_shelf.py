"""The models of a run: those kept, the best and the last, while it is trained, and where some are damaged or gone."""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handgrad.errors import HandgradError
from handgrad.explorer import Explorer, Shelf, shelf_of
from handgrad.explorer.shelf import OPEN, Checkpoint, first_text
from handgrad.model import Model, Tokenizer, load
from handgrad.proof import trace
from handgrad.training import create_run, make_recipe, read_data, read_metrics, resume_run

from .conftest import model_of
from .kinds import go_on

TEXT = "the cat sat on the mat. the dog sat on the log. " * 20
SETTINGS: dict[str, Any] = {
    "layers": 1,
    "heads": 2,
    "width": 8,
    "hidden": 12,
    "context": 8,
    "batch": 4,
    "keep": True,
    "steps": 12,
    "evaluations": 3,
    "tokenizer": "chars",
}


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes long and is tested elsewhere."""
    monkeypatch.setattr("handgrad.training.run.SAMPLE_TOKENS", 2)
    monkeypatch.setattr("handgrad.training.run.loss_plot", lambda entries, title: b"")


@pytest.fixture
def trained(tmp_path: Path) -> Callable[..., Path]:
    """Makes a run, up to a step; a text that has moved is where it was said to be no more."""

    def train(until: int = 12, text: str = TEXT, spoilt_at: int = 0, **changes: Any) -> Path:
        (tmp_path / "text.txt").write_text(text, encoding="utf-8")
        recipe = make_recipe(SETTINGS | changes)
        with create_run(tmp_path / "run", "default", recipe, read_data([str(tmp_path / "text.txt")])) as run:
            go_on_until(run, until, spoilt_at)
        return tmp_path / "run"

    return train


def go_on_until(run: Any, step: int, spoilt_at: int = 0) -> None:
    for progress in run.train():
        if progress.step == spoilt_at:
            run.trainer.model.parameters["head.w_lm"][...] *= 30
        if progress.step == step:
            break
    run.save()


def model_of_name(shelf: Shelf, name: str) -> Model:
    return shelf.model(shelf.find(name))


def weights(model: Model) -> Any:
    return model.parameters.flat


def test_a_model_alone_has_no_others() -> None:
    model = model_of()
    shelf = Shelf("mine", model)
    shelf.look_again()
    assert (shelf.title, shelf.run, shelf.checkpoints) == ("mine", None, {})
    assert (shelf.opened, shelf.find("")) == ("", Checkpoint("", None, None))
    assert shelf.model(shelf.find("")) is model
    for name in ("last", "best", "0"):
        with pytest.raises(HandgradError, match=rf"^checkpoint: the run keeps none of the name '{name}'$"):
            shelf.find(name)


def test_a_run_has_every_evaluation_s_model_the_best_and_the_last(trained: Callable[..., Path]) -> None:
    run = trained(spoilt_at=9)
    shelf = shelf_of(run, load(run))
    assert (shelf.title, shelf.run) == (str(run), run)
    assert [*shelf.checkpoints] == ["0", "4", "8", "12", "best", "last"]
    losses = {entry["step"]: entry["validation_loss"] for entry in read_metrics(run) if "validation_loss" in entry}
    best = min(losses, key=lambda step: losses[step])
    assert best < 12
    assert [each.step for each in shelf.checkpoints.values()] == [0, 4, 8, 12, best, 12]
    for name, folder in (("0", "kept/0"), ("8", "kept/8"), ("best", "best"), ("last", ".")):
        assert shelf.find(name).name == name
        np.testing.assert_array_equal(weights(model_of_name(shelf, name)), weights(load(run / folder)))
    assert not np.array_equal(weights(model_of_name(shelf, "0")), weights(model_of_name(shelf, "8")))


def test_a_part_of_a_run_has_the_whole_run(trained: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened is the one that the folder is; one that is not among the run's is there all the same."""
    run = trained(spoilt_at=9)
    monkeypatch.chdir(run)
    parts = {"": "last", "best": "best", "kept/0": "0", "kept/4": "4", "previous": "", "kept/../best": "best"}
    for folder, opened in [(place / part, opened) for place in (run, Path()) for part, opened in parts.items()]:
        model = load(folder)
        shelf = shelf_of(folder, model)
        assert shelf.run is not None
        assert shelf.run.resolve() == run
        assert [*shelf.checkpoints] == ["0", "4", "8", "12", "best", "last"]
        assert shelf.opened == shelf.find("").name == opened
        np.testing.assert_array_equal(weights(shelf.model(shelf.find(""))), weights(model))
        assert shelf.model(shelf.find("")) is shelf.model(shelf.find(opened))
        told = Explorer(shelf, "the cat").answers["pass"]({}, go_on).header
        steps = {"last": 12, "best": shelf.find("best").step, "0": 0, "4": 4, "": None}
        assert (told["checkpoint"], told["step"]) == (opened, steps[opened])
        assert told["loss"] == trace(model, "the cat").loss
        last = Explorer(shelf, "the cat").answers["pass"]({"checkpoint": "last"}, go_on).header
        assert (last["loss"], last["step"]) == (trace(load(run), "the cat").loss, 12)
        assert (last["loss"] == told["loss"]) == (opened == "last")


def test_a_name_never_becomes_a_path(trained: Callable[..., Path]) -> None:
    run = trained(4)
    shelf = shelf_of(run, load(run))
    assert shelf.find("") == shelf.checkpoints["last"]
    for name in ("../run", "kept/4", "/etc/passwd", "4 ", "04", "LAST", "\0"):
        with pytest.raises(HandgradError, match=r"^checkpoint: the run keeps none of the name "):
            shelf.find(name)


def test_models_are_kept_open_but_not_too_many(trained: Callable[..., Path]) -> None:
    run = trained()
    shelf = shelf_of(run, load(run))
    assert OPEN == 3
    first, four, _ = (model_of_name(shelf, name) for name in ("0", "4", "8"))
    assert model_of_name(shelf, "0") is first
    model_of_name(shelf, "12")  # in the place of that which nobody has looked at for the longest time
    assert model_of_name(shelf, "0") is first
    assert model_of_name(shelf, "4") is not four
    assert model_of_name(shelf, "best") is model_of_name(shelf, "best")


def test_a_model_that_cannot_be_read_again_is_kept_open(trained: Callable[..., Path]) -> None:
    """One that was opened, and is none of the run's."""
    run = trained()
    model = load(run / "previous")
    shelf = shelf_of(run / "previous", model)
    for name in ("0", "4", "8", "12", "best"):
        model_of_name(shelf, name)
    assert model_of_name(shelf, "") is model


def test_a_kept_model_that_is_damaged_is_told_of_and_the_others_are_there(trained: Callable[..., Path]) -> None:
    run = trained()
    path = run / "kept" / "4" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (run / "kept" / "8" / "config.json").unlink()
    shelf = shelf_of(run, load(run))
    with pytest.raises(HandgradError, match=r"kept/4/model.safetensors: differs from its checksum"):
        model_of_name(shelf, "4")
    with pytest.raises(HandgradError, match=r"kept/8/config.json: no such file"):
        model_of_name(shelf, "8")
    assert len(weights(model_of_name(shelf, "12"))) == len(weights(model_of_name(shelf, "0")))


KEY = "cotangents/blocks.0.attention.k"


@pytest.mark.parametrize("name", ["last", ""])
def test_a_run_that_goes_on_has_another_last_model(name: str, trained: Callable[..., Path]) -> None:
    """What is asked of a pass that is looked at stays of that pass; a first look is at the newest."""
    run = trained(4)
    old = load(run)
    shelf = shelf_of(run, old)
    explorer = Explorer(shelf, "the cat")
    assert [*shelf.checkpoints] == ["0", "4", "best", "last"]
    fields: dict[str, Any] = {"checkpoint": name}
    shown = explorer.answers["pass"](fields, go_on).header
    assert (shown["checkpoint"], shown["step"]) == ("last", 4)
    pinned = fields | {"step_of_model": 4}
    mistake = {"keys": [KEY], "mutation": "dk_not_transposed"}
    right, wrong = (explorer.tensors(pinned | {"keys": [KEY]} | more, go_on).arrays[KEY] for more in ({}, mistake))
    with resume_run(run) as again:
        go_on_until(again, 12)
    told = explorer.training({}, go_on).header
    assert told["step"] == 12
    assert [each["name"] for each in told["checkpoints"]] == ["0", "4", "8", "12", "best", "last"]
    assert not np.array_equal(weights(model_of_name(shelf, name)), weights(old))
    np.testing.assert_array_equal(weights(model_of_name(shelf, name)), weights(load(run)))
    assert explorer.answers["pass"](pinned, go_on).header == shown
    np.testing.assert_array_equal(explorer.tensors(pinned | {"keys": [KEY]}, go_on).arrays[KEY], right)
    np.testing.assert_array_equal(explorer.tensors(pinned | mistake, go_on).arrays[KEY], wrong)
    now = explorer.answers["pass"](fields, go_on).header
    assert (now["checkpoint"], now["step"], now["loss"]) == ("last", 12, trace(load(run), "the cat").loss)
    assert now["loss"] != shown["loss"]
    for more in ({}, {"step_of_model": 12}):
        found = explorer.tensors(fields | more | {"keys": [KEY]}, go_on).arrays[KEY]
        np.testing.assert_array_equal(found, trace(load(run), "the cat").tensors()[KEY][0, 0])
        assert not np.array_equal(explorer.tensors(fields | more | mistake, go_on).arrays[KEY], wrong)
    assert explorer.answers["pass"](pinned, go_on).header == shown  # which is still kept


def test_a_first_look_is_at_the_newest_model_and_a_second_one_at_the_same(trained: Callable[..., Path]) -> None:
    run = trained(4)
    explorer = Explorer(shelf_of(run, load(run)), "the cat")
    with resume_run(run) as again:
        go_on_until(again, 8)
    assert explorer.answers["pass"]({}, go_on).header["step"] == 8
    with resume_run(run) as again:
        go_on_until(again, 12)
    assert explorer.tensors({"keys": [KEY]}, go_on)  # and nobody looks again
    assert explorer.shelf.find("last").step == 8
    assert explorer.answers["pass"]({"step_of_model": 8}, go_on).header["step"] == 8
    assert explorer.shelf.find("last").step == 12
    assert explorer.answers["pass"]({}, go_on).header["step"] == 12


def test_a_model_that_is_gone_is_refused_in_one_line(
    trained: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained(4)
    explorer = Explorer(shelf_of(run, load(run)), "the cat")
    explorer.answers["pass"]({}, go_on)
    with resume_run(run) as again:
        go_on_until(again, 12)
    explorer.answers["training"]({}, go_on)
    said = "checkpoint: the run has gone on from step 4; load the page again"
    pinned = {"step_of_model": 4}
    for fields in (
        pinned | {"text": "the dog"},
        pinned | {"targets": {"0": 1}},
        {"step_of_model": 4, "checkpoint": "8"},
    ):
        for question in ("flow", "pass"):
            with pytest.raises(HandgradError) as raised:
                explorer.answers[question](fields, go_on)
            assert str(raised.value) == said
    assert explorer.answers["pass"](pinned, go_on).header["step"] == 4
    monkeypatch.setattr("handgrad.explorer.passes.KEPT_BYTES", 0)
    explorer.answers["pass"]({"text": "the dog"}, go_on)  # in its place
    with pytest.raises(HandgradError) as raised:
        explorer.answers["sheet"](pinned | {"name": "loss"}, go_on)
    assert str(raised.value) == said
    kept = explorer.answers["pass"](pinned | {"checkpoint": "4"}, go_on).header  # which the run keeps by its step
    assert (kept["step"], kept["loss"]) == (4, trace(load(run / "kept" / "4"), "the cat").loss)


def test_a_model_is_that_of_its_step_or_none(trained: Callable[..., Path]) -> None:
    """What a run has written since the shelf was looked at is not shown as what was there."""
    run = trained(4)
    shelf = shelf_of(run / "kept" / "4", load(run / "kept" / "4"))
    explorer = Explorer(shelf, "the cat")
    with resume_run(run) as again:
        go_on_until(again, 12)
    assert shelf.find("last").step == 4
    asked = {"keys": [KEY], "checkpoint": "last", "step_of_model": 4}
    for question in ("tensors", "pass", "tensors"):
        with pytest.raises(HandgradError, match=r"^checkpoint: the run has gone on from step 4; load the page again$"):
            explorer.answers[question](asked, go_on)
        assert shelf.find("last").step == 12
    shown = explorer.answers["pass"]({"checkpoint": "last"}, go_on).header
    assert (shown["step"], shown["loss"]) == (12, trace(load(run), "the cat").loss)


def test_the_command_for_a_pass_names_the_model_that_it_is_of(trained: Callable[..., Path]) -> None:
    run = trained()
    explorer = Explorer(shelf_of(run, load(run)), "the cat")
    for name, folder in (("", run), ("last", run), ("best", run / "best"), ("4", run / "kept" / "4")):
        command = explorer.answers["pass"]({"checkpoint": name}, go_on).header["trace_command"]
        assert shlex.split(command) == ["handgrad", "trace", str(folder), "--text", "the cat"]


def test_where_the_best_is_just_being_written_there_is_none(trained: Callable[..., Path]) -> None:
    """The metrics have an evaluation that is better than the one the position knows of."""
    run = trained(8)
    metrics = run / "metrics.jsonl"
    shelf = shelf_of(run, load(run))
    assert "best" in shelf.checkpoints
    better = {"step": 9, "validation_loss": 0.01, "bits_per_character": 0.02, "sample": ""}
    with metrics.open("a", encoding="utf-8") as file:
        file.write(json.dumps(json.loads(metrics.read_text().split("\n")[-2]) | better) + "\n")
    shelf.look_again()
    assert shelf.entries[-1]["step"] == 9
    assert "best" not in shelf.checkpoints
    with pytest.raises(HandgradError, match=r"^checkpoint: the run keeps none of the name 'best'$"):
        shelf.find("best")


def test_a_run_that_has_begun_has_no_best_yet(trained: Callable[..., Path]) -> None:
    run = trained(2)
    assert [*shelf_of(run, load(run)).checkpoints] == ["0", "last"]


def test_what_is_best_is_known_by_its_evaluation(trained: Callable[..., Path]) -> None:
    run = trained(4)
    (run / "metrics.jsonl").unlink()
    assert [*shelf_of(run, load(run)).checkpoints] == ["0", "4", "last"]


def test_a_run_that_is_being_written_has_what_is_there(trained: Callable[..., Path]) -> None:
    run = trained(4)
    model = load(run)
    (run / "kept" / "8").mkdir()
    shutil.copy(run / "model.safetensors", run / "kept" / "8")  # and no checksums yet
    assert [*shelf_of(run, model).checkpoints] == ["0", "4", "best", "last"]
    (run / "metrics.jsonl").write_bytes((run / "metrics.jsonl").read_bytes() + b'{"step": 5, "lo')
    assert [*shelf_of(run, model).checkpoints] == ["0", "4", "best", "last"]
    (run / "optimizer.safetensors").unlink()
    assert [*shelf_of(run, model).checkpoints] == ["0", "4"]


def test_the_first_text_is_held_out_by_the_run(trained: Callable[..., Path]) -> None:
    run = trained(4, "\n\n" + "".join(f"{n} is {n * n}. " for n in range(400)))
    shelf = shelf_of(run, load(run))
    text = first_text(shelf, 9)
    assert len(text) == 9
    held_out = (run.parent / "text.txt").read_text()[int(0.85 * 4000) :]
    assert text in held_out
    assert Explorer(shelf).text == text  # the context and one more


def test_where_the_text_has_moved_another_one_is_found(trained: Callable[..., Path]) -> None:
    run = trained(4)
    (run.parent / "text.txt").unlink()
    text = first_text(shelf_of(run, load(run)), 9)  # its characters are those of the other text alone
    assert 2 <= len(load(run).tokenizer.encode(text)) <= 9
    assert first_text(Shelf("", model_of()), 10) == "The quick "


def test_a_model_that_cannot_write_the_usual_text_writes_its_own() -> None:
    model = model_of(vocabulary=3)
    model = Model(model.config, model.parameters, Tokenizer.of_characters("abc"))
    text = first_text(Shelf("", model), 12)
    assert len(text) == 12
    assert {*text} <= {*"abc"}
    assert text == model.generate(tokens=12, temperature=0.0)


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
def test_a_text_that_is_cut_within_a_character_fits_the_context(tokenizer: str, trained: Callable[..., Path]) -> None:
    """Seven of these bytes are two characters and a third of one; that third alone would be three bytes once more."""
    run = trained(4, "€€ü" * 700, tokenizer=tokenizer, **({"vocabulary": 258} if tokenizer == "bpe" else {}))
    model = load(run)
    for tokens in range(3, 10):
        text = first_text(shelf_of(run, model), tokens)
        assert 2 <= len(model.tokenizer.encode(text)) <= tokens
    explorer = Explorer(shelf_of(run, model))
    assert explorer.answers["pass"]({}, go_on).header["text"] == explorer.text
