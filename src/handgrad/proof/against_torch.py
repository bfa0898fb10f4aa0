"""The values and gradients of a case against PyTorch's autograd, on forwards in plain PyTorch: `kit/kit_torch.py`."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from ..errors import HandgradError, installing
from ..layers import Array
from .case import Case
from .cases import LAYER_OF
from .check import Verdict, largest_entry
from .derivative import relative_error


def check_against_torch(case: Case, layer: str, seed: int = 0) -> Iterator[Verdict]:
    """For the value and each gradient of the case of this name: how far handgrad's is from PyTorch's, in float64.

    A residual stream or norms that are switched off have no counterpart there, and are refused.

    A second witness beside the complex step, and of another kind: it has a forward of its own, so it also sees a
    forward and a backward that are wrong together.
    """
    config = case.given.get("config")
    for field, usual in (("residual", (True,)), ("norm", ("layer", "rms"))):
        if config and (value := getattr(config, field)) not in usual:
            raise HandgradError(f"{field}: {value} has no counterpart in the model in PyTorch")
    y, cache = case.run()
    dy = np.asarray(np.random.default_rng(seed).standard_normal(y.shape))
    expected_y, expected = in_torch(case, layer, dy)
    yield Verdict(case.output, y.shape, relative_error(y, expected_y))
    largest = largest_entry(expected)
    for name, gradient in case.gradients(dy, cache).items():
        scale = largest if name in case.vanishing else None
        yield Verdict(name, gradient.shape, relative_error(gradient, expected[name], scale))


def require_torch() -> None:
    """Raise `HandgradError`, which says how to install it, where PyTorch cannot be imported."""
    try:
        import torch  # noqa: F401 - only whether it can be
    except ImportError:
        raise HandgradError(f"PyTorch is not installed; {installing('parity')} brings it") from None


def in_torch(case: Case, layer: str, dy: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], dict[str, Array]]:
    """PyTorch's value of a case, and by the name of each input the gradient of the sum of value times dy."""
    require_torch()
    import torch

    from .kit.kit_torch import LAYERS

    inputs = {name: torch.tensor(x, requires_grad=True) for name, x in case.inputs.items()}
    integers = {name: torch.tensor(x) for name, x in case.integers.items()}
    y = LAYERS[LAYER_OF.get(layer, layer)](**inputs, **integers, **case.settings)
    gradients = torch.autograd.grad(y, list(inputs.values()), torch.tensor(dy))
    return y.detach().numpy(), {name: dx.numpy() for name, dx in zip(inputs, gradients, strict=True)}
