"""handgrad evaluate: the loss of a model on texts."""

import io
import sys
from pathlib import Path

import pytest

import handgrad
from handgrad.training import evaluate, read_metrics

from .conftest import TEXT, Cli, line, row


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
