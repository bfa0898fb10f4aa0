"""The model as a user holds it: the Python interface, its folder, and every way in which a folder can be wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import handgrad
from handgrad.errors import ConfigError, HandgradError, TextError, WeightsError
from handgrad.files import write_atomically
from handgrad.layers import cross_entropy_forward
from handgrad.model import Model, ModelConfig, Parameters, Tokenizer, generate_tokens, initial_parameters

TEXT = "hand\ngrad"
CONFIG = ModelConfig(layers=2, heads=2, width=8, hidden=12, context=6, vocabulary=len(set(TEXT)))


@pytest.fixture
def model() -> Model:
    parameters = initial_parameters(CONFIG, seed=1)
    parameters.flat *= 3
    return Model(CONFIG, parameters, Tokenizer.of_characters(TEXT))


@pytest.fixture
def folder(model: Model, tmp_path: Path) -> Path:
    model.save(tmp_path / "run")
    return tmp_path / "run"


def test_a_folder_gives_the_same_model_back(model: Model, folder: Path) -> None:
    loaded = handgrad.load(folder)
    assert loaded.config == model.config
    np.testing.assert_array_equal(loaded.parameters.flat, model.parameters.flat)
    assert loaded.parameters.flat.dtype == np.float32
    assert loaded.generate("grand", 30, seed=1) == model.generate("grand", 30, seed=1)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "handgrad"
    assert sorted(path.name for path in folder.iterdir()) == [
        "checksums.sha256",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]


def test_a_folder_is_made_with_its_parents_and_can_be_written_again(model: Model, tmp_path: Path) -> None:
    for _ in range(2):
        model.save(tmp_path / "a" / "b")
    assert handgrad.load(tmp_path / "a" / "b").config == CONFIG


def test_the_file_of_weights_has_the_parameters_by_their_names(model: Model, folder: Path) -> None:
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    assert tensors.keys() == model.parameters.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, model.parameters[name])


def test_float64_weights_stay_float64(model: Model, tmp_path: Path) -> None:
    in_float64 = Model(CONFIG, initial_parameters(CONFIG, dtype=np.float64), model.tokenizer)
    in_float64.save(tmp_path / "64")
    assert handgrad.load(tmp_path / "64").parameters.flat.dtype == np.float64


def test_the_loss_falls_as_its_gradients_say(model: Model) -> None:
    model = Model(CONFIG, Parameters(CONFIG, model.parameters.flat.astype(np.float64)), model.tokenizer)
    tokens, targets = model.tokenizer.encode("hand"), model.tokenizer.encode("and\n")
    loss, gradients = model.loss_and_gradients(tokens, targets)
    assert loss == pytest.approx(float(cross_entropy_forward(model.logits(tokens), targets)[0]))
    assert gradients.keys() == model.parameters.keys()
    moved = Model(CONFIG, Parameters(CONFIG, model.parameters.flat - 1e-10 * gradients.flat), model.tokenizer)
    fall = loss - moved.loss_and_gradients(tokens, targets)[0]
    assert fall == pytest.approx(1e-10 * sum((gradient**2).sum() for gradient in gradients.values()), rel=1e-3)


def test_one_sequence_or_a_batch(model: Model) -> None:
    tokens = [[0, 1, 2], [3, 4, 5]]
    assert model.logits(tokens).shape == (2, 3, CONFIG.vocabulary)
    np.testing.assert_allclose(model.logits(tokens)[1], model.logits(tokens[1]), rtol=1e-5)
    np.testing.assert_array_equal(model.logits(np.array(tokens, np.uint8)), model.logits(tokens))
    loss, _ = model.loss_and_gradients(tokens, [[1, 2, -100], [4, 5, 0]])
    assert np.isfinite(loss)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([0, 7], "tokens: 7 is not a token from 0 to 6"),
        ([-1], "tokens: -1 is not a token from 0 to 6"),
        ([0.5], r"tokens: shape \(1,\), dtype float64; expected integers"),
        ([], r"tokens: shape \(0,\)"),
        (np.zeros(0, int), r"tokens: shape \(0,\), dtype int64; expected integers, .* at least one"),
        ([[1], [2, 3]], "tokens: sequences of different lengths"),
        ([[[1]]], r"tokens: shape \(1, 1, 1\)"),
        ([0] * 7, "tokens: 7 positions; the model's context is 6"),
    ],
)
def test_tokens_that_mean_nothing_are_refused(model: Model, tokens: Any, message: str) -> None:
    with pytest.raises(HandgradError, match=f"^{message}"):
        model.logits(tokens)


def test_targets_must_fit_the_tokens(model: Model) -> None:
    with pytest.raises(HandgradError, match=r"^targets: shape \(1,\) differs from that of tokens, \(2,\)"):
        model.loss_and_gradients([0, 1], [1])
    with pytest.raises(HandgradError, match=r"^targets: -1 is not a token"):
        model.loss_and_gradients([0, 1], [1, -1])


def test_generate_begins_a_line_where_there_is_no_prompt(model: Model) -> None:
    assert model.generate(tokens=12, seed=2) == model.generate("\n", tokens=12, seed=2)
    assert len(model.generate(tokens=12, seed=2)) == 12
    assert "".join(model.generate_stream(tokens=12, seed=2)) == model.generate(tokens=12, seed=2)


@pytest.mark.parametrize(
    "sampling", [{}, {"temperature": 0.1}, {"temperature": 9.0}, {"top_k": 1}, {"top_k": 2}, {"top_p": 0.5}], ids=str
)
def test_generate_hands_the_sampling_on(model: Model, sampling: dict[str, Any]) -> None:
    prompt = model.tokenizer.encode("h")
    drawn = generate_tokens([prompt], model.parameters.tree, CONFIG, tokens=40, seed=5, **sampling)
    assert model.generate("h", 40, seed=5, **sampling) == model.tokenizer.decode(token for _, token in drawn)


def test_generate_begins_with_token_0_where_there_are_no_lines() -> None:
    tokenizer = Tokenizer.of_characters("abc")
    config = ModelConfig(**{**CONFIG.to_dict(), "vocabulary": 3})
    model = Model(config, initial_parameters(config), tokenizer)
    assert model.generate(tokens=30, seed=1) == model.generate("a", tokens=30, seed=1)
    assert model.generate(tokens=30, seed=1) != model.generate("b", tokens=30, seed=1)


def test_an_unknown_character_in_a_prompt_is_named(model: Model) -> None:
    with pytest.raises(TextError, match=r"^character 'é' \(position 3\) is not in the model's vocabulary; "):
        model.generate("hané")


def test_generate_refuses_at_the_call_and_not_at_the_first_token(model: Model) -> None:
    with pytest.raises(HandgradError, match=r"^temperature"):
        model.generate_stream("h", temperature=-1.0)
    with pytest.raises(HandgradError, match=r"^tokens: 0"):
        model.generate_stream("h", tokens=0)


def test_weights_that_are_not_finite_write_nothing(model: Model) -> None:
    model.parameters["head.w_lm"][...] = np.nan
    with pytest.raises(HandgradError, match=r"^the model's logits are not finite"):
        model.generate("h")


def test_parameters_say_what_they_are(model: Model) -> None:
    assert repr(model.parameters) == f"Parameters(27 tensors, {model.parameters.flat.size:,} numbers, float32)"


def test_characters_are_tokens_and_back() -> None:
    text = "a\r\n\n\n\t é√\U0001f600 a"
    tokenizer = Tokenizer.of_characters(text)
    assert tokenizer.vocabulary == len(set(text))
    assert tokenizer.encode(text).tolist() == [sorted(set(text)).index(character) for character in text]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert "".join(tokenizer.decode_stream(tokenizer.encode(text))) == text


def rewrite_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rewrite_weights(folder: Path, **changes: Any) -> None:
    """Change tensors by name (`__` for a dot); None removes one."""
    path = folder / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    for name, tensor in changes.items():
        tensors[name.replace("__", ".")] = tensor
    safetensors.numpy.save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)


def truncate(folder: Path, name: str, size: int) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:size])


WRONG: dict[str, tuple[Callable[[Path], Any], type[HandgradError], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), HandgradError, "config.json: no such file"),
    "half a config": (lambda f: truncate(f, "config.json", 40), ConfigError, "config.json: not JSON: "),
    "not UTF-8": (
        lambda f: (f / "config.json").write_bytes(b"{\xff}"),
        HandgradError,
        "config.json: not UTF-8 (byte 1)",
    ),
    "a folder": (
        lambda f: (f / "config.json").rename(f / "old").with_name("config.json").mkdir(),
        HandgradError,
        "config.json: is a folder",
    ),
    "a number of 5000 digits": (
        lambda f: (f / "config.json").write_text(f'{{"layers": {"9" * 5000}}}'),
        ConfigError,
        "config.json: not JSON: ",
    ),
    "nested without end": (
        lambda f: (f / "config.json").write_text("[" * 100_000),
        ConfigError,
        "config.json: not JSON: ",
    ),
    "a list": (lambda f: (f / "config.json").write_text("[]"), ConfigError, "config.json: not a JSON object"),
    "another model": (
        lambda f: rewrite_config(f, model_type="bert"),
        ConfigError,
        'model_type: "bert" is not supported; there are handgrad, gpt2, llama, mistral, qwen2, qwen3',
    ),
    "contradiction": (
        lambda f: rewrite_config(f, heads=3),
        ConfigError,
        "config.json: heads: 3 does not divide width 8",
    ),
    "unknown field": (lambda f: rewrite_config(f, dropout=0.1), ConfigError, "config.json: dropout: unknown field"),
    "wrong type": (
        lambda f: rewrite_config(f, layers="2"),
        ConfigError,
        "config.json: layers: '2' is not a whole number",
    ),
    "vocabulary": (lambda f: rewrite_config(f, vocabulary=6), ConfigError, "vocabulary: 6, but tokenizer.json has 7"),
    "too few tensors": (lambda f: rewrite_config(f, layers=9999), WeightsError, "27 tensors: too few for layers"),
    "more layers": (lambda f: rewrite_config(f, layers=3), WeightsError, "missing tensor blocks.2.attention.w_k, "),
    "fewer layers": (lambda f: rewrite_config(f, layers=1), WeightsError, "unexpected tensor blocks.1.attention.w_k, "),
    "another hidden": (
        lambda f: rewrite_config(f, hidden=10**9),
        WeightsError,
        "blocks.0.feed_forward.w_gate has shape (8, 12); the config says (8, 1000000000)",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), WeightsError, "model.safetensors: no such file"),
    "truncated": (lambda f: truncate(f, "model.safetensors", 5000), WeightsError, "not a whole safetensors file"),
    "header cut": (lambda f: truncate(f, "model.safetensors", 100), WeightsError, "not a whole safetensors file"),
    "empty": (lambda f: truncate(f, "model.safetensors", 0), WeightsError, "not a whole safetensors file"),
    "a tensor less": (lambda f: rewrite_weights(f, norm__beta=None), WeightsError, "missing tensor norm.beta"),
    "a tensor more": (
        lambda f: rewrite_weights(f, extra=np.zeros(1, np.float32)),
        WeightsError,
        "unexpected tensor extra",
    ),
    "two dtypes": (
        lambda f: rewrite_weights(f, norm__beta=np.zeros(8)),
        WeightsError,
        "tensors of dtype F32, F64; expected all F32 or all F64",
    ),
    "integers": (
        lambda f: rewrite_weights(f, norm__beta=np.zeros(8, np.int32)),
        WeightsError,
        "tensors of dtype F32, I32; expected all F32 or all F64",
    ),
    "tokens out of range": (
        lambda f: (f / "tokenizer.json").write_text((f / "tokenizer.json").read_text().replace('"g": 3', '"g": 300')),
        ConfigError,
        "vocabulary: 7, but tokenizer.json has 301",
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), HandgradError, "tokenizer.json: no such file"),
    "half a tokenizer": (
        lambda f: truncate(f, "tokenizer.json", 200),
        TextError,
        "tokenizer.json: not a tokenizer file",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_folder_is_one_clear_line(name: str, folder: Path) -> None:
    damage, kind, message = WRONG[name]
    damage(folder)
    with pytest.raises(kind) as raised:
        handgrad.load(folder)
    assert message in str(raised.value)
    assert str(raised.value).startswith(str(folder))
    assert "\n" not in str(raised.value)


def test_a_path_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(HandgradError, match=r"nowhere: no such folder$"):
        handgrad.load(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(HandgradError, match=r"file: not a folder$"):
        handgrad.load(tmp_path / "file")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
