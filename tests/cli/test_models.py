"""Models of other programs in every command: trained further, checked, written, exported, and back."""

import hashlib
import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import handgrad
from handgrad.layers import rms_norm_backward
from handgrad.model import ModelConfig
from handgrad.training import evaluate, read_metrics, read_record
from handgrad.training.batches import training_batch
from handgrad.training.checkpoint import FILES
from handgrad.training.corpus import make_corpus, split

from ..interop.folders import GPT2, LLAMA, MODELS, QWEN3, write_folder
from .conftest import TEXT, Cli, Result

SHORT = ["--steps", "6", "--set", "evaluations=2", "--set", "batch=2", "--set", "length=8"]
SAME = (*FILES, "checksums.sha256", "sample.txt", "best/model.safetensors")
"""What the time that a run took does not show in."""
WITH_TORCH = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """A Hugging Face folder that knows the text's characters; read by its name, since the commands run beside it."""
    return write_folder(tmp_path / "llama", LLAMA).relative_to(tmp_path)


@pytest.fixture
def words(tmp_path: Path) -> str:
    (tmp_path / "words.txt").write_text(TEXT.replace(",", ""), encoding="utf-8")
    return "words.txt"


def line(result: Result) -> str:
    """The one line on standard error that says why nothing was done."""
    assert (result.status, result.output) == (2, "")
    assert re.fullmatch(r"handgrad: .+\n", result.errors)
    return result.errors.removeprefix("handgrad: ").rstrip("\n")


def done(result: Result) -> str:
    assert (result.status, result.errors) == (0, "")
    return result.output


def digests(run: Path) -> dict[str, str]:
    return {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in SAME}


# train --init


@pytest.mark.parametrize("name", ["GPT-2", "Llama", "Mistral", "Qwen 2", "Qwen 3"])
def test_training_goes_on_from_a_models_loss(name: str, cli: Cli, words: str) -> None:
    folder = write_folder(Path("model"), MODELS[name])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    options = ["--steps", "20", "--set", "length=8", "--set", "evaluations=1", "--set", "learning_rate=2e-2"]
    output = done(cli("train", "--init", folder, "--data", words, "--out", "run", *options))
    model, trained = handgrad.load(folder), handgrad.load("run")
    assert f"{model.parameters.flat.size:,} parameters, 32 tokens; " in output
    entries = read_metrics(Path("run"))
    held_out = evaluate(model, TEXT.replace(",", "")[-len(TEXT) // 10 :]).loss
    assert entries[0]["loss"] == pytest.approx(held_out, rel=0.3)  # the same kind of text
    assert entries[-1]["validation_loss"] < 0.8 * held_out
    assert trained.config == model.config
    assert trained.tokenizer.to_json() == model.tokenizer.to_json()
    assert trained.special == model.special
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_first_loss_is_that_of_the_model_on_the_first_batch(cli: Cli, llama: Path, words: str) -> None:
    done(cli("train", "--init", llama, "--data", words, "--out", "run", *SHORT))
    model = handgrad.load(llama)
    corpus = make_corpus(split([Path(words).read_text(encoding="utf-8")]), model.tokenizer, 8)
    loss, _ = model.loss_and_gradients(*training_batch(corpus.training, 8, 2, 0, 1))
    assert read_metrics(Path("run"))[0]["loss"] == pytest.approx(loss, rel=1e-5)


def test_a_run_that_was_broken_off_ends_with_the_same_bytes(cli: Cli, llama: Path, words: str) -> None:
    done(cli("train", "--init", llama, "--data", words, "--out", "whole", *SHORT))
    stopped = cli("train", "--init", llama, "--data", words, "--out", "run", *SHORT, "--minutes", "1e-9")
    assert "time is up after step 1" in done(stopped)
    (llama / "model.safetensors").unlink()  # the checkpoint has all that it takes
    assert "going on after step 1 of 6" in done(cli("train", "--resume", "run"))
    assert digests(Path("run")) == digests(Path("whole"))


def begin(run: Path) -> None:
    """As a run is that was broken off before its first checkpoint."""
    for name in FILES:
        if name != "training.json":
            (run / name).unlink()
    for name in ("previous", "best"):
        shutil.rmtree(run / name, ignore_errors=True)
    for name in ("checksums.sha256", "metrics.jsonl", "sample.txt", "loss.svg"):
        (run / name).unlink(missing_ok=True)


def test_before_the_first_checkpoint_it_is_the_model_that_is_read_again(cli: Cli, llama: Path, words: str) -> None:
    done(cli("train", "--init", llama, "--data", words, "--out", "whole", *SHORT))
    done(cli("train", "--init", llama, "--data", words, "--out", "run", *SHORT, "--minutes", "1e-9"))
    begin(Path("run"))
    done(cli("train", "--resume", "run"))
    assert digests(Path("run")) == digests(Path("whole"))


@pytest.mark.parametrize("change", ["weights", "gone"])
def test_before_the_first_checkpoint_another_model_is_refused(change: str, cli: Cli, llama: Path, words: str) -> None:
    done(cli("train", "--init", llama, "--data", words, "--out", "run", *SHORT, "--minutes", "1e-9"))
    begin(Path("run"))
    if change == "gone":
        llama.rename("elsewhere")
        assert line(cli("train", "--resume", "run")) == f"{llama.resolve()}: no such folder"
        return
    content = bytearray((llama / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (llama / "model.safetensors").write_bytes(content)
    assert line(cli("train", "--resume", "run")) == f"{llama.resolve()}: not the model that the run began with"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "width=32"], "width: 32, but the model to start from has 16"),
        (["--set", "norm=layer"], "norm: 'layer', but the model to start from has 'rms'"),
        (["--set", "vocabulary=300"], "vocabulary: 300, but the model to start from has a tokenizer"),
        (["--tokenizer", "bytes"], "tokenizer: 'bytes', but the model to start from has a tokenizer"),
        (["--set", "length=17"], "length: 17 is above the model's context, 16"),
        (["--set", "widht=16"], "widht: unknown field; did you mean width? (value 16)"),
        (["--preset", "tiny"], "preset: not with --init; the model in llama has its own architecture"),
    ],
)
def test_what_the_model_decides_is_refused(options: list[str], message: str, cli: Cli, llama: Path, words: str) -> None:
    assert line(cli("train", "--init", llama, "--data", words, "--out", "run", *options)) == message
    assert not Path("run").exists()


