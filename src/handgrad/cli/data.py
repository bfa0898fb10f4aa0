"""handgrad data: texts of any size, prepared for training."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as ProgressBar

from ..errors import counted
from ..training.prepared import PROGRESS_FILE, Interrupted, Manifest, Told, check_prepared, make_plan, require_manifest
from ..training.prepared import prepare as prepare_text
from .terminal import FULL_WIDTH, interruptible, plain_console

app = typer.Typer(
    help="Prepare texts of any size, larger than memory too, for `handgrad train --data DIR`.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
WHAT, HOW = "What is read", "How it is prepared"


@app.command()
def prepare(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Files, and folders of files. A name that ends in .jsonl or .ndjson is JSON lines, an object a line; "
            ".parquet is Parquet; any other is UTF-8 text. Each but Parquet may be compressed: .gz, .zst.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="The folder for the tokens, new or empty; or one that was broken off."),
    ],
    tokenizer: Annotated[
        str,
        typer.Option(
            metavar="chars|bytes|bpe|PATH",
            rich_help_panel=HOW,
            help="chars: the characters of the text; bytes: those of UTF-8; bpe: byte pairs, learned from the text, of "
            "more than about 32 MB from so much that lies evenly in it; or one that is there: tokenizer.json, or the "
            "folder of a run or of a Hugging Face model, which `handgrad train --init` wants.",
        ),
    ] = "bpe",
    vocabulary: Annotated[
        int | None, typer.Option(rich_help_panel=HOW, help="The most tokens of a bpe tokenizer.  [default: 4096]")
    ] = None,
    held_out: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            rich_help_panel=HOW,
            help="How much is held out: the end of each section of 4 million characters of a text, every so many "
            "documents of rows.  [default: 0.1, but about 256 KiB at most, since each evaluation reads all of it]",
        ),
    ] = None,
    column: Annotated[
        str, typer.Option(metavar="NAME", rich_help_panel=WHAT, help="The text in JSON lines and Parquet.")
    ] = "text",
    glob: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            rich_help_panel=WHAT,
            help='Which files of a folder, such as "**/*.rs"; without it, all that end like texts, code, .jsonl, '
            ".ndjson or .parquet, compressed or not.",
        ),
    ] = None,
) -> None:
    """Turn texts into tokens on the disk, in constant memory.

    Give the same command again where it was broken off, by Ctrl-C, a crash or a full disk: it goes on, and ends with
    the same bytes. Then:  handgrad train --data DIR
    """
    console = plain_console(soft_wrap=True)
    plan = make_plan(sources, out, glob=glob, tokenizer=tokenizer, vocabulary=vocabulary, column=column, share=held_out)
    start, went_on = time.monotonic(), (out / PROGRESS_FILE).exists()
    try:
        with _following(console, plan.bytes) as told:
            manifest, was_complete = prepare_text(plan, out, told)
    except Interrupted:
        console.print(f"interrupted; all is saved in {out}. Go on with the same command")
        raise typer.Exit(1) from None
    if was_complete:
        console.print(f"{out} is complete, and its sources are what they were")
    _show(console, manifest)
    if not was_complete:
        seconds = time.monotonic() - start
        rate = "" if went_on else f", {plan.bytes / seconds / 1e6:.1f} MB/s"
        console.print(f"{_size(plan.bytes)} in {seconds:.0f} s" + (" since it went on" if went_on else rate))
    console.print(f"Next:  handgrad train --data {out}")


@app.command()
def check(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of prepared data.")]) -> None:
    """Compare all files of prepared data with their checksums (training checks only sizes and the tokenizer)."""
    console = plain_console(soft_wrap=True)
    manifest = require_manifest(folder)
    count = check_prepared(folder, manifest)
    console.print(f"{folder}: all of its {_size(count)} are what was written")
    _show(console, manifest)


@contextmanager
def _following(console: Console, total: int) -> Iterator[Told]:
    """What is told of the progress, which shows a bar, and stops the work after Ctrl-C."""
    columns: list[ProgressColumn | str] = [
        TextColumn("{task.description}"),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        "left",
    ]
    if console.width >= FULL_WIDTH:
        columns.insert(1, BarColumn(bar_width=None))
    note = "finishing the section; once more to stop at once, and go on from what was saved last"
    with (
        ProgressBar(*columns, console=console, disable=not console.is_terminal, transient=True) as bar,
        interruptible(console, note) as interrupted,
    ):
        tasks = dict[str, TaskID]()

        def told(what: str, done: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)
            if interrupted.is_set():
                raise Interrupted

        yield told


def _show(console: Console, manifest: Manifest) -> None:
    training, held_out = manifest.training, manifest.held_out
    tokens, characters = training.tokens + held_out.tokens, training.characters + held_out.characters
    console.print(
        f"{counted(manifest.documents, 'document')} in {counted(len(manifest.sources), 'file')}, "
        f"{manifest.tokenizer.vocabulary:,} different tokens; {training.tokens:,} tokens to learn from, "
        f"{held_out.tokens:,} held out; "
        f"{characters / tokens:.2f} characters a token"
    )


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"
