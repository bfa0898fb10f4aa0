"""Hugging Face folders: each tensor in its place, each wrong folder one line, and what is written is read again."""

import errno
import json
import pickle
import re
import struct
import subprocess
import sys
import textwrap
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import handgrad
from handgrad.errors import ConfigError, HandgradError, TextError, WeightsError
from handgrad.layers import Array
from handgrad.model import Model, Parameters, SpecialTokens, Tokenizer

from .folders import CHARACTERS, GPT2, LLAMA, MODELS, QWEN3, WINDOWED, Options, Tensors, tensors_of, write_folder

BFLOAT16: Any = ml_dtypes.bfloat16


def as_ours(options: Options, theirs: Tensors) -> Tensors:
    """Every parameter by our name: matrices (in, out), queries, keys and values apart."""
    if options["model_type"] == "gpt2":
        return _of_gpt2(options, theirs)
    ours = {"embedding.token": theirs["model.embed_tokens.weight"], "norm.gamma": theirs["model.norm.weight"]}
    for n in range(options["num_hidden_layers"]):
        block, layer = f"blocks.{n}", f"model.layers.{n}"
        ours[f"{block}.norm_1.gamma"] = theirs[f"{layer}.input_layernorm.weight"]
        ours[f"{block}.norm_2.gamma"] = theirs[f"{layer}.post_attention_layernorm.weight"]
        for x in ("gate", "up", "down"):
            ours[f"{block}.feed_forward.w_{x}"] = theirs[f"{layer}.mlp.{x}_proj.weight"].T
        for x in "qkvo":
            ours[f"{block}.attention.w_{x}"] = theirs[f"{layer}.self_attn.{x}_proj.weight"].T
            if f"{layer}.self_attn.{x}_proj.bias" in theirs:
                ours[f"{block}.attention.b_{x}"] = theirs[f"{layer}.self_attn.{x}_proj.bias"]
            if f"{layer}.self_attn.{x}_norm.weight" in theirs:
                ours[f"{block}.attention.gamma_{x}"] = theirs[f"{layer}.self_attn.{x}_norm.weight"]
    return ours | _head(theirs)


def _of_gpt2(options: Options, theirs: Tensors) -> Tensors:
    C = options["n_embd"]
    ours = {
        "embedding.token": theirs["transformer.wte.weight"],
        "embedding.position": theirs["transformer.wpe.weight"],
        "norm.gamma": theirs["transformer.ln_f.weight"],
        "norm.beta": theirs["transformer.ln_f.bias"],
    }
    for n in range(options["n_layer"]):
        block, layer = f"blocks.{n}", f"transformer.h.{n}"
        w, b = theirs[f"{layer}.attn.c_attn.weight"], theirs[f"{layer}.attn.c_attn.bias"]
        ours |= {
            f"{block}.norm_1.gamma": theirs[f"{layer}.ln_1.weight"],
            f"{block}.norm_1.beta": theirs[f"{layer}.ln_1.bias"],
            f"{block}.attention.w_q": w[:, :C],
            f"{block}.attention.w_k": w[:, C : 2 * C],
            f"{block}.attention.w_v": w[:, 2 * C :],
            f"{block}.attention.w_o": theirs[f"{layer}.attn.c_proj.weight"],
            f"{block}.attention.b_q": b[:C],
            f"{block}.attention.b_k": b[C : 2 * C],
            f"{block}.attention.b_v": b[2 * C :],
            f"{block}.attention.b_o": theirs[f"{layer}.attn.c_proj.bias"],
            f"{block}.norm_2.gamma": theirs[f"{layer}.ln_2.weight"],
            f"{block}.norm_2.beta": theirs[f"{layer}.ln_2.bias"],
            f"{block}.feed_forward.w_up": theirs[f"{layer}.mlp.c_fc.weight"],
            f"{block}.feed_forward.b_up": theirs[f"{layer}.mlp.c_fc.bias"],
            f"{block}.feed_forward.w_down": theirs[f"{layer}.mlp.c_proj.weight"],
            f"{block}.feed_forward.b_down": theirs[f"{layer}.mlp.c_proj.bias"],
        }
    return ours | _head(theirs)


