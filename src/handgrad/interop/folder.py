"""Models in folders: our own, and those in Hugging Face's layout."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any

from .. import model
from ..errors import ConfigError, HandgradError
from ..files import LOCK_FILE, PART, read_json_object, remove_parts, require_folder, take_lock, write_all
from ..model import CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE, Model, load_tokenizer
from .config import read_config, read_special, write_config
from .weights import DTYPES, read_weights, weights_to_bytes

OURS, GENERATION_FILE, WRAPPER_FILE = "handgrad", "generation_config.json", "tokenizer_config.json"


def load(path: str | PathLike[str]) -> Model:
    """The model in a folder: a run, what `Model.save` wrote, or one of Hugging Face (GPT-2, Llama, Mistral, Qwen 2, 3).

    The latter has config.json, model.safetensors (or parts of it with an index) and tokenizer.json. What the model
    would not compute as its config says is refused by name, before any weight is read. No pickle is read, and no code
    of the folder runs.
    """
    folder = Path(path)
    require_folder(folder)
    options = read_json_object(folder / CONFIG_FILE)
    if options.get("model_type") == OURS:
        return model.load(folder)
    with _named(folder / CONFIG_FILE):
        family, config, special = read_config(options)
    generation = folder / GENERATION_FILE
    if generation.exists():
        options = read_json_object(generation)
        with _named(generation):
            special = read_special(options, special, config.vocabulary)
    tokenizer = load_tokenizer(folder, config)
    return Model(config, read_weights(folder, config, family), tokenizer, special)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """A `ConfigError` from within names the file."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def export(model: Model, path: str | PathLike[str], dtype: str | None = None) -> str:
    """Write a folder that `transformers` opens, and tell which of its classes does; by default in the model's dtype.

    Its tokenizer is opened by `PreTrainedTokenizerFast`: for some families `AutoTokenizer` takes the family's own rules
    in place of the file's. Where no class has the model's architecture, a `ConfigError` says which of its parts has no
    counterpart.
    """
    dtype = str(model.parameters.flat.dtype) if dtype is None else dtype
    if dtype not in DTYPES:
        raise HandgradError(f"dtype: {dtype!r} is not one of {', '.join(DTYPES)}")
    folder = Path(path)
    _refuse_other_files(folder)
    family, options = write_config(model.config, model.special, dtype)
    files = {
        TOKENIZER_FILE: (model.tokenizer.to_json() + "\n").encode(),
        WRAPPER_FILE: _json(_tokenizer_options(model)),
        GENERATION_FILE: _json({name: options[name] for name in ("bos_token_id", "eos_token_id")}),
        WEIGHTS_FILE: weights_to_bytes(model.parameters, family, dtype),
        CONFIG_FILE: _json(options),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with _alone_in(folder):
        _refuse_other_files(folder)
        remove_parts(folder)
        write_all({folder / name: content for name, content in files.items()})  # config last: without it there is none
    return family.architectures[0]


def _refuse_other_files(folder: Path) -> None:
    """One that an export was broken off in is as good as empty: it has the lock still, and no config."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if LOCK_FILE in names:
        names -= {LOCK_FILE, TOKENIZER_FILE, WRAPPER_FILE, GENERATION_FILE, WEIGHTS_FILE}
        names = {name for name in names if not name.endswith(PART)}
    if names or (folder.exists() and not folder.is_dir()):
        raise HandgradError(f"{folder}: is there already; choose another name")


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """No other process exports into this folder meanwhile."""
    lock = take_lock(folder, "another process is writing there; choose another name")
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes it itself
            (folder / LOCK_FILE).unlink()
        lock.release()


def _tokenizer_options(model: Model) -> dict[str, Any]:
    """How transformers wraps the tokenizer; clean_up would change texts after the fact."""
    options: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": model.config.context,
        "clean_up_tokenization_spaces": False,
    }
    roles = {"bos_token": model.special.bos_token_id, "eos_token": next(iter(model.special.eos_token_id), None)}
    for role, token in roles.items():
        if token is not None and (text := model.tokenizer.inner.id_to_token(token)) is not None:
            options[role] = text
    return options


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
