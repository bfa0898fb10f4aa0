"""The GPT: its config, parameters, forward and backward, sampling, and the folder it is kept in."""

from .blas import single_threaded_blas
from .block import block_backward, block_forward
from .config import ModelConfig
from .decoder import Decoder
from .generate import DEFAULT_TEMPERATURE, DEFAULT_TOKENS, generate_tokens, next_token_probabilities
from .gpt import gpt_backward, gpt_forward, loss_backward, loss_forward
from .initial import initial_parameters
from .model import CONFIG_FILE, Model, load
from .parameters import BlockParameters, GPTParameters, Parameters, leaves
from .tokenizer import Tokenizer
from .weights import load_weights, save_weights

__all__ = [
    "CONFIG_FILE",
    "DEFAULT_TEMPERATURE",
    "DEFAULT_TOKENS",
    "BlockParameters",
    "Decoder",
    "GPTParameters",
    "Model",
    "ModelConfig",
    "Parameters",
    "Tokenizer",
    "block_backward",
    "block_forward",
    "generate_tokens",
    "gpt_backward",
    "gpt_forward",
    "initial_parameters",
    "leaves",
    "load",
    "load_weights",
    "loss_backward",
    "loss_forward",
    "next_token_probabilities",
    "save_weights",
    "single_threaded_blas",
]