def _head(theirs: Tensors) -> Tensors:
    return {"head.w_lm": theirs["lm_head.weight"].T} if "lm_head.weight" in theirs else {}


def assert_same(parameters: Parameters, expected: Tensors, dtype: Any = np.float32) -> None:
    assert parameters.flat.dtype == dtype
    assert parameters.keys() == expected.keys()
    for name, x in parameters.items():
        np.testing.assert_array_equal(x, expected[name].astype(dtype), err_msg=name)


# where each tensor is


@pytest.mark.parametrize("name", MODELS)
def test_each_tensor_has_its_place(name: str, tmp_path: Path) -> None:
    options = MODELS[name]
    tensors = tensors_of(options)
    model = handgrad.load(write_folder(tmp_path, options, tensors))
    assert_same(model.parameters, as_ours(options, tensors))
    assert np.isfinite(model.logits(model.tokenizer.encode("a cat sat"))).all()


@pytest.mark.parametrize("name", ["GPT-2", "Llama, tied", "Qwen 2"])
def test_a_file_without_the_heads_class_has_shorter_names(name: str, tmp_path: Path) -> None:
    options = MODELS[name]
    tensors = tensors_of(options)
    shorter = {name.partition(".")[2]: x for name, x in tensors.items()}
    assert "wte.weight" in shorter or "embed_tokens.weight" in shorter
    folder = write_folder(tmp_path, options, shorter)
    assert_same(handgrad.load(folder).parameters, as_ours(options, tensors))


def test_a_file_without_the_heads_class_may_have_the_head(tmp_path: Path) -> None:
    tensors = tensors_of(LLAMA)
    shorter = {name.removeprefix("model."): x for name, x in tensors.items()}
    assert_same(handgrad.load(write_folder(tmp_path, LLAMA, shorter)).parameters, as_ours(LLAMA, tensors))


@pytest.mark.parametrize("prefix", ["transformer.", ""])
def test_masks_of_old_files_are_passed_over(prefix: str, tmp_path: Path) -> None:
    tensors = tensors_of(GPT2)
    found = {prefix + name.removeprefix("transformer."): x for name, x in tensors.items()}
    for n in range(2):
        found[f"{prefix}h.{n}.attn.bias"] = np.tril(np.ones((1, 1, 16, 16), np.uint8))
        found[f"{prefix}h.{n}.attn.masked_bias"] = np.array([-1e4], np.float32)
    assert_same(handgrad.load(write_folder(tmp_path, GPT2, found)).parameters, as_ours(GPT2, tensors))


def test_frequencies_of_old_files_are_passed_over(tmp_path: Path) -> None:
    tensors = tensors_of(LLAMA)
    found = tensors | {f"model.layers.{n}.self_attn.rotary_emb.inv_freq": np.ones(2, np.float32) for n in range(2)}
    found["model.rotary_emb.inv_freq"] = np.ones(2, np.float32)
    assert_same(handgrad.load(write_folder(tmp_path, LLAMA, found)).parameters, as_ours(LLAMA, tensors))


TIED = {"GPT-2": "transformer.wte.weight", "Llama, tied": "model.embed_tokens.weight"}


@pytest.mark.parametrize("name", TIED)
def test_a_tied_head_may_be_in_the_file_where_it_is_the_embedding(name: str, tmp_path: Path) -> None:
    options = MODELS[name]
    tensors = tensors_of(options)
    with_head = tensors | {"lm_head.weight": tensors[TIED[name]]}
    assert_same(handgrad.load(write_folder(tmp_path, options, with_head)).parameters, as_ours(options, tensors))


@pytest.mark.parametrize("name", TIED)
@pytest.mark.parametrize(
    "another",
    [lambda x: np.nextafter(x, np.float32(9)), lambda x: x[:-1], lambda x: x.T, lambda x: x.astype(np.float16)],
    ids=["last bits", "a token less", "transposed", "rounded"],
)
def test_a_tied_head_that_is_another_is_refused(name: str, another: Callable[[Array], Array], tmp_path: Path) -> None:
    tensors = tensors_of(MODELS[name])
    head = np.ascontiguousarray(another(tensors[TIED[name]]))
    folder = write_folder(tmp_path, MODELS[name], tensors | {"lm_head.weight": head})
    expected = f"{folder / 'model.safetensors'}: lm_head.weight differs from {TIED[name]}, but tie_word_embeddings is"
    with pytest.raises(WeightsError, match=f"^{re.escape(expected)}"):
        handgrad.load(folder)


