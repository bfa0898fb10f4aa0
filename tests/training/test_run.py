"""A run in its folder: it goes on, wherever it was broken off, to the same bytes; nothing that was saved is lost."""

import errno
import hashlib
import itertools
import json
import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors

import handgrad
from handgrad.errors import ConfigError, DamagedError, HandgradError, TrainingError, WeightsError
from handgrad.model import load_tensors, tensors_to_bytes
from handgrad.training import (
    Muon,
    Run,
    create_run,
    is_being_trained,
    kept_models,
    make_recipe,
    read_data,
    read_metrics,
    read_position,
    read_record,
    refuse_a_run,
    resume_run,
    run_of,
    windows_per_epoch,
)
from handgrad.training.checkpoint import FILES

from ..faults import flip_a_bit

TEXT = "the cat sat on the mat. the dog sat on the log. " * 20
STEPS = 12
SETTINGS: dict[str, Any] = {
    "layers": 1,
    "heads": 2,
    "width": 8,
    "hidden": 12,
    "context": 8,
    "batch": 4,
    "accumulation": 2,
    "steps": STEPS,
    "evaluations": 3,
    "optimizer": "adamw",
    "learning_rate": 1e-2,
    "warmup": 2,
    "hold": 0,
    "keep": True,
}
SAME = (*FILES, "checksums.sha256", "sample.txt", "best/model.safetensors", "best/config.json")
"""What the time that a run took does not show in; and the kept models."""
MODEL_FILES = ("config.json", "tokenizer.json", "model.safetensors")


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes long and is tested elsewhere."""
    monkeypatch.setattr("handgrad.training.run.SAMPLE_TOKENS", 2)
    monkeypatch.setattr("handgrad.training.run.loss_plot", lambda entries, title: b"")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def unbroken(text: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of a run that was never interrupted."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("handgrad.training.run.SAMPLE_TOKENS", 2)
        finish(new_run(text, folder))
    return digests(folder)


def new_run(text: Path, folder: Path, **changes: Any) -> Run:
    return create_run(folder, "default", make_recipe(SETTINGS | changes), read_data([str(text)]))


def finish(run: Run) -> None:
    with run:
        for _ in run.train():
            pass
        run.save()


def train_until(run: Run, step: int) -> None:
    with run:
        for progress in run.train():
            if progress.step == step:
                break


def digests(folder: Path) -> dict[str, str]:
    kept = (str(path.relative_to(folder)) for path in (folder / "kept").rglob("*") if path.is_file())
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (*SAME, *kept)}


def step_of(folder: Path) -> int:
    """The step of the checkpoint that a resume would use."""
    with resume_run(folder) as run:
        return run.step


@pytest.mark.parametrize("step", range(STEPS))
@pytest.mark.parametrize("saved", [True, False], ids=["saved", "killed"])
def test_a_run_broken_off_after_any_step_ends_with_the_same_bytes(
    step: int, saved: bool, text: Path, tmp_path: Path, unbroken: dict[str, str]
) -> None:
    """`saved`: as on Ctrl-C; otherwise it stops dead, and goes on from the last evaluation."""
    run = new_run(text, tmp_path)
    if step:
        train_until(run, step)
    if saved:
        run.save()
    run.close()
    again = resume_run(tmp_path)
    assert again.step == (step if saved else 4 * (step // 4))
    finish(again)
    assert digests(tmp_path) == unbroken
    entries = read_metrics(tmp_path)
    assert [entry["step"] for entry in entries] == list(range(1, STEPS + 1))
    assert [entry["step"] for entry in entries if "sample" in entry] == [4, 8, 12]
    assert all(later["seconds"] > earlier["seconds"] for earlier, later in itertools.pairwise(entries))


@pytest.mark.parametrize("step", [0, 1, 3, 5, 11])
@pytest.mark.parametrize("saved", [True, False], ids=["saved", "killed"])
def test_a_run_of_the_recipe_that_was_broken_off_ends_with_the_same_bytes(
    step: int, saved: bool, text: Path, tmp_path: Path
) -> None:
    """Muon's momentum, and a schedule with a plateau, in all that the preset asks for."""
    settings = {name: x for name, x in SETTINGS.items() if name not in ("optimizer", "learning_rate", "warmup", "hold")}
    recipe = make_recipe(settings, "recipe")
    assert recipe.training.optimizer == "muon"
    assert recipe.training.hold > 0
    for folder in ("unbroken", "broken"):
        run = create_run(tmp_path / folder, "recipe", recipe, read_data([str(text)]))
        if folder == "broken":
            if step:
                train_until(run, step)
            if saved:
                run.save()
            run.close()
            run = resume_run(tmp_path / folder)
            assert run.step == (step if saved else 4 * (step // 4))
            assert any(x.any() for x in run.trainer.optimizer.state.values()) == (run.step > 0)
        finish(run)
    assert digests(tmp_path / "broken") == digests(tmp_path / "unbroken")


def test_a_run_whose_record_lacks_newer_fields_goes_on_as_it_was(
    text: Path, tmp_path: Path, unbroken: dict[str, str]
) -> None:
    """AdamW, no plateau, and no models kept from there on, whatever presets ask for by now."""
    train_until(new_run(text, tmp_path), 8)
    record = json.loads((tmp_path / "training.json").read_text())
    for name in ("optimizer", "hold", "momentum", "embedding_std", "bias", "keep"):
        del record["settings"][name]
    (tmp_path / "training.json").write_text(json.dumps(record))
    assert read_record(tmp_path).recipe == make_recipe(SETTINGS | {"momentum": 0.95, "keep": False})
    (tmp_path / "checksums.sha256").write_text(
        re.sub(
            r"(?m)^\w+(  training.json)$",
            hashlib.sha256((tmp_path / "training.json").read_bytes()).hexdigest() + r"\1",
            (tmp_path / "checksums.sha256").read_text(),
        )
    )
    finish(resume_run(tmp_path))
    weights = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    assert weights == unbroken["model.safetensors"]
    assert list(kept_models(tmp_path)) == [0, 4, 8]


def test_the_state_of_another_optimizer_is_refused(text: Path, tmp_path: Path) -> None:
    finish(new_run(text, tmp_path / "adamw"))
    with resume_run(tmp_path / "adamw") as run:
        state = {name: x.copy() for name, x in run.trainer.optimizer.state.items()}
    (tmp_path / "state").write_bytes(tensors_to_bytes(state))
    with pytest.raises(WeightsError, match=r"state: missing tensor momentum/blocks.0.attention.w_k, "):
        load_tensors(tmp_path / "state", Muon(run.trainer.model.parameters, run.trainer.config).state)
    doubled = {name: x.astype(np.float64) for name, x in state.items()}
    with pytest.raises(WeightsError, match=r"state: tensors of float32; expected float64$"):
        load_tensors(tmp_path / "state", doubled)


def test_a_run_broken_off_again_and_again_ends_with_the_same_bytes(
    text: Path, tmp_path: Path, unbroken: dict[str, str]
) -> None:
    new_run(text, tmp_path).close()
    while not (run := resume_run(tmp_path)).complete:
        train_until(run, run.step + 1)
        run.save()
    run.close()
    assert digests(tmp_path) == unbroken


def test_a_complete_run_stays_as_it_is(text: Path, tmp_path: Path, unbroken: dict[str, str]) -> None:
    finish(new_run(text, tmp_path))
    finish(resume_run(tmp_path))
    assert digests(tmp_path) == unbroken


def test_without_time_between_a_run_is_saved_after_each_step(
    text: Path, tmp_path: Path, unbroken: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handgrad.training.run.SAVE_EVERY", -1.0)
    monkeypatch.setattr("handgrad.training.run.SHARE_OF_SAVING", np.inf)
    train_until(new_run(text, tmp_path), 6)
    assert step_of(tmp_path) == 6
    finish(resume_run(tmp_path))
    assert digests(tmp_path) == unbroken


class Killed(BaseException):
    """A process that is killed runs no line of cleaning up after itself."""


class Mortal:
    """Lets this process die, for all that the disk sees, at its n-th change: that one and all later ones fail.

    A change is a call that removes, renames, links, makes a folder, flushes, or opens to write: then the file is there,
    but empty. Where the process does not die, `changes` counts them.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fatal: float = np.inf) -> None:
        self.fatal, self.changes = fatal, 0
        for name in ("replace", "link", "unlink", "mkdir"):
            monkeypatch.setattr(os, name, self._counted(getattr(os, name)))
        monkeypatch.setattr(os, "fsync", lambda descriptor: self._count())  # truly flushing takes its time
        open_ = Path.open

        def opened(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            file = open_(path, mode, *arguments, **options)
            if mode[0] in "wa":
                try:
                    self._count()
                except Killed:
                    file.close()
                    raise
            return file

        monkeypatch.setattr(Path, "open", opened)

    def _count(self) -> None:
        self.changes += 1
        if self.changes >= self.fatal:
            raise Killed

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self._count()
            return function(*arguments, **options)

        return call


SHORT: dict[str, Any] = {"steps": 2, "evaluations": 2, "accumulation": 1, "keep": False}


def test_a_run_killed_at_any_change_of_the_disk_ends_with_the_same_bytes(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From before its creation, over two evaluations, to its end; but for what it does to keep models."""
    with monkeypatch.context() as patch:
        living = Mortal(patch)
        finish(new_run(text, tmp_path / "unbroken", **SHORT))
    assert living.changes > 100
    for fatal in range(1, living.changes + 1):
        folder = tmp_path / str(fatal)
        with monkeypatch.context() as patch:
            Mortal(patch, fatal)
            with pytest.raises(Killed):
                finish(new_run(text, folder, **SHORT))
        begun = (folder / "training.json").exists()
        finish(resume_run(folder) if begun else new_run(text, folder, **SHORT))
        assert digests(folder) == digests(tmp_path / "unbroken"), fatal
        assert not begun or not list(folder.rglob("*.part")), fatal


@pytest.mark.parametrize("step", [0, 1], ids=["fresh", "evaluated"])
def test_a_run_killed_at_any_change_while_it_keeps_a_model_ends_with_the_same_bytes(
    step: int, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it wrote by then is no model yet, or the whole one; and it is written anew."""
    changes = SHORT | {"steps": 1, "evaluations": 1, "keep": True}
    finish(new_run(text, tmp_path / "unbroken", **changes))
    keep = Run._keep

    def keep_mortally(run: Run) -> None:
        with monkeypatch.context() as patch:
            if run.step == step:
                Mortal(patch, fatal)
            keep(run)

    for fatal in itertools.count(1):
        folder = tmp_path / str(fatal)
        try:
            with monkeypatch.context() as patch:
                patch.setattr(Run, "_keep", keep_mortally)
                finish(new_run(text, folder, **changes))
                break
        except Killed:
            for part in (folder / "kept").rglob("*.part"):
                part.rename(part.with_name(f".0{part.name}"))  # as another process calls it
            for kept in kept_models(folder).values():
                handgrad.load(kept)
            finish(resume_run(folder))
            assert digests(folder) == digests(tmp_path / "unbroken"), fatal
    assert fatal > 12


def test_a_resumed_run_killed_at_any_change_of_the_disk_ends_with_the_same_bytes(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It went on from the checkpoint before the last: that one must not give way to the last, which is damaged."""
    train_until(new_run(text, tmp_path / "damaged", **SHORT), 1)
    shutil.copytree(tmp_path / "damaged", tmp_path / "unbroken")
    finish(resume_run(tmp_path / "unbroken"))
    flip_a_bit(tmp_path / "damaged" / "model.safetensors", random.Random(0))
    for fatal in itertools.count(1):
        folder = tmp_path / str(fatal)
        shutil.copytree(tmp_path / "damaged", folder)
        try:
            with monkeypatch.context() as patch:
                Mortal(patch, fatal)
                finish(resume_run(folder))
                break
        except Killed:
            finish(resume_run(folder))
            assert digests(folder) == digests(tmp_path / "unbroken"), fatal
    assert fatal > 60


@pytest.mark.parametrize("name", [*FILES, "checksums.sha256"])
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_it_used(
    name: str, text: Path, tmp_path: Path, unbroken: dict[str, str]
) -> None:
    train_until(new_run(text, tmp_path), 8)
    flip_a_bit(tmp_path / name, random.Random(name))
    if name in MODEL_FILES:
        with pytest.raises(HandgradError, match=f"^{re.escape(str(tmp_path / name))}"):
            handgrad.load(tmp_path)
    run = resume_run(tmp_path)
    (note,) = run.notes
    assert note.startswith(str(tmp_path / name) if name in FILES else str(tmp_path))
    assert note.endswith("; going on from the checkpoint before it")
    assert run.step == 4
    finish(run)
    assert digests(tmp_path) == unbroken
    assert step_of(tmp_path) == STEPS


def test_two_damaged_checkpoints_are_one_clear_line(text: Path, tmp_path: Path) -> None:
    train_until(new_run(text, tmp_path), 8)
    for folder in (tmp_path, tmp_path / "previous"):
        flip_a_bit(folder / "optimizer.safetensors", random.Random(0))
    with pytest.raises(DamagedError) as raised:
        resume_run(tmp_path)
    assert str(raised.value).startswith(f"{tmp_path / 'optimizer.safetensors'}: differs from its checksum")
    assert str(raised.value).endswith("and there is no whole checkpoint before it")
    assert not is_being_trained(tmp_path)


@pytest.mark.parametrize("full_at", range(1, 28))
def test_a_full_disk_ends_the_run_with_the_file_s_name_and_loses_nothing(
    full_at: int, text: Path, tmp_path: Path, unbroken: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full from a certain flush on, as a disk is: where the fresh model is kept again, or at the first evaluation."""
    train_until(new_run(text, tmp_path), 3)
    flushed = 0

    def full(descriptor: int) -> None:
        nonlocal flushed
        flushed += 1
        if flushed >= full_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        run = resume_run(tmp_path)
        patch.setattr(os, "fsync", full)
        with pytest.raises(TrainingError) as raised:
            finish(run)
    path, message = re.escape(str(tmp_path)), "No space left on device"
    match = re.fullmatch(rf"{path}\S*: {message}; {path} keeps the checkpoint of step (\d+)", str(raised.value))
    assert match
    assert step_of(tmp_path) in (int(match[1]), 4)
    finish(resume_run(tmp_path))
    assert digests(tmp_path) == unbroken


def test_a_folder_that_holds_a_run_is_refused(text: Path, tmp_path: Path) -> None:
    new_run(text, tmp_path).close()
    before = digests_of_all(tmp_path)
    with pytest.raises(HandgradError, match=r": holds a run already; choose another --out, or go on with --resume "):
        new_run(text, tmp_path)
    assert digests_of_all(tmp_path) == before


def digests_of_all(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_processes_cannot_train_one_run(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handgrad.training.run.PATIENCE", 0.1)
    with new_run(text, tmp_path):
        assert is_being_trained(tmp_path)
        with pytest.raises(HandgradError, match=r": another process is training this run$"):
            resume_run(tmp_path)
        with pytest.raises(HandgradError, match=r": holds a run already; "):
            new_run(text, tmp_path)
    assert not is_being_trained(tmp_path)
    resume_run(tmp_path).close()


def test_a_run_that_failed_to_begin_lets_go_of_the_folder(text: Path, tmp_path: Path) -> None:
    new_run(text, tmp_path).close()
    with pytest.raises(HandgradError):
        new_run(text, tmp_path)
    text_elsewhere = tmp_path / "other.txt"
    text_elsewhere.write_text(TEXT + "more")
    with pytest.raises(ConfigError, match=r"other.txt: not the text that the run in .* began with"):
        resume_run(tmp_path, [str(text_elsewhere)])
    resume_run(tmp_path).close()


def test_a_text_that_has_moved_can_be_named(text: Path, tmp_path: Path, unbroken: dict[str, str]) -> None:
    moving = tmp_path / "moving.txt"
    moving.write_text(TEXT, encoding="utf-8")
    train_until(new_run(moving, tmp_path / "run"), 5)
    moving.unlink()
    with pytest.raises(
        HandgradError, match=r"moving.txt: no such file; if the text has moved, --data tells where it is$"
    ):
        resume_run(tmp_path / "run")
    finish(resume_run(tmp_path / "run", [str(text)]))
    assert read_record(tmp_path / "run").sources == [str(text)]
    assert digests(tmp_path / "run")["model.safetensors"] == unbroken["model.safetensors"]


def test_a_disk_without_links_keeps_the_one_before_all_the_same(
    text: Path, tmp_path: Path, unbroken: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*paths: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", no_links)
    train_until(new_run(text, tmp_path), 8)
    flip_a_bit(tmp_path / "model.safetensors", random.Random(0))
    finish(resume_run(tmp_path))
    assert digests(tmp_path) == unbroken


def test_a_run_whose_checksums_are_gone_does_not_begin_anew(text: Path, tmp_path: Path) -> None:
    train_until(new_run(text, tmp_path), 8)
    shutil.rmtree(tmp_path / "previous")
    (tmp_path / "checksums.sha256").unlink()
    before = digests_of_all(tmp_path)
    with pytest.raises(
        DamagedError, match=r"checksums.sha256: no such file; and there is no whole checkpoint before it$"
    ):
        resume_run(tmp_path)
    assert digests_of_all(tmp_path) == before


def test_what_is_refused_changes_nothing(text: Path, tmp_path: Path) -> None:
    run = new_run(text, tmp_path)
    train_until(run, 10)  # two steps beyond the last checkpoint
    before = digests_of_all(tmp_path)
    resume_run(tmp_path).close()
    assert digests_of_all(tmp_path) == before


@pytest.mark.parametrize(
    "damage", [shutil.rmtree, lambda best: flip_a_bit(best / "model.safetensors", random.Random(0))]
)
def test_damaged_best_weights_are_told_of_and_written_anew(
    damage: Callable[[Path], None], text: Path, tmp_path: Path, unbroken: dict[str, str]
) -> None:
    train_until(new_run(text, tmp_path), 8)
    damage(tmp_path / "best")
    run = resume_run(tmp_path)
    assert re.search(r"best\S*: .*; the next evaluation writes the best weights anew$", run.notes[0])
    finish(run)
    assert digests(tmp_path) == unbroken


def test_missing_metrics_and_other_versions_are_told_of(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_until(new_run(text, tmp_path), 8)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "metrics.jsonl").write_text("".join(lines[:2] + lines[3:]))
    monkeypatch.setattr("numpy.__version__", "9.9")
    with resume_run(tmp_path) as run:
        assert [note.split(": ", 1)[1][:5] for note in run.notes] == ["lacks", "was m"]


def test_a_checkpoint_too_large_for_a_minute_is_written_less_often(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handgrad.training.run.SAVE_EVERY", -1.0)
    monkeypatch.setattr("handgrad.training.run.SHARE_OF_SAVING", 1e-9)
    train_until(new_run(text, tmp_path), 7)
    assert step_of(tmp_path) == 4


def test_a_run_that_could_not_begin_leaves_a_folder_for_another(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("handgrad.training.run.save_checkpoint", full)
        with pytest.raises(OSError, match="No space"):
            new_run(text, tmp_path)
    new_run(text, tmp_path).close()


def test_a_folder_of_other_files_is_refused(text: Path, tmp_path: Path) -> None:
    (tmp_path / "sample.txt").write_text("mine")
    with pytest.raises(HandgradError, match=r": holds other files; a run wants a folder of its own$"):
        new_run(text, tmp_path)
    with pytest.raises(HandgradError, match=r"sample.txt: not a folder$"):
        refuse_a_run(tmp_path / "sample.txt")
    assert (tmp_path / "sample.txt").read_text() == "mine"


def test_the_models_within_a_run_are_not_runs_to_resume(text: Path, tmp_path: Path) -> None:
    train_until(new_run(text, tmp_path), 8)
    for name in ("previous", "best", "kept/4"):
        assert run_of(tmp_path / name) == tmp_path
        with pytest.raises(HandgradError, match=r"(is a checkpoint of the run above it|holds no run to resume)"):
            resume_run(tmp_path / name)


def test_standard_input_is_kept_since_it_cannot_be_read_again(tmp_path: Path, unbroken: dict[str, str]) -> None:
    run = create_run(tmp_path, "default", make_recipe(SETTINGS), read_data(["-"], kept=TEXT.encode()))
    train_until(run, 5)
    assert (tmp_path / "data.txt").read_text(encoding="utf-8") == TEXT
    finish(resume_run(tmp_path))
    assert digests(tmp_path)["model.safetensors"] == unbroken["model.safetensors"]


def test_a_folder_without_a_run_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(HandgradError, match=r": holds no run to resume \(training.json is missing\)$"):
        resume_run(tmp_path)
    with pytest.raises(HandgradError, match=r"nowhere: no such folder$"):
        resume_run(tmp_path / "nowhere")
    (tmp_path / "training.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"training.json: not the record of a run: KeyError\('data'\)$"):
        resume_run(tmp_path)


def test_numbers_that_stop_being_finite_stop_the_run_and_the_last_checkpoint_stays(text: Path, tmp_path: Path) -> None:
    run = new_run(text, tmp_path)

    def spoil() -> None:
        for progress in run.train():
            if progress.step == 6:
                run.trainer.model.parameters["blocks.0.attention.w_k"][0, 0] = np.nan

    with pytest.raises(TrainingError) as raised, run:
        spoil()
    message = "step 7: the parameter blocks.0.attention.w_k is nan; the learning rate was "
    assert str(raised.value).startswith(message)
    assert str(raised.value).endswith(f"; {tmp_path} keeps the checkpoint of step 4")
    assert step_of(tmp_path) == 4
    with pytest.raises(TrainingError, match=r"^step 6: after it the parameter blocks.0.attention.w_k is nan$"):
        run.save()
    assert step_of(tmp_path) == 4


def test_a_learning_rate_that_diverges_names_the_first_tensor(text: Path, tmp_path: Path) -> None:
    run = new_run(text, tmp_path, learning_rate=1e30, final_learning_rate=1e30, warmup=0)
    with pytest.raises(
        TrainingError, match=r"^step 2: \S+ became (infinite|nan); the learning rate was 1e\+30; .* step 0$"
    ):
        finish(run)
    assert np.isfinite(handgrad.load(tmp_path).parameters.flat).all()


def test_the_best_weights_are_those_of_the_lowest_validation_loss(text: Path, tmp_path: Path) -> None:
    """A run that is made to get worse: each evaluation but the second is after the weights were spoilt."""
    run = new_run(text, tmp_path)
    losses, weights = {}, {}
    with run:
        for progress in run.train():
            if progress.step == 9:
                run.trainer.model.parameters["head.w_lm"][...] *= 30
            if progress.validation_loss is not None:
                losses[progress.step] = progress.validation_loss
                weights[progress.step] = run.trainer.model.parameters.flat.copy()
    best = min(losses, key=losses.__getitem__)
    assert best < STEPS
    assert run.best == (best, losses[best])
    np.testing.assert_array_equal(handgrad.load(tmp_path / "best").parameters.flat, weights[best])
    np.testing.assert_array_equal(handgrad.load(tmp_path).parameters.flat, weights[STEPS])
    with resume_run(tmp_path) as again:
        assert again.best == run.best


def test_the_model_of_every_evaluation_and_the_fresh_one_are_kept(
    text: Path, tmp_path: Path, unbroken: dict[str, str]
) -> None:
    run = new_run(text, tmp_path)
    weights = {0: run.trainer.model.parameters.flat.copy()}
    with run:
        for progress in run.train():
            if progress.validation is not None:
                weights[progress.step] = run.trainer.model.parameters.flat.copy()
    kept = kept_models(tmp_path)
    assert kept == {step: tmp_path / "kept" / str(step) for step in (0, 4, 8, 12)}
    assert list(kept) == [0, 4, 8, 12]
    for step, folder in kept.items():
        assert sorted(path.name for path in folder.iterdir()) == sorted([*MODEL_FILES, "checksums.sha256"])
        np.testing.assert_array_equal(handgrad.load(folder).parameters.flat, weights[step])
    assert unbroken["kept/12/model.safetensors"] == unbroken["model.safetensors"]


def test_a_run_that_keeps_no_models_is_the_same_but_for_its_record(
    text: Path, tmp_path: Path, unbroken: dict[str, str]
) -> None:
    finish(new_run(text, tmp_path, keep=False))
    assert not (tmp_path / "kept").exists()
    assert kept_models(tmp_path) == {}
    found = digests(tmp_path)
    different = {name for name in unbroken if found.get(name) != unbroken[name] and not name.startswith("kept/")}
    assert different == {"training.json", "checksums.sha256"}


def test_what_is_no_kept_model_is_passed_over(tmp_path: Path) -> None:
    """By its name, or since it is half written; whole ones come by their numbers."""
    for name in ("100", "20", "0", "3", "007", "-1", "1.5", "٤", "mine"):
        (tmp_path / "kept" / name).mkdir(parents=True)
        if name != "3":
            (tmp_path / "kept" / name / "checksums.sha256").write_bytes(b"")
    (tmp_path / "kept" / "4").write_bytes(b"")
    (tmp_path / "kept" / "5" / "checksums.sha256").mkdir(parents=True)
    assert list(kept_models(tmp_path).items()) == [(step, tmp_path / "kept" / str(step)) for step in (0, 20, 100)]


@pytest.mark.parametrize("name", ["kept", "best", "kept/7"])
def test_a_run_may_be_called_as_folders_within_runs_are(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    for inner in ("best", "kept/4"):
        (folder / inner).mkdir(parents=True)
    (folder / "training.json").write_bytes(b"")
    assert [run_of(folder / inner) for inner in (".", "best", "kept/4")] == [folder] * 3
    assert run_of(folder / "kept") is None


@pytest.mark.parametrize("group", [1 << 20, 8])
def test_the_optimizer_s_file_tells_the_position(
    group: int, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handgrad.training.batches.GROUP", group)
    train_until(new_run(text, tmp_path), 8)
    path = tmp_path / "optimizer.safetensors"
    with safetensors.safe_open(path, framework="numpy") as file:
        state = json.loads(file.metadata()["handgrad"])
        names = set(file.keys())
    windows = windows_per_epoch(len(resume_and_close(tmp_path).trainer.corpus.training), 8)
    epoch, window = divmod(8 * 4, windows)
    assert state["step"] == 8
    assert state["position"] == {"epoch": epoch, "window": window}
    groups = -(-windows // group)
    number = [n for n in range(groups) for _ in range(n, windows, groups)][window]
    assert (number > 0) == (group == 8)
    assert state["generator"] == {"name": "PCG64", "seed": [0, epoch, number] if number else [0, epoch]}
    parameters = handgrad.load(tmp_path).parameters
    assert names == {f"{moment}/{name}" for moment in ("mean", "mean_square") for name in parameters}


def test_a_record_of_infinitely_many_documents_is_none(text: Path, tmp_path: Path) -> None:
    new_run(text, tmp_path).close()
    path = tmp_path / "training.json"
    path.write_text(path.read_text().replace('"documents": 1,', '"documents": Infinity,'))
    with pytest.raises(ConfigError, match=r"training.json: not the record of a run: OverflowError"):
        read_record(tmp_path)


@pytest.mark.parametrize(
    "state",
    [
        "",
        "[" * 5000,
        "[8]",
        '{"step": 8}',
        '{"step": 8, "best": {"step": 9, "loss": 1.0}}',
        '{"step": 8, "best": {"step": 8, "loss": NaN}}',
        '{"step": 8, "best": {"step": 8, "loss": 1.0, "more": 1}}',
        *(f'{{"step": {step}, "best": null}}' for step in ("-1", "8.0", "true", "1e400", '"8"', "9223372036854775808")),
        *(
            f'{{"step": 8, "best": {best}}}'
            for best in ('{"step": 8}', '{"step": -1, "loss": 1.0}', '{"step": 8, "loss": null}')
        ),
    ],
)
def test_a_position_that_cannot_be_is_refused(state: str, tmp_path: Path) -> None:
    (tmp_path / "optimizer.safetensors").write_bytes(tensors_to_bytes({"x": np.zeros(1)}, state))
    with pytest.raises(WeightsError, match=r"optimizer.safetensors: its metadata do not tell the run's position: "):
        read_position(tmp_path)


def resume_and_close(folder: Path) -> Run:
    with resume_run(folder) as run:
        return run


def test_the_record_says_what_made_the_run(text: Path, tmp_path: Path) -> None:
    new_run(text, tmp_path, tokenizer="bpe", vocabulary=260).close()
    record = read_record(tmp_path)
    assert record.recipe == make_recipe(SETTINGS | {"tokenizer": "bpe", "vocabulary": 260})
    assert record.sources == [str(text)]
    assert record.made_by["numpy"] == np.__version__
    assert record.sha256 == read_data([str(text)]).text.sha256


def test_a_run_that_cannot_be_locked_is_judged_by_what_it_tells(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_ours(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    train_until(new_run(text, tmp_path), 2)
    monkeypatch.setattr("handgrad.training.run.FileLock", not_ours)
    assert is_being_trained(tmp_path)
    monkeypatch.setattr("handgrad.training.run.QUIET", -1.0)
    assert not is_being_trained(tmp_path)
