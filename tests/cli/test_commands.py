"""The commands on a run, and every option of `train`: what they print, what they leave, and their status."""

import io
import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

import handgrad
from handgrad.machine import keep_freed_memory
from handgrad.training import PRESETS, evaluate, field_meanings, make_recipe, newest_run, read_metrics, read_record

from .conftest import TEXT, TINY, Cli, Result

FILES = ("model.safetensors", "optimizer.safetensors", "config.json", "tokenizer.json")


def settings(run: str | Path) -> dict[str, Any]:
    return read_record(Path(run)).recipe.to_dict()


def line(result: Result) -> str:
    """The one line on standard error that says why nothing was done."""
    assert (result.status, result.output) == (2, "")
    assert re.fullmatch(r"handgrad: .+\n", result.errors)
    return result.errors.removeprefix("handgrad: ").rstrip("\n")


# generate


def test_a_prompt_is_gone_on_with_and_the_seed_decides_how(cli: Cli, trained: Path) -> None:
    first, again, other = (
        cli("generate", trained, "--prompt", "the ", "--tokens", 40, "--seed", seed) for seed in (1, 1, 2)
    )
    assert first == again != other
    assert (first.status, first.errors) == (0, "")
    assert first.output == "the " + handgrad.load(trained).generate("the ", 40, seed=1) + "\n"


def test_without_a_prompt_the_model_begins_a_line(cli: Cli, trained: Path) -> None:
    model = handgrad.load(trained)
    result = cli("generate", trained, "--tokens", 40, "--seed", 1)
    assert result.output == model.generate("\n", 40, seed=1) + "\n"
    assert len(result.output) == 41


def test_a_kept_model_writes_too(cli: Cli, trained: Path) -> None:
    kept = trained / "kept" / "10"
    assert (
        cli("generate", kept, "--tokens", 40, "--seed", 1).output
        == handgrad.load(kept).generate("\n", 40, seed=1) + "\n"
    )


def test_without_a_seed_each_text_is_another(cli: Cli, trained: Path) -> None:
    texts = {cli("generate", trained, "--tokens", 40, "--temperature", 2).output for _ in range(4)}
    assert len(texts) > 1


@pytest.mark.parametrize(
    ("stops", "expected"),
    [
        (["\\n"], ["\n"]),
        (["e"], ["e"]),
        (["zzz"], ["zzz"]),
        (["t", "a", "zzz"], ["t", "a"]),
        (["e\\n", "o", "\\n"], ["e\n", "o", "\n"]),
    ],
    ids=" ".join,
)
def test_a_stop_ends_the_text_before_it(stops: list[str], expected: list[str], cli: Cli, trained: Path) -> None:
    options = ["--tokens", "80", "--seed", "1", "--temperature", "1.5"]
    whole = cli("generate", trained, *options).output.removesuffix("\n")
    assert "\n" in whole
    found = [at for stop in expected if (at := whole.find(stop)) >= 0]
    stopped = cli("generate", trained, *options, *itertools.chain(*(("--stop", stop) for stop in stops)))
    assert stopped == Result(0, whole[: min(found, default=len(whole))] + "\n", "")


def test_a_stop_in_the_prompt_is_not_one(cli: Cli, trained: Path) -> None:
    result = cli("generate", trained, "--prompt", "the", "--stop", "the", "--tokens", 5, "--seed", 1)
    assert result.output.startswith("the")


# evaluate


def row(result: Result, name: str) -> list[str]:
    """The numbers beside a text's name."""
    assert (result.status, result.errors) == (0, "")
    (found,) = (line for line in result.output.splitlines() if line.startswith(f"{name} "))
    return found.removeprefix(name).split()


def expected_row(run: Path, text: str) -> list[str]:
    measured = evaluate(handgrad.load(run), text)
    units = (measured.loss, measured.perplexity, measured.bits_per_character, measured.bits_per_byte)
    return [f"{len(measured.passage.tokens):,}", *(f"{x:.{n}f}" for x, n in zip(units, (3, 2, 3, 3), strict=True))]


def test_a_text_is_measured(cli: Cli, trained: Path, text: Path) -> None:
    result = cli("evaluate", trained, "--data", text.name)
    assert "tokens" in result.output
    assert "bits a byte" in result.output
    assert row(result, "text.txt") == expected_row(trained, TEXT)


