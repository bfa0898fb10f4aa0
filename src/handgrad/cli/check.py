"""handgrad check: prove the gradients, and the proof."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.padding import Padding
from rich.progress import track
from rich.table import Table
from rich.text import Text

from ..errors import HandgradError, counted, meant
from ..proof import (
    BAR,
    MUTATIONS,
    Case,
    Mutation,
    Verdict,
    all_cases,
    check_against_torch,
    check_along,
    check_case,
    check_mutations,
    loss_of_right_gradients,
    model_case,
    moved_together,
    require_torch,
)
from . import complete
from .model import load_model
from .terminal import make_room


def check(
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN",
            autocompletion=complete.models,
            help="A run's folder, or a Hugging Face one: prove the gradients of that model, at its own weights. "
            "Without it: those of every layer and of small models of every family.",
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            "--layer",
            metavar="NAME",
            autocompletion=complete.layers,
            help="Only this case, such as layer_norm, block, gpt (a whole model) or llama.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides the random inputs and cotangents.")] = 0,
    against: Annotated[
        Literal["torch"] | None,
        typer.Option(help="Compare with PyTorch's autograd (float64) in place of the complex step, values as well."),
    ] = None,
    mutations: Annotated[
        bool,
        typer.Option(
            "--mutations",
            help="Put the check to the test: plant each wrong backward of the catalogue, see that it is caught, and "
            "whether a small model trains with it all the same. With --layer: what is wrong, and why.",
        ),
    ] = False,
) -> None:
    """Prove every gradient: each layer's, a block's, and whole small models'; or those of a model of yours.

    Each backward is run in float64 on random inputs, with a random cotangent, and every entry of what it returns is
    compared with the complex step: Im f(x + ih) / h, h = 1e-30, which is exact to rounding. The relative error is the
    largest difference over the largest entry. A model's tensors are compared along a random direction each (a large
    model's block by block) on a few random tokens; --against torch compares every entry there, too. A wrong gradient
    ends the command with status 1, as does a mutation that is not caught.
    """
    if run is not None and (layer is not None or mutations):
        raise HandgradError(f"{'--layer' if layer is not None else '--mutations'}: not with a model; leave out {run}")
    cases = all_cases(seed)
    if layer is not None and layer not in cases:
        raise HandgradError(f"--layer: no layer {layer!r}; {meant(layer, cases)}")
    if mutations and against:
        raise HandgradError("--mutations: these are checked by the complex step; leave out --against")
    if against:
        require_torch()
    console = Console(highlight=False)
    make_room(console)
    if run is not None:
        good = _check_gradients(console, {"gpt": model_case(load_model(run), seed)}, seed, against, along=True)
    elif mutations:
        good = _check_mutations(console, layer, seed)
    else:
        good = _check_gradients(console, {layer: cases[layer]} if layer else cases, seed, against)
    raise typer.Exit(0 if good else 1)


def _check_gradients(
    console: Console, cases: Mapping[str, Case], seed: int, against: str | None, along: bool = False
) -> bool:
    """`along`: each gradient along one direction, since there are too many entries."""
    start = time.perf_counter()
    what = "value or gradient of" if against else "gradient of"
    table = Table("layer", what, "shape", "error", "", box=None, header_style="bold", pad_edge=False)
    verdicts: list[Verdict] = []
    for name, case in cases.items():
        found: Iterable[Verdict]
        found = check_against_torch(case, name, seed) if against else (check_along if along else check_case)(case, seed)
        if along:
            count = len(case.inputs) + 1 if against else len(moved_together(case.inputs))
            found = track(found, "checking", count, console=console, transient=True)
        for row, verdict in enumerate(found):
            verdicts.append(verdict)
            table.add_row(
                "" if row else name,
                verdict.tensor,
                "×".join(map(str, verdict.shape)) or ("" if verdict.tensor.endswith("*") else "1"),
                f"{verdict.error:.1e}",
                "[green]proved[/]" if verdict.passed else "[bold red]WRONG[/]",
            )
    console.print(table)
    wrong = sum(not verdict.passed for verdict in verdicts)
    worst = max(verdict.error for verdict in verdicts)
    if against:
        compared = counted(len(verdicts), "value or gradient", "values and gradients") + " against PyTorch"
    else:
        compared = counted(len(verdicts), "gradient") + " against the complex step"
    if along and not against:
        compared += ", each along a random direction"
    console.print(
        f"\n{compared}: "
        f"{f'[bold red]{wrong} wrong[/]' if wrong else '[green]all proved[/]'} in {time.perf_counter() - start:.1f} s\n"
        f"largest relative error {worst:.1e}, bar {BAR:.0e}"
    )
    return not wrong


def _check_mutations(console: Console, layer: str | None, seed: int) -> bool:
    start = time.perf_counter()
    mutations = [mutation for mutation in MUTATIONS if layer in (None, mutation.layer)]
    if not mutations:
        raise HandgradError(f"--mutations: none is of {layer}")
    found = track(
        check_mutations(mutations, seed), "training with each", len(mutations), console=console, transient=True
    )
    findings = list(found)
    if layer:
        for finding in findings:
            _explain(console, finding.mutation)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("mutation", overflow="fold")
    table.add_column("off by", justify="right")
    table.add_column("")
    table.add_column("trains to", justify="right")
    table.add_column("")
    for at, (mutation, worst, lesson) in enumerate(findings):
        if not at or mutation.layer != findings[at - 1].mutation.layer:
            table.add_row(f"[bold]{mutation.layer}[/]")
        table.add_row(
            f"  {mutation.name}",
            f"{worst.error:.1e}",
            "[bold red]SURVIVES[/]" if worst.passed else "[green]caught[/]",
            "" if lesson.verdict == "not met" else f"{lesson.loss:.2f}",
            lesson.verdict,
        )
    console.print(table)
    survivors = sum(worst.passed for _, worst, _ in findings)
    well = sum(lesson.verdict == "as well" for *_, lesson in findings)
    met = sum(lesson.verdict != "not met" for *_, lesson in findings)
    console.print(
        f"\n{counted(len(findings), 'mutation')}: "
        f"{f'[bold red]{survivors} not caught[/]' if survivors else '[green]all caught[/]'} "
        f"in {time.perf_counter() - start:.1f} s"
    )
    if met:
        moral = ": a falling loss proves nothing" if well else ""
        console.print(
            f"with {well or 'none'} of the {met} that a small model meets it trains as well as with right gradients, "
            f"to {loss_of_right_gradients():.2f} nats in the default model{moral}"
        )
    return not survivors


def _explain(console: Console, mutation: Mutation) -> None:
    """Print the code, what stands in its place, and what a teacher would say."""
    console.print(f"[bold]{mutation.name}[/], in {mutation.of.__name__}")
    for sign, code, style in (("-", mutation.right, "green"), ("+", mutation.wrong, "red")):
        for line in code.splitlines():
            console.print(Text(f"  {sign} {line.strip()}", style=style))
    console.print(Padding(mutation.why, (0, 0, 1, 2), expand=False), markup=False)
