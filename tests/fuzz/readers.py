"""All that reads: each reader's valid input, how that is spoilt, and what handgrad does with it.

What a reader returns does not matter here: it must return, or raise a `HandgradError`.
"""

import hashlib
import io
import shlex
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np

import handgrad
from handgrad.cli import main
from handgrad.errors import HandgradError, TextError
from handgrad.explorer import Explorer
from handgrad.explorer.shelf import shelf_of
from handgrad.files import CHECKSUMS_FILE, check_together
from handgrad.learn.course import PROGRESS_FILE, Course
from handgrad.learn.grading.grade import grade_file, grade_of
from handgrad.learn.grading.run import LIMITS, outcome_in
from handgrad.learn.ladder import EXERCISES
from handgrad.model import Model, Tokenizer
from handgrad.proof.compare.mine import read_mapping, read_mine
from handgrad.proof.compare.reference import Reference, read_reference
from handgrad.proof.trace import refuse_other_files
from handgrad.settings import read_assignment
from handgrad.training import (
    fresh_trainer,
    is_prepared,
    make_corpus,
    make_recipe,
    memory,
    read_documents,
    read_metrics,
    read_plan,
    read_position,
    read_record,
    recipe_for,
    resume_run,
    smoothed,
    split,
    training_batch,
)
from handgrad.training.checkpoint import FILES
from handgrad.training.plot import loss_plot
from handgrad.training.prepared import PreparedText, check_prepared, make_plan, prepare, require_manifest
from handgrad.training.prepared.progress import read_progress

from . import questions, valid
from .chance import Chance
from .spoil import spoilt
from .valid import EXERCISE, SIZES, Files

Spoiler = Callable[[Chance, Files], Files]
ROOMY = 64 << 20


class Reader(NamedTuple):
    name: str
    valid: Callable[[], Files]
    spoilt: Spoiler
    read: Callable[[Path], object]
    share: float
    """Of all inputs, against the other readers': the less, the longer they take."""
    room: int = 2 << 20
    """Bytes that it may take beside a multiple of the input's size."""


# how a folder is spoilt


def spoilt_files(*names: str, whole: bool = False) -> Spoiler:
    """One or two of these files spoilt, or of all; now and then one is missing, or has another's content.

    `whole`: the folder's checksums are made those of the spoilt files, so that these are read on.
    """

    def spoil(chance: Chance, files: Files) -> Files:
        found, candidates = dict(files), sorted(names or files)
        for _ in range(chance.of([1, 1, 1, 2])):
            name = chance.of(candidates)
            match chance.below(20):
                case 18:
                    found.pop(name, None)
                case 19:
                    found[name] = files[chance.of(sorted(files))]
                case _:
                    found[name] = spoilt(chance, name, files[name])
        return with_checksums(found) if whole else found

    return spoil


def one_file(chance: Chance, files: Files) -> Files:
    """One of the files alone, spoilt."""
    name = chance.of(sorted(files))
    return {name: spoilt(chance, name, files[name])}


def one_folder(chance: Chance, files: Files) -> Files:
    """The files of one of the folders, some of them spoilt."""
    folder = chance.of(sorted({name.split("/")[0] for name in files}))
    return spoilt_files()(chance, {name: x for name, x in files.items() if name.startswith(f"{folder}/")})


def mine_or_mapping(chance: Chance, files: Files) -> Files:
    """The npz, or the safetensors file with its mapping."""
    if chance.below(2):
        return {"mine.npz": spoilt(chance, "mine.npz", files["mine.npz"])}
    return spoilt_files()(chance, {name: files[name] for name in ("mine.safetensors", "map.toml")})


COMMANDS = ["info RUN", "watch RUN --once", "evaluate RUN", "generate RUN --tokens 3 --seed 0", "info RUN/best"]
COMMANDS += ["trace RUN --text 'the c' --out RUN/out.safetensors", "train --resume RUN --minutes 0.0001"]


def with_a_command(chance: Chance, files: Files) -> Files:
    """A run, some of its files spoilt (not the text), and a command on it."""
    found = spoilt_files(*(name for name in files if name != "data.txt"), whole=True)(chance, files)
    return {**found, "command": chance.of(COMMANDS).encode()}


def with_checksums(files: Files) -> Files:
    """The files that a list of checksums has, with right ones; in each of the folders."""
    made = dict(files)
    for path in files:
        if path.endswith(CHECKSUMS_FILE):
            folder = path.removesuffix(CHECKSUMS_FILE)
            names = [line.partition("  ")[2] for line in files[path].decode(errors="replace").splitlines()]
            found = {name: files[folder + name] for name in names if folder + name in files}
            lines = (f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in found.items())
            made[path] = "".join(lines).encode()
    return made


