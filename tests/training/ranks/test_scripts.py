"""Scripts of several ranks that use trainers as no run does."""

from pathlib import Path

import pytest

from handgrad.machine import launched_rank
from handgrad.training import Ranks, join

from . import needs_mpi, run_ranks

BEGIN = """
import sys, tracemalloc
import numpy as np
from handgrad import HandgradError
from handgrad.training import *
from handgrad.training.ranks import mpi
from handgrad.training.ranks.exchange import SharedSum
from tests.training.ranks.program import TEXT

TINY = {"layers": 2, "heads": 2, "width": 16, "hidden": 24, "context": 12, "batch": 8}

def lead(ranks):
{lead}

{patch}
with join() as ranks:
    if ranks.rank:
        follow(ranks)
    else:
        lead(ranks)
"""


def run_script(ranks: int, lead: str, folder: Path, patch: str = "") -> tuple[int, str, str]:
    indented = "\n".join(f"    {line}" for line in lead.strip().splitlines())
    script = BEGIN.replace("{lead}", indented).replace("{patch}", patch)
    (folder / "script.py").write_text(script, encoding="utf-8")
    return run_ranks(ranks, "script.py", folder=folder)


def refused(call: str) -> str:
    return f"try: {call}\nexcept HandgradError as error: print(error)"


@needs_mpi
def test_ranks_train_with_the_trainer_that_was_made_last(tmp_path: Path) -> None:
    lead = f"""
first, last = (new_trainer(TEXT, "tiny", ranks=ranks, **TINY) for _ in range(2))
{refused("first.step()")}
print(last.step().step)
"""
    line = "ranks train together with one trainer at a time, the one that was made last\n"
    assert run_script(2, lead, tmp_path) == (0, f"{line}1\n", "")


@needs_mpi
def test_a_batch_that_ranks_cannot_share_is_refused(tmp_path: Path) -> None:
    lead = f"""
trainer = new_trainer(TEXT, "tiny", ranks=ranks, shards=2, **TINY)
tokens, targets = training_batch(trainer.corpus.training, 12, 3, 0, 1)
{refused("trainer.batch_gradients(Batch(tokens[:1], targets[:1]))")}
print(trainer.batch_gradients(Batch(tokens, targets))[0] == Trainer(
    trainer.model, trainer.corpus, trainer.config).batch_gradients(Batch(tokens, targets))[0])
"""
    line = "shards: 1 in a batch of 1 cannot be shared equally by 2 ranks, but by 1 at most; more want more --shards, "
    assert run_script(2, lead, tmp_path) == (0, f"{line}or sequences\nTrue\n", "")


@needs_mpi
def test_without_a_number_a_trainer_has_a_shard_for_each_thread_of_each_rank(tmp_path: Path) -> None:
    lead = 'print(new_trainer(TEXT, "tiny", ranks=ranks, threads=2, **TINY).config.shards)'
    assert run_script(2, lead, tmp_path) == (0, "4\n", "")


@needs_mpi
def test_a_model_in_float64_trains_by_ranks_as_alone(tmp_path: Path) -> None:
    lead = """
from handgrad.model import Model, Parameters
def trained(ranks):
    made = new_trainer(TEXT, "tiny", shards=2, **TINY)
    parameters = Parameters.from_mapping(made.model.config, {name: x.astype(float) for name, x in
                                                             made.model.parameters.items()})
    trainer = Trainer(Model(made.model.config, parameters, made.model.tokenizer), made.corpus, made.config, 1, ranks)
    return [trainer.step()[1:3] for _ in range(3)], parameters.flat
by_ranks, alone = trained(ranks), trained(None)
print(by_ranks[0] == alone[0], (by_ranks[1] == alone[1]).all(), by_ranks[1].dtype)
"""
    assert run_script(2, lead, tmp_path) == (0, "True True float64\n", "")


@needs_mpi
def test_accumulation_holds_one_part_of_a_batch_at_a_time(tmp_path: Path) -> None:
    """No more exchanges are under way than the model has parts: two blocks, embedding, norm and head."""
    patch = """
most, exchange = [0], SharedSum._whole
def watched(self, *arguments):
    exchange(self, *arguments)
    most[0] = max(most[0], len(self._under_way))
SharedSum._whole = watched
"""
    lead = """
new_trainer(TEXT, "tiny", ranks=ranks, shards=2, accumulation=4, **TINY).step()
print(most)
"""
    assert run_script(2, lead, tmp_path, patch) == (0, "[5]\n", "")


@needs_mpi
def test_the_memory_that_is_told_is_what_the_leader_takes(tmp_path: Path) -> None:
    """Of a step, and of the state for a checkpoint, by tracemalloc: never more than is told, nor much less."""
    lead = """
sizes = {"width": 96, "hidden": 256, "layers": 4, "heads": 4, "context": 32, "batch": 8}
trainer = new_trainer(TEXT * 20, "tiny", ranks=ranks, shards=4, **sizes)
trainer.step()
tracemalloc.start()
trainer.step()
step = tracemalloc.get_traced_memory()[1]
tracemalloc.reset_peak()
trainer.state()
state = tracemalloc.get_traced_memory()[1]
told = memory(trainer.model, trainer.config, ranks)
print(0.5 < step / (told.gradients + told.activations) < 1, 0.5 < state / told.moments < 1)
"""
    assert run_script(4, lead, tmp_path) == (0, "True True\n", "")


@needs_mpi
@pytest.mark.parametrize("place", ["broadcast", "gather"])
def test_a_leader_that_is_interrupted_amid_something_ends_all_ranks(place: str, tmp_path: Path) -> None:
    patch = f"""
call = mpi.MpiRanks.{place}
def interrupted(self, *arguments):
    found = call(self, *arguments)
    if self.rank == 0 and step_is_on[0]:
        raise KeyboardInterrupt
    return found
mpi.MpiRanks.{place} = interrupted
step_is_on = [False]
"""
    lead = """
trainer = new_trainer(TEXT, "tiny", ranks=ranks, **TINY)
trainer.step()
step_is_on[0] = True
trainer.step()
"""
    status, _, errors = run_script(2, lead, tmp_path, patch)  # mpiexec, too, may say something
    assert status != 0
    assert errors.startswith("handgrad: rank 0: stopped at once\n")


@needs_mpi
def test_a_rank_that_cannot_join_ends_all_ranks(tmp_path: Path) -> None:
    patch = """
def fail(*arguments):
    raise MemoryError
import os
if os.environ["PMI_RANK"] == "1":
    mpi.Lifeline = fail
"""
    status, _, errors = run_script(2, "pass", tmp_path, patch)
    assert status != 0
    assert "handgrad: rank 1: MemoryError()\n" in errors


@pytest.mark.parametrize(
    ("variables", "rank"),
    [
        ({}, None),
        ({"PMI_RANK": "1", "PMI_SIZE": "2", "SLURM_NTASKS": "8"}, 1),
        ({"PMI_RANK": "0", "PMI_SIZE": "1"}, None),
        ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1", "PMIX_RANK": "0"}, None),
        ({"PMIX_RANK": "3", "SLURM_STEP_NUM_TASKS": "4"}, 3),
        ({"PMIX_RANK": "0"}, 0),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, None),
        ({"PMI_RANK": "no", "PMI_SIZE": "2"}, None),
    ],
)
def test_what_launchers_tell(variables: dict[str, str], rank: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PMI_RANK", "PMI_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMIX_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert launched_rank() == rank
    if rank is None:
        assert type(join()) is Ranks
