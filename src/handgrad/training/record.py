"""What made a run: its settings, its text, and the versions of the software."""

import hashlib
import json
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import ConfigError
from ..files import read_file, read_json_object
from ..interop import load
from ..model import Model
from .config import RECORD_FILE
from .corpus import Text, split
from .prepared import PreparedText, prepared_among
from .recipe import Recipe, make_recipe
from .sources import STANDARD_INPUT, default_text, is_folder, names_of, read_documents, read_standard_input

KEPT_FILE = "data.txt"


class Data(NamedTuple):
    """A text and where it is from."""

    sources: list[str]
    """Paths, and "-" for standard input; none for the default text."""
    glob: str | None
    documents: int
    """How many texts there are."""
    text: Text
    kept: bytes | None = None
    """What a run keeps because it may not be there again: standard input, or the default text."""


def read_data(sources: Sequence[str] = (), glob: str | None = None, kept: bytes | None = None) -> Data:
    """Read all sources; `kept` stands for what was kept of them before. Of prepared data only the manifest is read."""
    if prepared := prepared_among(sources):
        if len(sources) > 1 or glob is not None:
            raise ConfigError(
                f"{prepared}: prepared data are all that a run learns from; no other --data, and no --glob"
            )
        text = PreparedText(Path(prepared).resolve())
        return Data([str(Path(prepared).resolve())], None, text.manifest.documents, text)
    if kept is None and not sources:
        kept = default_text().encode()
    elif kept is None and STANDARD_INPUT in sources:
        kept = read_standard_input()
    documents = read_documents(sources, glob, kept)
    paths = [source if source == STANDARD_INPUT else str(Path(source).resolve()) for source in sources]
    return Data(paths, glob, len(documents), split([document.text for document in documents]), kept)


class Init(NamedTuple):
    """The model that a run started from."""

    folder: str
    sha256: str
    """Of its weights and its tokenizer."""


def init_of(folder: Path, model: Model) -> Init:
    digest = hashlib.sha256(model.parameters.flat.data)
    digest.update(model.tokenizer.to_json().encode())
    return Init(str(folder.resolve()), digest.hexdigest())


def load_init(init: Init) -> Model:
    """The model again; a `ConfigError` where its folder holds another one by now."""
    folder = Path(init.folder)
    model = load(folder)
    if init_of(folder, model) != init:
        raise ConfigError(f"{folder}: not the model that the run began with")
    return model


class Record(NamedTuple):
    """The content of training.json."""

    preset: str
    """Empty where the run started from a model, whose architecture it has."""
    recipe: Recipe
    sources: list[str]
    glob: str | None
    documents: int
    sha256: str
    """Of the text, both its parts."""
    made_by: dict[str, str]
    """Versions: results differ in their last bits between libraries of linear algebra, and between processors."""
    init: Init | None = None

    def to_bytes(self) -> bytes:
        """The file's content."""
        content = {
            "preset": self.preset,
            "settings": self.recipe.to_dict(),
            "data": {
                "sources": self.sources,
                "glob": self.glob,
                "documents": self.documents,
                "sha256": self.sha256,
            },
            "made_by": self.made_by,
            **({"init": self.init._asdict()} if self.init else {}),
        }
        return (json.dumps(content, indent=2) + "\n").encode()


def new_record(preset: str, recipe: Recipe, data: Data, init: Init | None = None) -> Record:
    return Record(preset, recipe, data.sources, data.glob, data.documents, data.text.sha256, versions(), init)


def versions() -> dict[str, str]:
    return {
        "handgrad": version("handgrad"),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def read_record(folder: Path) -> Record:
    """What made the run in this folder, from its `training.json`; raises `HandgradError` where that is damaged."""
    path = folder / RECORD_FILE
    content = read_json_object(path)
    try:
        data, made_by = content["data"], content["made_by"]
        sources = [str(source) for source in data["sources"]]
        glob = None if data["glob"] is None else str(data["glob"])
        recipe = make_recipe(dict(content["settings"]), preset=None)  # older runs lack fields that presets have by now
        digest = str(data["sha256"])
        init = Init(**content["init"]) if "init" in content else None
        preset = str(content["preset"])
        return Record(preset, recipe, sources, glob, int(data["documents"]), digest, dict(made_by), init)
    except ConfigError as error:
        raise ConfigError(f"{path}: settings: {error}") from None
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ConfigError(f"{path}: not the record of a run: {error!r}") from None


def read_data_again(record: Record, folder: Path, sources: Sequence[str] = ()) -> Data:
    """The text of a recorded run, from where it was or, where it has moved, from these sources."""
    wanted = list(sources) or record.sources
    glob = None if sources and not any(map(is_folder, sources)) else record.glob
    kept = read_file(folder / KEPT_FILE) if not wanted or STANDARD_INPUT in wanted else None
    data = read_data(wanted, glob, kept)
    if data.text.sha256 != record.sha256:
        raise ConfigError(f"{names_of(wanted)}: not the text that the run in {folder} began with")
    return data
