"""Traces: every tensor of a pass under its name and in its place, the same numbers as training has, and the files."""

import importlib
import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from safetensors.numpy import load_file, save

import handgrad
from handgrad.errors import HandgradError, TextError
from handgrad.layers import IGNORE_INDEX, Array
from handgrad.model import Model, ModelConfig, Parameters, Tokenizer, loss_backward, loss_forward
from handgrad.proof import BAR, Trace, complex_step, gpt_case, relative_error, trace
from handgrad.proof.check import largest_entry
from handgrad.proof.compare import read_reference
from handgrad.proof.making import FAMILIES
from tests.cli import conftest
from tests.cli.conftest import Cli

cli = conftest.cli

CONTEXT = 8
TOKENIZER = Tokenizer.of_characters("abcdefghijk")
TEXT = "abacadeh"


def model_of(seed: int = 0, **switches: Any) -> Model:
    """A small float64 model, no two of whose sizes are equal and none of whose parameters is at 0 or 1."""
    sizes = {"layers": 2, "heads": 2, "width": 6, "hidden": 9, "context": CONTEXT, "vocabulary": TOKENIZER.vocabulary}
    config = ModelConfig(**sizes | switches)
    parameters = gpt_case(config, np.random.default_rng(seed)).inputs
    return Model(config, Parameters.from_mapping(config, parameters), TOKENIZER)


MODEL = model_of()
SWITCHES: list[dict[str, Any]] = [
    {"norm": "none"},
    {"residual": False},
    {"score_scale": False},
    {"norm": "none", "residual": False, "score_scale": False},
]


def in_float64(model: Model) -> Model:
    return Model(model.config, Parameters(model.config, model.parameters.flat.astype(np.float64)), model.tokenizer)


class Collector:
    """A tap that keeps a copy of everything."""

    def __init__(self) -> None:
        self.seen: dict[str, Array] = {}

    def __call__(self, name: str, x: Array) -> Array:
        self.seen[name] = x.copy()
        return x


def assert_same_numbers(traced: Trace, model: Model) -> None:
    """What taps see in a pass of the model itself, and what `loss_and_gradients` returns."""
    activations, cotangents = Collector(), Collector()
    loss, cache = loss_forward(traced.tokens, traced.targets, model.parameters.tree, model.config, activations)
    loss_backward(np.ones_like(loss), cache, cotangents)
    assert list(traced.activations) == list(activations.seen)
    assert list(traced.cotangents) == list(cotangents.seen)
    for mine, expected in ((traced.activations, activations), (traced.cotangents, cotangents)):
        for name, x in mine.items():
            np.testing.assert_array_equal(x, expected.seen[name], name)
    mean, gradients = model.loss_and_gradients(traced.tokens, traced.targets)
    assert traced.loss == pytest.approx(mean, rel=1e-14)
    assert traced.gradients.keys() == traced.parameters.keys() == gradients.keys()
    for name, gradient in gradients.items():
        scale = largest_entry(gradients) if name in traced.case().vanishing else None
        assert relative_error(traced.gradients[name], gradient, scale) <= 1e-14, name
        np.testing.assert_array_equal(traced.parameters[name], model.parameters[name])


# what is in a trace, and in which order

BLOCK = [
    "norm_1.output",
    *(f"attention.{name}" for name in ("q", "k", "v", "scores", "masked_scores", "weights", "context", "output")),
    "residual_1",
    "norm_2.output",
    *(f"feed_forward.{name}" for name in ("gate", "up", "activated", "hidden", "output")),
    "residual_2",
]
FORWARD = ["embedding.output", *(f"blocks.0.{name}" for name in BLOCK), "norm.output", "head.logits", "loss"]
"""The activations of one block's model."""

BACKWARD = """
loss head.logits -> head.w_lm
norm.output -> norm.gamma norm.beta
blocks.0.residual_2
blocks.0.feed_forward.output -> blocks.0.feed_forward.w_down
blocks.0.feed_forward.hidden blocks.0.feed_forward.activated
blocks.0.feed_forward.up -> blocks.0.feed_forward.w_up
blocks.0.feed_forward.gate -> blocks.0.feed_forward.w_gate
blocks.0.norm_2.output -> blocks.0.norm_2.gamma blocks.0.norm_2.beta
blocks.0.residual_1
blocks.0.attention.output -> blocks.0.attention.w_o
blocks.0.attention.context blocks.0.attention.weights blocks.0.attention.masked_scores blocks.0.attention.scores
blocks.0.attention.q -> blocks.0.attention.w_q
blocks.0.attention.k -> blocks.0.attention.w_k
blocks.0.attention.v -> blocks.0.attention.w_v
blocks.0.norm_1.output -> blocks.0.norm_1.gamma blocks.0.norm_1.beta
embedding.output -> embedding.token embedding.position
"""
"""Its cotangents, and after each arrow the parameters whose gradients are made from the cotangent before it."""


