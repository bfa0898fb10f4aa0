"""The families of models that `transformers` knows too: their options, and the names of their tensors."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..model import SpecialTokens


class Place(NamedTuple):
    """Where a parameter is in a folder: a tensor, or the first, second or last third of its columns."""

    tensor: str
    third: int | None = None
    transposed: bool = False
    """Whether the tensor is (out, in)."""


class Family(NamedTuple):
    """What sets a family apart, as data."""

    model_type: str
    architectures: tuple[str, str]
    """The class with a head, and the one without."""
    fields: Mapping[str, str]
    """Options that are fields of `ModelConfig` under another name."""
    usual: Mapping[str, Any]
    """What stands for an option that is missing or null, where that is not an error."""
    parts: dict[str, Any]
    """The fields of `ModelConfig` that all models of the family share."""
    places: Mapping[str, Place]
    """By the parameter's name, a star for the block's number."""
    prefix: str
    """How tensors begin that a file without the head's class has without it."""
    special: SpecialTokens
    """What stands for special tokens that a folder does not tell."""
    buffers: str
    """A pattern of tensors that hold no parameters: masks and frequencies, which older files have."""

    def place_of(self, name: str) -> Place:
        """Where the parameter of this name is."""
        number = re.search(r"(?<=blocks\.)\d+", name)
        if number is None:
            return self.places[name]
        place = self.places[name.replace(number[0], "*", 1)]
        return place._replace(tensor=place.tensor.replace("*", number[0]))


def _each(names: Mapping[str, str], transposed: bool) -> dict[str, Place]:
    """Matrices are as this family has them, tables and vectors as they are."""
    return {
        ours: Place(theirs, transposed=transposed and ours.rpartition(".")[2].startswith("w_"))
        for ours, theirs in names.items()
    }


GPT2 = Family(
    "gpt2",
    ("GPT2LMHeadModel", "GPT2Model"),
    {
        "n_layer": "layers",
        "n_head": "heads",
        "n_embd": "width",
        "n_inner": "hidden",
        "n_positions": "context",
        "vocab_size": "vocabulary",
        "layer_norm_epsilon": "norm_epsilon",
        "scale_attn_weights": "score_scale",
        "tie_word_embeddings": "tied",
    },
    {"layer_norm_epsilon": 1e-5, "scale_attn_weights": True, "tie_word_embeddings": True},
    {"positions": "learned", "norm": "layer", "feed_forward": "gelu", "attention_bias": "all", "bias": True},
    {
        **_each(
            {
                "embedding.token": "transformer.wte.weight",
                "embedding.position": "transformer.wpe.weight",
                "blocks.*.norm_1.gamma": "transformer.h.*.ln_1.weight",
                "blocks.*.norm_1.beta": "transformer.h.*.ln_1.bias",
                "blocks.*.attention.w_o": "transformer.h.*.attn.c_proj.weight",
                "blocks.*.attention.b_o": "transformer.h.*.attn.c_proj.bias",
                "blocks.*.norm_2.gamma": "transformer.h.*.ln_2.weight",
                "blocks.*.norm_2.beta": "transformer.h.*.ln_2.bias",
                "blocks.*.feed_forward.w_up": "transformer.h.*.mlp.c_fc.weight",
                "blocks.*.feed_forward.b_up": "transformer.h.*.mlp.c_fc.bias",
                "blocks.*.feed_forward.w_down": "transformer.h.*.mlp.c_proj.weight",
                "blocks.*.feed_forward.b_down": "transformer.h.*.mlp.c_proj.bias",
                "norm.gamma": "transformer.ln_f.weight",
                "norm.beta": "transformer.ln_f.bias",
            },
            transposed=False,
        ),
        **{
            f"blocks.*.attention.{ours}_{name}": Place(f"transformer.h.*.attn.c_attn.{theirs}", third)
            for ours, theirs in (("w", "weight"), ("b", "bias"))
            for third, name in enumerate("qkv")
        },
        "head.w_lm": Place("lm_head.weight", transposed=True),
    },
    "transformer.",
    SpecialTokens(50256, (50256,)),
    r".*\.attn\.(masked_)?bias",
)

_LLAMA_FIELDS = {
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "hidden_size": "width",
    "intermediate_size": "hidden",
    "max_position_embeddings": "context",
    "vocab_size": "vocabulary",
    "num_key_value_heads": "key_value_heads",
    "rms_norm_eps": "norm_epsilon",
    "tie_word_embeddings": "tied",
}
_LLAMA_USUAL = {"num_key_value_heads": 0, "head_dim": 0, "rms_norm_eps": 1e-6, "tie_word_embeddings": False}

LLAMA = Family(
    "llama",
    ("LlamaForCausalLM", "LlamaModel"),
    _LLAMA_FIELDS | {"head_dim": "head_width"},
    _LLAMA_USUAL,
    {"positions": "rotary", "norm": "rms", "feed_forward": "swiglu"},
    _each(
        {
            "embedding.token": "model.embed_tokens.weight",
            "blocks.*.norm_1.gamma": "model.layers.*.input_layernorm.weight",
            **{
                f"blocks.*.attention.{ours}_{name}": f"model.layers.*.self_attn.{name}_proj.{theirs}"
                for ours, theirs in (("w", "weight"), ("b", "bias"))
                for name in "qkvo"
            },
            **{f"blocks.*.attention.gamma_{name}": f"model.layers.*.self_attn.{name}_norm.weight" for name in "qk"},
            "blocks.*.norm_2.gamma": "model.layers.*.post_attention_layernorm.weight",
            **{
                f"blocks.*.feed_forward.w_{name}": f"model.layers.*.mlp.{name}_proj.weight"
                for name in ("gate", "up", "down")
            },
            "norm.gamma": "model.norm.weight",
            "head.w_lm": "lm_head.weight",
        },
        transposed=True,
    ),
    "model.",
    SpecialTokens(1, (2,)),
    r".*\.rotary_emb\.inv_freq",
)
MISTRAL = LLAMA._replace(
    model_type="mistral",
    architectures=("MistralForCausalLM", "MistralModel"),
    usual=_LLAMA_USUAL | {"num_key_value_heads": 8},
    parts=LLAMA.parts | {"attention_bias": "none"},
)
QWEN2 = LLAMA._replace(
    model_type="qwen2",
    special=SpecialTokens(),
    architectures=("Qwen2ForCausalLM", "Qwen2Model"),
    fields=_LLAMA_FIELDS,
    usual=_LLAMA_USUAL | {"num_key_value_heads": 32},
    parts=LLAMA.parts | {"attention_bias": "qkv"},
)
QWEN3 = LLAMA._replace(
    model_type="qwen3",
    special=SpecialTokens(),
    architectures=("Qwen3ForCausalLM", "Qwen3Model"),
    usual=_LLAMA_USUAL | {"num_key_value_heads": 32, "head_dim": 128},
    parts=LLAMA.parts | {"query_key_norm": True},
)
FAMILIES = {family.model_type: family for family in (GPT2, LLAMA, MISTRAL, QWEN2, QWEN3)}
