"""Valid inputs, to be spoilt: small ones of every kind."""

import gzip
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
import zstandard

from handgrad.interop import export
from handgrad.learn.course import PROGRESS_FILE, Course
from handgrad.learn.exercise import Exercise
from handgrad.learn.ladder import EXERCISES
from handgrad.model import Model, ModelConfig, Tokenizer, initial_parameters
from handgrad.proof import trace
from handgrad.proof.kit.write import kit_case
from handgrad.proof.making import FAMILIES
from handgrad.proof.tensor_files import read_tensor_file, tensor_file
from handgrad.training import create_run, make_recipe, read_data
from handgrad.training.prepared import Interrupted, make_plan, prepare

Files = Mapping[str, bytes]
"""A folder: the contents of its files by name."""
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where inputs lie: a million of them should not go through a disk."""
SIZES: dict[str, Any] = {"layers": 1, "heads": 2, "width": 4, "hidden": 4, "context": 8}
TEXT = "the cat sat on the mat.\n" * 30
KIT = ("linear.plain", "causal_attention.plain", "rotary.plain", "cross_entropy.plain")
EXERCISE: Exercise = next(exercise for exercise in EXERCISES if exercise.name == "layer_norm")


def in_a_folder(make: Callable[[Path], object]) -> Callable[[], Files]:
    """What this writes into a folder."""

    @cache
    def files() -> Files:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            make(folder)
            paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock")
            return {str(path.relative_to(folder)): path.read_bytes() for path in paths}

    return files


@contextmanager
def written(files: Files) -> Iterator[Path]:
    """A folder with these files, for a while."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        write(files, Path(folder))
        yield Path(folder)


def write(files: Files, folder: Path) -> None:
    """These files, and no others, in a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def only(files: Callable[[], Files], *wanted: str) -> Callable[[], Files]:
    return lambda: {name: files()[name] for name in wanted}


def small_model(tokenizer: Tokenizer | None = None, family: str = "default") -> Model:
    tokenizer = tokenizer or Tokenizer.of_characters(TEXT)
    fields = {name: x for name, x in FAMILIES[family].items() if name != "head_width"}
    config = ModelConfig(**SIZES | fields, vocabulary=tokenizer.vocabulary)
    return Model(config, initial_parameters(config, dtype=np.float64), tokenizer)


@in_a_folder
def model(folder: Path) -> None:
    small_model().save(folder)


@in_a_folder
def run(folder: Path) -> None:
    """A run after two of four steps, its text among its files."""
    recipe = make_recipe(SIZES | {"batch": 2, "steps": 4, "evaluations": 2, "shards": 1}, "tiny")
    with (
        mock.patch("handgrad.training.record.default_text", return_value=TEXT),
        mock.patch("handgrad.training.run.SAMPLE_TOKENS", 3),
        create_run(folder, "tiny", recipe, read_data()) as made,
    ):
        while made.step < 2:
            next(made.train())
        made.save()


@in_a_folder
def hugging_face(folder: Path) -> None:
    """A folder for each family, and one whose weights are in two files with an index."""
    for family in ("gpt2", "llama", "mistral", "qwen2", "qwen3"):
        export(small_model(family=family), folder / family)
    weights = safetensors.numpy.load((folder / "llama/model.safetensors").read_bytes())
    parts = {"model-1.safetensors": sorted(weights)[::2], "model-2.safetensors": sorted(weights)[1::2]}
    (folder / "parts").mkdir()
    for part, names in parts.items():
        (folder / "parts" / part).write_bytes(safetensors.numpy.save({name: weights[name] for name in names}))
    index = {"weight_map": {name: part for part, names in parts.items() for name in names}}
    (folder / "parts/model.safetensors.index.json").write_text(json.dumps(index))
    for name in ("config.json", "tokenizer.json", "generation_config.json"):
        (folder / "parts" / name).write_bytes((folder / "llama" / name).read_bytes())


@in_a_folder
def tokenizers(folder: Path) -> None:
    """Of each kind that we make, and with the parts that others have."""
    made = {
        "chars": Tokenizer.of_characters("abc \n"),
        "bytes": Tokenizer.of_bytes(),
        "bpe": Tokenizer.of_byte_pairs(TEXT, 270),
    }
    files = {name: json.loads(tokenizer.to_json()) for name, tokenizer in made.items()}
    splitter = {"type": "Split", "pattern": {"Regex": "\\s+|\\w+"}, "behavior": "Isolated", "invert": False}
    special = {"id": 0, "content": "!", "special": True, "normalized": False}
    files["others"] = files["bpe"] | {
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Prepend", "prepend": "▁"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [splitter, files["bpe"]["pre_tokenizer"]]},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
        "added_tokens": [special | {"single_word": False, "lstrip": False, "rstrip": False}],
        "truncation": {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0},
    }
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    unigram = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0], ["b", -1.5]]}
    files["unigram"] = files["chars"] | {"model": unigram, "pre_tokenizer": metaspace, "decoder": metaspace}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


@in_a_folder
def traces(folder: Path) -> None:
    trace(small_model(Tokenizer.of_bytes()), "the c").save(folder / "default.safetensors")
    trace(small_model(family="llama"), "the c").save(folder / "llama.safetensors")


@in_a_folder
def kit(folder: Path) -> None:
    for name in KIT:
        with mock.patch("handgrad.proof.kit.write.DRAWS", 2):
            layer, variant = name.split(".")
            tensors, manifest = kit_case(layer, variant)
        (folder / f"{name}.safetensors").write_bytes(tensor_file(tensors, manifest))


@in_a_folder
def mine(folder: Path) -> None:
    """Tensors of a trace, under its names in an npz, and under others with a mapping."""
    reference = folder / "reference.safetensors"
    trace(small_model(), "the c").save(reference)
    tensors = read_tensor_file(reference).tensors
    few = {key: x for key, x in tensors.items() if key.startswith(("activations", "gradients"))}
    np.savez(folder / "mine.npz", **few)  # type: ignore[arg-type]
    (folder / "mine.safetensors").write_bytes(safetensors.numpy.save({f"x.{key}": x for key, x in few.items()}))
    lines = [f'"{key}" = "x.{key}"' for key in few]
    lines[-1] = lines[-1].replace('= "', '= { name = "') + ", transposed = false }"
    (folder / "map.toml").write_text("\n".join(lines))


@in_a_folder
def settings(folder: Path) -> None:
    fields = {"preset": "tiny", "data": ["."], "glob": "*.txt", "tokenizer": "bpe", "vocabulary": 300, "width": 16}
    fields |= {"heads": 2, "learning_rate": 1e-3, "norm": "rms", "positions": "rotary", "keep": True, "steps": 10}
    lines = (f"{name} = {json.dumps(value)}" for name, value in fields.items())
    (folder / "settings.toml").write_text("\n".join(lines))
    (folder / "text.txt").write_text(TEXT)


@in_a_folder
def assignments(folder: Path) -> None:
    lines = ["width=192", "norm = rms", "learning_rate=1e-3", "keep=true", "steps=10", "tokenizer='bpe'"]
    (folder / "assignments.toml").write_text("\n".join(lines))


@in_a_folder
def course(folder: Path) -> None:
    """A reader's folder, in which the first exercise has passed."""
    made, _ = Course.start(folder)
    first = EXERCISES[0]
    made.record_hints(first, 2)
    made.path(first).write_text(first.solved)
    progress = json.loads((folder / PROGRESS_FILE).read_text())
    (folder / PROGRESS_FILE).write_text(json.dumps(progress | {"passed": {first.name: "0" * 64}}))


