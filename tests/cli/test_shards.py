"""Shards are part of a run's record, since the sums round by them; threads are not, and change nothing."""

import json
from pathlib import Path

import pytest

from handgrad.machine import cores

from .conftest import TINY, Cli, line

RUN = ["--data", "text.txt", *TINY, "--set", "batch=7"]
THREE = [*RUN, "--shards", "3"]


def recorded(run: str) -> object:
    return json.loads(Path(run, "training.json").read_text())["settings"]["shards"]


def weights(run: str) -> list[bytes]:
    return [Path(run, name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors")]


def test_the_number_of_shards_is_recorded(cli: Cli, text: Path) -> None:
    assert cli("train", *THREE, "--out", "run").status == 0
    assert recorded("run") == 3


def test_without_a_number_there_is_a_shard_for_each_core(cli: Cli, text: Path) -> None:
    assert cli("train", *RUN, "--out", "here").status == 0
    assert recorded("here") == cores()


def test_threads_change_no_byte_but_shards_do(cli: Cli, text: Path) -> None:
    for threads in ("1", "3"):
        assert cli("train", *THREE, "--threads", threads, "--out", threads).status == 0
    assert cli("train", *RUN, "--shards", "1", "--out", "whole").status == 0
    assert weights("1") == weights("3")
    assert weights("1")[0] != weights("whole")[0]
    assert Path("1", "training.json").read_bytes() == Path("3", "training.json").read_bytes()


def test_a_run_can_go_on_with_other_threads_but_not_with_other_shards(cli: Cli, text: Path) -> None:
    assert cli("train", *THREE, "--out", "whole").status == 0
    assert cli("train", *THREE, "--out", "run", "--minutes", "1e-9").status == 0
    before = weights("run")
    refused = line(cli("train", "--resume", "run", "--shards", "2"))
    assert refused == "shards: 2, but the run in run was begun with 3"
    assert weights("run") == before != weights("whole")
    assert cli("train", "--resume", "run", "--shards", "3", "--threads", "1").status == 0
    assert weights("run") == weights("whole")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threads", "0"], "--threads: 0 is not a whole number of at least 1"),
        (["--threads", "-1"], "--threads: -1 is not a whole number of at least 1"),
        (["--shards", "0"], "shards: 0 is not a whole number of at least 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_there_is_at_least_one_of_each(options: list[str], message: str, cli: Cli, text: Path) -> None:
    assert line(cli("train", *RUN, "--out", "run", *options)) == message
    assert not Path("run").exists()
