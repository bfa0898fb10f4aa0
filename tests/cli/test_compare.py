"""handgrad compare: what it reads, what it prints, and how it refuses what cannot be compared."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors
from safetensors.numpy import save, save_file

from handgrad.layers import Array
from handgrad.model import Model, ModelConfig, Tokenizer, initial_parameters
from handgrad.proof import MUTATIONS, trace
from handgrad.proof.compare import read_reference

from .conftest import Cli, Result

CONFIG = ModelConfig(layers=2, heads=2, width=4, hidden=5, context=6, vocabulary=4)
BY_NAME = {mutation.name: mutation for mutation in MUTATIONS}
Q = "cotangents/blocks.0.attention.q"


@pytest.fixture
def tensors(cli: Cli) -> dict[str, Array]:
    """A trace, trace.safetensors in the current folder, and its tensors."""
    parameters = initial_parameters(CONFIG, dtype=np.float64)
    parameters.flat += 0.3 * np.random.default_rng(0).standard_normal(parameters.flat.size)
    traced = trace(Model(CONFIG, parameters, Tokenizer.of_characters("abcd")), ["abcdab", "dcb"])
    traced.save("trace.safetensors")
    return traced.tensors()


def write(tensors: dict[str, Array], name: str = "mine.safetensors") -> str:
    save_file({key: np.array(x, order="C") for key, x in tensors.items()}, name)
    return name


def pack(tensors: dict[str, Any]) -> None:
    np.savez_compressed("mine.npz", **tensors)


def compared(cli: Cli, *options: str) -> Result:
    return cli("compare", "trace.safetensors", "mine.safetensors", *options)


def floating(tensors: dict[str, Array], dtype: type) -> dict[str, Array]:
    return {key: x.astype(dtype) for key, x in tensors.items() if "/" in key and "parameters" not in key}


@pytest.mark.parametrize(
    ("dtype", "name"),
    [(np.float64, "float64"), (np.float32, "float32"), (np.float16, "float16"), (ml_dtypes.bfloat16, "bfloat16")],
)
def test_the_envelope_is_that_of_the_file_s_dtype(cli: Cli, tensors: dict[str, Array], dtype: type, name: str) -> None:
    write(floating(tensors, dtype))
    result = compared(cli)
    assert (result.status, result.errors) == (0, "")
    count = len(floating(tensors, dtype))
    assert result.output.endswith(f"\n{count} of {count} tensors against {name}'s envelope: all within it\n")
    keys = re.findall(r"^(\w+/\S+) +\d\.\de[-+]\d\d +\d\.\de-\d\d +ok *$", result.output, re.MULTILINE)
    assert keys == list(read_reference(Path("trace.safetensors")).tensors)


def test_a_whole_trace_and_an_npz_are_read_too(cli: Cli, tensors: dict[str, Array]) -> None:
    write(tensors)
    assert compared(cli).status == 0
    pack({"gradients/head.w_lm": tensors["gradients/head.w_lm"]})
    result = cli("compare", "trace.safetensors", "mine.npz")
    assert result.status == 0
    assert "\n1 of 103 tensors against float64's envelope" in result.output


def test_a_mistake_is_named_with_its_sentence(cli: Cli, tensors: dict[str, Array]) -> None:
    mutation = BY_NAME["dw_q_of_the_raw_input"]
    write(read_reference(Path("trace.safetensors")).run(mutation=mutation))
    result = compared(cli)
    assert (result.status, result.errors) == (1, "")
    assert "first: gradients/blocks.1.attention.w_q, off by " in result.output
    assert f"{mutation.name} (block)" in result.output
    assert " ".join(mutation.why.split()) in " ".join(result.output.split())
    assert result.output.count("WRONG") == 2


def test_where_no_mistake_fits_a_relation_is_told_or_nothing(cli: Cli, tensors: dict[str, Array]) -> None:
    write({Q: 1.7 * tensors[Q]})
    assert "but it is the right one times 1.7.\n" in compared(cli).output
    write({Q: np.random.default_rng(0).standard_normal(tensors[Q].shape)})
    assert compared(cli).output.endswith("No cause was found.\n")


def test_another_shape_is_told_as_that(cli: Cli, tensors: dict[str, Array]) -> None:
    key = "gradients/blocks.0.feed_forward.w_up"
    rows, columns = tensors[key].shape
    assert rows != columns
    write({key: tensors[key].T})
    result = compared(cli)
    assert result.status == 1
    assert f"first: {key}, of shape {columns}×{rows} where {rows}×{columns} is right\n" in result.output
    assert "inf" not in result.output


def test_a_map_says_what_is_named_otherwise(cli: Cli, tensors: dict[str, Array]) -> None:
    """Stars are numbers, weights may be transposed, and names of the reference's still count."""
    Path("names.toml").write_text(
        '"gradients/blocks.*.feed_forward.w_up" = { name = "h.*.up.grad", transposed = true }\n'
        '"activations/loss" = "my loss"\n',
        encoding="utf-8",
    )
    mine = {f"h.{n}.up.grad": tensors[f"gradients/blocks.{n}.feed_forward.w_up"].T for n in range(2)}
    mine |= {"my loss": tensors["activations/loss"], "another": np.zeros(3), Q: tensors[Q]}
    write(mine)
    result = compared(cli, "--map", "names.toml")
    assert result.status == 0
    assert "\n4 of 103 tensors" in result.output
    write(mine | {Q: 2 * tensors[Q]})
    assert compared(cli, "--map", "names.toml").status == 1
    write(mine | {"h.1.up.grad": 3 * mine["h.1.up.grad"]})
    assert "first: gradients/blocks.1.feed_forward.w_up" in compared(cli, "--map", "names.toml").output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"gradients/nope" = "x"', "names.toml: gradients/nope: the reference has no such tensor"),
        (
            '"gradients/blocks.*.attention.w_z" = "x"',
            "blocks.*.attention.w_z: the reference has no such tensor",
        ),
        ('"activations/loss" = "x"', "mine.safetensors: activations/loss: x is not in the file"),
        ('"activations/loss" = 3', "names.toml: activations/loss: 3 is neither a name nor { name = "),
        ('"activations/loss" = { name = "x", transposed = 1 }', "is neither a name nor"),
        ("= 3", "names.toml: not TOML: "),
    ],
)
def test_a_map_that_is_wrong(cli: Cli, tensors: dict[str, Array], text: str, message: str) -> None:
    write(tensors)
    Path("names.toml").write_text(text, encoding="utf-8")
    result = compared(cli, "--map", "names.toml")
    assert (result.status, result.output) == (2, "")
    assert message in result.errors
    assert result.errors.count("\n") == 1