# dtypes


@pytest.mark.parametrize("name", ["GPT-2", "Qwen 3"])
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("float16", "float32"), (BFLOAT16, "float32"), ("float32", "float32"), ("float64", "float64")],
    ids=["float16", "bfloat16", "float32", "float64"],
)
def test_numbers_stay_the_same_in_the_dtype_that_holds_them(name: str, theirs: Any, ours: str, tmp_path: Path) -> None:
    options = MODELS[name]
    tensors = {name: (x * 1.1).astype(theirs) for name, x in tensors_of(options).items()}
    model = handgrad.load(write_folder(tmp_path, options, tensors))
    assert_same(model.parameters, as_ours(options, tensors), ours)


@pytest.mark.parametrize("name", ["GPT-2", "Llama"])
def test_mixed_dtypes_become_the_widest(name: str, tmp_path: Path) -> None:
    options = MODELS[name]
    dtypes = [np.float64, np.float32, np.float16, BFLOAT16]
    tensors = {name: x.astype(dtypes[n % 4]) for n, (name, x) in enumerate(tensors_of(options).items())}
    assert_same(
        handgrad.load(write_folder(tmp_path, options, tensors)).parameters, as_ours(options, tensors), np.float64
    )


def test_the_extremes_of_16_bits_are_read_exactly(tmp_path: Path) -> None:
    for dtype, extremes in ((np.dtype(np.float16), [65504, 6e-8, -6.1e-5]), (np.dtype(BFLOAT16), [3e38, 1e-40, -1])):
        tensors = tensors_of(LLAMA) | {"model.norm.weight": np.resize(np.array(extremes), 16).astype(dtype)}
        model = handgrad.load(write_folder(tmp_path / dtype.name, LLAMA, tensors))
        np.testing.assert_array_equal(model.parameters["norm.gamma"], tensors["model.norm.weight"].astype(np.float32))


# several files


def write_shards(folder: Path, options: Options, tensors: Tensors, count: int = 3) -> dict[str, str]:
    """The folder with its tensors in so many files, and the index's map."""
    write_folder(folder, options)
    (folder / "model.safetensors").unlink()
    names = list(tensors)
    where: dict[str, str] = {}
    for n in range(count):
        file = f"model-{n + 1:05}-of-{count:05}.safetensors"
        safetensors.numpy.save_file({name: tensors[name] for name in names[n::count]}, folder / file)
        where |= dict.fromkeys(names[n::count], file)
    write_index(folder, {"metadata": {"total_size": 1}, "weight_map": where})
    return where


def write_index(folder: Path, content: Any) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("name", ["GPT-2", "Llama", "Qwen 3"])
def test_several_files_are_one(name: str, tmp_path: Path) -> None:
    options = MODELS[name]
    tensors = tensors_of(options)
    write_shards(tmp_path, options, tensors)
    assert_same(handgrad.load(tmp_path).parameters, as_ours(options, tensors))


def test_one_file_comes_before_an_index(tmp_path: Path) -> None:
    write_index(write_folder(tmp_path, LLAMA), {"weight_map": {"x": "nowhere.safetensors"}})
    assert_same(handgrad.load(tmp_path).parameters, as_ours(LLAMA, tensors_of(LLAMA)))


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    write_shards(tmp_path, LLAMA, tensors_of(LLAMA))
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"model-00002-of-00003\.safetensors: no such file$"):
        handgrad.load(tmp_path)


