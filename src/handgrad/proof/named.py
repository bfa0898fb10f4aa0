"""The block and the model as functions of tensors by name, in a layer's form: parameters are inputs like others."""

from typing import Any

from jaxtyping import Inexact, Integer

from ..layers import Array, Tap, no_tap
from ..model import (
    ModelConfig,
    block_backward,
    block_forward,
    build_tree,
    leaves,
    loss_backward,
    loss_forward,
)


def named_loss_forward(
    *,
    tokens: Integer[Array, "B T"],
    targets: Integer[Array, "B T"],
    config: ModelConfig,
    tap: Tap = no_tap,
    **parameters: Array,
) -> tuple[Inexact[Array, ""], Any]:
    """`loss_forward` with each parameter by its name."""
    tree = build_tree(config, lambda name, _: parameters[name])
    return loss_forward(tokens, targets, tree, config, tap)


def named_loss_backward(dloss: Inexact[Array, ""], cache: Any, *, tap: Tap = no_tap) -> list[Array]:
    """The gradients of all parameters, in their order."""
    return list(leaves(loss_backward(dloss, cache, tap)))


def named_block_forward(
    x: Inexact[Array, "B T C"], *, config: ModelConfig, tap: Tap = no_tap, **parameters: Array
) -> tuple[Inexact[Array, "B T C"], Any]:
    """`block_forward` with each parameter by its name within the block, such as `norm_1.gamma`."""
    tree = build_tree(config, lambda name, _: parameters.get(name.removeprefix("blocks.0.")))
    return block_forward(x, tree.blocks[0], config, tap)


def named_block_backward(dy: Inexact[Array, "B T C"], cache: Any, *, tap: Tap = no_tap) -> list[Array]:
    """dx, and the gradients of all parameters, in their order."""
    dx, dparameters = block_backward(dy, cache, tap)
    return [dx, *leaves(dparameters)]