def backward_keys() -> list[str]:
    keys = []
    for line in BACKWARD.strip().splitlines():
        cotangents, _, gradients = line.partition("->")
        keys += [f"cotangents/{name}" for name in cotangents.split()]
        keys += [f"gradients/{name}" for name in gradients.split()]
    return keys


def test_tensors_come_in_the_order_of_the_dataflow_each_gradient_after_its_cotangent() -> None:
    model = model_of(layers=1)
    traced = handgrad.trace(model, TEXT)
    assert list(traced.tensors()) == [
        *("tokens", "targets"),
        *(f"parameters/{name}" for name in model.parameters),
        *(f"activations/{name}" for name in FORWARD),
        *backward_keys(),
    ]
    assert list(traced.activations) == FORWARD
    assert sorted(traced.cotangents) == sorted(FORWARD)
    assert list(traced.parameters) == list(model.parameters)
    assert sorted(traced.gradients) == sorted(model.parameters)


def test_of_two_blocks_the_second_is_after_the_first_and_on_the_way_back_before_it() -> None:
    traced = trace(MODEL, TEXT)
    assert len(traced.activations) == len(traced.cotangents) == len(FORWARD) + len(BLOCK)
    for tensors, order in ((traced.activations, [0, 1]), (traced.cotangents, [1, 0]), (traced.gradients, [1, 0])):
        blocks = [int(name.split(".")[1]) for name in tensors if name.startswith("blocks.")]
        assert blocks == sorted(blocks, key=order.index)


def test_tensors_have_the_shapes_of_what_they_are_the_gradients_of() -> None:
    traced = trace(MODEL, TEXT)
    for values, gradients in ((traced.activations, traced.cotangents), (traced.parameters, traced.gradients)):
        for name, x in values.items():
            assert x.shape == gradients[name].shape, name


# its numbers


def test_a_trace_has_the_numbers_of_the_model() -> None:
    traced = trace(MODEL, TEXT)
    tokens = TOKENIZER.encode(TEXT)
    np.testing.assert_array_equal(traced.tokens, [tokens[:-1]])
    np.testing.assert_array_equal(traced.targets, [tokens[1:]])
    assert {x.dtype for x in (traced.tokens, traced.targets)} == {np.dtype(np.int64)}
    assert traced.config == MODEL.config
    assert_same_numbers(traced, MODEL)
    assert relative_error(traced.activations["head.logits"], MODEL.logits(traced.tokens)) <= 1e-14
    assert traced.cotangents["loss"] == 1
    assert isinstance(traced.loss, float)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_trace(family: str, tmp_path: Path) -> None:
    model = model_of(**{"head_width": 4} | FAMILIES[family])
    traced = trace(model, TEXT)
    assert_same_numbers(traced, model)
    traced.save(tmp_path / "trace.safetensors")
    manifest = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))
    assert_describes(manifest, traced.tensors())
    keys = [entry["key"] for entry in manifest["tensors"]]
    assert keys.index("cotangents/embedding.output") < keys.index("gradients/embedding.token")
    assert read_reference(tmp_path / "trace.safetensors").case.given["config"] == model.config


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_a_model_whose_parts_are_switched_off_has_a_trace_too(switches: dict[str, Any], tmp_path: Path) -> None:
    model = model_of(**switches)
    traced = trace(model, TEXT)
    assert_same_numbers(traced, model)
    traced.save(tmp_path / "trace.safetensors")
    manifest = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))
    assert manifest["config"] == model.config.to_dict()
    assert_describes(manifest, traced.tensors())
    for found in (traced.activations, traced.parameters, [entry["made_by"] or "" for entry in manifest["tensors"]]):
        assert any("norm" in name for name in found) == ("norm" not in switches)


def test_weights_in_float32_are_converted_before_anything_is_computed() -> None:
    single = Model(MODEL.config, Parameters(MODEL.config, MODEL.parameters.flat.astype(np.float32)), TOKENIZER)
    traced = trace(single, TEXT)
    assert {x.dtype for key, x in traced.tensors().items() if "/" in key} == {np.dtype(np.float64)}
    assert_same_numbers(traced, in_float64(single))


