"""What a loss is measured by, and what a model takes: against sums that are done here once more."""

import gc
import math
import sys
import tracemalloc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handgrad.errors import ConfigError, HandgradError, TextError
from handgrad.model import Model, ModelConfig, Tokenizer, initial_parameters, loss_forward
from handgrad.training import (
    Batch,
    Evaluation,
    Memory,
    Passage,
    Ranks,
    TrainingConfig,
    consecutive_batches,
    create_run,
    evaluate,
    make_recipe,
    memory,
    new_trainer,
    read_data,
    tokenize,
)
from handgrad.training.memory import refuse_what_does_not_fit
from handgrad.training.optimizers import OPTIMIZERS

TEXT = "the cat sat on the mat, größer, 漢字 \U0001f600. " * 3
TOKENIZERS = {
    "chars": Tokenizer.of_characters(TEXT),
    "bytes": Tokenizer.of_bytes(),
    "bpe": Tokenizer.of_byte_pairs("the cat sat on the mat " * 20, 300),
}
KINDS = pytest.mark.parametrize("kind", TOKENIZERS)


def tiny(tokenizer: Tokenizer, context: int = 7, dtype: type = np.float64, **changes: Any) -> Model:
    fields: dict[str, Any] = {"layers": 2, "heads": 2, "width": 8, "hidden": 12, **changes}
    config = ModelConfig(**fields, context=context, vocabulary=tokenizer.vocabulary)
    return Model(config, initial_parameters(config, dtype=dtype), tokenizer)


@KINDS
@pytest.mark.parametrize("text", [TEXT, "t", "ta", "t漢\U0001f600", "the mat", "\n\n\x00 " * 2 + "größer"])
def test_all_but_the_first_token_count(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind] if kind != "chars" else Tokenizer.of_characters(text)
    passage = tokenize(text, tokenizer)
    assert tokenizer.decode(np.asarray(passage.tokens)) == text
    first = tokenizer.decode(passage.tokens[:1])
    assert text.startswith(first)
    assert passage.characters == len(text) - len(first)
    assert passage.bytes == len(text.encode()) - len(first.encode())
    if kind == "chars":
        assert passage.characters == len(passage.tokens) - 1
    if kind == "bytes":
        assert passage.bytes == len(passage.tokens) - 1


def test_a_passage_by_hand() -> None:
    """One, two, three and four bytes; then a first token of several characters."""
    text = "aß漢\U0001f600"
    assert tokenize(text, Tokenizer.of_characters(text))[1:] == (3, 9)
    assert tokenize(text, TOKENIZERS["bytes"])[1:] == (3, 9)
    passage = tokenize("the ß", TOKENIZERS["bpe"])
    assert (len(passage.tokens), *passage[1:]) == (4, 2, 3)
    assert tokenize("漢a", Tokenizer.of_characters("漢a"))[1:] == (1, 1)


@pytest.mark.parametrize("text", ["äb", "漢a", "\U0001f600"])
def test_of_a_first_character_that_is_cut_the_rest_counts_its_bytes(text: str) -> None:
    """The first token is one byte. The others are predicted, so what they are measured by has to count them."""
    assert tokenize(text, TOKENIZERS["bytes"]).bytes == len(text.encode()) - 1


def test_the_units_by_hand() -> None:
    """Four tokens, each with one chance in four: eight bits, on two characters of two bytes each."""
    evaluation = Evaluation(math.log(4), Passage(np.arange(5), characters=2, bytes=4))
    assert evaluation.perplexity == pytest.approx(4, rel=1e-15)
    assert evaluation.bits == pytest.approx(8, rel=1e-15)
    assert evaluation.bits_per_character == pytest.approx(4, rel=1e-15)
    assert evaluation.bits_per_byte == pytest.approx(2, rel=1e-15)


def test_units_at_the_ends_of_their_range() -> None:
    certain = Evaluation(0.0, Passage(np.arange(2), 1, 1))
    assert (certain.perplexity, certain.bits_per_character, certain.bits_per_byte) == (1, 0, 0)
    assert math.isfinite(Evaluation(699.0, certain.passage).perplexity)
    assert Evaluation(1e6, certain.passage).perplexity == math.inf
    assert Evaluation(1.0, Passage(np.arange(2), 0, 0)).bits_per_byte == pytest.approx(1 / math.log(2))


