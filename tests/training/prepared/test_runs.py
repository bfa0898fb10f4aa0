"""Runs on prepared data: those on the files, bit for bit."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handgrad.errors import ConfigError, DamagedError, HandgradError
from handgrad.interop import load
from handgrad.model import Tokenizer
from handgrad.training import create_run, make_recipe, read_data, resume_run
from handgrad.training.corpus import make_corpus
from handgrad.training.prepared import PreparedText, check_prepared

from .conftest import Preparing, text_files

SETTINGS: dict[str, Any] = {
    "layers": 1,
    "heads": 2,
    "width": 8,
    "hidden": 8,
    "context": 8,
    "batch": 4,
    "steps": 6,
    "evaluations": 2,
    "shards": 1,
}


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handgrad.training.run.SAMPLE_TOKENS", 5)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    "options", [{"tokenizer": "chars"}, {"tokenizer": "bytes"}, {"tokenizer": "bpe", "vocabulary": 300}]
)
@pytest.mark.parametrize("pieces", [60, 1 << 14])
def test_training_is_bitwise_that_on_the_files(
    options: dict[str, Any], pieces: int, tmp_path: Path, preparing: Preparing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokenizer, the tokens, the losses and the weights."""
    monkeypatch.setattr("handgrad.training.prepared.stream.PIECE", pieces)
    files = text_files(tmp_path, 700, 20, 300)
    (tmp_path / "blank.txt").write_text(" \n")
    sources = [*files[:2], tmp_path / "blank.txt", files[2]]
    prepared = preparing(*sources, **options)
    names = list(map(str, sources))
    with create_run(tmp_path / "a", "default", make_recipe(SETTINGS | options), read_data(names)) as run:
        losses = [(x.loss, x.validation) for x in run.train()]
        weights, tokens = run.trainer.model.parameters.flat, run.trainer.corpus
    recipe = make_recipe(SETTINGS | {"tokenizer": "data"})
    with create_run(tmp_path / "b", "default", recipe, read_data([str(prepared.folder)])) as run:
        found = [(x.loss, x.validation) for x in run.train()]
        np.testing.assert_array_equal(run.trainer.model.parameters.flat, weights)
        np.testing.assert_array_equal(np.asarray(run.trainer.corpus.training), tokens.training)
        np.testing.assert_array_equal(np.asarray(run.trainer.corpus.validation.tokens), tokens.validation.tokens)
        assert run.record.documents == 3
    for (loss, one), (other_loss, other) in zip(losses, found, strict=True):
        assert loss == other_loss
        assert (one is None) == (other is None)
        if one and other:
            assert (one.loss, one.passage[1:], one.bits_per_byte) == (
                other.loss,
                other.passage[1:],
                other.bits_per_byte,
            )
    for name in ("tokenizer.json", "model.safetensors", "sample.txt"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.usefixtures("quiet")
def test_a_run_on_prepared_data_goes_on_and_finds_them_where_they_moved(tmp_path: Path, preparing: Preparing) -> None:
    (source,) = text_files(tmp_path, 500)
    prepared = preparing(source, tokenizer="bytes")
    data = read_data([str(prepared.folder)])
    recipe = make_recipe(SETTINGS | {"tokenizer": "data"})
    with create_run(tmp_path / "whole", "default", recipe, data) as run:
        list(run.train())
    with create_run(tmp_path / "run", "default", recipe, data) as run:
        next(run.train())
        run.save()
    moved = prepared.folder.rename(tmp_path / "moved")
    with pytest.raises(HandgradError, match="if the text has moved, --data tells where it is"):
        resume_run(tmp_path / "run")
    preparing(source, out="other", tokenizer="bytes", share=0.3)
    with pytest.raises(ConfigError, match=r"not the text that the run in .* began with"):
        resume_run(tmp_path / "run", [str(tmp_path / "other")])
    with resume_run(tmp_path / "run", [str(moved)]) as run:
        list(run.train())
        assert run.record.sources == [str(moved)]
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_data_prepared_elsewhere_from_the_same_text_are_the_same(tmp_path: Path, preparing: Preparing) -> None:
    (source,) = text_files(tmp_path, 300)
    one = preparing(source)
    (tmp_path / "copy").mkdir()
    shutil.copy(source, tmp_path / "copy" / "text.txt")
    other = preparing(tmp_path / "copy" / "text.txt", out="other")
    assert one.sha256 == other.sha256
    assert one.sha256 != preparing(source, out="third", vocabulary=300).sha256


def test_a_model_to_start_from_must_have_the_tokenizer(tmp_path: Path, preparing: Preparing) -> None:
    (source,) = text_files(tmp_path, 300)
    prepared = preparing(source, tokenizer="bytes")
    corpus = make_corpus(prepared, Tokenizer.of_bytes(), 8)
    assert len(corpus.training) == prepared.manifest.training.tokens
    with pytest.raises(ConfigError, match="prepare the text with --tokenizer and the model's folder"):
        make_corpus(prepared, Tokenizer.of_characters("abc"), 8)


def test_a_tokenizer_that_is_another_by_now_is_damage(tmp_path: Path, preparing: Preparing) -> None:
    (source,) = text_files(tmp_path, 300)
    folder = preparing(source, tokenizer="bytes").folder
    (folder / "tokenizer.json").write_text(Tokenizer.of_characters("abc").to_json())
    with pytest.raises(DamagedError, match="not the tokenizer that made the tokens"):
        _ = PreparedText(folder).tokenizer
    with pytest.raises(DamagedError, match=r"tokenizer\.json: differs from its checksum"):
        check_prepared(folder, PreparedText(folder).manifest)


def test_a_model_trained_on_prepared_data_is_a_model(tmp_path: Path, preparing: Preparing, quiet: None) -> None:
    (source,) = text_files(tmp_path, 300)
    prepared = preparing(source, vocabulary=300)
    recipe = make_recipe(SETTINGS | {"tokenizer": "data"})
    with create_run(tmp_path / "run", "default", recipe, read_data([str(prepared.folder)])) as run:
        list(run.train())
    assert load(tmp_path / "run").config.vocabulary == prepared.tokenizer.vocabulary <= 300
