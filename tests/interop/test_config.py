"""config.json of each family: what it says, what is missing from it, and what is refused."""

import itertools
import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

import handgrad
from handgrad.errors import ConfigError
from handgrad.interop.config import Description, read_config, write_config
from handgrad.model import ModelConfig, SpecialTokens

from .folders import GPT2, LLAMA, LLAMA3, MISTRAL, MODELS, QWEN2, QWEN3, Options, write_folder

NO_TOKENS = SpecialTokens()
SAMPLING = {"text-generation": {"do_sample": True, "max_length": 50}}
HUB: dict[str, tuple[Options, dict[str, Any], SpecialTokens]] = {
    "gpt2": (
        {
            "activation_function": "gelu_new",
            "architectures": ["GPT2LMHeadModel"],
            "attn_pdrop": 0.1,
            "bos_token_id": 50256,
            "embd_pdrop": 0.1,
            "eos_token_id": 50256,
            "initializer_range": 0.02,
            "layer_norm_epsilon": 1e-05,
            "model_type": "gpt2",
            "n_ctx": 1024,
            "n_embd": 768,
            "n_head": 12,
            "n_layer": 12,
            "n_positions": 1024,
            "resid_pdrop": 0.1,
            "summary_activation": None,
            "summary_first_dropout": 0.1,
            "summary_proj_to_labels": True,
            "summary_type": "cls_index",
            "summary_use_proj": True,
            "task_specific_params": SAMPLING,
            "vocab_size": 50257,
        },
        {
            "layers": 12,
            "heads": 12,
            "width": 768,
            "hidden": 3072,
            "context": 1024,
            "vocabulary": 50257,
            "feed_forward": "gelu",
            "attention_bias": "all",
            "tied": True,
        },
        SpecialTokens(50256, (50256,)),
    ),
    "of gpt2's new form": (
        {
            "activation_function": "gelu_new",
            "add_cross_attention": False,
            "architectures": ["GPT2LMHeadModel"],
            "bos_token_id": 0,
            "dtype": "float32",
            "eos_token_id": [1, 2],
            "layer_norm_epsilon": 1e-06,
            "model_type": "gpt2",
            "n_embd": 24,
            "n_head": 4,
            "n_inner": 50,
            "n_layer": 2,
            "n_positions": 32,
            "pad_token_id": None,
            "reorder_and_upcast_attn": False,
            "scale_attn_by_inverse_layer_idx": False,
            "scale_attn_weights": False,
            "tie_word_embeddings": False,
            "transformers_version": "5.24.0",
            "use_cache": True,
            "vocab_size": 40,
        },
        {
            "layers": 2,
            "heads": 4,
            "width": 24,
            "hidden": 50,
            "context": 32,
            "vocabulary": 40,
            "norm_epsilon": 1e-6,
            "feed_forward": "gelu",
            "attention_bias": "all",
            "score_scale": False,
        },
        SpecialTokens(0, (1, 2)),
    ),
    "a Llama 3.2": (
        {
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": 128000,
            "eos_token_id": [128001, 128008, 128009],
            "head_dim": 64,
            "hidden_act": "silu",
            "hidden_size": 2048,
            "initializer_range": 0.02,
            "intermediate_size": 8192,
            "max_position_embeddings": 131072,
            "mlp_bias": False,
            "model_type": "llama",
            "num_attention_heads": 32,
            "num_hidden_layers": 16,
            "num_key_value_heads": 8,
            "pretraining_tp": 1,
            "rms_norm_eps": 1e-05,
            "rope_scaling": {
                "factor": 32.0,
                "high_freq_factor": 4.0,
                "low_freq_factor": 1.0,
                "original_max_position_embeddings": 8192,
                "rope_type": "llama3",
            },
            "rope_theta": 500000.0,
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
            "transformers_version": "4.45.0.dev0",
            "use_cache": True,
            "vocab_size": 128256,
        },
        {
            "layers": 16,
            "heads": 32,
            "key_value_heads": 8,
            "head_width": 64,
            "width": 2048,
            "hidden": 8192,
            "context": 131072,
            "vocabulary": 128256,
            "positions": "rotary",
            "rotary_base": 5e5,
            "rotary_factor": 32.0,
            "rotary_first_context": 8192,
            "norm": "rms",
            "tied": True,
        },
        SpecialTokens(128000, (128001, 128008, 128009)),
    ),
    "a Llama in the new form": (
        LLAMA
        | {
            "dtype": "float32",
            "head_dim": 4,
            "hidden_act": "silu",
            "attention_bias": True,
            "rope_parameters": LLAMA3 | {"rope_theta": 100.0, "low_freq_factor": 2.0, "high_freq_factor": 3.0},
        },
        {
            "layers": 2,
            "heads": 4,
            "key_value_heads": 2,
            "width": 16,
            "hidden": 24,
            "context": 16,
            "vocabulary": 32,
            "positions": "rotary",
            "rotary_base": 100.0,
            "rotary_factor": 8.0,
            "rotary_low_factor": 2.0,
            "rotary_high_factor": 3.0,
            "rotary_first_context": 8,
            "norm": "rms",
            "attention_bias": "all",
        },
        SpecialTokens(1, (2,)),  # those of the family, where the folder tells none
    ),
    "Mistral 7B v0.1": (
        {
            "architectures": ["MistralForCausalLM"],
            "bos_token_id": 1,
            "eos_token_id": 2,
            "hidden_act": "silu",
            "hidden_size": 4096,
            "initializer_range": 0.02,
            "intermediate_size": 14336,
            "max_position_embeddings": 32768,
            "model_type": "mistral",
            "num_attention_heads": 32,
            "num_hidden_layers": 32,
            "num_key_value_heads": 8,
            "rms_norm_eps": 1e-05,
            "rope_theta": 10000.0,
            "sliding_window": 4096,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "transformers_version": "4.34.0.dev0",
            "use_cache": True,
            "vocab_size": 32000,
        },
        {
            "layers": 32,
            "heads": 32,
            "key_value_heads": 8,
            "width": 4096,
            "hidden": 14336,
            "context": 32768,
            "vocabulary": 32000,
            "positions": "rotary",
            "norm": "rms",
            "window": 4096,
        },
        SpecialTokens(1, (2,)),
    ),
    "Qwen 2.5": (
        {
            "architectures": ["Qwen2ForCausalLM"],
            "attention_dropout": 0.0,
            "bos_token_id": 151643,
            "eos_token_id": 151643,
            "hidden_act": "silu",
            "hidden_size": 896,
            "initializer_range": 0.02,
            "intermediate_size": 4864,
            "max_position_embeddings": 32768,
            "max_window_layers": 24,
            "model_type": "qwen2",
            "num_attention_heads": 14,
            "num_hidden_layers": 24,
            "num_key_value_heads": 2,
            "rms_norm_eps": 1e-06,
            "rope_theta": 1000000.0,
            "sliding_window": 32768,
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
            "transformers_version": "4.40.1",
            "use_cache": True,
            "use_mrope": False,
            "use_sliding_window": False,
            "vocab_size": 151936,
        },
        {
            "layers": 24,
            "heads": 14,
            "key_value_heads": 2,
            "width": 896,
            "hidden": 4864,
            "context": 32768,
            "vocabulary": 151936,
            "positions": "rotary",
            "rotary_base": 1e6,
            "norm": "rms",
            "norm_epsilon": 1e-6,
            "attention_bias": "qkv",
            "tied": True,
        },
        SpecialTokens(151643, (151643,)),
    ),
    "Qwen 3 in the new form": (
        QWEN3
        | {
            "attention_bias": False,
            "attention_dropout": 0.0,
            "dtype": "bfloat16",
            "layer_types": ["full_attention", "sliding_attention"],
            "max_window_layers": 1,
            "rope_parameters": {"rope_theta": 1000000, "rope_type": "default"},
            "sliding_window": 5,
            "use_sliding_window": True,
        },
        {
            "layers": 2,
            "heads": 4,
            "key_value_heads": 2,
            "head_width": 6,
            "width": 16,
            "hidden": 24,
            "context": 16,
            "vocabulary": 32,
            "positions": "rotary",
            "rotary_base": 1e6,
            "norm": "rms",
            "query_key_norm": True,
            "window": 5,
            "full_blocks": 1,
        },
        NO_TOKENS,
    ),
}


