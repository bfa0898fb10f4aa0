"""The conformance kit: files as its README says, nasty where they should be, and each number proved once more."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from safetensors.numpy import load_file

import handgrad.proof
from handgrad.errors import HandgradError
from handgrad.layers import IGNORE_INDEX, Array
from handgrad.proof import BAR, KIT, Case, complex_step_along, write_kit
from handgrad.proof.case import given_of
from handgrad.proof.envelope import envelope
from handgrad.proof.kit import draw_case
from handgrad.proof.making import FAMILIES
from handgrad.proof.recording import record, zeros_of
from tests import reference
from tests.cli import conftest
from tests.cli.conftest import Cli

cli = conftest.cli

SOURCES = Path(handgrad.proof.__file__).parent / "kit"
PROGRAMS = ["README.md", "kit.c", "kit_torch.py"]
NAMES = [f"{layer}.{variant}" for layer in KIT for variant in KIT[layer]]
FEW_BITS = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
TURNS = {"base", "factor", "low_factor", "high_factor", "first_context"}
SETTINGS: dict[str, set[str]] = {
    "positions": {"start"},
    "rotary": {"start", *TURNS},
    "causal_attention": {"scale"},
    "multi_head_attention": {"heads"},
    "block": {"heads"},
    "gpt": {"heads"},
}
MORE_SETTINGS = {
    **{f"causal_attention.{variant}": {"window"} for variant in ("window", "long_window", "grouped_window")},
    "multi_head_attention.grouped": {"key_value_heads"},
    "multi_head_attention.rotary": TURNS,
    "multi_head_attention.everything": {"key_value_heads", "start", "window", *TURNS},
    **{f"{layer}.llama": TURNS for layer in ("block", "gpt")},
    **{f"{layer}.mistral": {"window", *TURNS} for layer in ("block", "gpt")},
    "block.qwen2": {"window", "epsilon", *TURNS},
    "gpt.qwen2": {"window", "full_blocks", "epsilon", *TURNS},
    **{f"{layer}.qwen3": {"epsilon", *TURNS} for layer in ("block", "gpt")},
    **{f"{layer}.nanogpt": {"centred"} for layer in ("block", "gpt")},
}
WHOLE_NUMBERS = {"heads", "key_value_heads", "centred", "start", "window", "full_blocks", "first_context"}
WHOLLY = ["linear", "layer_norm", "swiglu"]
Tensors = Mapping[str, Array]


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of it; the envelopes over all draws, which take long, of some layers only."""
    folder = tmp_path_factory.mktemp("kit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("handgrad.proof.kit.write.DRAWS", 3)
        assert list(write_kit(folder)) == NAMES
    assert len(list(write_kit(folder, WHOLLY))) == sum(len(KIT[layer]) for layer in WHOLLY)
    return folder


def files_of(names: list[str]) -> set[str]:
    return {*PROGRAMS, *(f"{name}.{suffix}" for name in names for suffix in ("safetensors", "json"))}


def listing(folder: str | Path) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def tensors_of(kit: Path, name: str) -> Tensors:
    return load_file(kit / f"{name}.safetensors")


def manifest_of(kit: Path, name: str) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((kit / f"{name}.json").read_text(encoding="utf-8"))
    return manifest


def within(tensors: Tensors, scope: str) -> dict[str, Array]:
    return {key.removeprefix(scope): x for key, x in tensors.items() if key.startswith(scope)}


def case_of(name: str, tensors: Tensors) -> Case:
    """The functions of a case at what its file says they are given."""
    layer, _, variant = name.partition(".")
    case, _ = draw_case(layer, variant, seed=0)
    given = given_of({key: x.item() for key, x in settings(tensors).items()})
    given = {**case.given, **within(tensors, "inputs/"), **given}
    return case._replace(
        inputs={key: tensors[f"inputs/{key}"] for key in case.inputs}, given={key: given[key] for key in case.given}
    )


def settings(tensors: Tensors) -> dict[str, Array]:
    return within(tensors, "settings/")


def is_given(key: str) -> bool:
    return key.startswith("inputs/") or key in ("cotangents/y", "cotangents/loss")


def results(tensors: Tensors) -> dict[str, Array]:
    kinds = ("outputs/", "activations/", "cotangents/", "gradients/")
    return {key: x for key, x in tensors.items() if key.startswith(kinds) and not is_given(key)}


# the files


def test_the_command_writes_the_layers_that_are_asked_for(cli: Cli, kit: Path) -> None:
    result = cli("kit", "here/it", "--layers", "linear, layer_norm")
    names = [name for name in NAMES if name.startswith(("linear.", "layer_norm."))]
    assert len(names) == 9
    assert result == (0, "9 cases in here/it; here/it/README.md explains\n", "")
    assert listing("here/it") == files_of(names)
    for file in listing("here/it"):
        assert (Path("here/it") / file).read_bytes() == (kit / file).read_bytes()


def test_the_kit_is_all_layers_and_the_programs(kit: Path) -> None:
    assert len(NAMES) > 60
    assert listing(kit) == files_of(NAMES)
    for program in PROGRAMS:
        assert (kit / program).read_bytes() == (SOURCES / program).read_bytes()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "linear.plain",
            {
                (2, 8, 16): ["inputs/x", "gradients/x"],
                (16, 24): ["inputs/w", "gradients/w"],
                (2, 8, 24): ["outputs/y", "cotangents/y"],
            },
        ),
        (
            "layer_norm.odd_widths",
            {
                (3, 5, 15): ["inputs/x", "outputs/y", "cotangents/y", "gradients/x"],
                (15,): ["inputs/gamma", "inputs/beta", "gradients/gamma", "gradients/beta"],
            },
        ),
        (
            "causal_attention.earlier_keys",
            {
                (2, 2, 8, 8): ["inputs/q", "outputs/y", "cotangents/y", "gradients/q"],
                (2, 2, 13, 8): ["inputs/k", "inputs/v", "gradients/k", "gradients/v"],
                (2, 2, 8, 13): [
                    *(f"activations/{name}" for name in ("scores", "weights")),
                    *(f"cotangents/{name}" for name in ("scores", "masked_scores", "weights")),
                ],
                (): ["settings/scale"],
            },
        ),
        (
            "linear_cross_entropy.plain",
            {
                (2, 8, 16): ["inputs/x", "gradients/x"],
                (16, 32): ["inputs/w", "gradients/w"],
                (2, 8): ["inputs/targets"],
                (2, 8, 32): ["activations/logits", "cotangents/logits"],
                (): ["outputs/loss", "cotangents/loss"],
            },
        ),
    ],
)
def test_the_tensors_of_a_case(name: str, expected: dict[tuple[int, ...], list[str]], kit: Path) -> None:
    tensors = tensors_of(kit, name)
    found = {key: x.shape for key, x in tensors.items() if not key.startswith("envelopes/")}
    assert found == {key: shape for shape, keys in expected.items() for key in keys}
    assert within(tensors, "envelopes/").keys() == results(tensors).keys()