def test_in_float32_every_tensor_is_float32_and_close() -> None:
    exact, traced = trace(MODEL, TEXT).tensors(), trace(MODEL, TEXT, dtype="float32").tensors()
    assert list(traced) == list(exact)
    assert {x.dtype for key, x in traced.items() if "/" in key} == {np.dtype(np.float32)}
    for key, x in traced.items():
        hidden = np.isneginf(exact[key])
        assert hidden.any() == (key.startswith("activations/") and key.endswith("masked_scores"))
        np.testing.assert_array_equal(np.isneginf(x), hidden)
        distance = np.abs(x[~hidden] - exact[key][~hidden]).max()
        assert distance <= 1e-5 * np.abs(exact[key][~hidden]).max(), key
    assert any(np.abs(x - exact[key]).max() > 1e-9 for key, x in traced.items() if key.startswith("gradients/"))


@pytest.mark.parametrize("name", ["blocks.0.attention.weights", "blocks.1.feed_forward.gate", "blocks.0.residual_1"])
def test_a_cotangent_is_the_derivative_of_the_loss_by_its_activation(name: str) -> None:
    traced = trace(MODEL, TEXT)
    in_complex = Parameters(MODEL.config, MODEL.parameters.flat.astype(complex))

    def loss_at(moved: Array) -> Array:
        def tap(at: str, x: Array) -> Array:
            return moved.copy() if at == name else x

        return loss_forward(traced.tokens, traced.targets, in_complex.tree, MODEL.config, tap)[0]

    assert relative_error(traced.cotangents[name], complex_step(loss_at, traced.activations[name])) <= BAR


TOKENS = np.array([[1, 2, 1, 10], [0, 4, 3, 5], [7, 7, 7, 7]])
TARGETS = np.array([[2, 1, IGNORE_INDEX, 3], [4, 3, 3, 0], [IGNORE_INDEX] * 4])


def test_tokens_and_targets_may_be_given_and_minus_100_does_not_count() -> None:
    traced = trace(MODEL, TOKENS, TARGETS)
    np.testing.assert_array_equal(traced.tokens, TOKENS)
    np.testing.assert_array_equal(traced.targets, TARGETS)
    assert_same_numbers(traced, MODEL)
    np.testing.assert_array_equal(traced.cotangents["head.logits"].any(axis=-1), TARGETS != IGNORE_INDEX)


def test_one_sequence_may_be_a_list_and_a_trace_of_its_text_is_the_same() -> None:
    tokens = [int(token) for token in TOKENIZER.encode(TEXT)]
    of_tokens, of_text = trace(MODEL, tokens[:-1], tokens[1:]).tensors(), trace(MODEL, TEXT).tensors()
    assert list(of_tokens) == list(of_text)
    for key, x in of_tokens.items():
        np.testing.assert_array_equal(x, of_text[key])


@pytest.mark.parametrize("several", [list, tuple])
def test_of_several_texts_the_shorter_are_padded_with_what_does_not_count(several: type) -> None:
    texts = several(["abacadeh", "bad", "ab", "decade"])
    traced = trace(MODEL, texts)
    assert traced.tokens.shape == traced.targets.shape == (4, 7)
    for text, tokens, targets in zip(texts, traced.tokens, traced.targets, strict=True):
        encoded = TOKENIZER.encode(text)
        counted = len(encoded) - 1
        np.testing.assert_array_equal(tokens[:counted], encoded[:-1])
        np.testing.assert_array_equal(targets[:counted], encoded[1:])
        assert (targets[counted:] == IGNORE_INDEX).all()
    assert_same_numbers(traced, MODEL)
    np.testing.assert_array_equal(traced.cotangents["head.logits"].any(axis=-1), traced.targets != IGNORE_INDEX)
    np.testing.assert_array_equal(trace(MODEL, several([TEXT])).tokens, trace(MODEL, TEXT).tokens)


def test_the_model_is_left_as_it_was() -> None:
    model = model_of()
    trace(model, TEXT).parameters["head.w_lm"][...] = 7
    np.testing.assert_array_equal(model.parameters.flat, MODEL.parameters.flat)


# its files