@pytest.mark.parametrize("name", HUB)
def test_options_are_fields(name: str) -> None:
    options, fields, special = HUB[name]
    found = read_config(options)
    assert found == Description(found.family, ModelConfig(**fields), special)
    assert found.family.model_type == options["model_type"]


NOTHING: dict[str, Options] = {
    "as gpt2-medium": GPT2 | {"n_special": 0, "predict_special_tokens": True},
    "as distilgpt2": GPT2 | {"_num_labels": 1, "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}},
    "as SmolLM2": LLAMA | {"is_llama_config": True, "rope_interleaved": False, "transformers.js_config": {"dtype": 1}},
    "with sampling": LLAMA | {"do_sample": True, "temperature": 0.6, "top_k": 5, "top_p": 0.9, "max_length": 4096},
    "of 4.48": LLAMA | {"_attn_implementation_autoset": True, "unsloth_version": "2024.9", "pruned_heads": {}},
    "scaling that is off": LLAMA | {"rope_scaling": {"rope_type": "default"}, "partial_rotary_factor": None},
    "a factor of the whole": LLAMA | {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 1.0}},
    "off": LLAMA | dict.fromkeys(("mlp_bias", "attention_bias", "is_encoder_decoder", "rope_scaled"), False),
    "null": LLAMA | dict.fromkeys(("rope_scaling", "quantization_config", "auto_map", "layer_types", "anything")),
    "null where there is a default": LLAMA | dict.fromkeys(("hidden_act", "head_dim", "architectures", "rope_theta")),
    "a window that is off": QWEN2 | {"use_sliding_window": False, "sliding_window": 5, "max_window_layers": 1},
    "all blocks full": QWEN2 | {"layer_types": ["full_attention"] * 2},
    "all blocks windows": MISTRAL | {"layer_types": ["sliding_attention"] * 2},
    "swish": LLAMA | {"hidden_act": "swish"},
    "GELU by its other name": GPT2 | {"activation_function": "gelu_pytorch_tanh"},
    "a class without the head": LLAMA | {"architectures": ["LlamaModel"]},
}