@pytest.mark.parametrize("name", NAMES)
def test_keys_and_dtypes_are_as_the_readme_says(name: str, kit: Path) -> None:
    tensors, layer = tensors_of(kit, name), name.partition(".")[0]
    output = "loss" if layer == "gpt" or layer.endswith("cross_entropy") else "y"
    inputs = within(tensors, "inputs/")
    for key, x in tensors.items():
        integers = (
            key.removeprefix("inputs/") in ("tokens", "targets") or key.removeprefix("settings/") in WHOLE_NUMBERS
        )
        assert x.dtype == (np.int64 if integers else np.float64), key
        assert np.isfinite(x).all(), key
    floating = {key for key, x in inputs.items() if x.dtype == np.float64}
    assert inputs.keys() - floating == {
        *({"tokens"} if layer in ("embedding", "gpt") else set()),
        *({"targets"} if output == "loss" else set()),
    }
    assert list(within(tensors, "outputs/")) == [output]
    assert within(tensors, "gradients/").keys() == floating
    for key in floating:
        assert inputs[key].shape == tensors[f"gradients/{key}"].shape
    cotangents, activations = within(tensors, "cotangents/"), within(tensors, "activations/")
    assert cotangents.pop(output).shape == tensors[f"outputs/{output}"].shape
    assert {key: x.shape for key, x in activations.items()}.items() <= {
        key: x.shape for key, x in cotangents.items()
    }.items()
    without_values = cotangents.keys() - activations.keys()  # masked scores are scores and minus infinity
    assert {key.rpartition(".")[2] for key in without_values} <= {"masked_scores"}
    assert settings(tensors).keys() == SETTINGS.get(layer, set()) | MORE_SETTINGS.get(name, set())
    assert {x.shape for x in settings(tensors).values()} <= {()}
    kinds = {"inputs", "settings", "outputs", "cotangents", "gradients", "activations", "envelopes"}
    assert {key.partition("/")[0] for key in tensors} <= kinds