def function_at(dotted: str) -> Callable[..., Any]:
    module, _, name = dotted.rpartition(".")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def assert_describes(manifest: dict[str, Any], tensors: dict[str, Array]) -> None:
    """Each tensor has its entry, in order, and a formula that stands in the docstring of the function that made it."""
    config = ModelConfig.from_dict(manifest["config"])
    H, G, D = config.heads, config.G, config.D
    sizes = {"B": 1, "T": len(TEXT) - 1, "S": len(TEXT) - 1, "C": 6, "F": 9, "V": 11, "context": CONTEXT}
    sizes |= {"H": H, "G": G, "D": D, "HD": H * D, "GD": G * D}
    assert [entry["key"] for entry in manifest["tensors"]] == list(tensors)
    for order, entry in enumerate(manifest["tensors"]):
        key, x = entry["key"], tensors[entry["key"]]
        kind, _, name = key.rpartition("/")
        assert entry["name"] == name
        assert entry["order"] == order
        assert entry["shape"] == list(x.shape) == [sizes[axis] for axis in entry["axes"]], key
        assert entry["dtype"] == x.dtype.name
        formula = entry["backward" if kind in ("cotangents", "gradients") else "forward"]
        if kind in ("", "parameters") or key == "cotangents/loss":
            assert formula is None
            assert entry["made_by"] is None
        else:
            assert formula in " ".join(str(inspect.getdoc(function_at(entry["made_by"]))).split()), key
            forwards_or_back = "_backward" if kind in ("cotangents", "gradients") else "_forward"
            assert entry["made_by"].endswith(forwards_or_back) or entry["made_by"] == "handgrad.model.gpt.with_head"
        assert bool(entry["backward"]) == (kind != "" and name != "loss"), key
        assert bool(entry["forward"]) == (kind in ("activations", "cotangents")), key


def test_a_file_has_the_tensors_and_in_its_metadata_the_manifest_that_lies_beside_it(tmp_path: Path) -> None:
    traced = trace(MODEL, TEXT)
    traced.save(tmp_path / "trace.safetensors")
    assert {path.name for path in tmp_path.iterdir()} == {"trace.safetensors", "trace.json"}
    tensors = load_file(tmp_path / "trace.safetensors")
    assert tensors.keys() == traced.tensors().keys()
    for key, x in traced.tensors().items():
        np.testing.assert_array_equal(tensors[key], x, key)
        assert tensors[key].dtype == x.dtype
    with safetensors.safe_open(tmp_path / "trace.safetensors", framework="numpy") as file:
        manifest = json.loads(file.metadata()["handgrad"])
    assert manifest == json.loads((tmp_path / "trace.json").read_text(encoding="utf-8")) == traced.manifest()
    assert {key: value for key, value in manifest.items() if key != "tensors"} == {
        "kind": "trace",
        "layer": "gpt",
        "made_by": f"handgrad {handgrad.__version__}",
        "config": MODEL.config.to_dict(),
    }
    assert_describes(manifest, {key: tensors[key] for key in traced.tensors()})


def test_a_manifest_says_what_is_known_of_some_tensors() -> None:
    entries = {entry["key"]: entry for entry in trace(MODEL, TEXT).manifest()["tensors"]}
    layers = "handgrad.layers"
    known = {
        "activations/embedding.output": f"{layers}.positions.positions_forward",
        "activations/blocks.1.attention.weights": f"{layers}.causal_attention.causal_attention_forward",
        "activations/blocks.0.norm_2.output": f"{layers}.layer_norm.layer_norm_forward",
        "activations/blocks.0.residual_2": "handgrad.model.block.block_forward",
        "activations/loss": f"{layers}.linear_cross_entropy.linear_cross_entropy_forward",
        "cotangents/blocks.0.norm_2.output": f"{layers}.swiglu.swiglu_backward",
        "cotangents/blocks.0.residual_2": "handgrad.model.block.block_backward",
        "cotangents/blocks.1.residual_2": f"{layers}.layer_norm.layer_norm_backward",
        "cotangents/blocks.1.attention.context": f"{layers}.multi_head_attention.multi_head_attention_backward",
        "gradients/embedding.token": f"{layers}.embedding.embedding_backward",
        "gradients/head.w_lm": f"{layers}.linear_cross_entropy.linear_cross_entropy_backward",
    }
    assert {key: entries[key]["made_by"] for key in known} == known
    weights = entries["activations/blocks.1.attention.weights"]
    assert weights["forward"] == r"\mathrm{weights}_t = \mathrm{softmax}(\mathrm{masked\_scores}_t)"
    assert weights["backward"] == r"\mathrm{d}\mathrm{weights} = \mathrm{d}y\, v^\top"
    assert entries["parameters/blocks.0.attention.w_o"]["backward"].startswith(r"\mathrm{d}w_o = ")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_same_pass_makes_the_same_bytes(dtype: Any, tmp_path: Path) -> None:
    for name in ("first", "again"):
        trace(MODEL, TOKENS, TARGETS, dtype=dtype).save(str(tmp_path / f"{name}.safetensors"))
    for suffix in ("safetensors", "json"):
        assert (tmp_path / f"first.{suffix}").read_bytes() == (tmp_path / f"again.{suffix}").read_bytes()
    assert f'"dtype": "{dtype}"' in (tmp_path / "first.json").read_text(encoding="utf-8")