def test_a_tensor_that_no_file_has_is_named(tmp_path: Path) -> None:
    tensors = tensors_of(LLAMA)
    norm = tensors.pop("model.norm.weight")
    where = write_shards(tmp_path, LLAMA, tensors)
    write_index(tmp_path, {"weight_map": where | {"model.norm.weight": "model-00001-of-00003.safetensors"}})
    with pytest.raises(WeightsError, match=r": tensors missing: model\.norm\.weight \(16,\)$"):
        handgrad.load(tmp_path)
    safetensors.numpy.save_file({"model.norm.weight": norm}, tmp_path / "elsewhere.safetensors")  # no file of the index
    with pytest.raises(WeightsError, match=r": tensors missing: model\.norm\.weight \(16,\)$"):
        handgrad.load(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "../model.safetensors",
        "/etc/passwd",
        "/tmp/x.safetensors",
        "a/b.safetensors",
        "./model-00001-of-00003.safetensors",
        "..",
        "",
        "pytorch_model.bin",
        "model.safetensors.py",
    ],
)
def test_names_that_lead_elsewhere_are_refused(name: str, tmp_path: Path) -> None:
    write_shards(tmp_path / "model", LLAMA, tensors_of(LLAMA))
    safetensors.numpy.save_file(tensors_of(LLAMA), tmp_path / "model.safetensors")
    write_index(tmp_path / "model", {"weight_map": dict.fromkeys(tensors_of(LLAMA), name)})
    with pytest.raises(WeightsError, match=rf"index\.json: '{re.escape(name)}' is not the name of a safetensors file"):
        handgrad.load(tmp_path / "model")


@pytest.mark.parametrize("content", [{}, {"weight_map": {}}, {"weight_map": []}, {"weight_map": {"x": 1}}], ids=str)
def test_an_index_without_a_map_is_refused(content: Any, tmp_path: Path) -> None:
    write_shards(tmp_path, LLAMA, tensors_of(LLAMA))
    write_index(tmp_path, content)
    with pytest.raises(WeightsError, match=r"index\.json: weight_map is not an object of tensors' names and files$"):
        handgrad.load(tmp_path)