def test_what_the_model_has_may_be_said_again(cli: Cli, llama: Path, words: str) -> None:
    same = ["--set", "width=16", "--set", "norm=rms", "--set", "layers=2"]
    done(cli("train", "--init", llama, "--data", words, "--out", "run", *SHORT, *same))


def test_a_folder_that_is_no_model_and_a_text_that_it_cannot_read_are_refused(cli: Cli, llama: Path) -> None:
    assert line(cli("train", "--init", "nowhere", "--out", "run")) == "nowhere: no such folder"
    Path("other.txt").write_text("the © cat\n" * 50, encoding="utf-8")
    assert line(cli("train", "--init", llama, "--data", "other.txt", "--out", "run")).startswith(
        "other.txt: character '©' (position 4) is not in the model's vocabulary"
    )
    assert line(cli("train", "--resume", "run", "--init", llama)) == (
        "--init: not with --resume; the run's own settings decide"
    )


def test_info_says_what_a_run_started_from(cli: Cli, llama: Path, words: str) -> None:
    done(cli("train", "--init", llama, "--data", words, "--out", "run", *SHORT))
    rows = {" ".join(row.split()) for row in done(cli("info", "run")).splitlines()}
    (row,) = (row for row in rows if row.startswith("started from"))
    assert row.startswith(f"started from {llama.resolve()}"[:60])
    assert not any(row.startswith("preset") for row in rows)
    record = read_record(Path("run"))
    assert (record.preset, record.init and record.init.folder) == ("", str(llama.resolve()))
    assert not any("started from" in row for row in done(cli("info", llama)).splitlines())


def test_ones_own_run_may_be_what_a_run_starts_from(cli: Cli, trained: Path, text: Path) -> None:
    for folder in (trained, trained / "best"):
        out = Path(f"from-{folder.name}")
        done(cli("train", "--init", folder, "--data", text.name, "--out", out, *SHORT))
        assert handgrad.load(out).config == handgrad.load(folder).config
        last = read_metrics(trained)[-1]["validation_loss"]
        assert read_metrics(out)[0]["loss"] < 1.3 * last


# export