@KINDS
@pytest.mark.parametrize("length", [2, 7, 8, 9, 15, 120])
def test_an_evaluation_is_the_plain_mean_over_consecutive_windows(kind: str, length: int) -> None:
    model = tiny(TOKENIZERS[kind])
    text = TEXT[-length:]
    tokens = model.tokenizer.encode(text)
    losses = []
    for at in range(0, len(tokens) - 1, 7):
        window = tokens[at : at + 8]
        logits = model.logits(window[:-1])
        chances = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
        losses += [-math.log(chance[token]) for chance, token in zip(chances, window[1:], strict=True)]
    assert len(losses) == len(tokens) - 1
    evaluation = evaluate(model, text)
    assert evaluation.loss == pytest.approx(np.mean(losses), rel=1e-12)
    assert evaluation.bits == pytest.approx(sum(losses) / math.log(2), rel=1e-12)
    np.testing.assert_array_equal(evaluation.passage.tokens, tokens)


def test_the_size_of_the_batches_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(TOKENIZERS["chars"])
    losses = []
    for size in (1, 3, 8, 1000):
        monkeypatch.setattr(sys.modules["handgrad.training.evaluate"], "EVALUATION_BATCH", size)
        losses.append(evaluate(model, TEXT).loss)
    assert losses == pytest.approx([losses[0]] * 4, rel=1e-12)


def test_of_a_long_text_few_batches_are_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, module = tiny(TOKENIZERS["chars"], context=2), sys.modules["handgrad.training.evaluate"]
    made, there, most = 0, set[int](), 0
    real = consecutive_batches

    def spied(*arguments: Any) -> Iterator[Batch]:
        nonlocal made, most
        for batch in real(*arguments):
            made += 1
            there.add(made)
            weakref.finalize(batch.tokens, there.discard, made)
            most = max(most, len(there))
            yield batch
            del batch

    wanted = evaluate(model, TEXT * 50).loss
    monkeypatch.setattr(module, "consecutive_batches", spied)
    monkeypatch.setattr(module, "cores", lambda: 2)
    assert evaluate(model, TEXT * 50).loss == wanted
    assert made > 200
    assert most <= module.WAITING * 2 + 3  # and those of the two threads and of this one that end just now


def test_an_evaluation_tells_how_far_it_is() -> None:
    model = tiny(TOKENIZERS["chars"], context=2)
    heard: list[tuple[int, int]] = []
    evaluate(model, TEXT, lambda done, all_: heard.append((done, all_)))
    done = [number for number, _ in heard]
    assert len(heard) > 5
    assert done == sorted(set(done))
    assert 0 < done[0] < done[-1] == len(TEXT) - 1
    assert {all_ for _, all_ in heard} == {len(TEXT) - 1}


@pytest.mark.parametrize("text", ["", "t"])
def test_a_text_in_which_nothing_is_predicted_is_refused(text: str) -> None:
    with pytest.raises(TextError, match=r"^the text is too short: it takes two tokens to predict one$"):
        evaluate(tiny(TOKENIZERS["chars"]), text)


def test_a_character_that_the_model_does_not_know_is_named() -> None:
    with pytest.raises(TextError, match=r"^character '©' \(position 3\) is not in the model's vocabulary; "):
        evaluate(tiny(TOKENIZERS["chars"]), "the©")


def weights_of(model: Model) -> int:
    """By the formula: embeddings and head, three norms or five, and for each block 4 C² and 3 C F."""
    c = model.config
    block = 4 * c.width**2 + 3 * c.width * c.hidden + 2 * 2 * c.width
    return (2 * c.vocabulary + c.context) * c.width + c.layers * block + 2 * c.width


@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 4), (np.float64, 8)])
def test_the_memory_of_weights_moments_and_gradients(dtype: type, size: int) -> None:
    model = tiny(TOKENIZERS["bytes"], dtype=dtype)
    needed = memory(model, TrainingConfig(batch=12, shards=3))
    weights = size * weights_of(model)
    assert weights == size * sum(tensor.size for tensor in model.parameters.values())
    assert needed.weights == weights
    assert needed.moments == 2 * weights
    assert needed.gradients == weights + 3 * size * (256 + 7) * 8  # of this model the embedding is the largest part
    assert needed.keys_and_values == 2 * 2 * 7 * 8 * size  # keys and values, two layers, seven positions, width 8
    assert needed.decoding == weights + needed.keys_and_values
    assert needed.training == 3 * weights + needed.gradients + needed.activations


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_memory_of_moments_is_that_of_the_optimizer_s_state(name: str) -> None:
    model, config = tiny(TOKENIZERS["bytes"]), TrainingConfig.from_dict({"optimizer": name})
    state = OPTIMIZERS[name](model.parameters, config).state
    assert memory(model, config).moments == sum(x.nbytes for x in state.values())


