"""`handgrad check --mutations` and `--against` as a user meets them: what they print, and their exit status."""

import importlib
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handgrad.proof import MUTATIONS, Finding, Lesson, Mutation, Verdict, all_cases

from .conftest import Cli, Result

CHECK: Any = importlib.import_module("handgrad.cli.check")
SOFTMAX = [mutation for mutation in MUTATIONS if mutation.layer == "softmax"]
TRAINED = Lesson(loss=2.5, learned=0.98, met=True)
NOT_MET = Lesson(loss=2.25, learned=1, met=False)


def handgrad(folder: Path, *arguments: str, **environment: str) -> Result:
    """The command line in a process of its own, in an empty folder."""
    ended = subprocess.run(
        [sys.executable, "-m", "handgrad", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONUTF8": "1"} | environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    return Result(ended.returncode, ended.stdout, ended.stderr)


def words(text: str) -> str:
    """The text without its line breaks."""
    return " ".join(text.split())


def explained(mutation: Mutation) -> str:
    """What is said of a mutation: its name, where it is, the code, the wrong code, the lesson."""
    minus, plus = (
        " ".join(f"{sign} {line}" for line in code.splitlines())
        for sign, code in (("-", mutation.right), ("+", mutation.wrong))
    )
    return words(f"{mutation.name}, in {mutation.of.__name__} {minus} {plus} {mutation.why}")


# in earnest


def test_each_mistake_in_softmax_is_explained_caught_and_trained_with(tmp_path: Path) -> None:
    result = handgrad(tmp_path, "check", "--mutations", "--layer", "softmax", COLUMNS="120")
    assert (result.status, result.errors) == (0, "")
    lessons, _, table = result.output.partition("mutation  ")
    assert words(lessons) == " ".join(map(explained, SOFTMAX))
    rows = re.findall(
        r"^  (\w+) +(\d\.\de[-+]\d\d) +(\w+) +(\d\.\d\d|nan) +(as well|worse|no|not met) *$", table, re.MULTILINE
    )
    assert [name for name, *_ in rows] == [mutation.name for mutation in SOFTMAX]
    assert all(float(error) > 1e-3 and caught == "caught" for _, error, caught, *_ in rows)
    assert re.search(r"^softmax *$", table, re.MULTILINE)
    assert len({loss for *_, loss, _ in rows}) > 1
    well = [verdict for *_, verdict in rows].count("as well")
    (summary,) = re.findall(r"\n(5 mutations: all caught in \d+\.\d s\n.*)", table, re.DOTALL)
    assert f"with {well} of the 5 that a small model meets it trains as well as with right gradients, to 2." in words(
        summary
    )
    assert list(tmp_path.iterdir()) == []


def test_a_mutation_that_survives_ends_it_with_1(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside one that is caught, and that no small model meets: planted, checked and trained with in earnest."""
    harmless = SOFTMAX[0]._replace(name="harmless", right="dz *= y", wrong="dz *= y * 1")
    tile = next(mutation for mutation in MUTATIONS if mutation.layer == "attention_tiles")
    monkeypatch.setattr(CHECK, "MUTATIONS", (harmless, tile))
    monkeypatch.setattr(CHECK, "loss_of_right_gradients", lambda: 2.25)
    result = cli("check", "--mutations")
    assert (result.status, result.errors) == (1, "")
    assert re.search(r"^  harmless +\d\.\de-1[5-9] +SURVIVES +not met *$", result.output, re.MULTILINE)
    assert re.search(rf"^  {tile.name} +\d\.\de[-+]0\d +caught +not met *$", result.output, re.MULTILINE)
    assert "\n2 mutations: 1 not caught in " in result.output
    assert "a small model meets" not in words(result.output)


# what is printed


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[float, Lesson]]:
    """What is to be found of a mutation: how far it is off, and how a model trained; nothing is run."""
    findings: dict[str, tuple[float, Lesson]] = {}

    def check_mutations(mutations: Iterable[Mutation], seed: int) -> Iterator[Finding]:
        for mutation in mutations:
            error, lesson = findings.get(mutation.name, (0.5, TRAINED))
            yield Finding(mutation, Verdict("x", (2, 3), error), lesson)

    monkeypatch.setattr(CHECK, "check_mutations", check_mutations)
    monkeypatch.setattr(CHECK, "loss_of_right_gradients", lambda: 2.25)
    return findings


@pytest.mark.usefixtures("pretended")
def test_without_a_layer_all_are_listed_under_their_layers(cli: Cli) -> None:
    result = cli("check", "--mutations")
    assert (result.status, result.errors) == (0, "")
    heading, *lines = (line.rstrip() for line in result.output.split("\n\n")[0].splitlines() if line.strip())
    assert heading.split() == ["mutation", "off", "by", "trains", "to"]
    layers = [layer for layer in all_cases() if any(mutation.layer == layer for mutation in MUTATIONS)]
    listed = iter(lines)
    for layer in layers:
        assert next(listed) == layer
        for mutation in (mutation for mutation in MUTATIONS if mutation.layer == layer):
            assert next(listed).split() == [mutation.name, "5.0e-01", "caught", "2.50", "as", "well"]
    assert list(listed) == []
    assert f"\n{len(MUTATIONS)} mutations: all caught in " in result.output
    assert f"with {len(MUTATIONS)} of the {len(MUTATIONS)} that a small model meets" in words(result.output)
    assert words(result.output).endswith(" to 2.25 nats in the default model: a falling loss proves nothing")


@pytest.mark.usefixtures("pretended")
@pytest.mark.parametrize("layer", list(dict.fromkeys(mutation.layer for mutation in MUTATIONS)))
def test_with_a_layer_each_is_explained_and_no_other(cli: Cli, layer: str) -> None:
    """Whole, though there are brackets in the code and in the lessons."""
    mutations = [mutation for mutation in MUTATIONS if mutation.layer == layer]
    result = cli("check", "--mutations", "--layer", layer)
    assert (result.status, result.errors) == (0, "")
    lessons, _, table = result.output.partition("mutation  ")
    assert words(lessons) == " ".join(map(explained, mutations))
    assert re.findall(r"^  (\w+) ", table, re.MULTILINE) == [mutation.name for mutation in mutations]


@pytest.mark.parametrize(
    ("error", "survives"), [(1e-15, True), (1e-12, True), (1.01e-12, False), (math.inf, False)], ids=str
)
def test_what_passes_survives(
    cli: Cli, pretended: dict[str, tuple[float, Lesson]], error: float, survives: bool
) -> None:
    pretended["softmax_plain_mean"] = error, TRAINED
    result = cli("check", "--mutations", "--layer", "softmax")
    assert result.status == survives
    (row,) = re.findall(r"^  softmax_plain_mean +(\S+) +(\w+) +2\.50 +as well *$", result.output, re.MULTILINE)
    assert row == (f"{error:.1e}", "SURVIVES" if survives else "caught")
    assert result.output.count("SURVIVES") == survives
    assert f"\n5 mutations: {'1 not caught' if survives else 'all caught'} in " in result.output


def test_how_models_trained_is_counted(cli: Cli, pretended: dict[str, tuple[float, Lesson]]) -> None:
    """A small model that never met the mistake has no loss to show, and is in neither number."""
    lessons = [NOT_MET, Lesson(4.5, -1.0, True), Lesson(math.nan, math.nan, True), Lesson(2.75, 0.6, True)]
    pretended |= {mutation.name: (0.5, lesson) for mutation, lesson in zip(SOFTMAX, lessons, strict=False)}
    result = cli("check", "--mutations", "--layer", "softmax")
    assert result.status == 0
    ends = re.findall(r" caught +(.*?) *$", result.output, re.MULTILINE)
    assert [" ".join(end.split()) for end in ends[: len(SOFTMAX)]] == [
        "not met",
        "4.50 no",
        "nan no",
        "2.75 worse",
        "2.50 as well",
    ]
    assert words(result.output).endswith(": a falling loss proves nothing")
    assert "with 1 of the 4 that a small model meets it trains as well as" in words(result.output)
    pretended[SOFTMAX[-1].name] = (0.5, Lesson(2.75, 0.6, True))
    result = cli("check", "--mutations", "--layer", "softmax")
    assert "with none of the 4 that" in words(result.output)
    assert "proves nothing" not in result.output


def test_the_seed_decides_the_inputs(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def check_mutations(mutations: Iterable[Mutation], seed: int) -> Iterator[Finding]:
        asked.append((list(mutations), seed))
        return iter([Finding(mutation, Verdict("z", (1,), 0.5), NOT_MET) for mutation in asked[0][0]])

    monkeypatch.setattr(CHECK, "check_mutations", check_mutations)
    monkeypatch.setattr(CHECK, "loss_of_right_gradients", lambda: 2.25)
    assert cli("check", "--mutations", "--layer", "softmax", "--seed", "7").status == 0
    assert asked == [(SOFTMAX, 7)]


# what is refused


def test_mutations_are_not_for_pytorch(cli: Cli) -> None:
    result = cli("check", "--mutations", "--against", "torch")
    assert (result.status, result.output) == (2, "")
    assert re.fullmatch(r"handgrad: --mutations: .*--against\n", result.errors)


def test_an_unknown_layer_has_no_mutations(cli: Cli) -> None:
    result = cli("check", "--mutations", "--layer", "nope")
    assert (result.status, result.output) == (2, "")
    assert re.fullmatch(r"handgrad: --layer: no layer 'nope'; there are linear, .*, gpt, .*, nanogpt\n", result.errors)


def test_an_unknown_witness_is_refused(cli: Cli) -> None:
    result = cli("check", "--against", "nonsense")
    assert (result.status, result.output) == (2, "")
    assert "Usage: handgrad check" in result.errors
    assert "'nonsense' is not one of 'torch'" in words(result.errors.replace("│", " "))
    assert "Traceback" not in result.errors


def test_without_pytorch_one_line_says_so(tmp_path: Path) -> None:
    """Whether or not it is installed here."""
    hiding = tmp_path / "hiding"
    hiding.mkdir()
    (hiding / "torch.py").write_text("raise ImportError('hidden')\n")
    path = os.pathsep.join(filter(None, [str(hiding), os.environ.get("PYTHONPATH")]))
    for layer in ([], ["--layer", "softmax"]):
        result = handgrad(tmp_path, "check", "--against", "torch", *layer, PYTHONPATH=path)
        assert (result.status, result.output) == (2, "")
        assert re.fullmatch(r"handgrad: PyTorch is not installed; .*'handgrad\[parity\]'.*\n", result.errors)


def test_with_pytorch_value_and_gradients_are_proved(cli: Cli) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    result = cli("check", "--against", "torch", "--layer", "cross_entropy")
    assert (result.status, result.errors) == (0, "")
    assert re.search(r"^cross_entropy +loss +1 +\d\.\de\S+ +proved *$", result.output, re.MULTILINE)
    assert re.search(r"^ +logits +2×5×9 +\d\.\de-1\d +proved *$", result.output, re.MULTILINE)
    assert "\n2 values and gradients against PyTorch: all proved in " in result.output