def test_a_run_is_exported_and_back(cli: Cli, llama: Path, words: str) -> None:
    done(cli("train", "--init", llama, "--data", words, "--out", "run", *SHORT))
    output = done(cli("export", "run", "--out", "ours"))
    assert output == (
        "ours: LlamaForCausalLM, float32. In Python:\n"
        "  transformers.AutoModelForCausalLM.from_pretrained('ours')\n"
        "  transformers.PreTrainedTokenizerFast.from_pretrained('ours')\n"
    )
    run, again = handgrad.load("run"), handgrad.load("ours")
    assert again.config == run.config
    assert again.parameters.flat.tobytes() == run.parameters.flat.tobytes()
    assert again.parameters.flat.tobytes() != handgrad.load(llama).parameters.flat.tobytes()
    written = [done(cli("generate", folder, "--tokens", 30, "--temperature", 0)) for folder in ("run", "ours")]
    assert written[0] == written[1]
    done(cli("export", "ours", "--out", "half", "--dtype", "bfloat16"))
    assert json.loads(Path("half/config.json").read_text())["torch_dtype"] == "bfloat16"
    assert line(cli("export", "run", "--out", "ours")) == "ours: is there already; choose another name"


def test_a_run_of_the_course_has_no_counterpart(cli: Cli, trained: Path) -> None:
    assert line(cli("export", trained, "--out", "theirs")) == (
        "no model of transformers has this architecture; the nearest, gpt2, has "
        "feed_forward gelu (here swiglu), attention_bias all (here none)"
    )
    assert not Path("theirs").exists()


def test_a_fresh_run_of_gpt2s_architecture_has_one(cli: Cli, text: Path) -> None:
    fields = ["layers=1", "heads=2", "width=8", "hidden=8", "context=8", "feed_forward=gelu", "attention_bias=all"]
    options = [x for field in fields for x in ("--set", field)]
    done(cli("train", "--data", text.name, "--out", "run", *SHORT, *options))
    assert "GPT2LMHeadModel" in done(cli("export", "run", "--out", "theirs"))
    assert handgrad.load("theirs").config == handgrad.load("run").config


def test_a_run_of_nanogpts_architecture_has_no_bias_and_no_counterpart(cli: Cli, text: Path) -> None:
    fields = ["layers=1", "heads=2", "width=8", "hidden=8", "context=8", "feed_forward=gelu", "bias=false", "tied=true"]
    options = [x for field in [*fields, "init=normal"] for x in ("--set", field)]
    done(cli("train", "--data", text.name, "--out", "run", *SHORT, *options))
    kinds = {name.rpartition(".")[2] for name in handgrad.load("run").parameters}
    assert kinds == {"token", "position", "gamma", "w_q", "w_k", "w_v", "w_o", "w_up", "w_down"}
    done(cli("check", "run"))
    assert line(cli("export", "run", "--out", "theirs")) == (
        "no model of transformers has this architecture; the nearest, gpt2, has "
        "attention_bias all (here none), bias True (here False)"
    )
    assert not Path("theirs").exists()


# generate


def test_several_prompts_are_printed_one_after_the_other(cli: Cli, llama: Path) -> None:
    options = ["--tokens", "12", "--temperature", "0"]
    alone = [done(cli("generate", llama, "--prompt", prompt, *options)) for prompt in ("a cat", "the")]
    assert all(text.startswith(prompt) for text, prompt in zip(alone, ("a cat", "the"), strict=True))
    together = done(cli("generate", llama, "--prompt", "a cat", "--prompt", "the", *options))
    assert together == "".join(f"{text}\n" for text in alone)


def test_the_first_of_several_prompts_has_the_seeds_own_text(cli: Cli, llama: Path) -> None:
    options = ["--tokens", "12", "--seed", "3"]
    alone = done(cli("generate", llama, "--prompt", "a cat", *options))
    together = done(cli("generate", llama, "--prompt", "a cat", "--prompt", "a cat", *options))
    assert together.startswith(f"{alone}\na cat")
    assert together != f"{alone}\n{alone}\n"
    assert together == done(cli("generate", llama, "--prompt", "a cat", "--prompt", "a cat", *options))