@pytest.mark.parametrize("name", NAMES)
def test_each_result_has_an_envelope_and_what_is_given_has_none(name: str, kit: Path) -> None:
    tensors, entries = tensors_of(kit, name), manifest_of(kit, name)["tensors"]
    envelopes = within(tensors, "envelopes/")
    assert envelopes.keys() == results(tensors).keys()
    for key, x in results(tensors).items():
        assert envelopes[key].shape == (3,)
        assert (envelopes[key] >= np.array([*FEW_BITS.values()]) * (1 if x.any() else 8)).all(), key
    for entry in entries:
        expected = None
        if not is_given(entry["key"]):
            expected = {"float64": BAR, **dict(zip(FEW_BITS, envelopes[entry["key"]], strict=True))}
        assert entry["envelope"] == expected


@pytest.mark.parametrize("name", [name for name in NAMES if name.partition(".")[0] in WHOLLY])
def test_envelopes_are_measured_over_32_draws_of_which_the_case_is_the_first(name: str, kit: Path) -> None:
    tensors, (layer, _, variant) = tensors_of(kit, name), name.partition(".")
    measured = envelope((draw_case(layer, variant, 0, draw) for draw in range(32)), layer)
    for key, allowed in within(tensors, "envelopes/").items():
        assert allowed.tolist() == [measured[key][dtype] for dtype in FEW_BITS]
    case, dy = draw_case(layer, variant, 0, 0)
    np.testing.assert_array_equal(tensors["cotangents/y"], dy)
    for key, x in case.inputs.items():
        np.testing.assert_array_equal(tensors[f"inputs/{key}"], x)


@pytest.mark.parametrize("name", NAMES)
def test_the_manifest_is_in_the_file_and_beside_it(name: str, kit: Path) -> None:
    tensors, manifest = tensors_of(kit, name), manifest_of(kit, name)
    with safetensors.safe_open(kit / f"{name}.safetensors", framework="numpy") as file:
        assert json.loads(file.metadata()["handgrad"]) == manifest
    layer, _, variant = name.partition(".")
    assert (manifest["kind"], manifest["layer"], manifest["variant"], manifest["seed"]) == ("kit", layer, variant, 0)
    assert manifest["made_by"] == f"handgrad {handgrad.__version__}"
    assert manifest["settings"] == {key: x.item() for key, x in settings(tensors).items()}
    assert ("config" in manifest) == (layer in ("block", "gpt"))
    entries = {entry["key"]: entry for entry in manifest["tensors"]}
    assert entries.keys() == {key for key in tensors if not key.startswith(("settings/", "envelopes/"))}
    sizes: dict[str, int] = {}
    for order, (key, entry) in enumerate(entries.items()):
        assert entry["order"] == order
        assert entry["shape"] == list(tensors[key].shape)
        assert entry["dtype"] == tensors[key].dtype.name
        assert len(entry["axes"]) == tensors[key].ndim
        for axis, length in zip(entry["axes"], entry["shape"], strict=True):
            assert sizes.setdefault(axis, length) == length
        assert bool(entry["made_by"]) == (not is_given(key)), key
        backwards = key.startswith(("cotangents/", "gradients/"))
        assert bool(entry["backward" if backwards else "forward"]) == (not is_given(key)), key
    kinds = [key.partition("/")[0] for key in entries]
    forwards = [kind for kind in kinds if kind not in ("cotangents", "gradients")]
    assert kinds[: len(forwards)] == forwards
    assert forwards == sorted(forwards, key=["inputs", "activations", "outputs"].index)


# its numbers


@pytest.mark.parametrize("name", NAMES)
def test_what_is_given_loses_nothing_in_bfloat16(name: str, kit: Path) -> None:
    """bfloat16 is the upper half of float32."""
    given = {key: x for key, x in tensors_of(kit, name).items() if is_given(key) and x.dtype == np.float64}
    assert any(key.startswith("cotangents/") for key in given)
    for key, x in given.items():
        single = x.astype(np.float32)
        np.testing.assert_array_equal(single.astype(np.float64), x, key)
        assert not (single.view(np.uint32) & 0xFFFF).any(), key


