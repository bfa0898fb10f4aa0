"""Ranks of MPI find what one process finds, bit for bit; one that is lost or fails ends them all, and says so."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handgrad.training import Ranks

from . import needs_mpi, run_ranks
from .program import found_by

MODEL: dict[str, Any] = {"layers": 2, "heads": 2, "width": 16, "hidden": 24, "context": 12}
LLAMA = {"norm": "rms", "positions": "rotary", "key_value_heads": 1, "tied": True, "query_key_norm": True}
CASES: list[dict[str, Any]] = [
    MODEL | {"batch": 8, "shards": 4, "updates": 50},
    MODEL | {"batch": 8, "shards": 4, "updates": 50, "optimizer": "muon", "learning_rate": 1e-2},
    MODEL | {"batch": 20, "shards": 12, "updates": 2},  # blocks of 3 shards, some of them larger
    MODEL | {"batch": 20, "shards": 4, "accumulation": 3, "updates": 2, "optimizer": "muon"},  # parts of 7, 7 and 6
    MODEL | LLAMA | {"batch": 4, "shards": 99, "updates": 2},  # as many shards as sequences
    MODEL | {"batch": 8, "shards": 8, "updates": 2, "feed_forward": "gelu", "attention_bias": "all", "norm": "none"},
]


@pytest.fixture(scope="module")
def alone() -> list[dict[str, np.ndarray]]:
    return [found_by(case, Ranks()) for case in CASES]


@needs_mpi
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_ranks_find_what_one_process_finds_bit_for_bit(
    ranks: int, alone: list[dict[str, np.ndarray]], tmp_path: Path
) -> None:
    """Each gradient, loss and norm; and after updates each weight, all of the optimizer's state, the held-out loss."""
    (tmp_path / "cases.json").write_text(json.dumps(CASES))
    status, output, errors = run_ranks(
        ranks, "-m", "tests.training.ranks.program", "cases.json", "found.npz", folder=tmp_path
    )
    assert (status, output, errors) == (0, "", "")
    with np.load(tmp_path / "found.npz") as found:
        expected = {f"{n}/{name}": x for n, each in enumerate(alone) for name, x in each.items()}
        assert set(found) == set(expected)
        for name, x in expected.items():
            np.testing.assert_array_equal(found[name], x, strict=True, err_msg=name)
            assert np.isfinite(x).all()
            assert x.any(), name
    sent = json.loads((tmp_path / "found.json").read_text())
    # the first case: a gradient that was asked for, and 50 updates, each a gradient and the weights
    gradient = (ranks - 1) / ranks * alone[0]["weights"].nbytes
    assert sent[0] == pytest.approx(101 * gradient, rel=0.05)  # rank 0 owns a little more or less than its share


@needs_mpi
def test_the_guides_script_prints_the_same_alone_and_by_ranks(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[3] / "docs" / "guides" / "many-machines.md").read_text(encoding="utf-8")
    (tmp_path / "script.py").write_text(guide.split("```python\n")[1].split("```")[0], encoding="utf-8")
    alone = subprocess.check_output([sys.executable, "script.py"], cwd=tmp_path, text=True)
    assert [line.split()[0] for line in alone.splitlines()] == [*map(str, range(1, 21))]
    assert run_ranks(2, "script.py", folder=tmp_path) == (0, alone, "")


FAILING = """
import sys
from handgrad.training import Trainer, follow, join
from tests.training.ranks import program

shard = Trainer._shard
def fail(self, *arguments):
    if self.ranks.rank == {rank} and self.optimizer.steps == 2:
        {what}
    return shard(self, *arguments)
Trainer._shard = fail
program.main()
"""


@needs_mpi
@pytest.mark.parametrize(("rank", "ranks"), [(0, 2), (3, 4)])
@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("raise MemoryError", "handgrad: rank {rank}: out of memory"),
        ("raise OSError(5, 'Input/output error', 'shard.npy')", "handgrad: rank {rank}: shard.npy: Input/output error"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import os; os._exit(3)", "handgrad: rank {rank} on "),
    ],
)
def test_a_rank_that_fails_ends_all_of_them_and_says_why(
    what: str, line: str, rank: int, ranks: int, tmp_path: Path
) -> None:
    (tmp_path / "cases.json").write_text(json.dumps(CASES[:1]))
    (tmp_path / "failing.py").write_text(FAILING.format(rank=rank, what=what))
    status, _, errors = run_ranks(ranks, "failing.py", "cases.json", "found.npz", folder=tmp_path)
    assert status != 0
    assert line.format(rank=rank) in errors
    assert f"handgrad: rank {rank} on " in errors  # the one that is said to be lost
    assert errors.count("has ended before its time") == 1
    assert not (tmp_path / "found.npz").exists()