def test_a_stop_ends_each_of_several_prompts(cli: Cli, llama: Path) -> None:
    options = ["--tokens", "12", "--temperature", "0"]
    model = handgrad.load(llama)
    prompts = ["a cat", "the"]
    whole = model.generate_batch(prompts, 12, temperature=0.0)
    stop = whole[0][3]
    expected = "".join(f"{prompt}{text.partition(stop)[0]}\n\n" for prompt, text in zip(prompts, whole, strict=True))
    assert done(cli("generate", llama, "--prompt", "a cat", "--prompt", "the", "--stop", stop, *options)) == expected


def test_a_prompt_among_several_that_cannot_be_read_is_refused(cli: Cli, llama: Path) -> None:
    assert line(cli("generate", llama, "--prompt", "a cat", "--prompt", "a ©at")).startswith(
        "--prompt: character '©' (position 2) is not in the model's vocabulary"
    )


# check


@pytest.mark.parametrize("name", MODELS)
def test_a_models_gradients_are_proved_at_its_weights(name: str, cli: Cli) -> None:
    folder = write_folder(Path("model"), MODELS[name])
    count = len(handgrad.load(folder).parameters)
    output = done(cli("check", folder))
    assert f"{count} gradients against the complex step, each along a random direction: all proved" in output
    assert output.count(" proved\n") == count
    assert "embedding.token" in output


def test_a_wrong_gradient_of_a_model_ends_with_status_1(cli: Cli, llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments: Any) -> Any:
        dx, dgamma = rms_norm_backward(*arguments)
        return dx, dgamma * (1 + 1e-10)

    monkeypatch.setattr("handgrad.model.norm.rms_norm_backward", wrong)
    result = cli("check", llama)
    assert (result.status, result.errors) == (1, "")
    wrong_ones = re.findall(r"(\S+) +\S+ +\S+ +WRONG", result.output)
    assert wrong_ones == [name for name in handgrad.load(llama).parameters if "norm" in name]
    assert "5 wrong" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layer", "block"], "--layer: not with a model; leave out llama"),
        (["--mutations"], "--mutations: not with a model; leave out llama"),
    ],
)
def test_what_a_model_has_no_use_for_is_refused(options: list[str], message: str, cli: Cli, llama: Path) -> None:
    assert line(cli("check", llama, *options)) == message


def test_a_folder_that_is_not_supported_is_refused_by_every_command(cli: Cli, words: str) -> None:
    folder = write_folder(Path("model"), QWEN3 | {"hidden_act": "relu"})
    for command in (["check"], ["info"], ["generate"], ["evaluate", "--data", words], ["export", "--out", "x"]):
        assert line(cli(command[0], folder, *command[1:])).startswith(
            'model/config.json: hidden_act: "relu" is not supported'
        )
    assert line(cli("train", "--init", folder, "--data", words)).startswith("model/config.json: hidden_act: ")


@WITH_TORCH
@pytest.mark.parametrize("name", ["GPT-2", "Llama 3", "Mistral", "Qwen 2, window", "Qwen 3"])
def test_a_models_values_and_gradients_are_those_of_pytorch(name: str, cli: Cli) -> None:
    folder = write_folder(Path("model"), MODELS[name])
    output = done(cli("check", folder, "--against", "torch"))
    count = len(handgrad.load(folder).parameters)
    assert f"{count + 1} values and gradients against PyTorch: all proved" in output


@WITH_TORCH
def test_a_models_forward_that_is_wrong_is_seen_by_pytorch(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which no complex step sees: the value is wrong, and its gradients are right for it."""
    folder = write_folder(Path("model"), GPT2)
    monkeypatch.setattr(ModelConfig, "window_of", lambda self, block: 3)
    done(cli("check", folder))
    result = cli("check", folder, "--against", "torch")
    assert (result.status, result.errors) == (1, "")
    assert "WRONG" in result.output


def test_without_pytorch_a_line_says_how_to_get_it(cli: Cli, llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    result = cli("check", llama, "--against", "torch")
    assert result.status == 2
    assert re.fullmatch(r"handgrad: PyTorch is not installed; .*'handgrad\[parity\]'.*\n", result.errors)


def test_what_a_folder_is_called_inside_never_reaches_the_terminal_as_it_is(cli: Cli, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "odd", LLAMA | {"a\nb\x1b[2J": 1})
    result = cli("info", folder)
    assert result.status == 2
    assert result.errors == f"handgrad: {folder / 'config.json'}: a\\nb\\x1b[2J: 1 is not supported\n"