@pytest.mark.parametrize("name", NOTHING)
def test_what_changes_nothing_is_passed_over(name: str) -> None:
    options = NOTHING[name]
    plain = {"gpt2": GPT2, "llama": LLAMA, "mistral": MISTRAL, "qwen2": QWEN2}[options["model_type"]]
    assert read_config(options) == read_config(plain)


def test_null_heads_of_keys_are_as_many_as_heads_where_nothing_is_another_number() -> None:
    """As transformers has it, but for Mistral's newest class, which takes no null."""
    for base in (MISTRAL, QWEN2, QWEN3):
        options = base | {"num_attention_heads": 16, "hidden_size": 64}
        assert read_config(options | {"num_key_value_heads": None}).config.G == 16
        del options["num_key_value_heads"]
        if base is MISTRAL:
            assert read_config(options).config.G == 8


HUGE = 10**1000
REFUSED: list[tuple[Options, Options, str]] = [
    (LLAMA, {"model_type": "gemma"}, 'model_type: "gemma" is not supported; there are handgrad, gpt2, llama, mistral,'),
    (LLAMA, {"model_type": []}, "model_type: [] is not supported"),
    (LLAMA, {"model_type": {"llama": 1}}, 'model_type: {"llama": 1} is not supported'),
    (LLAMA, {"model_type": True}, "model_type: true is not supported"),
    (LLAMA, {"architectures": ["LlamaForSequenceClassification"]}, 'architectures: ["LlamaForSequenceClassification"]'),
    (LLAMA, {"architectures": "LlamaForCausalLM"}, 'architectures: "LlamaForCausalLM" is not supported'),
    (LLAMA, {"architectures": []}, "architectures: [] is not supported; LlamaForCausalLM is"),
    (LLAMA, {"architectures": [["LlamaForCausalLM"]]}, 'architectures: [["LlamaForCausalLM"]] is not supported'),
    (GPT2, {"architectures": ["LlamaForCausalLM"]}, 'architectures: ["LlamaForCausalLM"] is not supported; GPT2LMHead'),
    (LLAMA, {"hidden_act": "gelu"}, 'hidden_act: "gelu" is not supported; "silu" or "swish" is'),
    (LLAMA, {"hidden_act": ["silu"]}, 'hidden_act: ["silu"] is not supported'),
    (GPT2, {"activation_function": "relu"}, 'activation_function: "relu" is not supported; "gelu_new" or'),
    (GPT2, {"activation_function": "gelu"}, 'activation_function: "gelu" is not supported'),
    (LLAMA, {"mlp_bias": True}, "mlp_bias: true is not supported"),
    (LLAMA, {"attention_bias": "yes"}, 'attention_bias: "yes" is not true or false'),
    (LLAMA, {"rope_scaling": {"type": "linear", "factor": 2.0}}, 'rope_type: "linear" is not supported; default or'),
    (LLAMA, {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, 'rope_type: "yarn" is not supported'),
    (LLAMA, {"rope_parameters": {"rope_type": "dynamic", "factor": 2}}, 'rope_type: "dynamic" is not supported'),
    (LLAMA, {"rope_parameters": {"rope_type": ["llama3"]}}, 'rope_type: ["llama3"] is not supported'),
    (LLAMA, {"rope_scaling": {"rope_type": "llama3", "factor": 8}}, "low_freq_factor: missing field"),
    (LLAMA, {"rope_scaling": LLAMA3 | {"factor": 0.5}}, "factor: 0.5 is not a number of at least 1"),
    (LLAMA, {"rope_scaling": LLAMA3 | {"high_freq_factor": 1.0}}, "high_freq_factor: 1.0 is not above"),
    (LLAMA, {"rope_scaling": LLAMA3 | {"mscale": 0.7}}, "mscale: 0.7 is not supported"),
    (LLAMA, {"rope_scaling": "llama3"}, 'rope_scaling: "llama3" is not supported'),
    (LLAMA, {"rope_parameters": [10_000]}, "rope_parameters: [10000] is not supported"),
    (LLAMA, {"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "full_attention: {"),
    (LLAMA, {"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor: "),
    (LLAMA, {"partial_rotary_factor": 0.5}, "partial_rotary_factor: 0.5 is not supported"),
    (LLAMA, {"rope_theta": "10000"}, "rope_theta: '10000' is not a number above 0"),
    (LLAMA, {"rope_theta": 0}, "rope_theta: 0 is not a number above 0"),
    (LLAMA, {"rope_theta": float("nan")}, "rope_theta: nan is not a number above 0"),
    (LLAMA, {"rms_norm_eps": float("inf")}, "rms_norm_eps: inf is not a number above 0"),
    (GPT2, {"layer_norm_epsilon": -1e-5}, "layer_norm_epsilon: -1e-05 is not a number above 0"),
    (LLAMA, {"quantization_config": {"quant_method": "awq"}}, 'quantization_config: {"quant_method": "awq"} is not'),
    (LLAMA, {"auto_map": {"AutoModelForCausalLM": "modeling_x.X"}}, 'auto_map: {"AutoModelForCausalLM": "modeling_x.X'),
    (GPT2, {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx: true is not supported"),
    (GPT2, {"add_cross_attention": True}, "add_cross_attention: true is not supported"),
    (GPT2, {"scale_attn_weights": 1}, "scale_attn_weights: 1 is not true or false"),
    (GPT2, {"n_inner": "32"}, "n_inner: '32' is not a whole number"),
    (GPT2, {"n_head": 3}, "n_head: 3 does not divide width 8"),
    (LLAMA, {"sliding_window": 5}, "sliding_window: 5 is not supported"),
    (LLAMA, {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping: 50.0 is not supported"),
    (LLAMA, {"hidden_size": "16"}, "hidden_size: '16' is not a whole number of at least 1"),
    (LLAMA, {"hidden_size": 16.0}, "hidden_size: 16.0 is not a whole number"),
    (LLAMA, {"hidden_size": [16]}, "hidden_size: [16] is not a whole number"),
    (LLAMA, {"hidden_size": True}, "hidden_size: True is not a whole number"),
    (LLAMA, {"hidden_size": None}, "hidden_size: missing field"),
    (LLAMA, {"hidden_size": -16}, "hidden_size: -16 is not a whole number of at least 1"),
    (LLAMA, {"hidden_size": float("nan")}, "hidden_size: nan is not a whole number"),
    (LLAMA, {"vocab_size": 0}, "vocab_size: 0 is not a whole number"),
    (LLAMA, {"num_hidden_layers": 10**12}, "num_hidden_layers: 1000000000000 is not a whole number of at least 1 and"),
    (LLAMA, {"num_hidden_layers": HUGE}, f"num_hidden_layers: {HUGE} is not a whole number"),
    (LLAMA, {"num_key_value_heads": 3}, "num_key_value_heads: 3 does not divide heads 4"),
    (LLAMA, {"num_key_value_heads": -2}, "num_key_value_heads: -2 is not a whole number"),
    (LLAMA, {"head_dim": 5}, "head_dim: 5 is odd"),
    (LLAMA, {"tie_word_embeddings": "true"}, "tie_word_embeddings: 'true' is not true or false"),
    (LLAMA, {"bos_token_id": -1}, "bos_token_id: [-1] is not a token from 0 to 31"),
    (LLAMA, {"bos_token_id": [1, 2]}, "bos_token_id: [1, 2]: a text begins with one token"),
    (LLAMA, {"rms_norm_eps": HUGE}, f"rms_norm_eps: {HUGE} is not a number of at most 64 bits"),
    (LLAMA, {"eos_token_id": [1, -1]}, "eos_token_id: [1, -1] is not a token from 0 to 31"),
    (LLAMA, {"eos_token_id": "</s>"}, 'eos_token_id: ["</s>"] is not a token'),
    (MISTRAL, {"sliding_window": "5"}, "sliding_window: '5' is not a whole number"),
    (MISTRAL, {"sliding_window": []}, "sliding_window: [] is not a whole number"),
    (MISTRAL, {"sliding_window": -5}, "sliding_window: -5 is not a whole number"),
    (MISTRAL, {"attention_bias": True}, "attention_bias: true is not supported"),
    (MISTRAL, {"layer_types": ["full_attention"] * 2}, 'layer_types: ["full_attention", "full_attention"], but a slid'),
    (MISTRAL, {"layer_types": ["sliding_attention", "full_attention"]}, 'layer_types: ["sliding_attention", "full_'),
    (MISTRAL, {"layer_types": ["full_attention", "sliding_attention"]}, 'layer_types: ["full_attention", "sliding_'),
    (
        LLAMA,
        {"rope_parameters": {"rope_type": "default"}, "rope_scaling": {"rope_type": "yarn", "factor": 4}},
        'rope_type: "yarn" is not supported',
    ),
    (QWEN2, {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types: sliding_attention, but no sliding"),
    (
        QWEN2,
        {"layer_types": ["full_attention"]},
        'layer_types: ["full_attention"] is not supported; the number of layers is 2',
    ),
    (QWEN2, {"layer_types": ["full_attention", "linear_attention"]}, 'layer_types: ["full_attention", "linear_attent'),
    (QWEN2, {"layer_types": [1, {}]}, "layer_types: [1, {}] is not supported"),
    (QWEN2, {"layer_types": 2}, "layer_types: 2 is not supported"),
    (QWEN2, {"layer_types": False}, "layer_types: false is not supported"),
    (QWEN2, {"use_sliding_window": 1}, "use_sliding_window: 1 is not true or false"),
    (QWEN2, {"use_sliding_window": True, "max_window_layers": -1}, "max_window_layers: -1 is not a whole number"),
    (QWEN2, {"head_dim": 8}, "head_dim: 8 is not supported"),
]


@pytest.mark.parametrize(
    ("base", "changes", "message"),
    REFUSED,
    ids=[f"{base['model_type']}-{' '.join(changes)}" for base, changes, _ in REFUSED],
)
def test_what_is_not_supported_is_refused_by_name_and_value(
    base: Options, changes: Options, message: str, tmp_path: Path
) -> None:
    """Before any weight is read: they are no safetensors file."""
    folder = write_folder(tmp_path, base | changes, {})
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ConfigError) as raised:
        handgrad.load(folder)
    assert str(raised.value).startswith(f"{folder / 'config.json'}: {message}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["model_type", "vocab_size", "n_layer", "n_head", "n_embd", "n_positions"])
def test_what_is_missing_from_gpt2_is_named(name: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, {option: x for option, x in GPT2.items() if option != name}, {})
    with pytest.raises(
        ConfigError,
        match=rf"config\.json: {name}: (missing field|null is not supported; there are handgrad, gpt2, .*)$",
    ):
        handgrad.load(folder)


@pytest.mark.parametrize("name", sorted(LLAMA.keys() - {"architectures", "num_key_value_heads", "rms_norm_eps"}))
def test_what_is_missing_from_llama_is_named(name: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, {option: x for option, x in LLAMA.items() if option != name}, {})
    with pytest.raises(
        ConfigError,
        match=rf"config\.json: {name}: (missing field|null is not supported; there are handgrad, gpt2, .*)$",
    ):
        handgrad.load(folder)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_written_is_read_as_the_same(name: str) -> None:
    found = read_config(MODELS[name])
    for special in (NO_TOKENS, SpecialTokens(1, (2,)), SpecialTokens(None, (2, 3))):
        family, options = write_config(found.config, special, "bfloat16")
        assert family.model_type == ("llama" if name == "Mistral, no window" else MODELS[name]["model_type"])
        assert options["torch_dtype"] == "bfloat16"
        assert read_config(json.loads(json.dumps(options))) == Description(family, found.config, special)


SEED: dict[str, Any] = {"layers": 2, "heads": 2, "width": 8, "hidden": 12, "context": 16, "vocabulary": 32}
GPT2_PARTS = SEED | {"feed_forward": "gelu", "attention_bias": "all"}
ROTARY = SEED | {"positions": "rotary", "norm": "rms"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (SEED, "the nearest, gpt2, has feed_forward gelu (here swiglu), attention_bias all (here none)"),
        (SEED | {"feed_forward": "gelu"}, "the nearest, gpt2, has attention_bias all (here none)"),
        (GPT2_PARTS | {"bias": False}, "the nearest, gpt2, has bias True (here False)"),
        (
            SEED | {"feed_forward": "gelu", "tied": True, "bias": False},
            "the nearest, gpt2, has attention_bias all (here none), bias True (here False)",
        ),
        (ROTARY | {"residual": False}, "the nearest, llama, has residual True (here False)"),
        (ROTARY | {"norm": "none"}, "the nearest, llama, has norm rms (here none)"),
        (ROTARY | {"norm": "layer"}, "the nearest, llama, has norm rms (here layer)"),
        (ROTARY | {"positions": "learned"}, "the nearest, llama, has positions rotary (here learned)"),
        (ROTARY | {"score_scale": False}, "the nearest, llama, has score_scale True (here False)"),
        (ROTARY | {"feed_forward": "gelu"}, "the nearest, llama, has feed_forward swiglu (here gelu)"),
        (ROTARY | {"window": 4, "attention_bias": "all"}, "the nearest, llama, has window 0 (here 4)"),
        (
            ROTARY | {"attention_bias": "qkv", "head_width": 6},
            "the nearest, llama, has attention_bias none or all (here qkv)",
        ),
        (
            ROTARY | {"attention_bias": "qkv", "query_key_norm": True},
            "the nearest, qwen2, has query_key_norm False (here True)",
        ),
        (
            ROTARY | {"attention_bias": "qkv", "window": 4, "norm": "layer"},
            "the nearest, qwen2, has norm rms (here layer)",
        ),
        (ROTARY | {"window": 4, "full_blocks": 1}, "the nearest, llama, has window 0 (here 4)"),
    ],
)
def test_what_has_no_counterpart_is_refused_with_its_part(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        write_config(ModelConfig(**fields), NO_TOKENS, "float32")
    assert str(raised.value).startswith("no model of transformers has this architecture; ")
    assert str(raised.value).endswith(message)


def test_where_there_is_nothing_to_have_a_bias_it_does_not_matter() -> None:
    family, _ = write_config(ModelConfig(**ROTARY | {"bias": False}), NO_TOKENS, "float32")
    assert family.model_type == "llama"


def test_a_window_of_some_blocks_is_qwens() -> None:
    some, all_ = ROTARY | {"window": 4, "full_blocks": 1}, ROTARY | {"window": 4}
    written = {
        kind: write_config(ModelConfig(**fields), NO_TOKENS, "float32")[1]
        for kind, fields in {"some": some | {"attention_bias": "qkv"}, "all": all_}.items()
    }
    assert written["some"]["model_type"] == "qwen2"
    assert written["some"]["use_sliding_window"] is True
    assert (written["some"]["sliding_window"], written["some"]["max_window_layers"]) == (4, 1)
    assert (written["all"]["model_type"], written["all"]["sliding_window"]) == ("mistral", 4)


# beside the classes of transformers


CLASSES = {"gpt2": "GPT2", "llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
MISSING = object()
TIED, BIAS, HEADS = [MISSING, True, False], [MISSING, True], [MISSING, None, 16]
WINDOW, D = [MISSING, None, 5], [MISSING, None, 6]
ROTARIES = {
    "rope_theta": [MISSING, 500.0],
    "rope_scaling": [MISSING, None, LLAMA3, {x: LLAMA3[x] for x in LLAMA3 if not x.startswith("original")}],
}
SOME_BLOCKS = {"use_sliding_window": TIED, "sliding_window": WINDOW, "max_window_layers": [MISSING, 1]}
CHOICES: dict[str, dict[str, list[Any]]] = {
    "gpt2": {
        "n_inner": [MISSING, None, 20],
        "layer_norm_epsilon": [MISSING, 1e-3],
        "scale_attn_weights": [MISSING, False],
        "tie_word_embeddings": TIED,
    },
    "llama": {"num_key_value_heads": HEADS, "head_dim": D, "tie_word_embeddings": TIED, "attention_bias": BIAS}
    | ROTARIES,
    "mistral": {
        "num_key_value_heads": [MISSING, 16],
        "head_dim": D,
        "sliding_window": WINDOW,
        "rms_norm_eps": [MISSING, 1e-3],
    },
    "qwen2": {"num_key_value_heads": HEADS, "tie_word_embeddings": TIED} | SOME_BLOCKS,
    "qwen3": {"num_key_value_heads": HEADS, "head_dim": [MISSING, 6], "attention_bias": BIAS} | SOME_BLOCKS,
}


def variations(model_type: str) -> Iterator[Options]:
    base = GPT2 if model_type == "gpt2" else LLAMA | {"num_attention_heads": 32, "hidden_size": 128}
    base = {name: x for name, x in base.items() if name not in ("architectures", "num_key_value_heads", "rms_norm_eps")}
    choices = CHOICES[model_type]
    for chosen in itertools.product(*choices.values()):
        options = {name: x for name, x in zip(choices, chosen, strict=True) if x is not MISSING}
        yield base | options | {"model_type": model_type, "bos_token_id": 1, "eos_token_id": 2}


def whole(config: ModelConfig) -> dict[str, Any]:
    """All fields, derived sizes as they are, and the window of each block, which there are several ways to say."""
    fields = config.to_dict() | {"key_value_heads": config.G, "head_width": config.D}
    del fields["window"], fields["full_blocks"]
    return fields | {"windows": [config.window_of(n) for n in range(config.layers)]}


def as_ours(config: Any) -> dict[str, Any]:
    """What transformers makes of the options that may be missing, in our fields."""
    if config.model_type == "gpt2":
        return {
            "hidden": config.n_inner or 4 * config.n_embd,
            "norm_epsilon": config.layer_norm_epsilon,
            "score_scale": config.scale_attn_weights,
            "tied": config.tie_word_embeddings,
        }
    rotary = config.rope_parameters
    windowed = [kind == "sliding_attention" for kind in getattr(config, "layer_types", [])]
    if config.model_type == "mistral":
        windowed = [config.sliding_window is not None] * config.num_hidden_layers
    bias = "all" if getattr(config, "attention_bias", False) else "none"
    return {
        "key_value_heads": config.num_key_value_heads,
        "head_width": getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        "norm_epsilon": config.rms_norm_eps,
        "tied": config.tie_word_embeddings,
        "attention_bias": "qkv" if config.model_type == "qwen2" else bias,
        "rotary_base": rotary["rope_theta"],
        "rotary_factor": rotary.get("factor", 1.0),
        "rotary_first_context": rotary.get("original_max_position_embeddings", 8192),
        "windows": [config.sliding_window if window else None for window in windowed or [False] * 2],
    }


@pytest.mark.parametrize("model_type", CLASSES)
def test_what_is_missing_is_as_transformers_has_it(model_type: str) -> None:
    transformers: Any = pytest.importorskip("transformers", reason="transformers is not installed: the extra parity")
    for options in variations(model_type):
        theirs = getattr(transformers, f"{CLASSES[model_type]}Config")(
            **deepcopy(options)
        )  # which fills dictionaries in
        ours = read_config(options).config
        found = whole(ours)
        expected = as_ours(theirs)
        assert {name: found[name] for name in expected} == expected, options
        again = read_config(json.loads(theirs.to_json_string(use_diff=False))).config  # each option, in the new form
        assert whole(again) == found, options


@pytest.mark.parametrize("name", MODELS)
def test_what_is_written_means_the_same_to_transformers(name: str) -> None:
    transformers: Any = pytest.importorskip("transformers", reason="transformers is not installed: the extra parity")
    _, options = write_config(read_config(MODELS[name]).config, SpecialTokens(1, (2,)), "float32")
    ours = read_config(MODELS[name]).config
    theirs = getattr(transformers, f"{CLASSES[options['model_type']]}Config")(**options)
    found = whole(ours)
    expected = as_ours(theirs)
    assert {name: found[name] for name in expected} == expected
    assert (theirs.bos_token_id, theirs.eos_token_id) == (1, 2)


@pytest.mark.parametrize("model_type", CLASSES)
def test_special_tokens_that_are_missing_are_as_transformers_has_them(model_type: str) -> None:
    transformers: Any = pytest.importorskip("transformers", reason="transformers is not installed: the extra parity")
    options = next(variations(model_type)) | {"vocab_size": 60_000}
    del options["bos_token_id"], options["eos_token_id"]
    theirs = getattr(transformers, f"{CLASSES[model_type]}Config")(**options)
    eos = theirs.eos_token_id
    assert read_config(options).special == (theirs.bos_token_id, () if eos is None else (eos,))
