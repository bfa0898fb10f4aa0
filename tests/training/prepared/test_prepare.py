"""Preparing: the same tokens as in memory, whatever broke it off; and what is refused."""

import gzip
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from handgrad.errors import ConfigError, DamagedError, HandgradError, TextError
from handgrad.files import check_together
from handgrad.interop import load
from handgrad.model import Tokenizer
from handgrad.training import create_run, make_recipe, read_data, resume_run, split
from handgrad.training.corpus import make_corpus
from handgrad.training.prepared import Interrupted, PreparedText, check_prepared, make_plan, prepare
from handgrad.training.recipe import TokenizerConfig

from .conftest import Preparing, text_of

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


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def text_files(folder: Path, *words: int) -> list[Path]:
    paths = [folder / f"{n}.txt" for n in range(len(words))]
    for seed, (path, count) in enumerate(zip(paths, words, strict=True)):
        path.write_text(text_of(count, seed), encoding="utf-8", newline="")
    return paths


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


def test_byte_pairs_of_much_text_come_from_all_over_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preparing: Preparing, small_steps: None
) -> None:
    (file,) = text_files(tmp_path, 5000)
    size = file.stat().st_size
    monkeypatch.setattr("handgrad.training.prepared.learning.LEARNED_FROM", size // 5)
    taken: list[str] = []
    real = Tokenizer.of_byte_pairs

    def spied(text: Any, vocabulary: int) -> Tokenizer:
        taken.extend(text)
        return real(taken, vocabulary)

    monkeypatch.setattr(Tokenizer, "of_byte_pairs", spied)
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
    taken: list[str] = []
    real = Tokenizer.of_byte_pairs

    def spied(text: Any, vocabulary: int) -> Tokenizer:
        taken.extend(text)
        return real(taken, vocabulary)

    monkeypatch.setattr(Tokenizer, "of_byte_pairs", spied)
    prepared = preparing(tmp_path / "a.txt.gz", vocabulary=260)
    assert bound <= len("".join(taken).encode()) < bound + 3 * 700
    assert prepared.manifest.tokenizer.learned_from == len("".join(taken))


class Stop:
    """Interrupts when told for the n-th time that tokens are made."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self, what: str, done: int) -> None:
        self.count -= what == "tokenizing"
        if self.count <= 0:
            raise Interrupted


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("tokenizer", ["chars", "bytes", "bpe"])
def test_interrupted_anywhere_it_ends_with_the_same_bytes(tokenizer: str, tmp_path: Path, preparing: Preparing) -> None:
    sources = text_files(tmp_path, 400, 150)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"text": text_of(12, seed)}) for seed in range(60)))
    whole = contents(preparing(*sources, rows, tokenizer=tokenizer, share=0.2).folder)
    shutil.rmtree(tmp_path / "prepared")
    broken = 0
    for count in range(1, 200):  # each time after so many steps, from where it was broken off before
        try:
            preparing(*sources, rows, tokenizer=tokenizer, share=0.2, out="again", told=Stop(1 + count % 3))
        except Interrupted:
            broken += 1
            continue
        break
    assert broken > 5
    assert contents(tmp_path / "again") == whole


@pytest.mark.usefixtures("small_steps")
def test_what_a_crash_left_beyond_the_last_save_does_not_count(tmp_path: Path, preparing: Preparing) -> None:
    """Shards that are longer than the progress says, shards it does not know, and halves of files."""
    (source,) = text_files(tmp_path, 2000)
    whole = contents(preparing(source, tokenizer="bytes").folder)
    out = tmp_path / "again"
    with pytest.raises(Interrupted):
        preparing(source, tokenizer="bytes", out="again", told=Stop(4))
    saved = (out / "progress.json").read_bytes()
    with pytest.raises(Interrupted):
        preparing(source, tokenizer="bytes", out="again", told=Stop(4))
    assert (out / "progress.json").read_bytes() != saved
    (out / "progress.json").write_bytes(saved)  # as if only this had not been written
    (out / ".training-00009.npy.1-2.part").write_bytes(b"half")
    preparing(source, tokenizer="bytes", out="again")
    assert contents(out) == whole


def test_a_complete_folder_stays_as_it_is(tmp_path: Path, preparing: Preparing) -> None:
    (source,) = text_files(tmp_path, 300)
    folder = preparing(source).folder
    before = contents(folder)
    plan = make_plan([str(source)], folder)
    assert prepare(plan, folder).was_complete
    os.utime(source, (1, 1))  # touched, but the same
    assert prepare(make_plan([str(source)], folder), folder).was_complete
    assert contents(folder) == before


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"tokenizer": "bytes"}, "--tokenizer: 'bytes', but "),
        ({"vocabulary": 300}, "--vocabulary: 300, but "),
        ({"column": "words"}, "--column: 'words', but "),
        ({"share": 0.3}, "--held-out: 0.3, but "),
        ({"more": True}, "was begun with other sources"),
        ({"changed": True}, "has changed since"),
        ({"rewritten": True}, "has changed since"),
    ],
)
def test_other_options_or_sources_are_refused(
    finished: bool, change: dict[str, Any], problem: str, tmp_path: Path, preparing: Preparing, small_steps: None
) -> None:
    sources, change = text_files(tmp_path, 300, 300), dict(change)
    if finished:
        preparing(sources[0])
    else:
        with pytest.raises(Interrupted):
            preparing(sources[0], told=Stop(2))
    before = contents(tmp_path / "prepared")
    if change.pop("changed", False):
        then = sources[0].stat()
        sources[0].write_text("another", encoding="utf-8")
        os.utime(sources[0], ns=(then.st_atime_ns, then.st_mtime_ns))  # its size tells
    if change.pop("rewritten", False):
        size = sources[0].stat().st_size
        sources[0].write_bytes(b"x" * size)
        os.utime(sources[0], (1, 1))
    given = sources if change.pop("more", False) else sources[:1]
    with pytest.raises(HandgradError, match=problem):
        preparing(*given, **change)
    assert contents(tmp_path / "prepared") == before


def test_a_source_that_changes_meanwhile_is_told(tmp_path: Path, preparing: Preparing, small_steps: None) -> None:
    (source,) = text_files(tmp_path, 300)

    def told(what: str, done: int) -> None:
        with source.open("a") as file:
            file.write("more")

    with pytest.raises(TextError, match="has changed while it was read"):
        preparing(source, tokenizer="bytes", told=told)


def test_folders_of_others_stay(tmp_path: Path, preparing: Preparing) -> None:
    (source,) = text_files(tmp_path, 30)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("mine")
    with pytest.raises(HandgradError, match="holds other files"):
        preparing(source, out="mine")
    with pytest.raises(HandgradError, match="not a folder"):
        preparing(source, out="0.txt")
    assert contents(tmp_path / "mine") == {"notes": b"mine"}


def test_two_at_once_are_refused(tmp_path: Path, preparing: Preparing) -> None:
    (source,) = text_files(tmp_path, 30)
    (tmp_path / "prepared").mkdir()
    with FileLock(tmp_path / "prepared" / ".lock"), pytest.raises(HandgradError, match="another process is preparing"):
        preparing(source)


@pytest.mark.parametrize(
    ("names", "options", "problem"),
    [
        (["-"], {}, "-: standard input cannot be read twice"),
        ([""], {}, "an empty path"),
        (["none"], {}, "none: no such file"),
        (["a.txt"], {"glob": "*"}, "--glob: '\\*' has no folder"),
        (["."], {"glob": ""}, "--glob: an empty pattern"),
        (["."], {"glob": "*.none"}, "no file in it matches"),
        (["a.txt"], {"tokenizer": "words"}, "--tokenizer: 'words' is none of chars, bytes, bpe, and no such"),
        (["a.txt"], {"tokenizer": "."}, "tokenizer.json: no such file"),
        (["a.txt"], {"tokenizer": "bytes", "vocabulary": 300}, "--vocabulary: 300, but a tokenizer of bytes"),
        (["a.txt"], {"vocabulary": 10}, "--vocabulary: 10 is not a whole number from 256"),
        (["a.txt"], {"vocabulary": 2**40}, "--vocabulary: "),
        (["a.txt"], {"share": 0.0}, "--held-out: 0 is not between 0 and 1"),
        (["a.txt"], {"share": 1.0}, "--held-out: 1 is not between 0 and 1"),
        (["a.txt"], {"share": float("nan")}, "--held-out: nan is not between 0 and 1"),
        (["a.txt"], {"column": ""}, "--column: an empty name"),
        (["a\0b"], {}, "null"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_made(
    names: list[str], options: dict[str, Any], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("a b c")
    with pytest.raises(HandgradError, match=problem):
        make_plan(names, tmp_path / "out", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(("name", "content"), [("a.txt", " \n"), ("a.jsonl", '{"text": "one document"}')])
def test_too_little(name: str, content: str, tmp_path: Path, preparing: Preparing) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(TextError, match=f"{name}: (empty or blank|nothing is held out)"):
        preparing(tmp_path / name, tokenizer="bytes")


def test_characters_that_a_tokenizer_has_not_are_told_with_the_file(tmp_path: Path, preparing: Preparing) -> None:
    Tokenizer.of_characters("abc \n").inner.save(str(tmp_path / "abc.json"))
    (tmp_path / "a.txt").write_text("abc " * 100)
    (tmp_path / "b.txt").write_text("abc " * 100 + "abcd")
    with pytest.raises(TextError, match=r"b\.txt: character 'd' is not in the model's vocabulary"):
        preparing(tmp_path / "a.txt", tmp_path / "b.txt", tokenizer=str(tmp_path / "abc.json"))


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


@pytest.mark.parametrize("tokenizer", ["chars", "bpe"])
def test_interrupted_while_it_learns_it_begins_that_anew(tokenizer: str, tmp_path: Path, preparing: Preparing) -> None:
    sources = text_files(tmp_path, 100, 100, 100)
    whole = contents(preparing(*sources, tokenizer=tokenizer).folder)

    def told(what: str, done: int) -> None:
        if done > 0.5 * sum(source.stat().st_size for source in sources):
            raise Interrupted

    with pytest.raises(Interrupted):
        preparing(*sources, tokenizer=tokenizer, out="again", told=told)
    assert contents(tmp_path / "again").keys() == {"progress.json"}
    preparing(*sources, tokenizer=tokenizer, out="again")
    assert contents(tmp_path / "again") == whole
