"""handgrad train: train a GPT on a text."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from ..errors import ConfigError, HandgradError, TextError
from ..interop import load
from ..settings import read_assignment, written
from ..training import (
    DEFAULT_PRESET,
    PRESETS,
    Data,
    PreparedText,
    Ranks,
    Recipe,
    Run,
    create_run,
    field_meanings,
    follow,
    join,
    make_recipe,
    names_of,
    read_data,
    read_plan,
    read_record,
    recipe_for,
    refuse_a_run,
    refuse_rows,
    resume_run,
)
from . import complete
from .refuse import refuse
from .run import show_start, train_run
from .terminal import make_room, plain_console

TEXT, SETTINGS, RUN = "The text", "Settings", "The run"


def train(
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            rich_help_panel=TEXT,
            help="A UTF-8 text, a folder of texts, or - for standard input; may be given several times. Or a folder "
            "that `handgrad data prepare` made of a text of any size, larger than memory too. "
            "Without it: the reference of the Python language, which every CPython carries.",
        ),
    ] = None,
    glob: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            rich_help_panel=TEXT,
            help='Which files of a folder, such as "**/*.py"; without it, all that end like texts or code.',
        ),
    ] = None,
    tokenizer: Annotated[
        Literal["chars", "bytes", "bpe"] | None,
        typer.Option(
            rich_help_panel=TEXT,
            help="chars: the text's own characters (the default); bytes: those of UTF-8, for any text; bpe: byte "
            "pairs, trained on the text.",
        ),
    ] = None,
    vocabulary: Annotated[
        int | None, typer.Option(rich_help_panel=TEXT, help="The most tokens of a bpe tokenizer.  [default: 1024]")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=complete.presets,
            rich_help_panel=SETTINGS,
            help="\n\n".join(f"**{name}**: {preset.purpose}." for name, preset in PRESETS.items()),
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=SETTINGS,
            help="Settings in TOML, a line each, such as width = 256; also preset, glob, and data: paths from the "
            "file's own folder.",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            autocompletion=complete.assignments,
            rich_help_panel=SETTINGS,
            help="Any field of the model and the training, such as width=256; may be given several times.",
        ),
    ] = None,
    fields: Annotated[
        bool, typer.Option("--fields", rich_help_panel=SETTINGS, help="List all fields and what they mean, and exit.")
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=SETTINGS, help="Updates of the weights: the length of the learning rate's schedule."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=SETTINGS, help="Decides the fresh weights and the order of the text.  [default: 0]"
        ),
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=SETTINGS,
            help="Parts of a batch, each the work of one thread; part of the record, since the sums round by it.  "
            "[default: one a core, or a thread of each rank]",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=RUN,
            help="How many shards are worked on at once; never changes a result.  [default: all, one a core at most]",
        ),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            autocompletion=complete.models,
            rich_help_panel=SETTINGS,
            help="Start from this model, a run or a Hugging Face folder of GPT-2, Llama, Mistral, Qwen 2 or 3: its "
            "architecture, tokenizer and weights, and small steps on sequences of up to 256 tokens (--set length=N).",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            rich_help_panel=RUN,
            help="The run's folder; without it, the next free one of runs/1, runs/2, ...",
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            autocompletion=complete.runs,
            rich_help_panel=RUN,
            help="Go on with a run that was broken off; it ends with the same bytes as one that never was.",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=RUN, help="Save and stop after so long, wherever the schedule is; --resume goes on."
        ),
    ] = None,
) -> None:
    """Train a GPT on a text, or go on with a run.

    The last tenth of each text is held out; the loss on it is what counts. A run is a folder with all that made it;
    it is saved at each evaluation, every minute, on Ctrl-C and at the end. Started by `mpiexec -n 4`, four processes
    share the work, with the same numbers. There is no dropout: few passes over the text leave a small model nothing to
    overfit, and gradients without randomness can be proved.
    """
    options = {"tokenizer": tokenizer, "vocabulary": vocabulary, "steps": steps, "seed": seed, "shards": shards}
    with join() as ranks:
        if ranks.rank:
            follow(ranks, threads)
            return
        if minutes is not None and not minutes > 0:
            raise ConfigError(f"--minutes: {minutes:g} is not above 0")
        if threads is not None and threads < 1:
            raise ConfigError(f"--threads: {threads} is not a whole number of at least 1")
        if resume is not None:
            started = {"--out": out, "--init": init, "--preset": preset, "--config": config, "--glob": glob}
            refuse(started, "not with --resume; the run's own settings decide")
        if fields:
            trained = {"--data": data, "--glob": glob, "--out": out, "--threads": threads, "--minutes": minutes}
            refuse(trained, "not with --fields, which lists settings and trains nothing")
        console = plain_console(soft_wrap=True)
        settings = dict(map(read_assignment, set_ or []))
        settings |= {name: value for name, value in options.items() if value is not None}
        of_file = set[str]()
        if config is not None:
            plan = read_plan(config)  # its settings stand in for the preset's, those of the command line for both
            of_file = {*(plan.settings.keys() - settings.keys()), *(["preset"] if preset is None else [])}
            preset = plan.preset if preset is None else preset
            data = plan.data if data is None else data
            glob = plan.glob if glob is None else glob
            settings = plan.settings | settings
        if fields:
            with _naming(config, of_file):
                _show_fields(console, _planned(resume, init, preset, settings))
            return
        if resume is not None:
            run = _resumed(resume, settings, data or [], threads, ranks)
        else:
            with _naming(config, of_file):
                run = _created(out, init, preset, settings, data, glob, threads, ranks)
        with run:
            ranks.advise(f"; {run.folder} keeps what was saved. Go on with:  handgrad train --resume {run.folder}")
            show_start(run, console)
            train_run(run, minutes, console)


@contextmanager
def _naming(config: Path | None, fields: Collection[str]) -> Iterator[None]:
    """What is wrong with one of these fields is told with the name of the file that it is from."""
    try:
        yield
    except ConfigError as error:
        told = (f"{config}: {problem}" if problem.partition(":")[0] in fields else problem for problem in error.args)
        raise ConfigError(*told) from None


def _created(
    out: Path | None,
    init: Path | None,
    preset: str | None,
    settings: dict[str, Any],
    data: list[str] | None,
    glob: str | None,
    threads: int | None,
    ranks: Ranks,
) -> Run:
    """A new run."""
    if ranks.size > 1:
        settings = {"shards": ranks.shards(threads)} | settings
    if out is not None:
        refuse_a_run(out)
    if init is not None and preset is not None:
        raise HandgradError(f"preset: not with --init; the model in {init} has its own architecture")
    started = (init, load(init)) if init else None
    preset = "" if started else DEFAULT_PRESET if preset is None else preset
    refuse_rows(data or [])
    text = read_data(data or [], glob)
    if isinstance(text.text, PreparedText):
        settings = _with_its_tokenizer(settings, text, started is not None)
    recipe = recipe_for(started[1], settings) if started else make_recipe(settings, preset)
    try:
        return create_run(out, preset, recipe, text, threads, started, ranks)
    except TextError as error:
        raise TextError(f"{names_of(data or [])}: {error}") from None


def _with_its_tokenizer(settings: dict[str, Any], data: Data, started: bool) -> dict[str, Any]:
    """The settings for prepared data, which have a tokenizer; a `ConfigError` where one is asked for."""
    for name in ("tokenizer", "vocabulary"):
        if settings.get(name, "data") != "data":
            raise ConfigError(
                f"{name}: {settings[name]!r}, but the prepared data in {data.sources[0]} have a tokenizer; "
                f"handgrad data prepare --{name} makes others"
            )
    others = {name: value for name, value in settings.items() if name not in ("tokenizer", "vocabulary")}
    return others if started else others | {"tokenizer": "data"}


def _resumed(folder: Path, settings: dict[str, Any], data: list[str], threads: int | None, ranks: Ranks) -> Run:
    """The run of a folder. Settings may be repeated, but not changed: they are what makes it the same run."""
    run = resume_run(folder, data, threads, ranks)
    try:
        _refuse_changes(folder, run.record.recipe, settings)
    except BaseException:
        run.close()
        raise
    return run


def _refuse_changes(folder: Path, recipe: Recipe, settings: dict[str, Any]) -> None:
    recorded = recipe.to_dict()
    for name, value in settings.items():
        if name not in recorded:
            raise ConfigError(f"{name}: this run has no such field")
        if value != recorded[name]:
            raise ConfigError(f"{name}: {value!r}, but the run in {folder} was begun with {recorded[name]!r}")


def _planned(resume: Path | None, init: Path | None, preset: str | None, settings: dict[str, Any]) -> Recipe:
    """What these options would train."""
    if resume is not None:
        recipe = read_record(resume).recipe
        _refuse_changes(resume, recipe, settings)
        return recipe
    if init is not None:
        return recipe_for(load(init), settings)
    return make_recipe(settings, DEFAULT_PRESET if preset is None else preset)


def _show_fields(console: Console, recipe: Recipe) -> None:
    """Every field, with its value."""
    values = recipe.tokenizer.to_dict() | recipe.to_dict()
    table = Table("field", "value", "meaning", box=None, header_style="bold", pad_edge=False)
    for name, meaning in field_meanings().items():
        table.add_row(name, written(values[name]), meaning.replace("`", ""))
    make_room(console)
    console.print(table)
