"""The GPT: its config, parameters, forward and backward, sampling, and the folder it is kept in."""

from .block import block_backward, block_forward
from .config import ModelConfig
from .decoder import Decoder
from .generate import DEFAULT_TEMPERATURE, DEFAULT_TOKENS, generate_tokens, next_token_probabilities
from .gpt import gpt_backward, gpt_forward, loss_backward, loss_backward_parts, loss_forward
from .initial import initial_parameters
from .model import (
    CONFIG_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    Model,
    SpecialTokens,
    load,
    load_tokenizer,
    read_special_tokens,
)
from .norm import norm_backward, norm_forward
from .parameters import (
    BlockParameters,
    GPTParameters,
    NormParameters,
    Parameters,
    Shape,
    build_tree,
    join_parts,
    leaves,
    named_shapes,
    parameters_by_part,
)
from .tokenizer import Tokenizer
from .weights import load_metadata, load_parameters, load_tensors, open_tensors, require_finite, tensors_to_bytes

__all__ = [
    "CONFIG_FILE",
    "DEFAULT_TEMPERATURE",
    "DEFAULT_TOKENS",
    "TOKENIZER_FILE",
    "WEIGHTS_FILE",
    "BlockParameters",
    "Decoder",
    "GPTParameters",
    "Model",
    "ModelConfig",
    "NormParameters",
    "Parameters",
    "Shape",
    "SpecialTokens",
    "Tokenizer",
    "block_backward",
    "block_forward",
    "build_tree",
    "generate_tokens",
    "gpt_backward",
    "gpt_forward",
    "initial_parameters",
    "join_parts",
    "leaves",
    "load",
    "load_metadata",
    "load_parameters",
    "load_tensors",
    "load_tokenizer",
    "loss_backward",
    "loss_backward_parts",
    "loss_forward",
    "named_shapes",
    "next_token_probabilities",
    "norm_backward",
    "norm_forward",
    "open_tensors",
    "parameters_by_part",
    "read_special_tokens",
    "require_finite",
    "tensors_to_bytes",
]