def test_texts_are_measured_each_by_its_name(cli: Cli, trained: Path, text: Path) -> None:
    """Two files and those of a folder that match; in their order."""
    Path("texts").mkdir()
    for name in ("a.txt", "b.md", "c.txt"):
        Path("texts", name).write_text(TEXT[: 10 * ord(name[0])])
    result = cli("evaluate", trained, "--data", text.name, "--data", "texts", "--glob", "*.txt")
    names = ["text.txt", str(Path("texts", "a.txt")), str(Path("texts", "c.txt"))]
    assert [printed.split()[0] for printed in result.output.splitlines()[1:]] == names
    for name in names:
        assert row(result, name) == expected_row(trained, Path(name).read_text())


def test_without_a_text_it_is_the_loss_that_the_run_ended_with(cli: Cli, trained: Path) -> None:
    last = read_metrics(trained)[-1]
    tokens, loss, _, bits, _ = row(cli("evaluate", trained), "held out")
    assert int(tokens) == len(TEXT) // 10
    assert (loss, bits) == (f"{last['validation_loss']:.3f}", f"{last['bits_per_character']:.3f}")


def test_standard_input_is_measured(cli: Cli, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"the cat\r\nsat")))
    assert row(cli("evaluate", trained, "--data", "-"), "standard input") == expected_row(trained, "the cat\nsat")


def test_a_model_without_a_record_needs_a_text(cli: Cli, trained: Path, text: Path) -> None:
    alone = (trained / "best").rename("alone")
    assert line(cli("evaluate", alone)) == (
        f"{alone}: has no training.json, which would tell what was held out; give a text: --data"
    )
    assert row(cli("evaluate", alone, "--data", text.name), "text.txt") == expected_row(alone, TEXT)


def test_the_best_weights_are_measured_on_what_their_run_held_out(cli: Cli, trained: Path) -> None:
    best = min(entry["validation_loss"] for entry in read_metrics(trained) if "sample" in entry)
    assert f"{best:.3f}" in row(cli("evaluate", trained / "best"), "held out")
    assert row(cli("evaluate", trained / "previous"), "held out")


def test_a_kept_model_has_the_loss_of_its_evaluation(cli: Cli, trained: Path) -> None:
    losses = {entry["step"]: entry["validation_loss"] for entry in read_metrics(trained) if "sample" in entry}
    assert list(losses) == [10, 20, 30]
    for step, loss in losses.items():
        assert row(cli("evaluate", trained / "kept" / str(step)), "held out")[1] == f"{loss:.3f}"


def test_a_character_that_the_model_does_not_know_is_named_with_the_text(cli: Cli, trained: Path, text: Path) -> None:
    Path("other.txt").write_text("the ©at", encoding="utf-8")
    assert line(cli("evaluate", trained, "--data", text.name, "--data", "other.txt")) == (
        "other.txt: character '©' (position 4) is not in the model's vocabulary; one of bytes or byte pairs has "
        "them all"
    )