@pytest.mark.parametrize("content", ["[]", "{", "\udcff"])
def test_an_index_that_is_no_object_is_refused(content: str, tmp_path: Path) -> None:
    write_shards(tmp_path, LLAMA, tensors_of(LLAMA))
    (tmp_path / "model.safetensors.index.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(HandgradError, match=r"index\.json: not "):
        handgrad.load(tmp_path)


# what is wrong


def without(*names: str) -> Tensors:
    return {name: x for name, x in tensors_of(LLAMA).items() if name not in names}


Q = "model.layers.0.self_attn.q_proj.weight"
WRONG: dict[str, tuple[Tensors, str]] = {
    "missing": (without("model.norm.weight", Q), f"tensors missing: {Q} (16, 16), model.norm.weight (16,)"),
    "unexpected": (tensors_of(LLAMA) | {"x.lora_A": np.ones((2, 3))}, "tensors unexpected: x.lora_A (2, 3)"),
    "of another shape": (
        tensors_of(LLAMA) | {Q: np.ones((16, 15), np.float32), "model.norm.weight": np.ones(1, np.float32)},
        f"tensors of another shape: {Q} (16, 15) in place of (16, 16), model.norm.weight (1,) in place of (16,)",
    ),
    "transposed": (
        tensors_of(LLAMA) | {"lm_head.weight": np.ones((16, 32), np.float32)},
        "tensors of another shape: lm_head.weight (16, 32) in place of (32, 16)",
    ),
    "integers": (
        tensors_of(LLAMA) | {"model.norm.weight": np.ones(16, np.int8)},
        "tensors of a dtype that is not supported: model.norm.weight I8",
    ),
    "8 bits": (
        tensors_of(LLAMA) | {"model.norm.weight": np.ones(16, ml_dtypes.float8_e4m3fn)},
        "tensors of a dtype that is not supported: model.norm.weight F8_E4M3",
    ),
    "all at once": (
        without("lm_head.weight", Q)
        | {"x": np.ones(1), "y": np.ones(1), "model.norm.weight": np.ones(3, ml_dtypes.float8_e5m2)},
        (
            f"tensors missing: lm_head.weight (32, 16), {Q} (16, 16); unexpected: x (1,), y (1,); "
            "of another shape: model.norm.weight (3,) in place of (16,); "
            "of a dtype that is not supported: model.norm.weight F8_E5M2"
        ),
    ),
    "many": (
        tensors_of(LLAMA) | {f"x{n:02}": np.ones(1) for n in range(30)},
        "tensors unexpected: x00 (1,), x01 (1,), x02 (1,), x03 (1,), x04 (1,) and 25 more",
    ),
    "biases that the config has not": (
        tensors_of(LLAMA | {"attention_bias": True}),
        "tensors unexpected: model.layers.0.self_attn.k_proj.bias (8,), ",
    ),
    "norms that the family has not": (
        tensors_of(QWEN3),
        "tensors unexpected: model.layers.0.self_attn.k_norm.weight (6,), ",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_all_that_is_wrong_with_the_tensors_is_one_line(name: str, tmp_path: Path) -> None:
    tensors, message = WRONG[name]
    folder = write_folder(tmp_path, LLAMA, tensors)
    with pytest.raises(WeightsError) as raised:
        handgrad.load(folder)
    assert str(raised.value).startswith(f"{folder}: {message}")
    assert "\n" not in str(raised.value)


HOSTILE: dict[str, tuple[Options, dict[str, Any], str]] = {
    "layers": (LLAMA, {"num_hidden_layers": 9999}, "21 tensors: too few for 9,999 layers"),
    "more layers": (LLAMA, {"num_hidden_layers": 10**12}, "num_hidden_layers: 1000000000000 is not"),
    "GPT-2's layers": (GPT2, {"n_layer": 9999}, "28 tensors: too few for 9,999 layers"),
    "vocabulary": (LLAMA, {"vocab_size": 10**12}, "model.embed_tokens.weight (32, 16) in place of (1000000000000, 16)"),
    "width": (LLAMA, {"hidden_size": 10**9}, "in place of (32, 1000000000)"),
    "GPT-2's width": (GPT2, {"n_embd": 10**9}, "(8, 8) in place of (1000000000, 1000000000)"),
    "heads": (LLAMA, {"num_attention_heads": 10**9, "head_dim": 2}, "(16, 16) in place of (2000000000, 16)"),
    "head_dim": (LLAMA, {"head_dim": 10**12}, "(16, 16) in place of (4000000000000, 16)"),
    "intermediate_size": (LLAMA, {"intermediate_size": 10**15}, "(24, 16) in place of (1000000000000000, 16)"),
    "GPT-2's context": (GPT2, {"n_positions": 10**15}, "(16, 8) in place of (1000000000000000, 8)"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_sizes_that_no_memory_holds_are_refused_before_anything_is_allocated(name: str, tmp_path: Path) -> None:
    base, changes, message = HOSTILE[name]
    folder = write_folder(tmp_path, base | changes, tensors_of(base))
    tracemalloc.start()
    try:
        with pytest.raises(HandgradError) as raised:
            handgrad.load(folder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert peak < 1e7  # it is a tenth of a megabyte; but at any time Python's own table of names may grow by two


@pytest.mark.skipif(sys.platform != "linux", reason="limits a process's memory")
@pytest.mark.parametrize("changes", [{}, {"sliding_window": 10**15}], ids=["context", "context and window"])
def test_a_context_without_end_costs_nothing(changes: Options, tmp_path: Path) -> None:
    """Only what is read takes memory: rotary positions have no table."""
    options = (LLAMA if not changes else LLAMA | {"model_type": "mistral", "architectures": None}) | changes
    folder = write_folder(tmp_path, options | {"max_position_embeddings": 10**15})
    script = """
        import resource, sys
        import handgrad
        model = handgrad.load(sys.argv[1])
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20), resource.RLIM_INFINITY))
        print(len(model.generate("a cat", 100, temperature=0)) > 0, model.generate_batch(["a", "b c"], 70) != [])
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(folder)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True True\n"


def header(entries: dict[str, Any]) -> bytes:
    content = json.dumps(entries).encode()
    return struct.pack("<Q", len(content)) + content


def lying(**entry: Any) -> bytes:
    """A file as it should be, but for an entry of its header."""
    content = safetensors.numpy.save(tensors_of(LLAMA))
    (size,) = struct.unpack("<Q", content[:8])
    entries = json.loads(content[8 : 8 + size])
    entries["model.norm.weight"] |= entry
    return header(entries) + content[8 + size :]


@pytest.mark.parametrize(
    "content",
    [
        lying(shape=[10**12]),
        lying(shape=[2**63, 2]),
        lying(shape=[-16]),
        lying(dtype="F64"),
        lying(dtype="X9"),
        lying(data_offsets=[0, 64]),
        lying(data_offsets=[0, 10**15]),
        lying(data_offsets=[64, 0]),
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 10**9),
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"\xff\xfe\xfd\xfc",
        header({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}),
        b"",
        b"\x80\x04N.",
    ],
    ids=lambda content: repr(content[:1] + content[-12:]),
)
def test_headers_that_lie_are_refused(content: bytes, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, LLAMA)
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=r"model\.safetensors: not a whole safetensors file: ") as raised:
        handgrad.load(folder)
    assert "\n" not in str(raised.value)


def test_a_file_that_ends_early_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, LLAMA)
    content = (folder / "model.safetensors").read_bytes()
    for size in (4, 100, 3000, len(content) - 1):
        (folder / "model.safetensors").write_bytes(content[:size])
        with pytest.raises(WeightsError, match="not a whole safetensors file"):
            handgrad.load(folder)


class Trap:
    """Its pickle makes a file where it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.bin"])
def test_a_pickle_is_refused_and_never_opened(name: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", LLAMA)
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Trap(tmp_path / "opened")))
    with pytest.raises(WeightsError, match=r"model: has no model\.safetensors; a pickle \(\*\.bin\) can run code, and"):
        handgrad.load(folder)
    assert not (tmp_path / "opened").exists()
    pickle.loads((folder / name).read_bytes())
    assert (tmp_path / "opened").exists()


def test_code_beside_the_weights_does_not_run(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", LLAMA | {"auto_map": {"AutoModelForCausalLM": "modeling_x.Model"}})
    (folder / "modeling_x.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    (folder / "__init__.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    with pytest.raises(ConfigError, match=r"config\.json: auto_map: "):
        handgrad.load(folder)
    write_folder(folder, LLAMA)
    assert_same(handgrad.load(folder).parameters, as_ours(LLAMA, tensors_of(LLAMA)))
    assert not (tmp_path / "run").exists()


# the tokenizer


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, LLAMA)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(HandgradError, match=r"tokenizer\.json: no such file$"):
        handgrad.load(folder)


def test_a_tokenizer_may_have_fewer_tokens_but_not_more(tmp_path: Path) -> None:
    few, many = Tokenizer.of_characters("ab "), Tokenizer.of_characters(CHARACTERS + "0123")
    assert (few.vocabulary, many.vocabulary) == (3, 33)
    model = handgrad.load(write_folder(tmp_path / "few", LLAMA, tokenizer=few))
    assert model.config.vocabulary == 32
    assert model.logits(model.tokenizer.encode("ab")).shape == (2, 32)
    assert isinstance(model.generate("ab", 20, seed=1), str)  # tokens that stand for no text among them
    with pytest.raises(ConfigError, match=r"vocabulary: 32, but tokenizer\.json has 33$"):
        handgrad.load(write_folder(tmp_path / "many", LLAMA, tokenizer=many))


# export

SPECIAL = SpecialTokens(1, (2,))


def written(model: Model, folder: Path, dtype: str = "float32") -> Tensors:
    handgrad.export(model, folder, dtype)
    return safetensors.numpy.load_file(folder / "model.safetensors")


@pytest.mark.parametrize("name", MODELS)
def test_what_is_written_is_what_was_read(name: str, tmp_path: Path) -> None:
    options = MODELS[name] | {"bos_token_id": 1, "eos_token_id": [2, 3]}
    tensors = tensors_of(options)
    model = handgrad.load(write_folder(tmp_path / "theirs", options, tensors))
    found = written(model, tmp_path / "ours")
    assert found.keys() == tensors.keys()
    for key, x in tensors.items():
        assert found[key].dtype == np.float32
        np.testing.assert_array_equal(found[key], x, err_msg=key)
    again = handgrad.load(tmp_path / "ours")
    assert (again.config, again.special) == (model.config, model.special)
    assert again.parameters.flat.tobytes() == model.parameters.flat.tobytes()
    assert again.tokenizer.to_json() == model.tokenizer.to_json()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_numbers_are_rounded_to_the_nearest(dtype: str, tmp_path: Path) -> None:
    """What a float32 becomes, bit by bit: ties go to the even one; what is that already stays as it is."""
    model = handgrad.load(write_folder(tmp_path / "theirs", LLAMA))
    found = written(model, tmp_path / "ours", dtype)
    bits = 10 if dtype == "float16" else 7
    for name, x in tensors_of(LLAMA).items():
        assert str(found[name].dtype) == dtype
        exponent = np.maximum(np.frexp(x.astype(np.float64))[1] - 1, -14 if dtype == "float16" else -126)
        unit = 2.0 ** (exponent - bits)
        np.testing.assert_array_equal(found[name].astype(np.float64), np.rint(x / unit) * unit, err_msg=name)
    again = handgrad.load(tmp_path / "ours")
    assert again.parameters.flat.dtype == np.float32
    twice = written(again, tmp_path / "twice", dtype)
    assert all(twice[name].tobytes() == x.tobytes() for name, x in found.items())
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["torch_dtype"] == dtype


def test_numbers_that_the_dtype_does_not_hold_are_refused(tmp_path: Path) -> None:
    model = handgrad.load(write_folder(tmp_path / "theirs", LLAMA))
    model.parameters["norm.gamma"][3] = -7e4
    with pytest.raises(WeightsError, match=r"^norm\.gamma: 70000 is more than float16 holds$"):
        handgrad.export(model, tmp_path / "ours", "float16")
    assert not (tmp_path / "ours").exists()
    assert written(model, tmp_path / "ours", "bfloat16")["model.norm.weight"][3] == BFLOAT16(-7e4)


def test_float64_is_rounded_once(tmp_path: Path) -> None:
    tensors = {name: x.astype(np.float64) * (1 + 1e-9) for name, x in tensors_of(LLAMA).items()}
    model = handgrad.load(write_folder(tmp_path / "theirs", LLAMA, tensors))
    found = written(model, tmp_path / "ours")
    for name, x in tensors.items():
        np.testing.assert_array_equal(found[name], x.astype(np.float32), err_msg=name)


def test_another_dtype_is_refused(tmp_path: Path) -> None:
    model = handgrad.load(write_folder(tmp_path / "theirs", LLAMA))
    with pytest.raises(HandgradError, match=r"^dtype: 'int8' is not one of float64, float32, float16, bfloat16$"):
        handgrad.export(model, tmp_path / "ours", "int8")
    assert not (tmp_path / "ours").exists()


def test_a_folder_that_is_not_empty_stays_as_it_was(tmp_path: Path) -> None:
    model = handgrad.load(write_folder(tmp_path / "theirs", LLAMA))
    for name in ("config.json", ".hidden"):
        folder = tmp_path / f"with {name}"
        folder.mkdir()
        (folder / name).write_text("mine")
        with pytest.raises(HandgradError, match=rf"{re.escape(str(folder))}: is there already; choose another name$"):
            handgrad.export(model, folder)
        assert [path.name for path in folder.iterdir()] == [name]
        assert (folder / name).read_text() == "mine"
    with pytest.raises(HandgradError, match="is there already"):
        handgrad.export(model, folder / ".hidden")
    (tmp_path / "empty").mkdir()
    assert handgrad.export(model, tmp_path / "empty") == "LlamaForCausalLM"
    assert handgrad.export(model, tmp_path / "new" / "below") == "LlamaForCausalLM"


def test_what_has_no_counterpart_writes_nothing(tmp_path: Path) -> None:
    config = handgrad.ModelConfig(layers=1, heads=2, width=8, hidden=8, context=8, vocabulary=len(CHARACTERS))
    model = Model(config, Parameters(config), Tokenizer.of_characters(CHARACTERS))
    with pytest.raises(ConfigError, match="no model of transformers has this architecture"):
        handgrad.export(model, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


NONE = {"bos_token_id": None, "eos_token_id": None}


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("special", "generation", "tokens"),
    [
        ({}, {"bos_token_id": None, "eos_token_id": None}, {}),
        (
            {"bos_token_id": 1, "eos_token_id": 2},
            {"bos_token_id": 1, "eos_token_id": 2},
            {"bos_token": " ", "eos_token": "."},
        ),
        (
            {"eos_token_id": [2, 31, 3]},
            {"bos_token_id": None, "eos_token_id": [2, 31, 3]},
            {"eos_token": "."},
        ),
        ({"bos_token_id": 31}, {"bos_token_id": 31, "eos_token_id": None}, {}),  # a token without a text
    ],
)
def test_other_files_tell_transformers_of_the_tokens(
    special: Options, generation: Options, tokens: Options, tmp_path: Path
) -> None:
    handgrad.export(handgrad.load(write_folder(tmp_path / "theirs", LLAMA | NONE | special)), tmp_path / "ours")
    names = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    assert sorted(path.name for path in (tmp_path / "ours").iterdir()) == sorted(names)
    assert read(tmp_path / "ours" / "generation_config.json") == generation
    assert read(tmp_path / "ours" / "config.json").items() >= generation.items()
    assert read(tmp_path / "ours" / "tokenizer_config.json") == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 16,
        "clean_up_tokenization_spaces": False,
        **tokens,
    }


@pytest.mark.parametrize("file", range(5))
def test_a_full_disk_leaves_nothing(file: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = handgrad.load(write_folder(tmp_path / "theirs", QWEN3 | WINDOWED))
    calls = iter(range(100))

    def full_disk(descriptor: int) -> None:
        if next(calls) == file:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left") as raised:
        handgrad.export(model, tmp_path / "ours")
    assert Path(raised.value.filename).parent == tmp_path / "ours"
    assert list((tmp_path / "ours").iterdir()) == []
    assert handgrad.export(model, tmp_path / "ours") == "Qwen3ForCausalLM"


def test_generation_config_stands_in_for_the_special_tokens_of_the_config(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, LLAMA | {"bos_token_id": 3, "eos_token_id": 4})
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 99]}), encoding="utf-8")
    assert handgrad.load(folder).special == (3, (2,))  # 99 is above all tokens


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    tensors = tensors_of(LLAMA)
    folder = write_folder(tmp_path, LLAMA, tensors)
    (folder / "model.safetensors").unlink()
    for name in ("a", "b"):
        safetensors.numpy.save_file(tensors, folder / f"{name}.safetensors")
    places = {name: ("a" if n % 2 else "b") + ".safetensors" for n, name in enumerate(tensors)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}), encoding="utf-8")
    with pytest.raises(WeightsError, match=r"b\.safetensors: \S+ is in a\.safetensors too$"):
        handgrad.load(folder)


