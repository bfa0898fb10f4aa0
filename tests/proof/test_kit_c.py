"""kit.c, the conformance kit in C: right results pass, wrong ones are named, and no file makes it misbehave."""

import json
import os
import random
import re
import shutil
import struct
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import safetensors.numpy

import handgrad.proof
from handgrad.layers import (
    IGNORE_INDEX,
    Array,
    causal_attention_backward,
    causal_attention_forward,
    cross_entropy_backward,
    cross_entropy_forward,
    layer_norm_backward,
    layer_norm_forward,
)

CC = shutil.which("cc")
pytestmark = pytest.mark.skipif(CC is None, reason="no C compiler: there is no cc on the path")

KIT = Path(handgrad.proof.__file__).parent / "kit" / "kit.c"
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror"]
SANITIZERS = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
ENVIRONMENT = os.environ | {
    # a status that the program itself never has; and no file here is large, so that nothing needs a megabyte
    "ASAN_OPTIONS": "exitcode=99:max_allocation_size_mb=1",
    "UBSAN_OPTIONS": "exitcode=99",
    "LC_ALL": "C",
}
PRECISIONS = ["float64", "float32", "float16", "bfloat16"]
ENVELOPE = np.array([1e-6, 3e-3, 2e-2])  # of right results in float32, float16, bfloat16


class Outcome(NamedTuple):
    status: int
    lines: list[str]
    errors: str


class Packed(NamedTuple):
    """A tensor as a file has it, for dtypes that NumPy has not."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


def compiled(folder: Path, source: Path, *flags: str) -> Path:
    """The program that cc makes of it, with all warnings as errors."""
    program = folder / source.stem
    subprocess.run([str(CC), *flags, *WARNINGS, "-o", program, source, "-lm"], check=True)
    return program


@pytest.fixture(scope="session")
def sanitizers(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The flags that make a bad access or an overflow end the program, if the compiler and the machine know them."""
    source = tmp_path_factory.mktemp("sanitizers") / "empty.c"
    source.write_text("int main(void) { return 0; }\n", encoding="utf-8")
    program = source.with_suffix("")
    build = subprocess.run([str(CC), *SANITIZERS, "-o", program, source], capture_output=True)
    works = build.returncode == 0 and subprocess.run([program], capture_output=True).returncode == 0
    return SANITIZERS if works else []


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory, sanitizers: list[str]) -> Path:
    # without optimization, by which gcc loses some of the checks of the address sanitizer
    return compiled(tmp_path_factory.mktemp("kit"), KIT, "-std=c99", "-O0", *sanitizers)


def run(program: Path, *arguments: object) -> Outcome:
    """What the program says. In every case: a status of its own, and one line on stderr exactly where that is 2."""
    done = subprocess.run(
        [program, *map(str, arguments)],
        capture_output=True,
        env=ENVIRONMENT,
        encoding="utf-8",
        errors="replace",
        timeout=60,
    )
    assert done.returncode in (0, 1, 2), done
    assert done.stderr.count("\n") == (done.returncode == 2), done
    return Outcome(done.returncode, done.stdout.splitlines(), done.stderr.strip())


def layer_norm_case() -> dict[str, Array]:
    generator = np.random.default_rng(0)
    x, gamma, beta, dy = (in_bfloat16(generator.standard_normal(shape)) for shape in ((2, 3, 8), 8, 8, (2, 3, 8)))
    return with_envelopes(
        {
            "inputs/x": x,
            "inputs/gamma": gamma,
            "inputs/beta": beta,
            "cotangents/y": dy,
            **layer_norm_results(x, gamma, beta, dy),
        },
        given="cotangents/y",
    )


def layer_norm_results(x: Array, gamma: Array, beta: Array, dy: Array) -> dict[str, Array]:
    y, cache = layer_norm_forward(x, gamma, beta)
    dx, dgamma, dbeta = layer_norm_backward(dy, cache)
    assert dbeta is not None
    return {"outputs/y": y, "gradients/x": dx, "gradients/gamma": dgamma, "gradients/beta": dbeta}


def attention_case() -> dict[str, Array]:
    """With activations, cotangents that are results, and a setting."""
    generator = np.random.default_rng(1)
    q, k, v, dy = (in_bfloat16(generator.standard_normal((1, 2, 4, 3))) for _ in range(4))
    seen: dict[str, Array] = {}

    def keep(folder: str) -> Callable[[str, Array], Array]:
        def tap(name: str, x: Array) -> Array:
            if np.isfinite(x).all():  # which masked scores are not
                seen[f"{folder}/{name}"] = x.copy()
            return x

        return tap

    y, cache = causal_attention_forward(q, k, v, scale=0.5, tap=keep("activations"))
    gradients = causal_attention_backward(dy, cache, tap=keep("cotangents"))
    assert {"activations/weights", "cotangents/weights"} <= seen.keys()
    return with_envelopes(
        {
            "settings/scale": np.array(0.5),
            "inputs/q": q,
            "inputs/k": k,
            "inputs/v": v,
            "outputs/y": y,
            "cotangents/y": dy,
            **seen,
            **{f"gradients/{name}": gradient for name, gradient in zip("qkv", gradients, strict=True)},
        },
        given="cotangents/y",
    )