@pytest.mark.parametrize("name", ["[red]a.txt", "a[b]:smile:.txt", "[/].txt"])
def test_a_text_s_name_is_printed_as_it_is(name: str, cli: Cli, trained: Path) -> None:
    path = Path(*name.split("/"))
    path.parent.mkdir(exist_ok=True)
    path.write_text(TEXT)
    assert row(cli("evaluate", trained, "--data", path), str(path)) == expected_row(trained, TEXT)


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_neither_names_nor_numbers_are_cut_in_a_pipe(
    columns: str, cli: Cli, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts whose long names differ in their ends only can be told apart."""
    monkeypatch.setenv("COLUMNS", columns)
    folder = Path("long" * 20)
    folder.mkdir()
    for end in "ab":
        (folder / f"{end}.txt").write_text(TEXT)
    result = cli("evaluate", trained, "--data", folder)
    assert result.status == 0
    assert "…" not in result.output
    for word in ("a.txt", "b.txt", *expected_row(trained, TEXT)):
        assert word in result.output


# info


def sections(result: Result) -> dict[str, dict[str, str]]:
    """The first two columns of each table, by its title."""
    assert (result.status, result.errors) == (0, "")
    tables = [table.splitlines() for table in result.output.strip().split("\n\n")]
    return {
        title.strip(): {name: rest[0] for name, *rest in (re.split(r"  +", row.strip()) for row in rows) if rest}
        for title, *rows in tables
    }


def test_the_parts_of_a_model_add_up(cli: Cli, trained: Path) -> None:
    """On a run, on its best weights and the fresh ones, and on a copy of the best elsewhere."""
    shutil.copytree(trained / "best", "bare")
    folders = (trained, trained / "best", trained / "kept" / "0", Path("bare"))
    found = {str(folder): sections(cli("info", folder)) for folder in folders}
    for name, tables in found.items():
        architecture, counts, decode, train, process, *training = tables.values()
        assert process["malloc"] == keep_freed_memory()
        assert next(iter(tables)) == f"{name}: architecture"
        assert (architecture["layers"], architecture["width"], architecture["residual"]) == ("1", "8", "True")
        numbers = {part: int(count.replace(",", "")) for part, count in counts.items()}
        total = numbers.pop("all")
        assert sum(numbers.values()) == total == handgrad.load(name).parameters.flat.size
        assert {"token embedding", "position embedding", "attention", "feed_forward", "norms", "head"} == set(numbers)
        for table, first in ((decode, "weights"), (train, "weights")):
            sizes = {part: float(size.removesuffix(" MB")) for part, size in table.items()}
            assert sizes[first] == pytest.approx(4 * total / 1e6, abs=0.005)
            assert sizes.pop("all") == pytest.approx(sum(sizes.values()), abs=0.025)
        assert bool(training) == name.startswith(str(trained))
    made = settings(trained)
    assert f"Memory to train with batches of {made['batch']} × {made['context']}" in found[str(trained)]


def test_a_run_tells_how_it_came_to_be(cli: Cli, trained: Path, finished: Path) -> None:
    entries = [entry for entry in read_metrics(trained) if "validation_loss" in entry]
    best = min(entries, key=lambda entry: float(entry["validation_loss"]))
    training = sections(cli("info", trained))["Training"]
    assert training["steps"] == "30 of 30"
    assert training["tokenizer"] == "chars"
    assert training["preset"] == "default"
    assert training["made by"].startswith("handgrad ")
    assert training["validation loss, last"].startswith(f"{entries[-1]['validation_loss']:.3f} nats, ")
    assert training["validation loss, best"].startswith(f"{best['validation_loss']:.3f} nats, ")
    assert str(finished / "text.txt")[:40] in cli("info", trained).output


def test_a_run_without_metrics_can_be_looked_at(cli: Cli, trained: Path) -> None:
    """Its step is the checkpoint's."""
    (trained / "metrics.jsonl").unlink()
    for folder, step in ((trained, 30), (trained / "previous", 20)):
        training = sections(cli("info", folder))["Training"]
        assert training["steps"] == f"{step} of 30"
        assert "validation loss, last" not in training


# watch


def interrupt(run: Path, until: int) -> None:
    """Leave of the metrics what a run had told by then."""
    path = run / "metrics.jsonl"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True)[:until]))


def test_a_complete_run_is_told_in_lines(cli: Cli, trained: Path) -> None:
    for options in ([], ["--once"], ["--every", "0.1"]):
        result = cli("watch", trained, *options)
        assert (result.status, result.errors) == (0, "")
        *evaluations, last = result.output.splitlines()
        assert [line.split("  loss ")[0] for line in evaluations] == ["step 10/30", "step 20/30", "step 30/30"]
        loss, entries = np.nan, iter(read_metrics(trained))
        for told in evaluations:
            for entry in entries:
                loss = entry["loss"] if np.isnan(loss) else 0.9 * loss + 0.1 * entry["loss"]
                if "sample" in entry:
                    break
            assert told.endswith(f"loss {loss:.3f}  validation {entry['validation_loss']:.3f}")
        assert re.fullmatch(r"complete: 30 steps in 0:00:\d\d", last)


def test_an_interrupted_run_says_where_it_stands_and_how_to_go_on(cli: Cli, trained: Path) -> None:
    interrupt(trained, 14)
    result = cli("watch", trained)
    *evaluations, last = result.output.splitlines()
    assert (result.status, len(evaluations)) == (0, 1)
    assert last.startswith("not running: stands at step 14 of 30; handgrad train --resume")
    (trained / "metrics.jsonl").unlink()
    assert cli("watch", trained, "--once").output.startswith("not running: stands at step 0 of 30")


