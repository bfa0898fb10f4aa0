"""Fresh parameters: how large the random numbers are decides whether signals survive the depth."""

from typing import Any

import numpy as np

from .config import ModelConfig
from .parameters import Parameters

STANDARD_DEVIATION = 0.02
"""Of matrices where `init` is `normal`: GPT-2's."""


def initial_parameters(config: ModelConfig, seed: int = 0, dtype: Any = np.float32) -> Parameters:
    r"""Normal numbers: matrices at the scale that `config.init` names, embeddings at `config.embedding_std`; gains 1,
    offsets and biases 0.

    A row of $x\,w$ is a sum of `in` products, so its variance is `in` times that of an entry of w: it stays 1 where the
    entries have variance 1/in (`lecun`). Backwards, $\mathrm{d}y\,w^\top$ wants 1/out; Glorot and Bengio's 2/(in+out)
    (`xavier`, 2010) is the harmonic mean of the two wishes. He et al.'s 2/in (`he`, 2015) makes up for a ReLU that
    drops half of the second moment. GPT-2's standard deviation is 0.02 whatever the shape (`normal`, Radford et al.,
    2019): that of `lecun` for 2,500 inputs. `unit` ignores all this, to show what happens.

    The two matrices of a block that write to the residual stream, w_o and w_down, are smaller by $1/\sqrt{2L}$: the
    stream sums 2L such outputs, and its variance at the top then does not depend on the depth (GPT-2 again).
    """
    generator = np.random.default_rng(seed)
    parameters = Parameters(config, dtype=dtype)
    for name, tensor in parameters.items():
        kind = name.rpartition(".")[2]
        if kind.startswith("gamma"):
            tensor[...] = 1
        elif not kind.startswith(("beta", "b_")):
            tensor[...] = generator.standard_normal(tensor.shape) * _standard_deviation(name, tensor.shape, config)
    return parameters


def _standard_deviation(name: str, shape: tuple[int, ...], config: ModelConfig) -> float:
    if config.init == "unit":
        return 1.0
    if name.startswith("embedding."):
        return config.embedding_std
    fan_in, fan_out = shape
    variance = {
        "xavier": 2 / (fan_in + fan_out),
        "he": 2 / fan_in,
        "lecun": 1 / fan_in,
        "normal": STANDARD_DEVIATION**2,
    }[config.init]
    if config.residual and name.endswith(("w_o", "w_down")):
        variance /= 2 * config.layers
    return float(np.sqrt(variance))
