"""handgrad generate: what a model writes, by its options."""

import itertools
from pathlib import Path

import pytest

import handgrad

from .conftest import Cli, Result, line


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


@pytest.mark.parametrize("option", ["--seed", "--top-k", "--top-p"])
def test_nothing_is_drawn_at_temperature_0(option: str, cli: Cli, trained: Path) -> None:
    message = f"{option}: not with --temperature 0, which draws nothing"
    assert line(cli("generate", trained, "--temperature", 0, option, "1")) == message
    assert cli("generate", trained, "--temperature", 1, option, "1").status == 0
    texts = {cli("generate", trained, "--temperature", 0).output for _ in range(2)}
    assert len(texts) == 1
