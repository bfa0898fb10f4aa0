"""Hugging Face folders, written by hand: options, and random tensors under the names that transformers gives them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from handgrad.layers import Array
from handgrad.model import Tokenizer

CHARACTERS = "\n .abcdefghijklmnopqrstuvwxyz"
Options = dict[str, Any]
Tensors = dict[str, Array]

GPT2: Options = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 8,
    "n_positions": 16,
    "vocab_size": 32,
}
LLAMA: Options = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 16,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
    "vocab_size": 32,
    "rms_norm_eps": 1e-5,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8,
}
MISTRAL = LLAMA | {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "head_dim": 6, "sliding_window": 5}
QWEN2 = LLAMA | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "tie_word_embeddings": True}
QWEN3 = LLAMA | {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 6}
WINDOWED = {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}
MODELS: dict[str, Options] = {
    "GPT-2": GPT2,
    "GPT-2, untied": GPT2 | {"tie_word_embeddings": False, "n_inner": 20},
    "GPT-2, unscaled": GPT2 | {"scale_attn_weights": False},
    "Llama": LLAMA,
    "Llama, tied": LLAMA | {"tie_word_embeddings": True},
    "Llama, biases": LLAMA | {"attention_bias": True},
    "Llama 3": LLAMA | {"rope_theta": 100.0, "rope_scaling": LLAMA3},
    "Mistral": MISTRAL,
    "Mistral, no window": MISTRAL | {"sliding_window": None, "head_dim": None},
    "Qwen 2": QWEN2,
    "Qwen 2, window": QWEN2 | WINDOWED,
    "Qwen 3": QWEN3,
    "Qwen 3, biases": QWEN3 | WINDOWED | {"attention_bias": True},
}


def tensors_of(options: Options, seed: int = 0) -> Tensors:
    """Those that transformers would save, in float32; none is 0 or 1, and all differ."""
    random = np.random.default_rng(seed)
    shapes = _of_gpt2(options) if options["model_type"] == "gpt2" else _of_llama(options)
    if not options.get("tie_word_embeddings", options["model_type"] == "gpt2"):
        shapes["lm_head.weight"] = next(iter(shapes.values()))
    found = {name: 0.3 * random.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    return {name: x + np.float32("norm.w" in name or "_1.w" in name or "_2.w" in name) for name, x in found.items()}


def write_folder(
    folder: Path, options: Options, tensors: Tensors | None = None, tokenizer: Tokenizer | None = None
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(options, indent=2), encoding="utf-8")
    content = (tokenizer or Tokenizer.of_characters(CHARACTERS)).to_json()
    (folder / "tokenizer.json").write_text(content, encoding="utf-8")
    safetensors.numpy.save_file(tensors_of(options) if tensors is None else tensors, folder / "model.safetensors")
    return folder


def _of_gpt2(options: Options) -> dict[str, tuple[int, ...]]:
    C, V, T = options["n_embd"], options["vocab_size"], options["n_positions"]
    F = options.get("n_inner") or 4 * C
    shapes: dict[str, tuple[int, ...]] = {"transformer.wte.weight": (V, C), "transformer.wpe.weight": (T, C)}
    for n in range(options["n_layer"]):
        shapes |= {
            f"transformer.h.{n}.ln_1.weight": (C,),
            f"transformer.h.{n}.ln_1.bias": (C,),
            f"transformer.h.{n}.attn.c_attn.weight": (C, 3 * C),
            f"transformer.h.{n}.attn.c_attn.bias": (3 * C,),
            f"transformer.h.{n}.attn.c_proj.weight": (C, C),
            f"transformer.h.{n}.attn.c_proj.bias": (C,),
            f"transformer.h.{n}.ln_2.weight": (C,),
            f"transformer.h.{n}.ln_2.bias": (C,),
            f"transformer.h.{n}.mlp.c_fc.weight": (C, F),
            f"transformer.h.{n}.mlp.c_fc.bias": (F,),
            f"transformer.h.{n}.mlp.c_proj.weight": (F, C),
            f"transformer.h.{n}.mlp.c_proj.bias": (C,),
        }
    return shapes | {"transformer.ln_f.weight": (C,), "transformer.ln_f.bias": (C,)}


def _of_llama(options: Options) -> dict[str, tuple[int, ...]]:
    kind, C, F, V = (options[name] for name in ("model_type", "hidden_size", "intermediate_size", "vocab_size"))
    H, G = options["num_attention_heads"], options["num_key_value_heads"]
    D = options.get("head_dim") or C // H
    rows = {"q": H * D, "k": G * D, "v": G * D, "o": C}
    biased = "qkv" if kind == "qwen2" else "qkvo" if options.get("attention_bias") else ""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (V, C)}
    for n in range(options["num_hidden_layers"]):
        layer = f"model.layers.{n}"
        shapes |= {f"{layer}.self_attn.{x}_proj.weight": (rows[x], H * D if x == "o" else C) for x in rows}
        shapes |= {f"{layer}.self_attn.{x}_proj.bias": (rows[x],) for x in biased}
        shapes |= {f"{layer}.self_attn.{x}_norm.weight": (D,) for x in "qk" if kind == "qwen3"}
        shapes |= {f"{layer}.mlp.{x}_proj.weight": (F, C) for x in ("gate", "up")}
        shapes |= {f"{layer}.mlp.down_proj.weight": (C, F)}
        shapes |= {f"{layer}.{x}_layernorm.weight": (C,) for x in ("input", "post_attention")}
    return shapes | {"model.norm.weight": (C,)}
