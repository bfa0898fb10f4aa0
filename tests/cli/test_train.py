"""handgrad train: its texts, its settings, and the run that it leaves."""

import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

import handgrad
from handgrad.settings import read_assignment, written
from handgrad.training import PRESETS, field_meanings, make_recipe, read_record

from .conftest import TEXT, TINY, Cli, line, row, settings

FILES = ("model.safetensors", "optimizer.safetensors", "config.json", "tokenizer.json")


# the text


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


# settings


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
        ("width: 3", "not TOML: "),
        ("[model]\nwidth = 8", "[model]: a table, and settings have none; a line each, such as width = 256"),
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
    assert told.startswith("settings.toml: " + message)
    assert not Path("run").exists()


def test_all_that_is_wrong_is_told_at_once_and_of_the_file_with_its_name(cli: Cli, text: Path) -> None:
    Path("settings.toml").write_text("layers = 'x'\nheads = 0\nwidth = 0\n")
    result = cli("train", "--data", text, "--config", "settings.toml", "--set", "width=wide")
    assert (result.status, result.output) == (2, "")
    assert result.errors.removeprefix("handgrad: ").splitlines() == [
        "settings.toml: layers: 'x' is not a whole number of at least 1 and below 10000",
        "settings.toml: heads: 0 is not a whole number of at least 1",
        "width: 'wide' is not a whole number of at least 1",
    ]
    Path("settings.toml").write_text("".join(f"x{number} = 1\n" for number in range(8)))
    *unknown, more = cli("train", "--config", "settings.toml").errors.splitlines()
    assert len(unknown) == 5
    assert more.startswith("and 3 more unknown fields; the fields are layers, heads, ")
    Path("settings.toml").write_text("width = 'a'\nsteps = 0\n")
    assert cli("train", "--config", "settings.toml").errors.splitlines() == [
        "handgrad: settings.toml: width: 'a' is not a whole number of at least 1",
        "settings.toml: steps: 0 is not a whole number of at least 1",
    ]


@pytest.mark.parametrize("name", ["a.jsonl", "a.NDJSON"])
def test_json_lines_are_no_text(name: str, cli: Cli, trained: Path) -> None:
    Path(name).write_text('{"text": "the cat sat on the mat"}\n' * 99)
    for command in (["train", "--out", "run"], ["evaluate", trained]):
        assert line(cli(*command, "--data", name)).startswith(
            f"{name}: JSON lines, and no text; handgrad data prepare "
        )
    assert not Path("run").exists()


@pytest.mark.parametrize("preset", PRESETS)
def test_all_fields_are_listed_with_their_values(preset: str, cli: Cli) -> None:
    result = cli("train", "--fields", "--preset", preset)
    assert (result.status, result.errors) == (0, "")
    rows = {row.split()[0]: row.split()[1] for row in result.output.splitlines()[1:] if not row.startswith(" ")}
    expected = {"vocabulary": 1024} | make_recipe(preset=preset).to_dict()
    assert rows == {name: written(expected[name]) for name in field_meanings()}
    for name in ("bias", "residual"):
        assert read_assignment(f"{name}={rows[name]}") == (name, expected[name])
    assert "Updates of the weights" in result.output
    assert not list(Path().iterdir())


def test_the_fields_of_a_settings_file_are_listed_too(cli: Cli) -> None:
    Path("settings.toml").write_text('preset = "tiny"\nsteps = 60\nwidth = 96')
    result = cli("train", "--fields", "--config", "settings.toml", "--set", "width=32")
    rows = {row.split()[0]: row.split()[1] for row in result.output.splitlines()[1:] if not row.startswith(" ")}
    assert (rows["steps"], rows["width"], rows["layers"]) == ("60", "32", "2")


def test_the_fields_of_a_run_are_those_it_was_begun_with(cli: Cli, trained: Path) -> None:
    result = cli("train", "--fields", "--resume", trained)
    rows = {row.split()[0]: row.split()[1] for row in result.output.splitlines()[1:] if not row.startswith(" ")}
    assert (result.status, rows["steps"], rows["width"]) == (0, "30", "8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "huge"], "preset: there is no 'huge'; there are tiny, default, recipe, medium"),
        (["--out", "run"], "--out: not with --fields, which lists settings and trains nothing"),
        (["--glob", "*"], "--glob: not with --fields, "),
        (["--threads", "1"], "--threads: not with --fields, "),
        (["--minutes", "1"], "--minutes: not with --fields, "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_has_no_part_in_a_list_of_fields_is_refused(options: list[str], message: str, cli: Cli) -> None:
    assert line(cli("train", "--fields", *options)).startswith(message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "0"], "steps: 0 is not a whole number of at least 1"),
        (["--seed", "-1"], "seed: -1 is not a whole number of at least 0"),
        (["--preset", "huge"], "preset: there is no 'huge'; there are tiny, default, recipe, medium"),
        (["--vocabulary", "500"], "vocabulary: 500, but a tokenizer of chars has its own size"),
        (["--tokenizer", "bpe", "--vocabulary", "5"], "vocabulary: 5 is not a whole number of at least 256"),
        (["--set", "width"], "'width' is not of the form field=value"),
        (["--set", "widht=3"], "widht: unknown field; did you mean width? (value 3)"),
        (["--set", "dropout=0.1"], "dropout: there is none: few passes over the text"),
        (["--set", "width=wide"], "width: 'wide' is not a whole number of at least 1"),
        (["--set", "heads=3"], "heads: 3 does not divide width 8"),
        (["--set", "learning_rate=-1"], "learning_rate: -1 is not a number above 0"),
        (["--set", "context=500"], "text.txt: the text is too short: its held-out tenth has 156 tokens"),
        (["--fields"], "--data: not with --fields, which lists settings and trains nothing"),
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


# the run


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


def test_a_complete_run_without_its_best_weights_promises_no_evaluation(cli: Cli, trained: Path) -> None:
    shutil.rmtree(trained / "best")
    result = cli("train", "--resume", trained)
    assert (result.status, result.errors) == (0, "")
    assert result.output.splitlines()[0].endswith("no such file; the run is complete")
    assert "going on" not in result.output
    assert "evaluation" not in result.output


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
        (["--fields", "--preset", "tiny"], "--preset: not with --resume; "),
        (["--fields", "--steps", "40"], "steps: 40, but the run in trained was begun with 30"),
        (["--fields", "--data", "text.txt"], "--data: not with --fields, "),
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