# what is done with it


def read_folder(folder: Path) -> None:
    use(handgrad.load(folder))


def read_inner_folders(folder: Path) -> None:
    for inner in folder.iterdir():
        read_folder(inner)


@np.errstate(all="ignore")
def use(model: Model) -> None:
    """What commands do with a model that they have read."""
    model.logits(np.zeros((1, 2), np.int64))
    memory(model, recipe_for(model, {}).training)
    model.generate("", tokens=2, seed=0)


def read_tokenizers(folder: Path) -> None:
    for path in folder.iterdir():
        tokenizer = Tokenizer.load(path)
        with suppress(TextError):  # of characters that it has not
            tokenizer.encode("größer 漢")
        tokens = tokenizer.encode("ab c\na")
        "".join(tokenizer.decode_stream(tokens[1:], tokens[:1]))
        for token in {0, *tokens.tolist()[:3]}:
            tokenizer.bytes_of(token)
            tokenizer.text_of(token)
        tokenizer.to_json()


def read_a_record(folder: Path) -> None:
    record = read_record(folder)
    record.recipe.model(16)
    record.to_bytes()


def read_and_watch(folder: Path) -> None:
    entries = read_metrics(folder)
    smoothed(entries)
    command("watch", str(folder), "--once")


def read_and_draw(folder: Path) -> None:
    if entries := read_metrics(folder):
        loss_plot(entries, str(folder))


def read_and_resume(folder: Path) -> None:
    with mock.patch("handgrad.training.run.SAMPLE_TOKENS", 3), resume_run(folder) as run:
        next(run.train(), None)


def read_and_explore(folder: Path) -> None:
    explorer = Explorer(shelf_of(folder, handgrad.load(folder)))
    for question in ("training", "pass"):
        explorer.answers[question]({}, lambda: None).frame()


def read_by_a_command(folder: Path) -> None:
    given = folder / "command"
    for words in [given.read_text()] if given.exists() else COMMANDS:
        command(*(word.replace("RUN", str(folder)) for word in shlex.split(words)))


def command(*words: str) -> None:
    """A command as a user gives it. Where it refuses, its line is the error."""
    errors = io.StringIO()
    with (
        mock.patch("sys.argv", ["handgrad", *words]),
        mock.patch("handgrad.cli.app.keep_freed_memory"),
        redirect_stdout(io.StringIO()),
        redirect_stderr(errors),
    ):
        try:
            main()
        except SystemExit as ended:
            if ended.code:
                if ended.code not in (1, 2):
                    raise AssertionError(f"status {ended.code}: {errors.getvalue()}") from None
                raise HandgradError(*errors.getvalue().splitlines()) from None


def read_settings(folder: Path) -> None:
    plan = read_plan(folder / "settings.toml")
    make_recipe(plan.settings, plan.preset or "tiny")
    documents = read_documents([x for x in plan.data or [] if x != "-"], plan.glob)
    fresh = {name: x for name, x in plan.settings.items() if name in ("tokenizer", "vocabulary", "length")}
    fresh_trainer(make_recipe(SIZES | fresh, "tiny"), split([document.text[:1000] for document in documents[:2]]), 1)


def read_assignments(folder: Path) -> None:
    content = (folder / "assignments.toml").read_bytes()
    make_recipe(dict(map(read_assignment, content.decode(errors="surrogateescape").split("\n"))), "tiny")


def read_references(folder: Path) -> None:
    for path in folder.iterdir():
        if path.suffix == ".safetensors":
            with suppress(HandgradError):
                refuse_other_files(path)
            read_reference(path)
        else:
            refuse_other_files(path.with_suffix(".safetensors"))


@cache
def reference_of_mine() -> Reference:
    with valid.written(valid.mine()) as folder:
        return read_reference(folder / "reference.safetensors")


def read_tensors(folder: Path) -> None:
    mapping = folder / "map.toml"
    path = folder / ("mine.npz" if (folder / "mine.npz").exists() else "mine.safetensors")
    read_mine(path, reference_of_mine(), mapping if path.suffix != ".npz" else None)


def read_a_mapping(folder: Path) -> None:
    reference = reference_of_mine()
    read_mapping(folder / "map.toml", [*reference.tensors, *reference.given])


