"""handgrad evaluate: the loss of a model on a text."""

from typing import Annotated

import typer
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from rich.table import Table

from ..errors import HandgradError, TextError
from ..model import Model
from ..training import (
    RECORD_FILE,
    Evaluation,
    Passage,
    prepared_among,
    read_data,
    read_data_again,
    read_documents,
    read_record,
    refuse_rows,
    run_of,
)
from ..training import evaluate as evaluate_text
from .model import RunFolder, load_model
from .terminal import PIPE_WIDTH, make_room, plain_console


def evaluate(
    run: RunFolder,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="A UTF-8 text, a folder of texts, or - for standard input; may be given several times. Or a folder of "
            "prepared data: what is held out there. Without it: what the run itself held out.",
        ),
    ] = None,
    glob: Annotated[
        str | None, typer.Option(metavar="PATTERN", help='Which files of a folder to read, such as "**/*.py".')
    ] = None,
) -> None:
    """Measure a model on texts: loss, perplexity, bits a character and a byte.

    Every token but the first counts once. The text is read in windows as long as the model's context (1024
    tokens at most), of which each begins without a past: a model that saw all that came before would do a little
    better.
    """
    model = load_model(run)
    if glob is not None and data is None:
        raise HandgradError("--glob: there is no --data for it")
    window = None
    texts: list[tuple[str, str | Passage]]
    if data:
        refuse_rows(data)
        if prepared_among(data):  # alone, or it is refused
            texts = [(f"held out in {data[0]}", read_data(data, glob).text.held_out(model.tokenizer))]
        else:
            texts = [(document.name, document.text) for document in read_documents(data, glob)]
    else:
        if (folder := run_of(run)) is None:
            raise HandgradError(f"{run}: has no {RECORD_FILE}, which would tell what was held out; give a text: --data")
        record = read_record(folder)
        texts = [("held out", read_data_again(record, folder).text.held_out(model.tokenizer))]
        window = record.recipe.training.sequence(model.config.context)  # so that the loss is that of training
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("text", overflow="fold")
    for unit in ("tokens", "loss, nats", "perplexity", "bits a character", "bits a byte"):
        table.add_column(unit, justify="right", min_width=len(unit))
    console = plain_console()
    make_room(console, pipe=PIPE_WIDTH)
    description = TextColumn("{task.description}", markup=False)
    columns = (description, BarColumn(bar_width=None), TaskProgressColumn(), TimeRemainingColumn())
    with ProgressBar(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        for name, text in texts:
            evaluation = _measure(model, name, text, bar, window)
            table.add_row(
                name,
                f"{len(evaluation.passage.tokens):,}",
                f"{evaluation.loss:.3f}",
                f"{evaluation.perplexity:.2f}",
                f"{evaluation.bits_per_character:.3f}",
                f"{evaluation.bits_per_byte:.3f}",
            )
    console.print(table)


def _measure(model: Model, name: str, text: str | Passage, bar: ProgressBar, window: int | None) -> Evaluation:
    task = bar.add_task(name, total=None)

    def told(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)

    try:
        return evaluate_text(model, text, told, window)
    except TextError as error:
        raise TextError(f"{name}: {error}") from None
    finally:
        bar.remove_task(task)