def at(key: str, value: Array) -> Callable[[dict[str, Array]], dict[str, Array]]:
    return lambda tensors: {**tensors, key: value}


LOSS = "activations/loss"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (at("gradients/head.w_ml", np.zeros(2)), "gradients/head.w_ml: the reference has no such tensor; did you mean"),
        (at(LOSS, np.zeros((2, 3))), "activations/loss: shape (2, 3), not ()"),
        (at(LOSS, np.ones((), np.int64)), "activations/loss: dtype int64; expected one of float64, "),
        (at(LOSS, np.ones((), bool)), "activations/loss: dtype bool; expected one of"),
        (at(LOSS, np.array(np.nan)), "activations/loss: nan at []: not finite"),
        (at("gradients/norm.beta", np.array([1, np.inf, 0, 0])), "gradients/norm.beta: inf at [1]: not finite"),
        (at("tokens", np.zeros((2, 5), np.int64)), "tokens: is not the reference's"),
        (at("parameters/norm.beta", np.zeros(4)), "parameters/norm.beta: is not the reference's"),
        (lambda _: {"tokens": np.zeros((2, 5), np.int64)}, "tokens: is not the reference's"),
        (lambda tensors: {"tokens": tensors["tokens"]}, "has no tensor of the reference's, such as activations/"),
    ],
)
def test_what_cannot_be_compared_is_named(
    cli: Cli, tensors: dict[str, Array], change: Callable[[dict[str, Array]], dict[str, Array]], message: str
) -> None:
    write(change(tensors))
    result = compared(cli)
    assert (result.status, result.output) == (2, "")
    assert f"mine.safetensors: {message}" in result.errors
    assert result.errors.count("\n") == 1


