"""How much memory a model takes, to decode and to train."""

import math
from typing import NamedTuple

import numpy as np

from ..errors import ConfigError, counted
from ..layers import Array
from ..machine import memory_size
from ..model import Decoder, Model, leaves, loss_forward
from .config import TrainingConfig
from .optimizers import OPTIMIZERS
from .ranks import Ranks

LONGEST = 1024
"""Positions of a forward pass that is only counted; beyond, what it keeps grows in proportion."""


class Memory(NamedTuple):
    """Bytes, by what they are for."""

    weights: int
    keys_and_values: int
    """Of one text as long as the context, which decoding keeps."""
    gradients: int
    """Their sum, and on the way to it those of the largest part of the model, of each shard: with a thread for each.
    Of one of several ranks its portion of the sum, and at worst all that is under way to the others and from them."""
    moments: int
    """The running means that the optimizer keeps; of several ranks the leader has them whole for each checkpoint."""
    activations: int
    """What the forward keeps for the backward, of all sequences that are worked on at once."""

    @property
    def decoding(self) -> int:
        """What sampling from one text takes."""
        return self.weights + self.keys_and_values

    @property
    def training(self) -> int:
        """What training takes."""
        return self.weights + self.gradients + self.moments + self.activations


def memory(model: Model, config: TrainingConfig, ranks: Ranks | None = None) -> Memory:
    """Counted on the arrays themselves: those of a decoder, and those in the cache of one sequence's forward pass.
    Of several ranks, what the leader takes.

    Of long sequences only a part is run, and only the first of the blocks. Python and NumPy come on top,
    and the arrays that live only within a layer.
    """
    tree, length = model.parameters.tree, config.sequence(model.config.context)
    weights = model.parameters.flat.nbytes
    tokens = np.zeros((1, min(length, LONGEST)), np.int32)
    _, cache = loss_forward(tokens, tokens, tree._replace(blocks=tree.blocks[:1]), model.config)
    shared = _owner(model.parameters.flat)
    whole, block = (_nbytes(part, shared) for part in (cache, cache.trunk.blocks))
    size = ranks.size if ranks else 1
    at_once = -(-config.batch // config.accumulation)  # the largest part
    shards = min(config.shards, at_once) // size
    tied = tree.embedding.token.nbytes if model.config.tied else 0  # the head's part waits for the embedding's
    kept = OPTIMIZERS[config.optimizer].state_shapes({name: x.shape for name, x in model.parameters.items()})
    largest = max(sum(leaf.nbytes for leaf in leaves(part)) for part in (tree.embedding, *tree.blocks, tree.head))
    moments = sum(math.prod(shape) for shape in kept.values()) * model.parameters.flat.itemsize
    return Memory(
        weights,
        Decoder(model.parameters.tree, model.config).nbytes,
        (weights if size == 1 else 2 * weights + weights // size) + shards * (largest + tied),
        moments if size == 1 else moments + moments // size,
        at_once * (whole + (model.config.layers - 1) * block) * length // tokens.size // size,
    )


def refuse_what_does_not_fit(model: Model, config: TrainingConfig, ranks: Ranks) -> None:
    """The system may end a process that asks for more than there is, and no line would say why."""
    needed, there = ranks.neighbours * memory(model, config, ranks).training, memory_size()
    if there is not None and needed > there:
        raise ConfigError(
            f"batch: {counted(config.batch, 'sequence')} of {config.sequence(model.config.context)} would take about "
            f"{needed / 1e9:.0f} GB of memory, and this machine has {there / 1e9:.0f}; a higher accumulation works on "
            "fewer of them at once, with the same result"
        )


def _nbytes(cache: object, shared: Array) -> int:
    """The size of all arrays in a cache, each counted once, but for the shared one."""
    owners = {id(owner): owner for owner in map(_owner, _arrays(cache)) if owner is not shared}
    return sum(owner.nbytes for owner in owners.values())


def _owner(x: Array) -> Array:
    """The array that x is a view of."""
    while isinstance(x.base, np.ndarray):
        x = x.base
    return x


def _arrays(cache: object) -> list[Array]:
    if isinstance(cache, np.ndarray):
        return [cache]
    return [array for part in cache for array in _arrays(part)] if isinstance(cache, tuple) else []
