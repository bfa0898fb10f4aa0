"""Preparing: the same tokens as in memory, split and joined as they should be."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from handgrad.files import check_together
from handgrad.model import Tokenizer
from handgrad.training import read_data, split
from handgrad.training.prepared import PreparedText, check_prepared, make_plan, prepare
from handgrad.training.recipe import TokenizerConfig

from .conftest import Preparing, text_files, text_of


def test_the_tokenizer_is_that_of_the_text_in_memory(tmp_path: Path, preparing: Preparing) -> None:
    (file,) = text_files(tmp_path, 3000)
    text = split([file.read_text(encoding="utf-8")])
    for kind in ("chars", "bytes", "bpe"):
        config = TokenizerConfig(tokenizer=kind, **({"vocabulary": 512} if kind == "bpe" else {}))
        made = config.make(text.training, text.training + text.validation)
        prepared = preparing(file, out=kind, tokenizer=kind, **({"vocabulary": 512} if kind == "bpe" else {}))
        assert prepared.tokenizer.to_json() == made.to_json()


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("tokenizer", ["chars", "bytes", "bpe"])
def test_sections_are_split_and_joined_one_by_one(tokenizer: str, tmp_path: Path, preparing: Preparing) -> None:
    """With many sections and shards: the end of each section is held out, and all come in order."""
    files = text_files(tmp_path, 900, 200)
    prepared = preparing(*files, tokenizer=tokenizer, share=0.2)
    sections = []
    for file in files:
        text = file.read_text(encoding="utf-8")
        while len(text) > 700:
            cut = text.rfind("\n", 350, 700) + 1
            sections.append(text[:cut])
            text = text[cut:]
        sections.append(text)
    kept = [len(text) - int(len(text) * 0.2) for text in sections]
    training = "\n\n".join(text[:cut] for text, cut in zip(sections, kept, strict=True))
    held_out = "\n\n".join(text[cut:] for text, cut in zip(sections, kept, strict=True))
    encode = prepared.tokenizer.encode
    np.testing.assert_array_equal(np.asarray(prepared.learn_from(prepared.tokenizer)), encode(training))
    np.testing.assert_array_equal(np.asarray(prepared.held_out(prepared.tokenizer).tokens), encode(held_out))
    manifest = prepared.manifest
    assert (manifest.training.characters, manifest.training.bytes) == (len(training), len(training.encode()))
    assert (manifest.held_out.characters, manifest.held_out.bytes) == (len(held_out), len(held_out.encode()))
    assert len(manifest.training.shards) > 3
    assert (manifest.training.documents, manifest.held_out.documents, manifest.documents) == (2, 2, 2)
    check_together(prepared.folder)
    assert check_prepared(prepared.folder, manifest) > 0


@pytest.mark.usefixtures("small_steps")
def test_rows_are_held_out_whole_and_evenly(tmp_path: Path, preparing: Preparing) -> None:
    rows = [text_of(8, seed) for seed in range(200)]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": row}) for row in rows[:120]))
    pq.write_table(pa.table({"text": rows[120:]}), tmp_path / "b.parquet")
    prepared = preparing(tmp_path, tokenizer="bytes", share=0.25)
    all_, held = 0, 0
    parts: tuple[list[str], list[str]] = [], []
    for row in rows:
        out = held < 0.25 * all_
        parts[out].append(row)
        all_, held = all_ + len(row), held + out * len(row)
    decode = prepared.tokenizer.decode
    assert decode(prepared.learn_from(prepared.tokenizer)[:]) == "\n\n".join(parts[0])
    assert decode(prepared.held_out(prepared.tokenizer).tokens[:]) == "\n\n".join(parts[1])
    assert abs(held / all_ - 0.25) < 0.02
    training, held_out = prepared.manifest.training, prepared.manifest.held_out
    assert (training.documents, held_out.documents) == (len(parts[0]), len(parts[1]))
    assert [source.documents for source in prepared.manifest.sources] == [120, 80]


def test_little_is_held_out_of_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preparing: Preparing) -> None:
    monkeypatch.setattr("handgrad.training.prepared.folder.HELD_OUT", 500)
    (file,) = text_files(tmp_path, 5000)
    found = preparing(file, tokenizer="bytes").manifest.held_out
    assert 400 < found.bytes <= 600
    given = preparing(file, tokenizer="bytes", share=0.1, out="given").manifest.held_out
    assert given.characters == int(0.1 * len(file.read_text(encoding="utf-8")))


def learned_from(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pieces of text that byte pairs will be learned from."""
    taken: list[str] = []
    real = Tokenizer.of_byte_pairs

    def spied(text: Any, vocabulary: int) -> Tokenizer:
        taken.extend(text)
        return real(taken, vocabulary)

    monkeypatch.setattr(Tokenizer, "of_byte_pairs", spied)
    return taken