def loss_case() -> dict[str, Array]:
    """A loss without axes, integer inputs; where no target counts, all is zero."""
    logits = in_bfloat16(np.random.default_rng(2).standard_normal((1, 3, 4)))
    targets = np.full((1, 3), IGNORE_INDEX)
    loss, cache = cross_entropy_forward(logits, targets)
    return with_envelopes(
        {
            "inputs/logits": logits,
            "inputs/targets": targets,
            "outputs/loss": np.asarray(loss),
            "cotangents/loss": np.array(-1.5),
            "gradients/logits": cross_entropy_backward(np.array(-1.5), cache),
        },
        given="cotangents/loss",
    )


CASES = {"layer_norm": layer_norm_case, "causal_attention": attention_case, "cross_entropy": loss_case}


def is_result(name: str) -> bool:
    return name.startswith(("outputs/", "activations/", "cotangents/", "gradients/"))


def with_envelopes(tensors: Mapping[str, Array], given: str = "") -> dict[str, Array]:
    names = [name for name in tensors if is_result(name) and name != given]
    return {**tensors, **{f"envelopes/{name}": ENVELOPE for name in names}}


def results(case: Mapping[str, Array]) -> dict[str, Array]:
    """What a program that is right writes."""
    return {name: case[name] for name in case if f"envelopes/{name}" in case}


def bfloat16_bits(x: Array) -> Array:
    """Rounded to the nearest, ties to even."""
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> np.uint64(16) & np.uint64(1))) >> np.uint64(16)).astype(np.uint16)