def read_course(folder: Path) -> None:
    course = Course(folder)
    course.next()
    course.standing(EXERCISES[0])
    course.record_hints(EXERCISES[0], 1 + course.hints_shown.get(EXERCISES[0].name, 0))


def read_exercise(folder: Path) -> None:
    """Graded as a reader's file is: in a process of its own."""
    if grade_file(EXERCISE, folder / EXERCISE.file, seed=0).state == "wrong":
        raise HandgradError("not right")


def read_answer(folder: Path) -> None:
    questions = EXERCISE.questions(seed=0)
    outcome = outcome_in(folder, EXERCISE, len(questions), 0, LIMITS)
    grade_of(EXERCISE, questions, outcome, EXERCISE.solved, EXERCISE.file, 0)


def read_texts(folder: Path) -> None:
    text = split([document.text for document in read_documents([str(folder)])])
    for tokenizer in (
        Tokenizer.of_bytes(),
        Tokenizer.of_characters(text.training + text.validation),
        Tokenizer.of_byte_pairs(text.training, 260),
    ):
        make_corpus(text, tokenizer, 2)


def read_corpora(folder: Path) -> None:
    out = folder / "out"
    prepare(make_plan([str(folder)], out, tokenizer="bytes", share=0.3), out)


def read_prepared(folder: Path) -> None:
    """As training does; and as its check."""
    is_prepared(folder)
    text = PreparedText(folder)
    corpus = make_corpus(text, text.tokenizer, 4)
    training_batch(corpus.training, 4, 2, 0, 1)
    text.excerpt()
    check_prepared(folder, require_manifest(folder))


READERS = {
    reader.name: reader
    for reader in (
        Reader("model", valid.model, spoilt_files(whole=True), read_folder, 50),
        Reader("checksums", valid.model, spoilt_files(CHECKSUMS_FILE), check_together, 200),
        Reader("tokenizer", valid.tokenizers, one_file, read_tokenizers, 150),
        Reader("Hugging Face", valid.hugging_face, one_folder, read_inner_folders, 40),
        Reader("record", valid.only(valid.run, "training.json"), spoilt_files(), read_a_record, 200),
        Reader("position", valid.only(valid.run, "optimizer.safetensors"), spoilt_files(), read_position, 250),
        Reader("metrics", valid.run, spoilt_files("metrics.jsonl"), read_and_watch, 4, ROOMY),
        Reader("loss plot", valid.only(valid.run, "metrics.jsonl"), spoilt_files(), read_and_draw, 0.3, ROOMY),
        Reader("checkpoint", valid.run, spoilt_files(*FILES, whole=True), read_and_resume, 8, ROOMY),
        Reader("run explored", valid.run, spoilt_files(whole=True), read_and_explore, 2, ROOMY),
        Reader("commands", valid.run, with_a_command, read_by_a_command, 1, ROOMY),
        Reader("settings", valid.settings, spoilt_files("settings.toml"), read_settings, 150, ROOMY),
        Reader("assignments", valid.assignments, one_file, read_assignments, 150),
        Reader("traces", valid.traces, one_file, read_references, 15, ROOMY),
        Reader("kit", valid.kit, one_file, read_references, 20, ROOMY),
        Reader("tensors", valid.mine, mine_or_mapping, read_tensors, 8, ROOMY),
        Reader("mapping", valid.only(valid.mine, "map.toml"), spoilt_files(), read_a_mapping, 100),
        Reader("course", valid.course, spoilt_files(PROGRESS_FILE, EXERCISES[0].file), read_course, 20),
        Reader("exercise", valid.exercise, one_file, read_exercise, 0.3, ROOMY),
        Reader("problem", valid.problem, spoilt_files("answer.json"), read_answer, 50, ROOMY),
        Reader("answer", valid.answer, spoilt_files(), read_answer, 100, ROOMY),
        Reader("texts", valid.texts, spoilt_files(), read_texts, 20, ROOMY),
        Reader("corpora", valid.corpora, spoilt_files(), read_corpora, 20, ROOMY),
        Reader("prepared", valid.prepared, spoilt_files(), read_prepared, 60, ROOMY),
        Reader("manifest", valid.prepared, spoilt_files("manifest.json"), read_prepared, 60, ROOMY),
        Reader("progress", valid.only(valid.prepared, "progress.json"), spoilt_files(), read_progress, 100),
        Reader("questions", questions.valid, one_file, questions.ask, 80, ROOMY),
    )
}