def test_without_its_embedding_a_folder_lacks_just_that(tmp_path: Path) -> None:
    tensors = {name: x for name, x in tensors_of(LLAMA).items() if name != "model.embed_tokens.weight"}
    with pytest.raises(WeightsError, match=r"tensors missing: model\.embed_tokens\.weight \(32, 16\)$"):
        handgrad.load(write_folder(tmp_path, LLAMA, tensors))


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"eos_token_id": [2, "x"]}', 'eos_token_id: [2, "x"] is not a token'), ("{", "not JSON: ")],
)
def test_what_is_wrong_in_generation_config_is_said_to_be_there(content: str, message: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, LLAMA)
    (folder / "generation_config.json").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        handgrad.load(folder)
    assert str(raised.value).startswith(f"{folder / 'generation_config.json'}: {message}")


@pytest.mark.parametrize(("value", "what"), [(np.nan, "nan"), (-np.inf, "infinity")])
def test_weights_that_are_not_finite_are_named(value: float, what: str, tmp_path: Path) -> None:
    tensors = tensors_of(LLAMA)
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name] = tensors[name].copy()
    tensors[name][3, 2] = value
    folder = write_folder(tmp_path, LLAMA, tensors)
    with pytest.raises(WeightsError) as raised:
        handgrad.load(folder)
    assert str(raised.value) == f"{folder / 'model.safetensors'}: {name} has {what} among its numbers"


def test_a_pointer_of_git_lfs_is_known(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, LLAMA)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (folder / "model.safetensors").write_text(pointer, encoding="utf-8")
    with pytest.raises(WeightsError, match=r"model\.safetensors: stands for a file in Git LFS; `git lfs pull` "):
        handgrad.load(folder)


def test_a_tokenizer_in_another_form_is_told(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, LLAMA)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(HandgradError, match=r"tokenizer\.json: no such file$"):
        handgrad.load(folder)
    (folder / "tokenizer.model").write_bytes(b"")
    with pytest.raises(TextError, match=r"tokenizer\.json: no such file, and tokenizer\.model is not read; .*save_pre"):
        handgrad.load(folder)