def rms_norm(x: Array, gamma: Array, epsilon: float = 1e-5) -> Any:
    return gamma * x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + epsilon)


def norm(x: Array, gamma: Array, beta: Array | None = None, epsilon: float = 1e-5, centred: int = 0) -> Any:
    if beta is None and centred == 0:
        return rms_norm(x, gamma, epsilon)
    return reference.layer_norm(x, gamma, 0 if beta is None else beta)


def rotary(
    x: Array,
    base: float,
    factor: float,
    low_factor: float,
    high_factor: float,
    first_context: int,
    start: int = 0,
) -> Array:
    y, (T, D) = np.empty_like(x), x.shape[-2:]
    for t, i in np.ndindex(T, D // 2):
        turn = base ** (-2 * i / D)
        share = (first_context * turn / (2 * np.pi) - low_factor) / (high_factor - low_factor)
        share = min(1, max(0, share))
        angle = (start + t) * (share * turn + (1 - share) * turn / factor)
        turned = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        y[..., t, [i, i + D // 2]] = x[..., t, [i, i + D // 2]] @ turned
    return y


def causal_attention(q: Array, k: Array, v: Array, scale: float, window: int | None = None) -> Any:
    (H, T), (G, S) = q.shape[1:3], k.shape[1:3]
    y = np.zeros_like(q)
    for h, t in np.ndindex(H, T):
        last = S - T + t + 1
        seen, group = slice(max(0, last - (window or S)), last), h // (H // G)
        weights = reference.softmax(np.einsum("bd,bsd->bs", q[:, h, t], k[:, group, seen]) * scale)
        y[:, h, t] = np.einsum("bs,bsd->bd", weights, v[:, group, seen])
    return y


def multi_head_attention(
    x: Array,
    *,
    heads: int,
    key_value_heads: int = 0,
    window: int | None = None,
    epsilon: float = 1e-5,
    start: int = 0,
    **given: Any,
) -> Any:
    D = given["w_q"].shape[1] // heads
    turns = {name: given[name] for name in TURNS if name in given}
    parts = {}
    for name in "qkv":
        projected = x @ given[f"w_{name}"] + given.get(f"b_{name}", 0)
        part = np.stack(np.split(projected, projected.shape[-1] // D, axis=-1), axis=1)
        if f"gamma_{name}" in given:
            part = rms_norm(part, given[f"gamma_{name}"], epsilon)
        parts[name] = rotary(part, **turns, start=start) if turns and name != "v" else part
    assert not key_value_heads or parts["k"].shape[1] == key_value_heads
    context = causal_attention(parts["q"], parts["k"], parts["v"], D**-0.5, window)
    return np.concatenate(list(context.swapaxes(0, 1)), axis=-1) @ given["w_o"] + given.get("b_o", 0)


def gelu(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def mlp(x: Any, w_up: Any, w_down: Any, b_up: Any = 0, b_down: Any = 0) -> Any:
    return gelu(x @ w_up + b_up) @ w_down + b_down


def block(x: Any, epsilon: float = 1e-5, centred: int = 0, **given: Any) -> Any:
    settings: dict[str, Any] = {name: setting for name, setting in given.items() if np.ndim(setting) == 0}
    feed_forward = within(given, "feed_forward.")
    normed = norm(x, **within(given, "norm_1."), epsilon=epsilon, centred=centred)
    x = x + multi_head_attention(normed, epsilon=epsilon, **settings | within(given, "attention."))
    normed = norm(x, **within(given, "norm_2."), epsilon=epsilon, centred=centred)
    return x + (reference.swiglu if "w_gate" in feed_forward else mlp)(normed, **feed_forward)


def gpt(
    tokens: Array,
    targets: Array,
    epsilon: float = 1e-5,
    centred: int = 0,
    window: int = 0,
    full_blocks: int = 0,
    **given: Any,
) -> Any:
    settings = {name: setting for name, setting in given.items() if np.ndim(setting) == 0}
    x = given["embedding.token"][tokens]
    if "embedding.position" in given:
        x = x + given["embedding.position"][: tokens.shape[1]]
    for n in range(2):
        seen = {"window": window} if window and n >= full_blocks else {}
        x = block(x, epsilon, centred, **within(given, f"blocks.{n}."), **settings, **seen)
    x = norm(x, **within(given, "norm."), epsilon=epsilon, centred=centred)
    return cross_entropy(x @ given.get("head.w_lm", given["embedding.token"].T), targets)


def cross_entropy(logits: Any, targets: Array) -> Any:
    """Not the reference's, whose softmax is 0 at an improbable target and nan at huge logits."""
    surprises = [
        np.logaddexp.reduce(logits[place]) - logits[(*place, target)]
        for place, target in np.ndenumerate(targets)
        if target != IGNORE_INDEX
    ]
    return np.asarray(sum(surprises) / max(1, len(surprises)))


PLAINLY: dict[str, Callable[..., Any]] = {
    "linear": reference.linear,
    "bias": lambda x, b: np.array([[row + b for row in rows] for rows in x]),
    "embedding": lambda tokens, table: np.array([[table[token] for token in row] for row in tokens]),
    "positions": lambda x, table, start: x + table[start:][: x.shape[1]],
    "layer_norm": reference.layer_norm,
    "rms_norm": rms_norm,
    "rotary": rotary,
    "softmax": lambda z: reference.softmax(z - z.max(axis=-1, keepdims=True)),
    "causal_attention": causal_attention,
    "multi_head_attention": multi_head_attention,
    "gelu": gelu,
    "mlp": mlp,
    "silu": reference.silu,
    "swiglu": reference.swiglu,
    "cross_entropy": cross_entropy,
    "linear_cross_entropy": lambda x, w, targets: cross_entropy(x @ w, targets),
    "block": block,
    "gpt": gpt,
}


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_those_of_forwards_that_were_written_anew(name: str, kit: Path) -> None:
    tensors = tensors_of(kit, name)
    given = {key: x.item() for key, x in settings(tensors).items()}
    expected = np.asarray(PLAINLY[name.partition(".")[0]](**within(tensors, "inputs/"), **given))
    (y,) = within(tensors, "outputs/").values()
    assert y.shape == expected.shape
    assert np.abs(y - expected).max() <= BAR * np.abs(expected).max()


def assert_slope(name: str, gradient: Array, x: Array, scalar: Callable[[Array], Array]) -> None:
    """Along a random direction the scalar moves as the gradient says; one that is wrong anywhere says otherwise."""
    direction = np.asarray(np.random.default_rng(len(name)).standard_normal(x.shape))
    error = complex_step_along(scalar, x, direction) - (gradient * direction).sum()
    assert abs(error) <= BAR * np.abs(gradient * direction).sum(), name


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_the_slopes_of_the_forward(name: str, kit: Path) -> None:
    tensors = tensors_of(kit, name)
    case = case_of(name, tensors)
    dy = tensors[f"cotangents/{case.output}"]
    in_complex = {key: x.astype(complex) for key, x in case.inputs.items()}
    for key, x in case.inputs.items():

        def scalar(moved: Array, key: str = key) -> Array:
            return np.asarray((case.run(in_complex | {key: moved})[0] * dy).sum())

        if key in case.vanishing:
            assert not tensors[f"gradients/{key}"].any()
            assert abs(complex_step_along(scalar, x, np.ones_like(x))) <= BAR
        else:
            assert_slope(key, tensors[f"gradients/{key}"], x, scalar)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith(("linear.", "embedding."))])
def test_cotangents_are_the_slopes_by_the_activations(name: str, kit: Path) -> None:
    """Move an activation by a tap, and the output must move as its cotangent says."""
    tensors = tensors_of(kit, name)
    case, layer = case_of(name, tensors), name.partition(".")[0]
    dy = tensors[f"cotangents/{case.output}"]
    activations = within(record(case, layer, dy), "activations/")
    in_complex = {key: x.astype(complex) for key, x in case.inputs.items()}
    cotangents = within(tensors, "cotangents/")
    del cotangents[case.output]
    assert cotangents.keys() == activations.keys()
    for key, cotangent in cotangents.items():

        def scalar(moved: Array, key: str = key) -> Array:
            y, _ = case.run(in_complex, lambda at, other: moved.copy() if at == key else other)
            return np.asarray((y * dy).sum())

        if f"activations/{key}" in tensors:
            np.testing.assert_array_equal(tensors[f"activations/{key}"], activations[key])
        value = np.maximum(activations[key], -1e6)  # a step from minus infinity leads nowhere
        assert_slope(key, cotangent, value, scalar)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_zero_that_should_say_something(name: str, kit: Path) -> None:
    layer, _, variant = name.partition(".")
    blind = {
        "one_position": r".*(scores|attention\.[qk]|gradients/[qk]|cotangents/[qk]|w_[qk])",  # one key: its weight is 1
        "ignored_all": r".*",
    }.get(variant, r"gradients/gamma" if name == "layer_norm.equal_rows" else r"(?!)")
    tensors = results(tensors_of(kit, name))
    zero = {key for key, x in tensors.items() if not x.any()}
    vanishing = zeros_of(draw_case(layer, variant, 0)[0]).keys()
    assert zero == {key for key in tensors if re.fullmatch(blind, key) and "activations" not in key} | vanishing
    assert not zero or layer != "linear"


def test_the_bias_of_the_keys_has_no_gradient_where_nothing_is_between_it_and_the_scores() -> None:
    zero = {(layer, variant): draw_case(layer, variant, 0)[0].vanishing for layer in KIT for variant in KIT[layer]}
    assert {name: set(biases) for name, biases in zero.items() if biases} == {
        ("multi_head_attention", "biased"): {"b_k"},
        ("block", "gpt2"): {"attention.b_k"},
        ("gpt", "gpt2"): {f"blocks.{n}.attention.b_k" for n in range(2)},
    }


# what is nasty


def axis_lengths(kit: Path, name: str) -> dict[str, int]:
    entries = manifest_of(kit, name)["tensors"]
    return {axis: length for entry in entries for axis, length in zip(entry["axes"], entry["shape"], strict=True)}


def variants(kind: str) -> Iterator[str]:
    yield from (name for name in NAMES if name.partition(".")[2] == kind)


def test_every_layer_has_ordinary_and_odd_sizes_and_one_position(kit: Path) -> None:
    for layer in KIT:
        assert {"plain", "odd_widths", "one_position"} <= KIT[layer].keys()
    for name in variants("one_position"):
        assert axis_lengths(kit, name)["T"] == 1
        assert axis_lengths(kit, name).get("S", 1) == 1
    for name in variants("odd_widths"):
        widths = {axis: x for axis, x in axis_lengths(kit, name).items() if axis not in ("B", "T", "S", "H", "context")}
        assert widths
        assert all(width > 1 and width % 8 for width in widths.values())


def test_where_there_are_heads_there_is_a_single_one_and_a_long_text(kit: Path) -> None:
    with_heads = {layer for layer in KIT if "H" in axis_lengths(kit, f"{layer}.plain")}
    assert with_heads == {"rotary", "causal_attention", "multi_head_attention", "block", "gpt"}
    for kind, axis, length in (("one_head", "H", 1), ("long", "T", 129), ("long", "S", 129)):
        assert {name.partition(".")[0] for name in variants(kind)} == with_heads
        for name in variants(kind):
            assert axis_lengths(kit, name).get(axis, 129 if name.startswith("rotary.") else None) == length
    assert all(axis_lengths(kit, f"{layer}.plain")["H"] > 1 for layer in with_heads)


@pytest.mark.parametrize(
    ("name", "key", "low", "high"),
    [
        ("softmax.huge", "inputs/z", 710, np.inf),  # exp(710) is more than float64 has
        ("cross_entropy.huge", "inputs/logits", 710, np.inf),
        ("silu.huge", "inputs/x", 89, np.inf),  # and exp(89) than float32
        ("softmax.tiny", "inputs/z", 1e-5, 1e-3),
        ("cross_entropy.tiny", "inputs/logits", 1e-5, 1e-3),
        ("silu.tiny", "inputs/x", 1e-5, 1e-3),
        ("gelu.huge", "inputs/x", 89, np.inf),
        ("gelu.tiny", "inputs/x", 1e-5, 1e-3),
        ("rms_norm.huge", "inputs/x", 256, 65504),  # whose squares float16 has not
        ("rms_norm.tiny", "inputs/x", 1e-5, 1e-3),  # where epsilon is most of the mean square
        ("causal_attention.large_scores", "activations/scores", 20, np.inf),
        ("causal_attention.tiny_scores", "activations/scores", 1e-5, 1e-3),
    ],
)
def test_numbers_are_huge_or_tiny_where_that_is_their_point(
    name: str, key: str, low: float, high: float, kit: Path
) -> None:
    x = tensors_of(kit, name)[key]
    assert low < x.max() < high
    assert low < -x.min() < high


@pytest.mark.parametrize(
    ("name", "key"), [("softmax", "inputs/z"), ("cross_entropy", "inputs/logits"), ("layer_norm", "inputs/x")]
)
def test_rows_are_of_one_number_but_not_of_the_same(name: str, key: str, kit: Path) -> None:
    x = tensors_of(kit, f"{name}.equal_rows")[key]
    assert not np.ptp(x, axis=-1).any()
    assert len(np.unique(x[..., 0])) > 4
    assert np.ptp(tensors_of(kit, f"{name}.plain")[key], axis=-1).all()


@pytest.mark.parametrize("layer", ["layer_norm", "rms_norm"])
def test_a_mean_may_be_far_from_zero(layer: str, kit: Path) -> None:
    x = tensors_of(kit, f"{layer}.offset")["inputs/x"]
    assert (x.mean(axis=-1) > 8 * x.std(axis=-1)).all()


def test_gelu_may_be_where_the_slope_is_negative(kit: Path) -> None:
    assert (tensors_of(kit, "gelu.left")["inputs/x"] < -0.8).all()


@pytest.mark.parametrize("name", [name for name in NAMES if "cross_entropy" in name or name.startswith("gpt")])
def test_targets_are_ignored_in_the_places_that_the_name_says(name: str, kit: Path) -> None:
    targets = tensors_of(kit, name)["inputs/targets"]
    B, T = targets.shape
    expected = {
        "ignored_first": {(b, 0) for b in range(B)},
        "ignored_middle": {(b, T // 2) for b in range(B)},
        "ignored_last": {(b, T - 1) for b in range(B)},
        "ignored_everywhere": {(t, t) for t in range(T)},
        "ignored_all": {*np.ndindex(B, T)},
    }.get(name.partition(".")[2], set())
    assert {place for place in np.ndindex(B, T) if targets[place] == IGNORE_INDEX} == expected
    assert B == T or "everywhere" not in name
    counted = targets[targets != IGNORE_INDEX]
    assert not counted.size or 0 <= counted.min() <= counted.max() < axis_lengths(kit, name)["V"]


def test_each_kind_of_ignored_targets_is_there() -> None:
    kinds = {f"ignored_{place}" for place in ("first", "middle", "last", "everywhere", "all")}
    assert kinds <= KIT["cross_entropy"].keys()
    assert {"ignored_everywhere", "ignored_all"} <= KIT["linear_cross_entropy"].keys()
    assert "ignored_everywhere" in KIT["gpt"]


@pytest.mark.parametrize("layer", ["embedding", "gpt"])
def test_a_token_may_stand_everywhere(layer: str, kit: Path) -> None:
    assert len(np.unique(tensors_of(kit, f"{layer}.repeated_token")["inputs/tokens"])) == 1
    assert len(np.unique(tensors_of(kit, f"{layer}.plain")["inputs/tokens"])) > 4


def test_positions_may_begin_late_and_keys_earlier_than_the_queries(kit: Path) -> None:
    later = tensors_of(kit, "positions.later_start")
    assert settings(later)["start"] == 5
    assert len(later["inputs/table"]) > 5 + later["inputs/x"].shape[1]
    earlier = axis_lengths(kit, "causal_attention.earlier_keys")
    assert earlier["S"] == earlier["T"] + 5
    assert settings(tensors_of(kit, "rotary.later_start"))["start"] == 1000


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("causal_attention.grouped", 2),
        ("causal_attention.one_group", 1),
        ("causal_attention.grouped_window", 2),
        ("multi_head_attention.grouped", 2),
        ("multi_head_attention.everything", 2),
    ],
)
def test_heads_may_share_keys(name: str, groups: int, kit: Path) -> None:
    lengths = axis_lengths(kit, name)
    assert (lengths["H"], lengths["G"]) == (4, groups)


@pytest.mark.parametrize(("name", "window"), [("window", 3), ("long_window", 32), ("grouped_window", 6)])
def test_a_window_hides_the_keys_before_it(name: str, window: int, kit: Path) -> None:
    weights = tensors_of(kit, f"causal_attention.{name}")["activations/weights"]
    T, S = weights.shape[-2:]
    seen = np.tril(np.ones((T, S)), S - T) - np.tril(np.ones((T, S)), S - T - window)
    np.testing.assert_array_equal(weights != 0, np.broadcast_to(seen != 0, weights.shape))


def test_each_family_is_there_as_a_block_and_as_a_model() -> None:
    families = {family for family in FAMILIES if family != "default"}
    assert len(families) >= 5
    assert families <= KIT["block"].keys() & KIT["gpt"].keys()


# the seed


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_and_another_draw_have_other_numbers_in_the_same_shapes(name: str) -> None:
    layer, _, variant = name.partition(".")
    (case, dy), again, *others = (draw_case(layer, variant, *at) for at in ((3,), (3, 0), (4,), (3, 1)))
    assert again[1].tolist() == dy.tolist()
    for key, x in case.inputs.items():
        np.testing.assert_array_equal(again[0].inputs[key], x)
    for other, other_dy in others:
        assert other_dy.shape == dy.shape
        assert not np.array_equal(other_dy, dy)
        assert other.inputs.keys() == case.inputs.keys()
        for key, x in case.inputs.items():
            assert other.inputs[key].shape == x.shape
            assert not np.array_equal(other.inputs[key], x)


def test_the_seed_decides_every_byte(cli: Cli, kit: Path) -> None:
    for folder, seed in (("zero", "0"), ("one", "1"), ("again", "1")):
        assert cli("kit", folder, "--layers", "swiglu", "--seed", seed).status == 0
    for file in listing("zero"):
        zero, one, again, here = (Path(folder, file).read_bytes() for folder in ("zero", "one", "again", kit))
        assert zero == here
        assert one == again
        assert (zero == one) == (file in PROGRAMS)
    case, dy = draw_case("swiglu", "plain", seed=1)
    tensors = tensors_of(Path("one"), "swiglu.plain")
    for key, x in {**{f"inputs/{name}": x for name, x in case.inputs.items()}, "cotangents/y": dy}.items():
        np.testing.assert_array_equal(tensors[key], x)
    assert manifest_of(Path("one"), "swiglu.plain")["seed"] == 1


# what cannot be written


def failure(cli: Cli, *arguments: str) -> str:
    """The one line on standard error that says why there is no kit."""
    result = cli("kit", *arguments)
    assert result.status in (1, 2)
    assert result.output == ""
    assert re.fullmatch(r"handgrad: .+\n", result.errors)
    return result.errors.removeprefix("handgrad: ").rstrip("\n")


@pytest.mark.parametrize("layers", ["linear,nothing", "nothing", "linear,nothing,swiglu", "Linear", ""])
def test_an_unknown_layer_is_named_and_nothing_is_written(layers: str, cli: Cli) -> None:
    unknown = next(name for name in layers.split(",") if name not in KIT)
    told = "did you mean linear?" if unknown == "Linear" else f"there are {', '.join(KIT)}"
    assert cli("kit", "it", "--layers", layers).status == 2
    assert failure(cli, "it", "--layers", layers) == f"layers: no layer {unknown!r}; {told}"
    assert not listing(".")


def test_an_unknown_layer_is_refused_before_the_first_case_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(HandgradError, match=r"^layers: no layer 'nothing'; there are linear, .*$"):
        write_kit(str(tmp_path / "it"), ["linear", "nothing"])
    assert not listing(tmp_path)


def test_a_kit_that_is_there_is_replaced_and_what_else_lies_there_is_left(cli: Cli, kit: Path) -> None:
    Path("it").mkdir()
    for file in ("linear.plain.json", "kit.c", "mine.txt"):
        Path("it", file).write_text("mine", encoding="utf-8")
    assert cli("kit", "it", "--layers", "linear").status == 0
    assert Path("it/mine.txt").read_text(encoding="utf-8") == "mine"
    for file in ("linear.plain.json", "kit.c"):
        assert Path("it", file).read_bytes() == (kit / file).read_bytes()


def test_a_folder_of_other_files_is_refused(cli: Cli) -> None:
    Path("mine").mkdir()
    Path("mine/README.md").write_text("mine", encoding="utf-8")
    result = cli("kit", "mine", "--layers", "silu")
    assert (result.status, result.errors) == (2, "handgrad: mine: is there already, and no kit; choose another name\n")
    assert [path.read_text(encoding="utf-8") for path in Path("mine").iterdir()] == ["mine"]


def test_a_file_in_the_place_of_the_folder_is_named(cli: Cli) -> None:
    Path("it").write_text("mine", encoding="utf-8")
    assert failure(cli, "it", "--layers", "linear").startswith("it: ")
    assert failure(cli, "it/deeper", "--layers", "linear").startswith("it/deeper: ")
    assert Path("it").read_text(encoding="utf-8") == "mine"
