"""handgrad: a GPT whose every gradient is written by hand in NumPy, and proved.

    model = handgrad.load("runs/1")
    loss, gradients = model.loss_and_gradients(tokens, targets)
    dw_q = gradients["blocks.0.attention.w_q"]

The forward/backward pairs are in `handgrad.layers`, their proof in `handgrad.proof`.
"""

from importlib.metadata import version

from . import interop, layers, proof, training
from .errors import HandgradError
from .interop import export, load
from .model import Model, ModelConfig
from .proof import trace

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
__version__ = version("handgrad")