# what cannot be traced or saved


def test_a_text_is_a_context_and_what_follows_it_at_most() -> None:
    whole = (TEXT * 2)[: CONTEXT + 1]
    assert trace(MODEL, whole).tokens.shape == (1, CONTEXT)
    assert trace(MODEL, "ab").tokens.shape == (1, 1)
    for text in ("", "a", f"{whole}a"):
        expected = f"the text has {len(text)} token{'s' * (text != 'a')}; from 2 to {CONTEXT + 1} can be traced"
        with pytest.raises(HandgradError, match=f"^{expected}.*$"):
            trace(MODEL, text)


def test_a_character_without_a_token_is_named() -> None:
    with pytest.raises(TextError, match=r"^character 'é' \(position 2\).*$"):
        trace(MODEL, "abé")


@pytest.mark.parametrize(
    ("tokens", "targets", "message"),
    [
        ([1, 2], None, "^targets: missing.*$"),
        ([1, 2], [1], "^targets: shape .*$"),
        ([1, 11], [1, 2], "^tokens: 11 is not a token from 0 to 10$"),
        ([1, 2], [1, -1], "^targets: -1 is not a token from 0 to 10$"),
        ([1.0, 2.0], [1, 2], "^tokens: .*float64.*$"),
        ([1] * (CONTEXT + 1), [1] * (CONTEXT + 1), f"^tokens: {CONTEXT + 1} positions; .* context is {CONTEXT}$"),
    ],
)
def test_tokens_that_cannot_be_used_are_refused(tokens: Any, targets: Any, message: str) -> None:
    with pytest.raises(HandgradError, match=message):
        trace(MODEL, tokens, targets)


def test_another_dtype_is_refused() -> None:
    unchecked = inspect.unwrap(trace)  # as users have it: in the tests the signature refuses it first
    with pytest.raises(HandgradError, match=r"^dtype: 'float16' is not one of float64, float32$"):
        unchecked(MODEL, TEXT, dtype="float16")


@pytest.mark.parametrize("name", ["trace", "trace.npz", "trace.json", "trace.safetensors.gz"])
def test_a_name_of_another_format_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(HandgradError, match=rf"^{re.escape(str(tmp_path / name))}: .*\.safetensors$"):
        trace(MODEL, TEXT).save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_only_a_trace_is_replaced(tmp_path: Path) -> None:
    """Where one of the two files is something else, both are left as they are."""
    path, beside = tmp_path / "trace.safetensors", tmp_path / "trace.json"
    trace(MODEL, "ab").save(path)
    trace(MODEL, TEXT).save(path)
    assert load_file(path)["tokens"].shape == (1, len(TEXT) - 1)
    assert json.loads(beside.read_text(encoding="utf-8"))["tensors"][0]["shape"] == [1, len(TEXT) - 1]
    whole = {file: file.read_bytes() for file in (path, beside)}
    kit = whole[beside].replace(b'"kind": "trace"', b'"kind": "kit"')
    others = [(path, b""), (path, save({"x": np.zeros(3)})), (beside, b"[]"), (beside, b"not JSON"), (beside, kit)]
    for file, content in others:
        file.write_bytes(content)
        with pytest.raises(HandgradError, match=rf"^{re.escape(str(file))}: .*no trace.*$"):
            trace(MODEL, TEXT).save(path)
        assert {other: other.read_bytes() for other in whole} == whole | {file: content}
        file.write_bytes(whole[file])


def test_a_folder_that_is_missing_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        trace(MODEL, TEXT).save(tmp_path / "missing/trace.safetensors")
    assert error.value.filename == str(tmp_path / "missing/trace.safetensors")


# the command