def test_a_live_run_says_how_fast_it_is_and_what_is_left(
    cli: Cli, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(sys.modules["handgrad.cli.watch"], "time")  # who looks once does not wait
    interrupt(trained, 14)
    with FileLock(trained / ".lock"):
        result = cli("watch", trained, "--once")
        assert result.status == 0
        last = result.output.splitlines()[-1]
        assert re.fullmatch(r"training: step 14 of 30, [\d,]+ tokens/s, \d:\d\d:\d\d left", last)
        interrupt(trained, 0)
        assert cli("watch", trained, "--once").output == "training: has not finished a step of 30 yet\n"


@pytest.mark.parametrize("field", ["seconds", "loss", "tokens_per_second", "validation_loss"])
def test_watch_shows_any_finite_number(field: str, cli: Cli, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged line may have it."""
    path = trained / "metrics.jsonl"
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    for entry, number in zip(entries[-4:], (-1e308, 1e308, 1e300, 1e308), strict=True):
        entry[field] = number
        entry["step"] += 10**15 * (field == "seconds")
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    for terminal in (False, True):
        monkeypatch.setattr("rich.console.Console.is_terminal", terminal)
        result = cli("watch", trained, "--once")
        assert (result.status, result.errors) == (0, "")
        assert result.output


def test_watching_ends_with_the_run_and_tells_each_evaluation_once(
    cli: Cli, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = trained / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    interrupt(trained, 5)
    lock = FileLock(trained / ".lock")
    written, waited = 5, []

    def meanwhile(seconds: float) -> None:
        """What the run does while the watcher sleeps: four updates at a time, and then it lets go."""
        nonlocal written
        waited.append(seconds)
        assert len(waited) < 20
        with path.open("a") as file:
            file.writelines(lines[written : written + 4])
        written += 4
        if written >= len(lines):
            lock.release()

    monkeypatch.setattr(sys.modules["handgrad.cli.watch"], "time", SimpleNamespace(sleep=meanwhile))
    lock.acquire()
    try:
        result = cli("watch", trained, "--every", "0.25")
    finally:
        lock.release()
    assert result.status == 0
    assert [line.split("  ")[0] for line in result.output.splitlines()[:-1]] == [
        "step 10/30",
        "step 20/30",
        "step 30/30",
    ]
    assert result.output.splitlines()[-1].startswith("complete: 30 steps")
    assert waited == [0.25] * 7


def test_a_terminal_is_shown_a_picture(cli: Cli, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    for until in (30, 12, 1, 0):
        interrupt(trained, until)
        result = cli("watch", trained, "--once")
        assert (result.status, result.errors) == (0, "")
        plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", result.output).rpartition("\r")[2]  # drawn again and again
        entries = [entry for entry in read_metrics(trained) if "sample" in entry]
        best = min((entry["validation_loss"] for entry in entries), default=None)
        assert str(trained) in plain
        assert len(re.findall(r"loss  [▁▂▃▄▅▆▇█]+  \d\.\d{3}", plain)) == (until > 0)
        assert len(re.findall(r"\d\.\d{3} +best", plain)) == len(re.findall(r"validation loss", plain)) == bool(entries)
        if best is not None:
            assert re.search(rf"{best:.3f} +\d\.\d{{3}} +best", plain)
            assert entries[-1]["sample"].splitlines()[0].strip() in plain


def test_what_is_not_a_run_cannot_be_watched(cli: Cli, trained: Path, text: Path) -> None:
    for folder in (trained / "best", Path("nowhere"), text):
        assert line(cli("watch", folder)) == f"{folder}: holds no run (training.json is missing)"


def test_a_folder_of_runs_is_told_from_a_run(cli: Cli, trained: Path, tmp_path: Path) -> None:
    for name in ("2", "10", "mine"):
        shutil.copytree(trained, tmp_path / "runs" / name)
    (tmp_path / "runs" / "11").mkdir()  # a run without a model yet
    assert newest_run(tmp_path / "runs") == tmp_path / "runs" / "10"
    assert newest_run(tmp_path) is None
    message = line(cli("info", tmp_path / "runs"))
    assert (
        message == f"{tmp_path / 'runs'}: holds runs, and is none; name one of them, such as {tmp_path / 'runs' / '10'}"
    )


@pytest.mark.parametrize("command", ["generate", "evaluate", "info"])
def test_what_is_not_a_model_is_one_clear_line(command: str, cli: Cli, text: Path) -> None:
    Path("empty").mkdir()
    assert line(cli(command, "nowhere")) == "nowhere: no such folder"
    assert line(cli(command, text.name)) == "text.txt: not a folder"
    assert line(cli(command, "empty")) == f"{Path('empty', 'config.json')}: no such file"


# train: the text


def test_several_texts_are_learned_from(cli: Cli, text: Path) -> None:
    Path("other.txt").write_text("XYZ " * 100)
    result = cli("train", "--data", text.name, "--data", "other.txt", "--out", "run", *TINY)
    assert (result.status, result.errors) == (0, "")
    assert set(handgrad.load("run").tokenizer.inner.get_vocab()) == set(TEXT) | set("XYZ ")
    assert read_record(Path("run")).sources == [str(Path(name).resolve()) for name in ("text.txt", "other.txt")]
    tokens = 9 * len(TEXT) // 10 + 2 + 360
    assert f"{tokens:,} tokens to learn from, {len(TEXT) // 10 + 2 + 40:,} held out; run in run\n" in result.output


def test_a_folder_is_learned_from(cli: Cli) -> None:
    for name, signs in (("a.txt", "abc "), ("sub/b.md", "def "), ("c.png", "xyz "), (".d.txt", "uvw ")):
        path = Path("texts", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(signs * 100)
    assert cli("train", "--data", "texts", "--out", "all", *TINY).status == 0
    assert cli("train", "--data", "texts", "--glob", "*.png", "--out", "some", *TINY).status == 0
    assert set(handgrad.load("all").tokenizer.inner.get_vocab()) == set("abcdef \n")
    assert set(handgrad.load("some").tokenizer.inner.get_vocab()) == set("xyz ")
    assert (read_record(Path("all")).glob, read_record(Path("some")).glob) == (None, "*.png")
    assert row(cli("evaluate", "some"), "held out")[0] == "40"


def test_a_run_within_the_folder_that_it_learns_from_can_go_on(cli: Cli, text: Path) -> None:
    """As runs/1 is, where one trains on the folder that one is in; what a run writes is no text to learn from."""
    assert cli("train", "--data", ".", *TINY, "--minutes", "1e-9").status == 0
    assert cli("train", "--resume", "runs/1").status == 0
    assert row(cli("evaluate", "runs/1"), "held out")[0] == f"{len(TEXT) // 10}"
    assert cli("train", "--data", ".", *TINY).status == 0
    assert read_record(Path("runs/1")).sha256 == read_record(Path("runs/2")).sha256


def test_standard_input_is_learned_from_and_kept(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    assert cli("train", "--data", "-", "--out", "run", "--minutes", "1e-9", *TINY).status == 0
    assert Path("run", "data.txt").read_text() == TEXT
    monkeypatch.setattr(sys, "stdin", None)
    assert cli("train", "--resume", "run").status == 0
    assert int(row(cli("evaluate", "run"), "held out")[0]) == len(TEXT) // 10


def test_a_pipe_is_learned_from(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "handgrad", "train", "--data", "-", "--out", "run", *TINY]
    result = subprocess.run(command, cwd=tmp_path, input=TEXT.encode(), capture_output=True, check=False, timeout=120)
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"validation loss" in result.stdout


def test_a_tokenizer_of_bytes_reads_and_writes_everything(cli: Cli, text: Path) -> None:
    result = cli("train", "--data", text.name, "--tokenizer", "bytes", "--out", "run", *TINY)
    assert (result.status, result.errors) == (0, "")
    assert "256 bytes; " in result.output
    assert handgrad.load("run").config.vocabulary == 256
    Path("other.txt").write_text("größer 漢字\U0001f600", encoding="utf-8")
    assert row(cli("evaluate", "run", "--data", "other.txt"), "other.txt")[0] == str(
        len("größer 漢字\U0001f600".encode())
    )
    written = cli("generate", "run", "--prompt", "漢", "--tokens", 30, "--seed", 1)
    assert (written.status, written.output[0]) == (0, "漢")


def test_a_tokenizer_of_byte_pairs_has_the_vocabulary_that_was_asked_for(cli: Cli, text: Path) -> None:
    result = cli("train", "--data", text.name, "--tokenizer", "bpe", "--vocabulary", "270", "--out", "run", *TINY)
    assert (result.status, result.errors) == (0, "")
    assert "270 byte pairs; " in result.output
    model = handgrad.load("run")
    assert model.config.vocabulary == model.tokenizer.vocabulary == settings("run")["vocabulary"] == 270
    tokens, *_ = row(cli("evaluate", "run", "--data", text.name), "text.txt")
    assert int(tokens.replace(",", "")) < 0.6 * len(TEXT)


# train: settings


def test_a_preset_s_settings_are_taken_but_for_those_that_are_given(cli: Cli, text: Path) -> None:
    result = cli("train", "--data", text.name, "--preset", "tiny", "--out", "run", "--steps", "1", "--set", "width=8")
    assert (result.status, result.errors) == (0, "")
    assert settings("run") == make_recipe({"steps": 1, "width": 8}, "tiny").to_dict()
    assert read_record(Path("run")).preset == "tiny"


def test_a_field_can_be_set_by_any_name(cli: Cli, text: Path) -> None:
    options = ["--set", "norm=none", "--set", 'init="he"', "--set", "residual = false", "--set", "weight_decay=0"]
    assert cli("train", "--data", text.name, "--out", "run", *TINY, *options, "--set", "batch=3").status == 0
    found = settings("run")
    assert (found["norm"], found["init"], found["residual"], found["weight_decay"]) == ("none", "he", False, 0)
    assert found["batch"] == 3  # the last one counts


def test_an_option_stands_in_for_set_and_both_for_the_file_and_that_for_the_preset(cli: Cli, text: Path) -> None:
    Path("settings.toml").write_text(
        'preset = "tiny"\nwidth = 24\nhidden = 8\nlayers = 1\ncontext = 8\nseed = 1\nsteps = 7\nlearning_rate = 0.25\n'
        f'data = "{text.name}"'
    )
    options = ["--set", "width=16", "--set", "steps=5", "--steps", "2", "--seed", "9"]
    result = cli("train", "--config", "settings.toml", "--out", "run", *options)
    assert (result.status, result.errors) == (0, "")
    in_file = {"hidden": 8, "layers": 1, "context": 8, "learning_rate": 0.25}
    assert settings("run") == make_recipe({**in_file, "width": 16, "steps": 2, "seed": 9}, "tiny").to_dict()
    assert read_record(Path("run")).preset == "tiny"


def test_a_preset_on_the_command_line_stands_in_for_the_file_s(cli: Cli, text: Path) -> None:
    Path("settings.toml").write_text(f'preset = "tiny"\nlearning_rate = 0.25\ndata = "{text.name}"')
    result = cli("train", "--config", "settings.toml", "--preset", "default", "--out", "run", "--steps", "1")
    assert (result.status, result.errors) == (0, "")
    assert settings("run") == make_recipe({"learning_rate": 0.25, "steps": 1}, "default").to_dict()
    assert read_record(Path("run")).preset == "default"


@pytest.mark.parametrize(
    ("in_file", "options", "signs"),
    [
        ("", ["--data", "a.txt"], "a "),
        ("data = 'a.txt'", [], "a "),
        ("data = ['a.txt', 'b.txt']", [], "ab \n"),
        ("data = 'a.txt'", ["--data", "b.txt"], "b "),
        ("data = ['a.txt']", ["--data", "b.txt"], "b "),
        ("data = 'texts'\nglob = '*.md'", [], "m "),
        ("data = 'texts'", ["--glob", "*.md"], "m "),
        ("data = 'texts'\nglob = '*.txt'", ["--glob", "*.md"], "m "),
        ("glob = '*.md'", ["--data", "texts"], "m "),
    ],
)
def test_a_settings_file_can_name_the_text_and_the_command_line_another(
    in_file: str, options: list[str], signs: str, cli: Cli
) -> None:
    Path("texts").mkdir()
    for name in ("a.txt", "b.txt", "texts/t.txt", "texts/m.md"):
        Path(name).write_text(f"{Path(name).stem} " * 200)
    Path("settings.toml").write_text(in_file + "\nwidth = 8\n")
    result = cli("train", "--config", "settings.toml", *options, "--out", "run", *TINY)
    assert (result.status, result.errors) == (0, "")
    assert set(handgrad.load("run").tokenizer.inner.get_vocab()) == set(signs)


@pytest.mark.parametrize(
    ("in_file", "message"),
    [
        ("widht = 3", "widht: unknown field; did you mean width? (value 3)"),
        ("width = 'x'", "width: 'x' is not a whole number of at least 1"),
        ("width: 3", "settings.toml: not TOML: "),
        ("[model]\nwidth = 8", "model: unknown field; "),
        ("preset = 'huge'", "preset: there is no 'huge'; there are tiny, default, recipe, medium"),
        ("preset = 3", "preset: "),
        ("preset = ['tiny']", "preset: "),
        ("data = 3", "data: "),
        ("data = true", "data: "),
        ("data = [1]", "data: "),
        ("data = {}", "data: "),
        ("data = 'text.txt'\nglob = 3", "glob: "),
        ("data = '.'\nglob = ['*.txt']", "glob: "),
    ],
)
def test_what_is_wrong_in_a_settings_file_is_named(in_file: str, message: str, cli: Cli, text: Path) -> None:
    Path("settings.toml").write_text(in_file)
    told = line(cli("train", "--config", "settings.toml", "--out", "run", "--steps", "1"))
    assert told.removeprefix("settings.toml: ").startswith(message.removeprefix("settings.toml: "))
    assert not Path("run").exists()


@pytest.mark.parametrize("preset", PRESETS)
def test_all_fields_are_listed_with_their_values(preset: str, cli: Cli) -> None:
    result = cli("train", "--fields", "--preset", preset)
    assert (result.status, result.errors) == (0, "")
    rows = {row.split()[0]: row.split()[1] for row in result.output.splitlines()[1:] if not row.startswith(" ")}
    expected = {"vocabulary": 1024} | make_recipe(preset=preset).to_dict()
    assert rows == {name: str(expected[name]) for name in field_meanings()}
    assert "Updates of the weights" in result.output
    assert not list(Path().iterdir())


def test_the_fields_of_a_settings_file_are_listed_too(cli: Cli) -> None:
    Path("settings.toml").write_text('preset = "tiny"\nsteps = 60\nwidth = 96')
    result = cli("train", "--fields", "--config", "settings.toml", "--set", "width=32")
    rows = {row.split()[0]: row.split()[1] for row in result.output.splitlines()[1:] if not row.startswith(" ")}
    assert (rows["steps"], rows["width"], rows["layers"]) == ("60", "32", "2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "0"], "steps: 0 is not a whole number of at least 1"),
        (["--seed", "-1"], "seed: -1 is not a whole number of at least 0"),
        (["--preset", "huge"], "preset: there is no 'huge'; there are tiny, default, recipe, medium"),
        (["--fields", "--preset", "huge"], "preset: there is no 'huge'; there are tiny, default, recipe, medium"),
        (["--vocabulary", "500"], "vocabulary: 500, but a tokenizer of chars has its own size"),
        (["--tokenizer", "bpe", "--vocabulary", "5"], "vocabulary: 5 is not a whole number of at least 256"),
        (["--set", "width"], "'width' is not of the form field=value"),
        (["--set", "widht=3"], "widht: unknown field; did you mean width? (value 3)"),
        (["--set", "dropout=0.1"], "dropout: there is none: few passes over the text"),
        (["--set", "width=wide"], "width: 'wide' is not a whole number of at least 1"),
        (["--set", "heads=3"], "heads: 3 does not divide width 8"),
        (["--set", "learning_rate=-1"], "learning_rate: -1 is not a number above 0"),
        (["--set", "context=500"], "text.txt: the text is too short: its held-out tenth has 156 tokens"),
        (["--minutes", "0"], "--minutes: 0 is not above 0"),
        (["--minutes", "-3"], "--minutes: -3 is not above 0"),
        (["--minutes", "nan"], "--minutes: nan is not above 0"),
        (["--config", "nowhere.toml"], "nowhere.toml: no such file"),
        (["--config", "text.txt"], "text.txt: not TOML: "),
        (["--data", "nowhere"], "nowhere: no such file"),
        (["--data", ".", "--glob", "*.nothing"], ".: no file in it matches '*.nothing'"),
        (["--data", ".", "--glob", "/absolute"], "--glob: '/absolute': "),
        (["--resume", "nowhere"], "nowhere: no such folder"),
        (["--resume", "text.txt"], "text.txt: not a folder"),
        (["--resume", "."], ".: holds no run to resume (training.json is missing)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_bad_value_is_one_line_and_status_2(options: list[str], message: str, cli: Cli, text: Path) -> None:
    given = [] if "--resume" in options else ["--data", text.name, "--out", "run", *TINY]
    assert line(cli("train", *given, *options)).startswith(message)
    assert [path.name for path in Path().iterdir()] == ["text.txt"]


@pytest.mark.parametrize(
    "options",
    [
        *(["--steps", "many"], ["--seed", "1.5"], ["--tokenizer", "words"], ["--vocabulary", "x"], ["--minutes", "x"]),
        *(["--set"], ["--resume"], ["--data"], ["--steps", "1", "stray"]),
    ],
    ids=" ".join,
)
def test_wrong_usage_names_the_option(options: list[str], cli: Cli) -> None:
    result = cli("train", *options)
    assert (result.status, result.output) == (2, "")
    assert "Error" in result.errors
    assert ("stray" if "stray" in options else options[0]) in result.errors
    assert "Traceback" not in result.errors


# train: the run


def test_time_that_is_up_saves_and_says_how_to_go_on(cli: Cli, text: Path) -> None:
    """And going on from there ends with the same bytes as a run without a pause."""
    assert cli("train", "--data", text.name, "--out", "whole", *TINY).status == 0
    result = cli("train", "--data", text.name, "--out", "run", "--minutes", "1e-9", *TINY)
    assert (result.status, result.errors) == (0, "")
    assert result.output.endswith("time is up after step 1; all is saved. Go on with:  handgrad train --resume run\n")
    again = cli("train", "--resume", "run", "--minutes", "1e-9")
    assert (again.status, again.errors) == (0, "")
    assert "going on after step 1 of 3" in again.output
    assert "time is up after step 2; " in again.output
    last = cli("train", "--resume", "run", "--minutes", "1000")
    assert last.status == 0
    assert "going on after step 2 of 3" in last.output
    assert re.search(r"Next:  handgrad generate run\n$", last.output)
    for name in FILES:
        assert Path("run", name).read_bytes() == Path("whole", name).read_bytes()


def test_a_complete_run_says_so(cli: Cli, trained: Path) -> None:
    before = (trained / "model.safetensors").read_bytes()
    result = cli("train", "--resume", trained)
    assert (result.status, result.errors) == (0, "")
    assert result.output.endswith(f"{trained} is complete: all 30 steps are done\n")
    assert (trained / "model.safetensors").read_bytes() == before


def test_settings_may_be_repeated_with_resume(cli: Cli, trained: Path) -> None:
    options = ["--steps", "30", "--seed", "0", "--set", "width=8", "--set", "clip=1", "--tokenizer", "chars"]
    assert cli("train", "--resume", trained, *options).status == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "40"], "steps: 40, but the run in trained was begun with 30"),
        (["--seed", "1"], "seed: 1, but the run in trained was begun with 0"),
        (["--set", "width=16"], "width: 16, but the run in trained was begun with 8"),
        (["--set", "keep=false"], "keep: False, but the run in trained was begun with True"),
        (["--tokenizer", "bpe"], "tokenizer: 'bpe', but the run in trained was begun with 'chars'"),
        (["--set", "widht=8"], "widht: this run has no such field"),
        (["--vocabulary", "300"], "vocabulary: this run has no such field"),
        (["--out", "other"], "--out: not with --resume; "),
        (["--preset", "tiny"], "--preset: not with --resume; "),
        (["--config", "x.toml"], "--config: not with --resume; "),
        (["--glob", "*"], "--glob: not with --resume; "),
        (["--data", "text.txt"], "text.txt: not the text that the run in trained began with"),
        (["--minutes", "0"], "--minutes: 0 is not above 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_settings_cannot_be_changed_with_resume(options: list[str], message: str, cli: Cli, trained: Path) -> None:
    Path("text.txt").write_text(TEXT[:-1])
    assert line(cli("train", "--resume", trained, *options)).startswith(message)
    assert cli("train", "--resume", trained).status == 0  # and the folder was let go


def test_a_text_that_has_moved_is_named_with_resume(cli: Cli, text: Path) -> None:
    assert cli("train", "--data", text.name, "--out", "run", "--minutes", "1e-9", *TINY).status == 0
    text.rename("moved.txt")
    told = line(cli("train", "--resume", "run"))
    assert told.startswith(f"{text}: no such file")
    assert "--data" in told
    assert cli("train", "--resume", "run", "--data", "moved.txt").status == 0


def test_runs_are_numbered_and_a_run_that_was_refused_takes_no_number(cli: Cli, text: Path) -> None:
    assert cli("train", "--data", text.name, "--set", "context=500").status == 2
    for number in ("1", "2"):
        assert f"run in {Path('runs', number)}\n" in cli("train", "--data", text.name, *TINY).output


def test_another_process_is_not_disturbed(cli: Cli, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handgrad.training.run.PATIENCE", 0.1)
    with FileLock(trained / ".lock"):
        assert line(cli("train", "--resume", trained)) == "trained: another process is training this run"


@pytest.mark.parametrize("name", ["$a_$", "漢字", "a[b]:smile:[red]", "with spaces ", "-dash"])
def test_any_name_of_a_folder_will_do(name: str, cli: Cli, text: Path) -> None:
    result = cli("train", "--data", text.name, *TINY, f"--out={name}")
    assert (result.status, result.errors) == (0, "")
    assert f"run in {name}\n" in result.output
    assert cli("info", "--", name).status == 0


def test_a_pipe_that_is_closed_early_is_no_traceback(finished: Path) -> None:
    command = [sys.executable, "-m", "handgrad", "generate", "run", "--tokens", "2000"]
    with subprocess.Popen(command, cwd=finished, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(5)
        process.stdout.close()
        assert process.stderr is not None
        errors = process.stderr.read().decode()
    assert "Traceback" not in errors
    assert "Exception" not in errors


def test_the_help_of_every_command_names_its_options(cli: Cli) -> None:
    for command, options in {
        "train": (
            *("--data", "--glob", "--tokenizer", "--vocabulary", "--preset", "--config", "--set", "--fields"),
            *("--steps", "--seed", "--out", "--resume", "--minutes"),
        ),
        "generate": ("--prompt", "--tokens", "--stop", "--temperature", "--top-k", "--top-p", "--seed"),
        "evaluate": ("--data", "--glob"),
        "info": (),
        "watch": ("--every", "--once"),
    }.items():
        result = cli(command, "--help")
        assert result.status == 0
        assert f"Usage: handgrad {command}" in result.output
        for option in options:
            assert option in result.output
