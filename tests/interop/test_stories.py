"""A Llama of 260,032 parameters that somebody else trained: it writes what its makers say, and all commands work."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import handgrad
from handgrad.model import Decoder, Model, Parameters
from handgrad.proof import relative_error

MODELS = os.environ.get("HANDGRAD_MODELS")
STORIES = Path(MODELS or "", "stories260K").resolve()
PROMPTS = ["Once upon a time", "Lily and Tom", "The", "One day, a small dog saw a cat in the big green park and said"]
TEXT = "Once upon a time, there was a little girl named Lily. She loved to play.\n"

pytestmark = pytest.mark.skipif(not MODELS, reason="HANDGRAD_MODELS names no folder of models")


@pytest.fixture(scope="module")
def model() -> Model:
    return handgrad.load(STORIES)


@pytest.fixture(scope="module")
def wide(model: Model) -> Model:
    """The same in float64, where rounding decides no token."""
    return replace(model, parameters=Parameters(model.config, model.parameters.flat.astype(np.float64)))


def command(*arguments: str | Path, folder: Path | None = None) -> bytes:
    """What a command prints."""
    whole = [sys.executable, "-m", "handgrad", *map(str, arguments)]
    done = subprocess.run(whole, capture_output=True, check=False, cwd=folder)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def test_it_writes_what_its_makers_say() -> None:
    expected = (STORIES / "expected_greedy_200.txt").read_bytes()
    assert command("generate", STORIES, "--tokens", "200", "--temperature", "0") == expected + b"\n"


def test_what_its_makers_say_is_of_200_tokens(model: Model) -> None:
    expected = (STORIES / "expected_greedy_200.txt").read_text(encoding="utf-8")
    assert model.parameters.flat.dtype == np.float32
    assert model.generate(tokens=200, temperature=0.0) == expected
    assert model.generate(tokens=520, temperature=0.0).startswith(expected)  # more than the context
    begun = expected[: expected.index(" One day")]
    assert expected.startswith(begun + model.generate(begun, 50, temperature=0.0))


def test_info_evaluate_and_check(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT * 4, encoding="utf-8")
    info = command("info", STORIES).decode()
    assert f"{260_032:,}" in info
    (row,) = (x for x in command("evaluate", STORIES, "--data", "text.txt", folder=tmp_path).decode().splitlines()[1:])
    assert 0 < float(row.split()[2]) < 1.5  # nats a token
    checked = command("check", STORIES).decode()
    assert "47 gradients against the complex step, each along a random direction: all proved" in checked
    assert "WRONG" not in checked


def test_trace(model: Model, tmp_path: Path) -> None:
    printed = command("trace", STORIES, "--text", TEXT, folder=tmp_path).decode()
    found = safetensors.numpy.load_file(tmp_path / "trace.safetensors")
    tokens = model.tokenizer.encode(TEXT)
    assert found["tokens"].tolist() == [tokens[:-1].tolist()]
    loss, gradients = model.loss_and_gradients(tokens[:-1], tokens[1:])
    assert float(printed.partition("\nloss ")[2].split()[0]) == pytest.approx(loss, rel=1e-5)
    for name, gradient in gradients.items():
        assert relative_error(found[f"gradients/{name}"], gradient.astype(np.float64)) < 1e-4


def test_kept_keys_and_values_change_nothing(wide: Model) -> None:
    tokens = wide.tokenizer.encode(TEXT * 14)[:300]
    whole = wide.logits(tokens)
    decoder = Decoder(wide.parameters.tree, wide.config)
    start = 0
    for end in (1, 2, 3, 50, 51, 64, 65, 130, 299, 300):
        found = decoder.read(tokens[None, start:end])
        assert relative_error(found[0], whole[end - 1]) < 1e-12
        start = end


def test_several_prompts_are_written_as_each_alone(model: Model) -> None:
    together = model.generate_batch(PROMPTS, 60, temperature=0.0)
    assert together == [model.generate(prompt, 60, temperature=0.0) for prompt in PROMPTS]
    assert len(set(together)) == len(PROMPTS)
    prompts = [x for prompt in PROMPTS for x in ("--prompt", prompt)]
    printed = command("generate", STORIES, "--tokens", "60", "--temperature", "0", *prompts).decode()
    assert printed == "".join(f"{prompt}{text}\n\n" for prompt, text in zip(PROMPTS, together, strict=True))


@pytest.mark.parametrize("prompt", ["", "Once", "Once ", "Once upon a", 'Lily said, "', "She saw a\n"])
def test_pieces_are_the_text_with_its_spaces(prompt: str, model: Model) -> None:
    """What the pieces add up to is what comes of all tokens at once."""
    pieces = list(model.generate_stream(prompt, 40, temperature=0.0))
    start = model.tokenizer.encode(prompt) if prompt else np.array([1])
    drawn = model.generate(prompt, 40, temperature=0.0)
    whole = prompt + drawn
    assert "".join(pieces) == drawn
    assert len(pieces) > 20
    assert model.tokenizer.decode(start) == prompt
    assert "  " not in whole
    assert model.tokenizer.decode(model.tokenizer.encode(whole)) == whole


def test_a_space_before_the_first_word_is_there(model: Model) -> None:
    assert model.generate("Once upon a", 4, temperature=0.0).startswith(" time")
    assert next(model.generate_stream("Once upon a", 4, temperature=0.0)).startswith(" ")


@pytest.mark.parametrize("text", ["Zoë's café", "日本 and €5", "a 🙂🙃 b", "ﷺ́"])
def test_characters_of_several_bytes_come_whole(text: str, model: Model) -> None:
    tokens = model.tokenizer.encode(text)
    assert len(tokens) > len(text)  # bytes, which no token of this vocabulary puts together
    pieces = list(model.tokenizer.decode_stream(tokens))
    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces)
    for at in range(2, len(tokens)):  # after a prompt that may end within a character
        before = model.tokenizer.decode(tokens[:at])
        if "\ufffd" not in before:
            assert before + "".join(model.tokenizer.decode_stream(tokens[at:], tokens[:at])) == text


def test_bytes_that_are_no_text_end_no_stream(model: Model) -> None:
    """Drawn at random: a byte may follow that spoils what the library makes of the bytes before it."""
    generator = np.random.default_rng(0)
    byte_tokens = np.arange(3, 259)
    assert [model.tokenizer.inner.id_to_token(int(x)) for x in byte_tokens[[0, 255]]] == ["<0x00>", "<0xFF>"]
    for _ in range(200):
        tokens = np.where(
            generator.random(40) < 0.5, generator.choice(byte_tokens, 40), generator.integers(259, 512, 40)
        )
        text = "".join(model.tokenizer.decode_stream(tokens))
        runs = (model.tokenizer.decode([token]) for token in tokens if token >= 259)
        assert all(run in text for run in runs)


def test_a_byte_that_spoils_a_character_leaves_it_as_it_was_written(model: Model) -> None:
    byte_of = {byte: 3 + byte for byte in range(256)}
    tokens = [byte_of[byte] for byte in "日".encode() + b"\xff"]
    day = model.tokenizer.encode(" day")[-1]
    assert list(model.tokenizer.decode_stream([*tokens, day])) == ["日", "\ufffd day"]