def failure(cli: Cli, *arguments: str, status: int = 2) -> str:
    """The one line on standard error that says why there is no trace."""
    result = cli("trace", *arguments)
    assert (result.status, result.output) == (status, "")
    assert re.fullmatch(r"handgrad: .+\n", result.errors)
    assert not list(Path().rglob("*trace*"))
    return result.errors.removeprefix("handgrad: ").rstrip("\n")


@pytest.mark.parametrize("options", [[], ["--dtype", "float32"]], ids=" ".join)
def test_the_command_writes_the_trace_of_a_run(options: list[str], cli: Cli) -> None:
    MODEL.save("run")
    result = cli("trace", "run", "--text", TEXT, *options)
    traced = trace(handgrad.load("run"), TEXT, dtype="float32" if options else "float64")
    traced.save("expected.safetensors")
    for suffix in ("safetensors", "json"):
        assert Path(f"trace.{suffix}").read_bytes() == Path(f"expected.{suffix}").read_bytes()
    assert (result.status, result.errors) == (0, "")
    assert result.output.startswith("trace.safetensors and trace.json: 38 activations, 38 cotangents, 27 gradients, ")
    assert f"loss {traced.loss:.6f} nats over {len(TEXT) - 1} targets\n" in result.output


def test_the_command_takes_several_texts(cli: Cli) -> None:
    MODEL.save("run")
    result = cli("trace", "run", "--text", TEXT, "--text", "bad", "--out", "it.safetensors")
    assert result.status == 0
    assert load_file("it.safetensors")["targets"].tolist() == trace(MODEL, [TEXT, "bad"]).targets.tolist()
    assert result.output.endswith(f"nats over {len(TEXT) - 1 + 2} targets\n")


def test_the_command_makes_a_fresh_model_of_a_preset_whose_seed_decides_its_weights(cli: Cli) -> None:
    for name, seed in (("first", "1"), ("again", "1"), ("other", "2")):
        result = cli("trace", "--preset", "tiny", "--text", "Ab\n", "--out", f"{name}.safetensors", "--seed", seed)
        assert (result.status, result.errors) == (0, "")
        assert result.output.startswith(f"{name}.safetensors and {name}.json: ")
    first, again, other = (load_file(f"{name}.safetensors") for name in ("first", "again", "other"))
    assert Path("first.safetensors").read_bytes() == Path("again.safetensors").read_bytes()
    assert again.keys() == other.keys()
    np.testing.assert_array_equal(first["tokens"], [[ord("A"), ord("b")]])
    np.testing.assert_array_equal(first["targets"], [[ord("b"), ord("\n")]])
    name = "parameters/head.w_lm"
    assert first[name].shape == other[name].shape == (64, 256)
    assert not np.array_equal(first[name], other[name])


@pytest.mark.parametrize("arguments", [[], ["run", "--preset", "tiny"]], ids=["neither", "both"])
def test_the_command_wants_a_run_or_a_preset(arguments: list[str], cli: Cli) -> None:
    MODEL.save("run")
    said = failure(cli, *arguments, "--text", TEXT)
    assert "RUN" in said
    assert "--preset" in said


def test_a_preset_that_does_not_exist_is_named(cli: Cli) -> None:
    assert failure(cli, "--preset", "huge", "--text", TEXT).startswith("preset: there is no 'huge'; there are tiny, ")


def test_a_run_that_does_not_exist_is_named(cli: Cli) -> None:
    assert failure(cli, "nowhere", "--text", TEXT) == "nowhere: no such folder"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--text", "a"], 2, "the text has 1 token; "),
        (["--text", "a" * (CONTEXT + 2)], 2, f"the text has {CONTEXT + 2} tokens; "),
        (["--text", "abz"], 2, "character 'z' (position 2) "),
        (["--text", TEXT, "--out", "it.npz"], 2, "it.npz: "),
        (["--text", TEXT, "--out", "nowhere/it.safetensors"], 2, "nowhere/it.safetensors: there is no folder "),
    ],
    ids=["too short", "too long", "a character", "a suffix", "a folder"],
)
def test_what_the_command_cannot_use_is_named(arguments: list[str], status: int, said: str, cli: Cli) -> None:
    MODEL.save("run")
    assert failure(cli, "run", *arguments, status=status).startswith(said)


def test_the_command_wants_a_text_and_a_dtype_that_it_knows(cli: Cli) -> None:
    for arguments, option in (([], "--text"), (["--text", TEXT, "--dtype", "float16"], "--dtype")):
        result = cli("trace", "--preset", "tiny", *arguments)
        assert (result.status, result.output) == (2, "")
        assert option in result.errors
        assert not list(Path().iterdir())