def test_byte_pairs_of_much_text_come_from_all_over_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preparing: Preparing, small_steps: None
) -> None:
    (file,) = text_files(tmp_path, 5000)
    size = file.stat().st_size
    monkeypatch.setattr("handgrad.training.prepared.learning.LEARNED_FROM", size // 5)
    taken = learned_from(monkeypatch)
    prepared = preparing(file, vocabulary=300, share=0.1)
    text, used = file.read_text(encoding="utf-8"), sum(map(len, taken))
    assert used == prepared.manifest.tokenizer.learned_from
    assert abs(used / len(text) - 0.2) < 0.05
    places = [text.find(piece.strip()) / len(text) for piece in taken if len(piece) > 50]
    assert np.histogram([x for x in places if x >= 0], bins=5, range=(0, 1))[0].min() > 0


def test_byte_pairs_of_what_is_longer_than_was_thought_come_from_no_more_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preparing: Preparing, small_steps: None
) -> None:
    """Where a text is compressed far more than threefold, and its characters have three bytes."""
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress("漢字 漢漢 字\n".encode() * 3000))
    bound = 6000
    monkeypatch.setattr("handgrad.training.prepared.learning.LEARNED_FROM", bound)
    taken = learned_from(monkeypatch)
    prepared = preparing(tmp_path / "a.txt.gz", vocabulary=260)
    assert bound <= len("".join(taken).encode()) < bound + 3 * 700
    assert prepared.manifest.tokenizer.learned_from == len("".join(taken))


def test_a_tokenizer_of_characters_need_not_know_the_latin_ones(tmp_path: Path, preparing: Preparing) -> None:
    text = "все люди равны\n" * 40
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    Tokenizer.of_characters(text).inner.save(str(tmp_path / "russian.json"))
    for out, tokenizer in (("made", "chars"), ("given", str(tmp_path / "russian.json"))):
        prepared = preparing(tmp_path / "a.txt", out=out, tokenizer=tokenizer)
        found = prepared.learn_from(prepared.tokenizer)[:]
        assert prepared.tokenizer.decode(found) == text[: len(text) - len(text) // 10]


def test_a_folder_within_its_own_source(tmp_path: Path) -> None:
    """Neither what is made nor other prepared data are read as texts."""
    text_files(tmp_path, 100)
    for out in ("one", "two", "two"):
        prepare(make_plan([str(tmp_path)], tmp_path / out, tokenizer="bytes"), tmp_path / out)
    for out in ("one", "two"):
        assert [Path(source.path).name for source in PreparedText(tmp_path / out).manifest.sources] == ["0.txt"]
    assert read_data([str(tmp_path)]).documents == 1


def test_special_tokens_of_others_are_around_documents(tmp_path: Path, preparing: Preparing, small_steps: None) -> None:
    content = json.loads(Tokenizer.of_bytes().to_json())
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    content["added_tokens"] = [{"id": 256 + n, "content": name} | special for n, name in enumerate(("<s>", "</s>"))]
    sequence = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    tokens = {name: {"id": name, "ids": [256 + n], "tokens": [name]} for n, name in enumerate(("<s>", "</s>"))}
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [*sequence, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "pair": sequence,
        "special_tokens": tokens,
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    rows = ["a row\n" * 40, "short", "more"] * 9
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"text": row}) for row in rows))
    prepared = preparing(tmp_path / "rows.jsonl", tokenizer=str(tmp_path), share=0.3)
    found = prepared.learn_from(prepared.tokenizer)[:].tolist()
    texts = "".join(chr(token) if token < 256 else "<" if token == 256 else ">" for token in found)
    documents = texts.split("\n\n<")
    assert len(documents) == prepared.manifest.training.documents
    assert texts.startswith("<a row\n")
    assert all(document.lstrip("<").rstrip(">") in rows for document in documents)
    assert all(document.endswith(">") for document in documents)