def in_bfloat16(x: Array) -> Array:
    return (bfloat16_bits(x).astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def rounded(x: Array, precision: str) -> Packed:
    if precision == "bfloat16":
        return Packed("BF16", x.shape, bfloat16_bits(x).astype("<u2").tobytes())
    names = {"float64": "F64", "float32": "F32", "float16": "F16"}
    return Packed(names[precision], x.shape, x.astype(np.dtype(precision).newbyteorder("<")).tobytes())


def pack(tensors: Mapping[str, Packed], metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file, byte by byte."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata is not None else {}
    data = b""
    for name, tensor in tensors.items():
        offsets = [len(data), len(data) + len(tensor.data)]
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": offsets}
        data += tensor.data
    return framed(json.dumps(header), data)


def framed(header: str, data: bytes = b"") -> bytes:
    encoded = header.encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


def save(path: Path, tensors: Mapping[str, Array]) -> Path:
    safetensors.numpy.save_file({name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}, path)
    return path


def wrote(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def verdicts(outcome: Outcome) -> dict[str, str]:
    """The last word of each tensor's line."""
    return {line.split()[0]: line.split()[-1] for line in outcome.lines[:-1]}


# ---- as a program


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_right_results_pass(kit: Path, tmp_path: Path, name: str, precision: str) -> None:
    case = CASES[name]()
    mine = {name: rounded(tensor, precision) for name, tensor in results(case).items()}
    outcome = run(kit, save(tmp_path / "case", case), wrote(tmp_path / "mine", pack(mine)), precision)
    assert outcome.status == 0
    assert list(verdicts(outcome).items()) == [(name, "ok") for name in mine]
    assert outcome.lines[-1] == f"{len(mine)} of {len(mine)} tensors compared in {precision}, 0 wrong"


def test_results_that_were_computed_in_float32_pass(kit: Path, tmp_path: Path) -> None:
    case = layer_norm_case()
    given = [case[name].astype(np.float32) for name in ("inputs/x", "inputs/gamma", "inputs/beta", "cotangents/y")]
    mine = save(tmp_path / "mine", layer_norm_results(*given))
    outcome = run(kit, save(tmp_path / "case", case), mine)
    assert outcome.status == 0
    assert outcome.lines[-1] == "4 of 4 tensors compared in float32, 0 wrong"
    assert run(kit, tmp_path / "case", mine, "float64").status == 1


@pytest.mark.parametrize(("precision", "bar"), [*zip(PRECISIONS, [1e-12, *ENVELOPE], strict=True)])
@pytest.mark.parametrize("name", ["outputs/y", "activations/weights", "cotangents/weights", "gradients/k"])
def test_one_entry_beyond_the_envelope_is_wrong(
    kit: Path, tmp_path: Path, name: str, precision: str, bar: float
) -> None:
    case = attention_case()
    save(tmp_path / "case", case)
    for factor, verdict in ((0.99, "ok"), (1.01, "WRONG")):
        mine = results(case)
        mine[name] = mine[name].copy()
        mine[name].flat[-1] += factor * bar * np.abs(mine[name]).max()
        outcome = run(kit, tmp_path / "case", save(tmp_path / "mine", mine), precision)
        assert outcome.status == (verdict == "WRONG")
        assert verdicts(outcome) == dict.fromkeys(mine, "ok") | {name: verdict}
        (line,) = (line for line in outcome.lines if line.startswith(f"{name} "))
        found = re.search(r"error +(\S+)  envelope +(\S+)", line)
        assert found is not None
        assert [float(number) for number in found.groups()] == pytest.approx([factor * bar, bar], rel=0.06)
        assert outcome.lines[-1].endswith(f", {int(verdict == 'WRONG')} wrong")


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [
        *(("F16", bits) for bits in (0x7C00, 0xFC00, 0x7E00, 0x7C01)),
        *(("BF16", bits) for bits in (0x7F80, 0xFF80, 0x7FC0, 0x7F81)),
        *(("F32", bits) for bits in (0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001)),
        *(("F64", bits << 48) for bits in (0x7FF0, 0xFFF0, 0x7FF8, 0xFFF8)),
    ],
)
def test_what_is_not_finite_is_wrong(kit: Path, tmp_path: Path, dtype: str, bits: int) -> None:
    y = layer_norm_case()["outputs/y"].ravel()
    case = with_envelopes({"outputs/y": y}) | {"envelopes/outputs/y": np.full(3, 1e300)}
    mine = rounded(y, {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}[dtype])
    width = len(mine.data) // y.size
    mine = mine._replace(data=mine.data[: 5 * width] + bits.to_bytes(width, "little") + mine.data[6 * width :])
    outcome = run(kit, save(tmp_path / "case", case), wrote(tmp_path / "mine", pack({"outputs/y": mine})))
    assert outcome.status == 1
    assert outcome.lines[0].split() == ["outputs/y", "error", "inf", "envelope", "1.0e+300", "WRONG"]


def test_a_reference_that_is_not_finite_proves_nothing(kit: Path, tmp_path: Path) -> None:
    mine = save(tmp_path / "mine", {"outputs/y": np.ones(2)})
    for value in (np.nan, np.inf):
        case = save(tmp_path / "case", with_envelopes({"outputs/y": np.array([1, value])}))
        outcome = run(kit, case, mine)
        assert outcome.status == 1
        assert outcome.lines[0].split()[2] == "inf"


@pytest.mark.parametrize("shape", [(24, 2), (48,), (2, 3, 8, 1), (2, 8, 3), (2, 3, 7), (), (0,)])
def test_another_shape_is_wrong(kit: Path, tmp_path: Path, shape: tuple[int, ...]) -> None:
    case = layer_norm_case()
    mine = results(case) | {"gradients/x": np.resize(case["gradients/x"], shape)}
    outcome = run(kit, save(tmp_path / "case", case), save(tmp_path / "mine", mine))
    assert outcome.status == 1
    assert verdicts(outcome) == dict.fromkeys(mine, "ok") | {"gradients/x": "WRONG"}
    (line,) = (line for line in outcome.lines if line.startswith("gradients/x "))
    assert line.split(maxsplit=1)[1] == f"shape {list(shape)}, not [2, 3, 8]  WRONG"


@pytest.mark.parametrize(("precision", "bar"), [*zip(PRECISIONS, [1e-12, *ENVELOPE], strict=True)])
def test_where_the_reference_is_zero_the_error_is_not_relative(
    kit: Path, tmp_path: Path, precision: str, bar: float
) -> None:
    case = loss_case()
    assert not case["gradients/logits"].any()
    save(tmp_path / "case", case)
    for entry, verdict in ((-0.0, "ok"), (-0.99 * bar, "ok"), (1.01 * bar, "WRONG"), (-1.0, "WRONG")):
        mine = results(case)
        mine["gradients/logits"] = mine["gradients/logits"].copy()
        mine["gradients/logits"].flat[3] = entry
        outcome = run(kit, tmp_path / "case", save(tmp_path / "mine", mine), precision)
        assert outcome.status == (verdict == "WRONG")
        assert verdicts(outcome) == {"gradients/logits": verdict, "outputs/loss": "ok"}


def test_the_lines_are_in_the_order_of_mine_and_what_it_lacks_is_counted(kit: Path, tmp_path: Path) -> None:
    case = attention_case()
    names = ["gradients/v", "outputs/y", "activations/weights"]
    mine = {name: rounded(case[name], "float64") for name in names}
    outcome = run(kit, save(tmp_path / "case", case), wrote(tmp_path / "mine", pack(mine)))
    assert list(verdicts(outcome)) == names
    assert outcome.lines[-1] == f"3 of {len(results(case))} tensors compared in float32, 0 wrong"


def test_what_the_case_gave_is_not_compared(kit: Path, tmp_path: Path) -> None:
    case = layer_norm_case()
    mine = {name: case[name] for name in ("inputs/x", "outputs/y")} | {"cotangents/y": np.zeros(3)}
    outcome = run(kit, save(tmp_path / "case", case), save(tmp_path / "mine", mine))
    assert outcome.status == 0
    assert [line.split(maxsplit=1) for line in outcome.lines[:-1]] == [
        ["cotangents/y", "given, not compared"],
        ["outputs/y", outcome.lines[1].split(maxsplit=1)[1]],
    ]
    assert outcome.lines[-1] == "1 of 4 tensors compared in float32, 0 wrong"


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_every_finite_half_is_read_exactly(kit: Path, tmp_path: Path, dtype: str) -> None:
    """With an envelope of 0, and each pattern in a tensor of its size: no entry may differ at all."""
    bits = np.arange(1 << 16, dtype="<u2")
    with np.errstate(all="ignore"):
        values = bits.view("<f2") if dtype == "F16" else (bits.astype(np.uint32) << 16).view(np.float32)
        values = values.astype(np.float64)
    bits, values = bits[np.isfinite(values)], values[np.isfinite(values)]
    assert len(bits) == {"F16": (1 << 16) - 2 * 1024, "BF16": (1 << 16) - 2 * 128}[dtype]
    case = {"outputs/y": values, "envelopes/outputs/y": np.zeros(3)}
    mine = {"outputs/y": Packed(dtype, values.shape, bits.tobytes())}
    save(tmp_path / "case", case)
    assert run(kit, tmp_path / "case", wrote(tmp_path / "mine", pack(mine))).status == 0
    for at in (1, 700, len(bits) - 1):  # the smallest subnormal, and others
        moved = bits.copy()
        moved[at] ^= 1
        mine = {"outputs/y": Packed(dtype, values.shape, moved.tobytes())}
        assert run(kit, tmp_path / "case", wrote(tmp_path / "mine", pack(mine))).status == 1


@pytest.mark.parametrize(("dtype", "kind"), [("F32", "<f4"), ("F64", "<f8"), ("I64", "<i8")])
def test_wider_numbers_are_read_exactly(kit: Path, tmp_path: Path, dtype: str, kind: str) -> None:
    numbers: Array = np.random.default_rng(4).integers(-(2**53), 2**53, size=1000).astype(kind)
    if dtype != "I64":
        numbers = numbers * np.logspace(-54, -30, 1000, dtype=kind)
        numbers[:2] = np.nextafter(np.zeros(2, kind), np.array([1, -1], kind))
    case = {"outputs/y": numbers.astype(np.float64), "envelopes/outputs/y": np.zeros(3)}
    mine = {"outputs/y": Packed(dtype, numbers.shape, numbers.tobytes())}
    assert run(kit, save(tmp_path / "case", case), wrote(tmp_path / "mine", pack(mine))).status == 0


def test_an_odd_header_is_read_rightly(kit: Path, tmp_path: Path) -> None:
    """Escapes and braces in the metadata, white space, slashes that some writers escape, fields in another order."""
    case = layer_norm_case()
    y = rounded(case["outputs/y"], "float64")
    odd = {
        "a": 'a "quoted" } { word, \\',
        '"}, "outputs/y": {': '\\"\n\t\u00e9\u2028\x01 [',
        "": "",
        "__metadata__": "}",
    }
    metadata = pack({"outputs/y": y}, odd)
    end = len(y.data)
    spaced = (
        ' \n{ "outputs\\/y"\t:\r\n{ "data_offsets" : [ 0 ,'
        f'{end} ] , "shape":[2 ,\n3, 8 ],"dtype" :"F64" }} , "__metadata__" : {{ }} }}  \n '
    )
    save(tmp_path / "case", case)
    for data in (metadata, framed(spaced, y.data), pack({"outputs/y": y}, {})):
        outcome = run(kit, tmp_path / "case", wrote(tmp_path / "mine", data))
        assert outcome.status == 0
        assert verdicts(outcome) == {"outputs/y": "ok"}


def test_many_tensors_with_the_shortest_descriptions(kit: Path, tmp_path: Path) -> None:
    names = ["", *(chr(letter) for letter in range(ord("#"), 127) if letter != ord("\\"))]
    full = {name: Packed("F64", (), bytes(8)) for name in names}
    empty = {name: Packed("F64", (0,), b"") for name in names}
    for tensors in (full, empty):
        (size,) = struct.unpack_from("<Q", packed := pack(tensors))
        header = json.dumps(json.loads(packed[8 : 8 + size]), separators=(",", ":"))
        wrote(tmp_path / "both", framed(header, packed[8 + size :]))
        outcome = run(kit, tmp_path / "both", tmp_path / "both")
        assert outcome.errors == f"{tmp_path}/both: has no tensor to compare"


# ---- what cannot be used


def described(**fields: Any) -> bytes:
    """A file of one tensor, well described but for these fields."""
    return framed(json.dumps({"outputs/y": {"dtype": "F64", "shape": [2, 3], "data_offsets": [0, 48], **fields}}), DATA)


def as_text(description: str) -> bytes:
    return framed(f'{{"outputs/y": {description}}}', DATA)


DATA = np.arange(6, dtype="<f8").tobytes()
GOOD = described()
Y = '{"dtype": "F64", "shape": [3], "data_offsets": [0, 24]}'
OUTSIDE, NUMBERS = "outputs/y: its data_offsets are outside the file", "outputs/y: its data_offsets are not two whole"
SHAPE, NOT_JSON = "outputs/y: its shape is not a list of at most 8 whole", "the header is not JSON"
UNUSABLE = {
    "empty": (b"", "is not safetensors, or truncated: it has fewer than 8 bytes"),
    "seven bytes": (GOOD[:7], "is not safetensors, or truncated: it has fewer than 8 bytes"),
    "a table of text": (b"x,y\n" * 20, "is not safetensors, or truncated: its header would be larger than the file"),
    "a NumPy file": (b"\x93NUMPY\x01\x00" + bytes(100), "is not safetensors, or truncated"),
    "truncated in the header": (GOOD[:60], "is not safetensors, or truncated: its header"),
    "truncated after the header": (GOOD[:-48], OUTSIDE),
    "one byte truncated": (GOOD[:-1], OUTSIDE),
    "one byte more": (GOOD + b"x", "has bytes that belong to no tensor"),
    "a header of 2⁶⁴ - 1 bytes": (b"\xff" * 8 + GOOD[8:], "is not safetensors, or truncated: its header"),
    "a header of one byte more than the file": (
        struct.pack("<Q", len(GOOD) - 7) + GOOD[8:],
        "is not safetensors, or truncated",
    ),
    "a header of no bytes": (framed(""), "is not safetensors: its header does not begin with {"),
    "a list": (framed("[]"), "is not safetensors: its header does not begin with {"),
    "words": (framed("{nonsense}"), NOT_JSON),
    "no end": (framed("{"), NOT_JSON),
    "a name without an end": (framed('{"outputs/y'), NOT_JSON),
    "a name that ends in an escape": (framed('{"outputs/y\\'), NOT_JSON),
    "a line break in a name": (framed('{"outputs/y\n": ' + Y + "}", bytes(24)), NOT_JSON),
    "a tensor without an end": (framed('{"outputs/y": {"dtype": "F64"'), "outputs/y: its "),
    "a shape without an end": (framed('{"outputs/y": {"shape": ['), "outputs/y: its "),
    "an axis without an end": (framed('{"outputs/y": {"shape": [2'), "outputs/y: its "),
    "a comma and nothing": (framed('{"outputs/y": ' + Y + ",}", bytes(24)), NOT_JSON),
    "two tensors and no comma": (framed('{"outputs/y": ' + Y + ' "b": ' + Y + "}", bytes(24)), NOT_JSON),
    "more after the end": (framed(GOOD[8:-48].decode() + "x", DATA), "the header goes on after its last }"),
    "metadata of numbers": (framed('{"__metadata__": {"a": 1}}'), "__metadata__: is not {...} of strings"),
    "metadata of words": (framed('{"__metadata__": "a"}'), "__metadata__: is not {...} of strings"),
    "a number for a tensor": (as_text("3"), "outputs/y: is not described by {...}"),
    "nothing for a tensor": (as_text("{}"), "outputs/y: its description is not JSON"),
    "another field": (described(strides=[3, 1]), "outputs/y: is described by something else"),
    "a dtype of 8 bits": (described(dtype="F8_E4M3"), "outputs/y: its dtype is not F64, F32, F16, BF16 or I64"),
    "a dtype in small letters": (described(dtype="f64"), "outputs/y: its dtype is not F64"),
    "no dtype": (as_text('{"shape": [2, 3], "data_offsets": [0, 48]}'), "outputs/y: its dtype is not F64"),
    "no shape": (as_text('{"dtype": "F64", "data_offsets": [0, 48]}'), SHAPE),
    "a negative axis": (described(shape=[-2, -3]), SHAPE),
    "half an axis": (described(shape=[1.5, 4]), SHAPE),
    "an axis of words": (described(shape=["2", 3]), SHAPE),
    "an axis of 2⁶⁴ + 6": (described(shape=[2**64 + 6]), SHAPE),
    "nine axes": (described(shape=[6] + 8 * [1]), SHAPE),
    "a size of 2⁶⁴ + 48 bytes": (described(shape=[2**61 + 6]), "outputs/y: its shape does not fit its data"),
    "2⁶⁴ entries": (described(shape=[2**32, 2**32], data_offsets=[0, 0]), "outputs/y: its shape is too large"),
    "an entry too many": (described(shape=[7]), "outputs/y: its shape does not fit its data"),
    "half an entry": (described(shape=[5], data_offsets=[0, 44]), "outputs/y: its shape does not fit its data"),
    "no offsets": (as_text('{"dtype": "F64", "shape": [2, 3]}'), OUTSIDE),
    "one offset": (described(data_offsets=[48]), NUMBERS),
    "three offsets": (described(data_offsets=[0, 24, 48]), NUMBERS),
    "a negative offset": (described(data_offsets=[-8, 40]), NUMBERS),
    "offsets in the wrong order": (described(data_offsets=[48, 0]), OUTSIDE),
    "an end outside": (described(shape=[7], data_offsets=[0, 56]), OUTSIDE),
    "both outside": (described(data_offsets=[2**63, 2**63 + 48]), OUTSIDE),
    "the last offsets there are": (described(data_offsets=[2**64 - 58, 2**64 - 10]), OUTSIDE),
    "a hole": (described(shape=[5], data_offsets=[8, 48]), "has bytes that belong to no tensor"),
    "two tensors in one place": (
        framed('{"inputs/x": ' + Y + ', "outputs/y": ' + Y.replace("[0, 24]", "[16, 40]") + "}", DATA),
        "outputs/y: overlaps another tensor",
    ),
    "a tensor twice": (
        framed('{"outputs/y": ' + Y + ', "outputs\\/y": ' + Y.replace("[0, 24]", "[24, 48]") + "}", DATA),
        "outputs/y: is there twice",
    ),
}


@pytest.mark.parametrize("damaged", ["case", "mine"])
@pytest.mark.parametrize("name", UNUSABLE)
def test_a_damaged_file_is_named(kit: Path, tmp_path: Path, name: str, damaged: str) -> None:
    data, message = UNUSABLE[name]
    save(tmp_path / "case", with_envelopes({"outputs/y": np.arange(6.0).reshape(2, 3)}))
    wrote(tmp_path / "mine", GOOD)
    assert run(kit, tmp_path / "case", tmp_path / "mine").status == 0
    wrote(tmp_path / damaged, data)
    outcome = run(kit, tmp_path / "case", tmp_path / "mine")
    assert outcome.status == 2
    path, _, what = outcome.errors.partition(": ")
    assert path == str(tmp_path / damaged)
    assert what.startswith(message)
    assert not outcome.lines


@pytest.mark.parametrize("damaged", ["case", "mine"])
def test_a_missing_file_and_a_folder_are_named(kit: Path, tmp_path: Path, damaged: str) -> None:
    save(tmp_path / "case", layer_norm_case())
    wrote(tmp_path / "mine", GOOD)
    (tmp_path / damaged).unlink()
    assert run(kit, tmp_path / "case", tmp_path / "mine").errors == f"{tmp_path / damaged}: No such file or directory"
    (tmp_path / damaged).mkdir()
    assert run(kit, tmp_path / "case", tmp_path / "mine").errors == f"{tmp_path / damaged}: Is a directory"


def test_a_tensor_that_the_case_lacks_is_named(kit: Path, tmp_path: Path) -> None:
    case = save(tmp_path / "case", layer_norm_case())
    for name in ("gradients/scores", "output/y", "outputs/y ", "y"):
        mine = save(tmp_path / "mine", results(layer_norm_case()) | {name: np.zeros(3)})
        assert run(kit, case, mine).errors == f"{mine}: {name}: the case has no such tensor"
    for escaped in ("outputs\\u002fy", "output\\s/y"):  # which are left as they are
        mine = wrote(tmp_path / "mine", framed(f'{{"{escaped}": {Y}}}', DATA[:24]))
        assert run(kit, case, mine).errors == f"{mine}: {escaped}: the case has no such tensor"


def test_without_a_tensor_to_compare_nothing_is_proved(kit: Path, tmp_path: Path) -> None:
    case = layer_norm_case()
    save(tmp_path / "case", case)
    for names in ([], ["inputs/x"], ["inputs/x", "cotangents/y"]):
        mine = save(tmp_path / "mine", {name: case[name] for name in names})
        assert run(kit, tmp_path / "case", mine).errors == f"{mine}: has no tensor to compare"


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["outputs/y", "activations/weights", "cotangents/weights", "gradients/q"])
def test_a_case_without_a_usable_envelope_is_named(kit: Path, tmp_path: Path, name: str, precision: str) -> None:
    case = attention_case()
    mine = save(tmp_path / "mine", results(case))
    del case[f"envelopes/{name}"]
    unusable = [
        {},
        {f"envelopes_{name}": ENVELOPE},
        {f"envelopes/{name}": ENVELOPE[:2]},
        {f"envelopes/{name}": np.ones(4)},
    ]
    if precision != "float64":
        unusable += [{f"envelopes/{name}": np.full(3, value)} for value in (np.nan, np.inf, -1.0)]
    for envelope in unusable:
        save(tmp_path / "case", case | envelope)
        outcome = run(kit, tmp_path / "case", mine, precision)
        assert outcome.errors == f"{tmp_path / 'case'}: {name}: has no envelope"


def test_wrong_arguments(kit: Path, tmp_path: Path) -> None:
    usage = "usage: kit CASE.safetensors MINE.safetensors [float64|float32|float16|bfloat16]"
    case = save(tmp_path / "case", layer_norm_case())
    assert run(kit, case, case, "float8").errors == f"float8: unknown; {usage}"
    assert run(kit, case, case, "").errors == f": unknown; {usage}"
    for arguments in ([], [case], [case, case, "float32", "float32"]):
        assert run(kit, *arguments).errors == usage


# ---- hostile files

INSERTS = [b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"-", b"0", b"9" * 20, b"\0", b"\n", b"\xff", b'"a":{}']


def mutated(data: bytes, generator: random.Random) -> bytes:
    """A file with a few bytes changed, most of them in its header, whose length is then mostly made right again."""
    (size,) = struct.unpack_from("<Q", data)
    header, body = bytearray(data[8 : 8 + size].rstrip(b" ")), bytearray(data[8 + size :])
    for _ in range(generator.choice([1, 1, 2, 5])):
        part = body if generator.random() < 0.1 else header
        at = generator.randrange(len(part))
        match generator.randrange(6):
            case 0:
                part[at] = generator.randrange(256)
            case 1:
                part[at] ^= 1 << generator.randrange(8)
            case 2:
                part[at:at] = generator.choice(INSERTS)
            case 3:
                del part[at : at + generator.randrange(1, 20)]
            case 4:
                part[at:at] = part[at : at + generator.randrange(1, 80)]
            case 5:  # a digit, so that the JSON stays whole
                digits = [place.start() for place in re.finditer(rb"\d", header)] or [0]
                header[generator.choice(digits)] = generator.choice(b"0123456789")
    length = len(header) if generator.random() < 0.9 else generator.choice([0, 1, size, len(header) + 1, 2**64 - 1])
    whole = struct.pack("<Q", length) + header + body
    return whole[: generator.randrange(len(whole))] if generator.random() < 0.1 else whole


@pytest.mark.parametrize("seed", range(6))
def test_damaged_files_never_make_it_misbehave(kit: Path, tmp_path: Path, seed: int) -> None:
    """Whatever the bytes: a status of its own, one line where that is 2, and not a word from the sanitizers."""
    generator = random.Random(seed)
    case = [layer_norm_case, attention_case, loss_case][seed % 3]()
    whole = {
        "case": save(tmp_path / "case", case).read_bytes(),
        "mine": pack(
            {name: rounded(tensor, PRECISIONS[seed % 4]) for name, tensor in results(case).items()},
            {"by": 'a "test"', "}": "{"},
        ),
    }
    statuses = []
    for _ in range(100):
        damaged = generator.choice(["case", "mine"])
        for name, data in whole.items():
            wrote(tmp_path / name, mutated(data, generator) if name == damaged else data)
        statuses.append(run(kit, tmp_path / "case", tmp_path / "mine", PRECISIONS[seed % 4]).status)
    assert set(statuses) >= {0, 2}


# ---- in a program of one's own

KERNELS = r"""
static void layer_norm(const float *x, const float *gamma, const float *beta, float *y, size_t rows, size_t C) {
    for (size_t r = 0; r < rows; r++, x += C, y += C) {
        float mean = 0, variance = 0;
        for (size_t c = 0; c < C; c++) mean += x[c] / (float)C;
        for (size_t c = 0; c < C; c++) variance += (x[c] - mean) * (x[c] - mean) / (float)C;
        for (size_t c = 0; c < C; c++) y[c] = (x[c] - mean) / sqrtf(variance + 1e-5f) * gamma[c] + beta[c];
    }
}

static void layer_norm_backward(const float *dy, const float *x, const float *gamma, float *dx, float *dgamma,
                                float *dbeta, size_t rows, size_t C) {
    for (size_t c = 0; c < C; c++) dgamma[c] = dbeta[c] = 0;
    for (size_t r = 0; r < rows; r++, x += C, dy += C, dx += C) {
        float mean = 0, variance = 0, through_mean = 0, through_variance = 0;
        for (size_t c = 0; c < C; c++) mean += x[c] / (float)C;
        for (size_t c = 0; c < C; c++) variance += (x[c] - mean) * (x[c] - mean) / (float)C;
        const float inverse_std = 1 / sqrtf(variance + 1e-5f);
        for (size_t c = 0; c < C; c++) {
            const float x_hat = (x[c] - mean) * inverse_std;
            dbeta[c] += dy[c];
            dgamma[c] += dy[c] * x_hat;
            through_mean += dy[c] * gamma[c] / (float)C;
            through_variance += dy[c] * gamma[c] * x_hat / (float)C;
        }
#ifdef DROP_MEAN
        through_mean = 0;
#endif
#ifdef DROP_VARIANCE
        through_variance = 0;
#endif
        for (size_t c = 0; c < C; c++)
            dx[c] = (dy[c] * gamma[c] - through_mean - (x[c] - mean) * inverse_std * through_variance) * inverse_std;
    }
}
"""

IN_DOUBLES = r"""
#define KIT_NO_MAIN
#include "kit.c"

int main(int argc, char **argv) {
    kit_file *file = argc == 2 ? kit_open(argv[1]) : NULL;
    if (!file) return 2;
    double *y = kit_values(file, "outputs/y"), other[2] = {3, -4}, zero[2] = {0, 0};
    const kit_tensor *t = kit_find(file, "outputs/y");
    int right = t->rank == 3 && t->shape[0] == 2 && t->shape[1] == 3 && t->shape[2] == 8 && t->count == 48;
    right &= kit_check(file, "outputs/y", y, KIT_FLOAT64);
    y[47] += 1e-3;
    right &= !kit_check(file, "outputs/y", y, KIT_FLOAT64) && kit_check(file, "outputs/y", y, KIT_BFLOAT16);
    right &= kit_error(zero, other, 2) == 1 && kit_error(zero, zero, 2) == 0 && kit_error(other, zero, 2) == 4;
    right &= !kit_find(file, "outputs/z");
    fprintf(stderr, "now what is not there\n");
    right &= !kit_values(file, "inputs/z") && !kit_floats(file, "inputs/z");
    right &= !kit_check(file, "outputs/z", y, KIT_FLOAT64) && !kit_check(file, "inputs/x", y, KIT_FLOAT64);
    right &= !kit_open("nowhere");
    free(y);
    kit_close(file);
    return right ? 0 : 1;
}
"""


def the_example() -> str:
    """The program in kit.c's first comment, with its kernels."""
    comment = KIT.read_text(encoding="utf-8").partition("*/")[0]
    lines = [line.removeprefix(" *").removeprefix("     ") for line in comment.splitlines()]
    begin = lines.index("#define KIT_NO_MAIN")
    program = "\n".join(lines[begin:])
    return program.replace("int main", KERNELS + "\nint main", 1)


@pytest.mark.parametrize("drop", ["", "MEAN", "VARIANCE"])
def test_the_example_in_its_comment(tmp_path: Path, sanitizers: list[str], drop: str) -> None:
    """It proves a right LayerNorm, and notices when a route of its backward is missing."""
    source = tmp_path / "example.c"
    source.write_text(the_example(), encoding="utf-8")
    flags = ["-std=c99", f"-I{KIT.parent}", *sanitizers, *([f"-DDROP_{drop}"] if drop else [])]
    program = compiled(tmp_path, source, *flags)
    environment = ENVIRONMENT | {"ASAN_OPTIONS": f"{ENVIRONMENT['ASAN_OPTIONS']}:detect_leaks=0"}  # it frees nothing
    case = save(tmp_path / "case", layer_norm_case())
    done = subprocess.run([program, case], capture_output=True, env=environment, text=True)
    assert (done.returncode, done.stderr) == (bool(drop), "")
    assert {line.split()[0]: line.split()[-1] for line in done.stdout.splitlines()} == {
        "outputs/y": "ok",
        "gradients/x": "WRONG" if drop else "ok",
        "gradients/gamma": "ok",
        "gradients/beta": "ok",
    }
    done = subprocess.run([program, tmp_path / "none"], capture_output=True, env=environment, text=True)
    assert (done.returncode, done.stderr) == (2, f"{tmp_path / 'none'}: No such file or directory\n")


def test_a_program_in_doubles(tmp_path: Path, sanitizers: list[str]) -> None:
    source = tmp_path / "doubles.c"
    source.write_text(IN_DOUBLES, encoding="utf-8")
    program = compiled(tmp_path, source, "-std=c99", f"-I{KIT.parent}", *sanitizers)
    case = save(tmp_path / "case", layer_norm_case())
    done = subprocess.run([program, case], capture_output=True, env=ENVIRONMENT, text=True)
    assert done.returncode == 0, done
    assert done.stderr.splitlines() == [
        "now what is not there",
        f"{case}: inputs/z: no such tensor",
        f"{case}: inputs/z: no such tensor",
        f"{case}: outputs/z: no such tensor",
        f"{case}: inputs/x: has no envelope",
        "nowhere: No such file or directory",
    ]


LANGUAGES = ["c99", "c11", *(["c++11", "c++17"] if shutil.which("c++") else [])]


@pytest.mark.parametrize("standard", LANGUAGES)
@pytest.mark.parametrize("flags", [[], ["-DKIT_NO_MAIN", "-Wmissing-declarations"]], ids=["program", "library"])
def test_it_compiles_without_a_warning(standard: str, flags: list[str]) -> None:
    language = standard.rstrip("0123456789")
    command = [str(CC), "-x", language, f"-std={standard}", "-O2", *WARNINGS, *flags, "-c", "-o", os.devnull, str(KIT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_fast_math_does_not_let_a_nan_pass(tmp_path: Path) -> None:
    """With these flags, as kernels are often compiled, isfinite and x != x notice nothing."""
    program = compiled(tmp_path, KIT, "-O3", "-ffast-math")
    case = layer_norm_case()
    save(tmp_path / "case", case)
    for precision in PRECISIONS:
        for value, status in ((1, 0), (np.nan, 1), (np.inf, 1), (-np.inf, 1)):
            mine = {name: rounded(tensor, precision) for name, tensor in results(case).items()}
            dx = case["gradients/x"].copy()
            dx.flat[20] *= value
            mine["gradients/x"] = rounded(dx, precision)
            assert run(program, tmp_path / "case", wrote(tmp_path / "mine", pack(mine)), precision).status == status
