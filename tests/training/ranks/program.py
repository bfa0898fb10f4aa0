"""What each rank of a test runs: `python -m tests.training.ranks.program FILE OUT`.

FILE has the settings of several trainers as JSON; what each of them found goes to OUT.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from handgrad.layers import IGNORE_INDEX
from handgrad.model import leaves
from handgrad.training import Batch, Ranks, Trainer, follow, fresh_trainer, join, make_recipe, split, training_batch

TEXT = "the cat sat on the mat. the dog sat on the log. " * 40


def found_by(settings: dict[str, Any], ranks: Ranks) -> dict[str, np.ndarray]:
    """Gradients, loss and norm of a batch, some of whose targets do not count; then the losses, norms, weights, state
    and held-out loss of some updates."""
    made = dict(settings)
    updates = made.pop("updates")
    trainer = fresh_trainer(make_recipe(made, None), split([TEXT]), threads=made["shards"] % 2 + 1, ranks=ranks)
    loss, tree, norm = trainer.batch_gradients(some_batch(trainer))
    found = {f"gradient {n}": np.array(leaf) for n, leaf in enumerate(leaves(tree))}
    steps = [trainer.step() for _ in range(updates)]
    found |= {f"state {name}": np.array(x) for name, x in trainer.state().items()}
    numbers = [loss, norm, *(step.loss for step in steps), *(step.gradient_norm for step in steps)]
    numbers.append(trainer.evaluate().loss)
    return found | {"numbers": np.array(numbers), "weights": trainer.model.parameters.flat.copy()}


def some_batch(trainer: Trainer) -> Batch:
    config = trainer.config
    tokens, targets = training_batch(trainer.corpus.training, trainer.length, config.batch, seed=1, step=1)
    targets = targets.copy()
    targets[0] = IGNORE_INDEX
    targets[2, 5:] = IGNORE_INDEX
    return Batch(tokens, targets)


def main() -> None:
    file, out = map(Path, sys.argv[1:])
    with join() as ranks:
        if ranks.rank:
            follow(ranks)
            return
        found, traffic = [], []
        for settings in json.loads(file.read_text()):
            found.append(found_by(settings, ranks))
            traffic.append(ranks.traffic.sent)
        Path(out).with_suffix(".json").write_text(json.dumps(traffic))
        arrays: Any = {f"{n}/{name}": x for n, each in enumerate(found) for name, x in each.items()}
        np.savez(out, **arrays)


if __name__ == "__main__":
    main()
