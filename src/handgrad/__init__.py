"""handgrad: a GPT whose every gradient is written by hand in NumPy, and proved.

    model = handgrad.load("runs/1")
    loss, gradients = model.loss_and_gradients(tokens, targets)
    dw_q = gradients["blocks.0.attention.w_q"]

The forward/backward pairs are in `handgrad.layers`, their proof in `handgrad.proof`.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import interop, layers, proof, training
    from .errors import HandgradError
    from .interop import export, load
    from .model import Model, ModelConfig
    from .proof.trace import trace

    __version__: str

__all__ = [
    "HandgradError",
    "Model",
    "ModelConfig",
    "export",
    "interop",
    "layers",
    "load",
    "proof",
    "trace",
    "training",
]
_MODULES = {
    "HandgradError": "errors",
    "Model": "model",
    "ModelConfig": "model",
    "export": "interop",
    "load": "interop",
    "trace": "proof",
}
"""Where a name is from that is no package of its own."""


if not TYPE_CHECKING:  # a type checker would take it for a promise that every name is there

    def __getattr__(name: str) -> object:
        """Import what is asked for when it is first asked for: `handgrad --help` needs none of it, nor NumPy."""
        if name == "__version__":
            from importlib.metadata import version

            value = version("handgrad")
        elif name in _MODULES:
            value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
        elif not name.startswith("_") and find_spec(f"{__name__}.{name}"):
            value = import_module(f".{name}", __name__)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