def test_ten_problems_are_told_and_the_others_counted(cli: Cli, tensors: dict[str, Array]) -> None:
    write({f"x{n}": np.zeros(1) for n in range(13)})
    lines = compared(cli).errors.splitlines()
    assert len(lines) == 11
    assert lines[-1] == "mine.safetensors: and 3 more"


def test_a_problem_stays_one_line_whatever_a_tensor_is_called(cli: Cli, tensors: dict[str, Array]) -> None:
    write({"a\nb\x1b[2J": np.zeros(1), "c": np.zeros(1)})
    assert sorted(compared(cli).errors.removeprefix("handgrad: ").splitlines()) == [
        "mine.safetensors: a\\nb\\x1b[2J: the reference has no such tensor",
        "mine.safetensors: c: the reference has no such tensor",
    ]


def test_masks_of_other_kinds_are_right(cli: Cli, tensors: dict[str, Array]) -> None:
    key = "activations/blocks.0.attention.masked_scores"
    for value, status in ((-1e9, 0), (-1e4, 0), (-5.0, 1), (0.0, 1)):
        write({key: np.where(np.isneginf(tensors[key]), value, tensors[key])})
        assert compared(cli).status == status, value


def test_files_that_are_damaged(cli: Cli, tensors: dict[str, Array]) -> None:
    write({Q: tensors[Q]})
    whole = Path("mine.safetensors").read_bytes()
    for length in range(0, len(whole), 37):
        Path("mine.safetensors").write_bytes(whole[:length])
        result = compared(cli)
        assert (result.status, result.output) == (2, ""), length
        assert result.errors.startswith("handgrad: mine.safetensors: not a whole safetensors file")
    pack({Q: tensors[Q]})
    packed = Path("mine.npz").read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(150):
        changed = bytearray(packed)
        for place in generator.integers(len(packed), size=3):
            changed[place] = generator.integers(256)
        Path("mine.npz").write_bytes(changed)
        assert cli("compare", "trace.safetensors", "mine.npz").status in (0, 1, 2)
    np.savez("pickled.npz", x=np.array([{}], dtype=object))
    Path("plain.npz").write_bytes(b"PK\x05\x06")
    for name in ("pickled.npz", "plain.npz", "nowhere.npz", "nowhere.safetensors"):
        result = cli("compare", "trace.safetensors", name)
        assert (result.status, result.output) == (2, "")
        assert result.errors.startswith(f"handgrad: {name}: ")
        assert result.errors.count("\n") == 1


def test_a_reference_must_be_what_handgrad_wrote(cli: Cli, tensors: dict[str, Array]) -> None:
    """Whatever is changed in its manifest, or in one of its tensors, is told in a line."""
    write(tensors)
    assert "no reference: neither" in cli("compare", "mine.safetensors", "mine.safetensors").errors
    with safetensors.safe_open("trace.safetensors", "numpy") as file:
        text = file.metadata()["handgrad"]
    contiguous = {key: np.array(x, order="C") for key, x in tensors.items()}
    changed = {**contiguous, Q: contiguous[Q] * (1 + 1e-6)}
    Path("edited.safetensors").write_bytes(save(changed, {"handgrad": text}))
    assert f"edited.safetensors: {Q} is not what handgrad makes of" in cli("compare", "edited.safetensors", "x").errors
    manifest = json.loads(text)
    generator = np.random.default_rng(1)
    for wrong in (
        "[]",
        "{",
        json.dumps(manifest | {"kind": "what"}),
        json.dumps(manifest | {"config": manifest["config"] | {"heads": 3}}),
        json.dumps(manifest | {"tensors": manifest["tensors"][:5]}),
        json.dumps(manifest | {"tensors": [{**entry, "axes": ["B"]} for entry in manifest["tensors"]]}),
        json.dumps(manifest | {"tensors": [*manifest["tensors"], {"key": "gradients/x", "name": "x"}]}),
        *(text[:cut] + "9" + text[cut + 1 :] for cut in generator.integers(len(text), size=30)),
    ):
        Path("edited.safetensors").write_bytes(save(contiguous, {"handgrad": wrong}))
        result = cli("compare", "edited.safetensors", "mine.safetensors")
        assert result.status in (0, 2), wrong[:200]
        assert result.status == 0 or result.errors.startswith("handgrad: edited.safetensors: ")