@pytest.mark.parametrize(
    ("batch", "accumulation", "shards", "at_once", "shards_at_once"),
    [
        (1, 1, 1, 1, 1),
        (12, 1, 2, 12, 2),
        (12, 2, 2, 6, 2),
        (12, 5, 2, 3, 2),  # the largest of five parts of twelve
        (12, 12, 2, 1, 1),
        (12, 99, 2, 1, 1),
        (3, 1, 8, 3, 3),
    ],
)
def test_what_is_worked_on_at_once_decides_the_memory(
    batch: int, accumulation: int, shards: int, at_once: int, shards_at_once: int
) -> None:
    model = tiny(TOKENIZERS["bytes"])
    one = memory(model, TrainingConfig(batch=1, shards=1))
    needed = memory(model, TrainingConfig(batch=batch, accumulation=accumulation, shards=shards))
    assert needed.activations == at_once * one.activations
    assert needed.gradients - needed.weights == shards_at_once * (one.gradients - one.weights)
    assert needed[:2] == one[:2]


@pytest.mark.parametrize("changes", [{}, {"norm": "none"}, {"residual": False}, {"heads": 4, "hidden": 96}])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_memory_of_activations_is_what_python_sees_a_forward_pass_keep(
    changes: dict[str, Any], dtype: type
) -> None:
    """Within 2 %: Python's own objects are in it too."""
    fields: dict[str, Any] = {"width": 32, "hidden": 64, **changes}
    model = tiny(TOKENIZERS["bytes"], context=32, dtype=dtype, **fields)
    tokens = np.zeros((16, 32), np.int32)
    loss_forward(tokens, tokens, model.parameters.tree, model.config)  # what is made once, is made here
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = loss_forward(tokens, tokens, model.parameters.tree, model.config)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept
    assert memory(model, TrainingConfig(batch=16)).activations == pytest.approx(after - before, rel=0.02)


def test_the_memory_of_a_training_is_all_but_the_keys_and_values() -> None:
    needed = Memory(weights=1, keys_and_values=10, gradients=100, moments=1000, activations=10_000)
    assert (needed.decoding, needed.training) == (11, 11_101)


def test_weights_that_are_not_finite_are_refused_without_a_warning() -> None:
    model = tiny(TOKENIZERS["chars"])
    model.parameters["blocks.0.attention.w_o"][...] = 1e30
    assert evaluate(model, TEXT).loss > 0  # a variance overflows, and LayerNorm makes zeros of it
    model.parameters["head.w_lm"][...] = np.nan
    with pytest.raises(HandgradError, match=r"^the model's loss is nan; its weights cannot be used$"):
        evaluate(model, TEXT)


def test_what_the_machine_cannot_hold_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").write_text("what there is to learn. " * 50)
    recipe = make_recipe({"batch": 12, "tokenizer": "bytes", "steps": 1, "context": 8}, "tiny")
    data = read_data([str(tmp_path / "text")])
    there: dict[str, int | None] = {"size": None}
    monkeypatch.setattr(sys.modules["handgrad.training.memory"], "memory_size", lambda: there["size"])
    with create_run(tmp_path / "first", "tiny", recipe, data) as run:  # a system that does not tell
        needed = memory(run.trainer.model, run.trainer.config).training
    there["size"] = needed
    create_run(tmp_path / "second", "tiny", recipe, data).close()
    there["size"] = needed - 1
    with pytest.raises(ConfigError, match=r"^batch: 12 sequences of 8 would take about .* a higher accumulation "):
        create_run(tmp_path / "third", "tiny", recipe, data)
    assert not (tmp_path / "third").exists()


def test_ranks_share_what_they_keep_and_add_up_on_their_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: each has the weights, gradients of its one shard's largest part, its fourth of the sum and what is under
    way, its fourth of the running means and the sequences; the leader all running means besides."""

    class Four(Ranks):
        size = 4
        neighbours = 2

    trainer = new_trainer("what there is to learn. " * 50, "tiny", batch=12, shards=4)
    whole = memory(trainer.model, trainer.config)
    parameters = trainer.model.parameters
    block = sum(x.nbytes for name, x in parameters.items() if name.startswith("blocks.0."))
    assert whole.gradients == parameters.flat.nbytes + 4 * block
    gradients = block + 2 * whole.weights + whole.weights // 4
    there = 2 * (whole.weights + gradients + whole.moments // 4 + whole.moments + whole.activations // 4)
    monkeypatch.setattr(sys.modules["handgrad.training.memory"], "memory_size", lambda: there)
    refuse_what_does_not_fit(trainer.model, trainer.config, Four())
    monkeypatch.setattr(sys.modules["handgrad.training.memory"], "memory_size", lambda: there - 1)
    with pytest.raises(ConfigError, match=r"^batch: 12 sequences of 64 would take about "):
        refuse_what_does_not_fit(trainer.model, trainer.config, Four())
