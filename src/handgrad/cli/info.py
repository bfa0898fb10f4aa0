"""handgrad info: what a model is, what it takes, how it came to be."""

from pathlib import Path

from rich.table import Table

from ..machine import keep_freed_memory
from ..model import ModelConfig, parameters_by_part
from ..settings import written
from ..training import (
    OPTIMIZER_FILE,
    Record,
    evaluations,
    memory,
    names_of,
    read_metrics,
    read_position,
    read_record,
    recipe_for,
    run_of,
)
from .model import RunFolder, load_model
from .terminal import make_room, plain_console

Rows = list[tuple[str, ...]]


def info(run: RunFolder) -> None:
    """Show a model: architecture, parameters by part, memory to decode and to train, and how it was trained."""
    model = load_model(run)
    folder = run_of(run)
    record = read_record(folder) if folder else None
    training = record.recipe.training if record else recipe_for(model, {}).training
    needed = memory(model, training)
    meanings = ModelConfig.meanings()
    total = model.parameters.flat.size
    length = training.sequence(model.config.context)
    in_parts = f" in {training.accumulation} parts" if training.accumulation > 1 else ""
    sections: dict[str, Rows] = {
        f"{run}: architecture": [
            (name, written(x), meanings[name].replace("`", ""))
            for name, x in model.config.to_dict().items()
            if model.config.rotary or not name.startswith("rotary_")
        ],
        "Parameters": [
            *(
                (part, f"{count:,}", f"{count / total:6.1%}")
                for part, count in parameters_by_part(model.parameters).items()
            ),
            ("all", f"{total:,}"),
        ],
        "Memory to decode": [
            ("weights", _size(needed.weights)),
            ("keys and values", _size(needed.keys_and_values)),
            ("all", _size(needed.decoding)),
        ],
        f"Memory to train with batches of {training.batch} × {length}{in_parts}": [
            ("weights", _size(needed.weights)),
            ("gradients", _size(needed.gradients), "their sum, and what each shard adds to it at a time"),
            ("moments", _size(needed.moments), "the running means that the optimizer keeps"),
            ("activations", _size(needed.activations), "what the backward needs of the forward"),
            ("all", _size(needed.training), "without Python, NumPy, and what lives only within a layer"),
        ],
    }
    sections["Memory of this process"] = [("malloc", keep_freed_memory())]
    if record and folder:
        sections["Training"] = _training(folder, record, run if (run / OPTIMIZER_FILE).exists() else folder)
    console = plain_console()
    make_room(console)
    for title, rows in sections.items():
        console.print(title, style="bold")
        console.print(_table(rows, numbers=title not in ("Training", "Memory of this process")), "")


def _table(rows: Rows, numbers: bool) -> Table:
    """A column of names, one of values (to the right where they are numbers), and one of what they mean."""
    table = Table("", "", "", box=None, show_header=False, pad_edge=False)
    table.columns[0].min_width = 20
    if numbers:
        table.columns[1].justify = "right"
        table.columns[1].min_width = 12
    for row in rows:
        table.add_row(*row)
    return table


def _training(run: Path, record: Record, checkpoint: Path) -> Rows:
    step, best = read_position(checkpoint)
    kind = record.recipe.tokenizer.tokenizer
    files = f" ({record.documents:,} files)" if record.documents > 1 else ""
    rows: Rows = [
        ("text", names_of(record.sources) + files),
        ("tokenizer", {"data": "that of the prepared data", "model": "that of the model"}.get(kind, kind)),
        ("started from", record.init.folder) if record.init else ("preset", record.preset),
        ("optimizer", f"{record.recipe.training.optimizer}, learning rate {record.recipe.training.learning_rate:g}"),
        ("shards", str(record.recipe.training.shards)),
        ("steps", f"{step:,} of {record.recipe.training.steps:,}"),
        ("made by", ", ".join(f"{name} {version}" for name, version in record.made_by.items())),
    ]
    evaluated = {entry["step"]: entry for entry in evaluations(read_metrics(run))}
    for name, at in (("last", max(evaluated, default=0)), ("best", best.step if best else 0)):
        if at in evaluated:
            loss, bits = evaluated[at]["validation_loss"], evaluated[at]["bits_per_character"]
            text = f"{loss:.3f} nats, {bits:.3f} bits a character, after step {at:,}"
            rows.append((f"validation loss, {name}", text))
    return rows


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"
