"""A family's config.json as a `ModelConfig`, and back. What the model would not do as it is written is refused."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import ConfigError
from ..layers import Rotary
from ..model import ModelConfig, SpecialTokens, read_special_tokens
from .families import FAMILIES, GPT2, LLAMA, MISTRAL, QWEN2, QWEN3, Family

HARMLESS = frozenset(
    {
        "_attn_implementation_autoset",
        "_commit_hash",
        "_name_or_path",
        "_num_labels",
        "attention_dropout",
        "attn_pdrop",
        "bos_token_id",
        "chunk_size_feed_forward",
        "cls_token_id",
        "do_sample",
        "dtype",
        "embd_pdrop",
        "eos_token_id",
        "finetuning_task",
        "gradient_checkpointing",
        "hidden_dropout",
        "id2label",
        "initializer_range",
        "is_decoder",
        "is_llama_config",
        "label2id",
        "max_length",
        "min_length",
        "model_type",
        "n_ctx",
        "n_special",
        "num_beams",
        "num_labels",
        "output_attentions",
        "output_hidden_states",
        "output_past",
        "pad_token_id",
        "predict_special_tokens",
        "pretraining_tp",
        "problem_type",
        "reorder_and_upcast_attn",
        "repetition_penalty",
        "resid_pdrop",
        "return_dict",
        "sep_token_id",
        "summary_activation",
        "summary_first_dropout",
        "summary_proj_to_labels",
        "summary_type",
        "summary_use_proj",
        "task_specific_params",
        "temperature",
        "tokenizer_class",
        "top_k",
        "top_p",
        "torch_dtype",
        "transformers.js_config",
        "transformers_version",
        "unsloth_fixed",
        "unsloth_version",
        "use_cache",
        "use_return_dict",
    }
)
"""Options that do not change what the model computes: those of training (there is no dropout here), of sampling, of
files, of other programs."""
GELU_TANH = ("gelu_new", "gelu_pytorch_tanh")
SILU = ("silu", "swish")
ROTARY_FIELDS = {
    "rope_theta": "base",
    "factor": "factor",
    "low_freq_factor": "low_factor",
    "high_freq_factor": "high_factor",
    "original_max_position_embeddings": "first_context",
}
OTHER_FIELDS = {
    "sliding_window": "window",
    "max_window_layers": "full_blocks",
    **{theirs: f"rotary_{ours}" for theirs, ours in ROTARY_FIELDS.items()},
}
"""Under these names an error tells of fields that are not in `Family.fields`."""
THETA = 10_000.0
SLIDING, FULL = "sliding_attention", "full_attention"


class Description(NamedTuple):
    """What a config.json says."""

    family: Family
    config: ModelConfig
    special: SpecialTokens


def read_config(options: Mapping[str, Any]) -> Description:
    """The content of a config.json. A `ConfigError` names the first option that is not supported, and its value."""
    model_type = options.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise ConfigError(
            f"model_type: {json.dumps(model_type)} is not supported; there are handgrad, {', '.join(FAMILIES)}"
        )
    family = FAMILIES[model_type]
    rest = _Options({name: x for name, x in options.items() if name not in HARMLESS})
    classes = rest.take("architectures", [family.architectures[0]])
    if not (isinstance(classes, list) and any(name in family.architectures for name in classes)):
        raise ConfigError(f"architectures: {json.dumps(classes)} is not supported; {family.architectures[0]} is")
    fields = dict(family.parts)
    if "num_key_value_heads" in rest and rest["num_key_value_heads"] is None:
        rest["num_key_value_heads"] = 0  # null is as many as heads, even where nothing is another number
    for theirs, ours in family.fields.items():
        value = rest.take(theirs, family.usual.get(theirs))
        if value is None and theirs == "n_inner":
            value = 4 * fields["width"] if isinstance(fields["width"], int) else fields["width"]
        if value is None and theirs not in ("num_key_value_heads", "head_dim"):
            raise ConfigError(f"{theirs}: missing field")
        fields[ours] = 0 if value is None else value
    if family is GPT2:
        rest.expect("activation_function", GELU_TANH)
    else:
        rest.expect("hidden_act", SILU)
        fields |= _rotary_fields(rest, fields["context"]) | _attention_fields(rest, family, fields["layers"])
    rest.refuse_others()
    try:
        config = ModelConfig(**fields)
    except ConfigError as error:
        field, _, why = str(error).partition(": ")
        theirs = {ours: theirs for theirs, ours in {**family.fields, **OTHER_FIELDS}.items()}.get(field, field)
        raise ConfigError(f"{theirs}: {why}") from None
    # null there means none, where a missing one is the family's
    usual = family.special._replace(**{name: x for name, x in SpecialTokens()._asdict().items() if name in options})
    return Description(family, config, read_special(options, usual, config.vocabulary))


def write_config(config: ModelConfig, special: SpecialTokens, dtype: str) -> tuple[Family, dict[str, Any]]:
    """The first family that has all parts of a model, and its config.json.

    Where none has them, a `ConfigError` says what the family that comes nearest has in their place.
    """
    conflicts = {model_type: _conflicts(config, family) for model_type, family in FAMILIES.items()}
    model_type = min(conflicts, key=lambda name: len(conflicts[name]))
    if conflicts[model_type]:
        raise ConfigError(
            f"no model of transformers has this architecture; the nearest, {model_type}, has "
            + ", ".join(conflicts[model_type])
        )
    family = FAMILIES[model_type]
    options: dict[str, Any] = {"architectures": [family.architectures[0]], "model_type": model_type}
    sizes = {"key_value_heads": config.G, "head_width": config.D}
    options |= {theirs: sizes.get(ours, getattr(config, ours)) for theirs, ours in family.fields.items()}
    if family is GPT2:
        options["activation_function"] = GELU_TANH[0]
    else:
        options["hidden_act"] = SILU[0]
        options |= _rotary_options(config) | _attention_options(config, family)
    eos = list(special.eos_token_id)
    tokens = {"bos_token_id": special.bos_token_id, "eos_token_id": eos[0] if len(eos) == 1 else eos or None}
    return family, options | tokens | {"torch_dtype": dtype}


def read_special(options: Mapping[str, Any], usual: SpecialTokens, vocabulary: int) -> SpecialTokens:
    """The special tokens that a config.json or a generation_config.json tells; those that it does not are the usual.

    A number above all tokens is none: small models keep that of large ones.
    """
    found: dict[str, Any] = {}
    for name, value in usual._asdict().items():
        value = value if options.get(name) is None else options[name]
        listed = list(value) if isinstance(value, list | tuple) else [] if value is None else [value]
        found[name] = [token for token in listed if type(token) is not int or token < vocabulary]
    return read_special_tokens(found, vocabulary)


class _Options(dict[str, Any]):
    """Options of which one after the other is taken; what is left has not been understood."""

    def take(self, name: str, default: Any) -> Any:
        """null is as good as nothing."""
        value = self.pop(name, default)
        return default if value is None and default is not None else value

    def expect(self, name: str, supported: tuple[Any, ...]) -> None:
        if (value := self.take(name, supported[0])) not in supported:
            names = " or ".join(json.dumps(x) for x in supported)
            raise ConfigError(f"{name}: {json.dumps(value)} is not supported; {names} is")

    def refuse_others(self) -> None:
        """An option that is null, false or empty is off, whatever it is; any other could change what is computed."""
        for name, value in self.items():
            if value is not None and value is not False and value not in ({}, []):
                raise ConfigError(f"{name}: {json.dumps(value)} is not supported")


def _rotary_fields(rest: _Options, context: Any) -> dict[str, Any]:
    """From `rope_theta` and `rope_scaling`, or from `rope_parameters`, which has both; of two, transformers takes the
    first."""
    scaling = rest.take("rope_scaling", {})
    parameters = rest.take("rope_parameters", {})
    for name, value in (("rope_scaling", scaling), ("rope_parameters", parameters)):
        if not isinstance(value, dict):
            raise ConfigError(f"{name}: {json.dumps(value)} is not supported")
    theta = rest.take("rope_theta", THETA)
    found = _Options({"rope_theta": theta} | (scaling or parameters))
    kind = found.take("rope_type", found.pop("type", "default"))
    found.pop("type", None)
    if kind not in ("default", "llama3"):
        raise ConfigError(f"rope_type: {json.dumps(kind)} is not supported; default or llama3 is")
    if found.take("partial_rotary_factor", 1.0) != 1:
        raise ConfigError("partial_rotary_factor: a rotation of only a part of each head is not supported")
    usual = {"rope_theta": THETA, "original_max_position_embeddings": context}
    names = ROTARY_FIELDS if kind == "llama3" else ("rope_theta",)
    fields = {}
    for name in names:
        value = found.take(name, usual.get(name))
        if value is None:
            raise ConfigError(f"{name}: missing field")
        fields[f"rotary_{ROTARY_FIELDS[name]}"] = value
    for name in ROTARY_FIELDS:
        found.pop(name, None)  # those of a scaling that is off
    found.refuse_others()
    return fields


def _rotary_options(config: ModelConfig) -> dict[str, Any]:
    """As all versions of transformers read them."""
    values = {name: getattr(config, f"rotary_{ours}") for name, ours in ROTARY_FIELDS.items()}
    theta = values.pop("rope_theta")
    scaling = {"rope_type": "llama3", **values} if config.rotary_factor != Rotary().factor else None
    return {"rope_theta": theta, "rope_scaling": scaling}


def _attention_fields(rest: _Options, family: Family, layers: Any) -> dict[str, Any]:
    """Biases, and the window of each block, which only the last blocks may have."""
    fields: dict[str, Any] = {}
    if family in (LLAMA, QWEN3):
        bias = rest.take("attention_bias", False)
        if not isinstance(bias, bool):
            raise ConfigError(f"attention_bias: {json.dumps(bias)} is not true or false")
        fields["attention_bias"] = "all" if bias else "none"
    kinds = rest.take("layer_types", None)
    if kinds is not None and not (isinstance(kinds, list) and all(kind in (FULL, SLIDING) for kind in kinds)):
        raise ConfigError(f"layer_types: {json.dumps(kinds)} is not supported; {FULL} and {SLIDING} are, one a layer")
    if kinds is not None and len(kinds) != layers:
        raise ConfigError(f"layer_types: {json.dumps(kinds)} is not supported; the number of layers is {layers}")
    if kinds is not None and kinds != sorted(kinds):  # full comes before sliding
        raise ConfigError(f"layer_types: {json.dumps(kinds)}: a window in other than the last blocks is not supported")
    if family in (MISTRAL, QWEN2, QWEN3):
        window = rest.pop("sliding_window", 4096)
        window = 0 if window is None else window
    if family is MISTRAL:
        fields["window"] = window
    elif family in (QWEN2, QWEN3):
        used, first = rest.take("use_sliding_window", False), rest.take("max_window_layers", 28)
        if not isinstance(used, bool):
            raise ConfigError(f"use_sliding_window: {json.dumps(used)} is not true or false")
        if kinds is not None:
            first = kinds.count(FULL)
        fields |= {"window": window, "full_blocks": first} if used and window != 0 else {}
    windowed = SLIDING in (kinds or ())
    if windowed and not fields.get("window"):
        raise ConfigError(f"layer_types: {SLIDING}, but no sliding_window")
    if family is MISTRAL and kinds is not None and fields["window"] and FULL in kinds:
        raise ConfigError(f"layer_types: {json.dumps(kinds)}, but a sliding_window of {fields['window']} in each block")
    return fields


def _attention_options(config: ModelConfig, family: Family) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if family in (LLAMA, QWEN3):
        options["attention_bias"] = config.attention_bias == "all"
    if family is MISTRAL:
        options["sliding_window"] = config.window or None
    if family in (QWEN2, QWEN3):
        options |= {"use_sliding_window": config.window > 0, "sliding_window": config.window or None}
        options["max_window_layers"] = config.full_blocks if config.window else config.layers
    return options


def _conflicts(config: ModelConfig, family: Family) -> list[str]:
    """What the family has in place of the config's parts, in words."""
    wanted = {"residual": (True,), "query_key_norm": (False,)} | {name: (x,) for name, x in family.parts.items()}
    if "score_scale" not in family.fields.values():
        wanted["score_scale"] = (True,)
    if family in (LLAMA, QWEN3):
        wanted["attention_bias"] = ("none", "all")
    if family in (GPT2, LLAMA):
        wanted["window"] = (0,)
    if family is MISTRAL and config.window:
        wanted["full_blocks"] = (0,)
    if family is GPT2:
        wanted["key_value_heads"] = (0,)
    if family in (GPT2, QWEN2):
        wanted["head_width"] = (0,)
    if family is LLAMA and config.width % config.heads:
        wanted["heads"] = ("a divisor of width",)
    return [
        f"{name} {' or '.join(map(str, allowed))} (here {x})"
        for name, allowed in wanted.items()
        if (x := getattr(config, name)) not in allowed
    ]