def exercise() -> Files:
    return {EXERCISE.file: EXERCISE.solved.encode()}


@in_a_folder
def answer(folder: Path) -> None:
    """What the process leaves that runs a reader's code: the right answers."""
    arrays, rows = dict[str, Any](), list[Any]()
    for n, question in enumerate(EXERCISE.questions(seed=0)):
        names = [f"{n}.{i}" for i in range(len(question.right))]
        arrays |= dict(zip(names, question.right, strict=True))
        items = [{"array": name} for name in names]
        rows.append({"returned": {"items": items, "kind": "tuple"}, "touched": None})
    (folder / "answer.json").write_text(json.dumps({"answers": rows, "changed": ["f_forward"]}))
    np.savez(folder / "answer.npz", **arrays)
    (folder / "printed").write_bytes(b"hello\n")
    (folder / "stuck").write_text(f'File "{EXERCISE.file}", line 3')


@in_a_folder
def problem(folder: Path) -> None:
    """The same, where the code raised an exception."""
    frames = [{"line": 30, "text": "dx = dy @ w"}]
    told = {"problem": "exception", "type": "ValueError", "message": "no", "frames": frames, "shapes": {"dy": "(2, 3)"}}
    (folder / "answer.json").write_text(json.dumps(told))
    (folder / "printed").write_bytes(b"")


@in_a_folder
def texts(folder: Path) -> None:
    contents = {"a.txt": TEXT, "b/c.md": "größer\r\n漢字 🐈" * 9, ".hidden/d.txt": "no", "e.bin": "\x00"}
    for name, text in contents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(text.encode())


@in_a_folder
def corpora(folder: Path) -> None:
    """Sources of every format that can be prepared."""
    rows = "".join(json.dumps({"text": TEXT, "n": n}) + "\n" for n in range(4)).encode()
    (folder / "a.jsonl").write_bytes(rows)
    (folder / "b.ndjson.gz").write_bytes(gzip.compress(rows, mtime=0))
    (folder / "c.txt.zst").write_bytes(zstandard.compress(TEXT.encode()))
    (folder / "d.txt").write_bytes("größer\r\n漢字 🐈".encode() * 9)
    pq.write_table(pa.table({"text": [TEXT, None, "more"] * 3}), folder / "e.parquet", row_group_size=4)


@in_a_folder
def prepared(folder: Path) -> None:
    """Prepared data, and progress.json as it was when they were broken off."""
    with written({"a.txt": TEXT.encode(), "b.txt": TEXT.encode()}) as texts:
        plan = make_plan([str(texts)], folder, tokenizer="bpe", vocabulary=270)

        def stop(what: str, done: int) -> None:
            if what == "tokenizing":
                raise Interrupted

        try:
            prepare(plan, folder, stop)
        except Interrupted:
            progress = (folder / "progress.json").read_bytes()
        prepare(plan, folder)
    (folder / "progress.json").write_bytes(progress)
