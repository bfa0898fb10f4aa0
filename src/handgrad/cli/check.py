"""handgrad check: prove the gradients."""

import time
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ..errors import HandgradError
from ..proof import BAR, all_cases, check_case
from .terminal import make_room


def check(
    layer: Annotated[
        str | None,
        typer.Option("--layer", metavar="NAME", help="Only this layer, such as layer_norm, or gpt: the whole model."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides the random inputs and cotangents.")] = 0,
) -> None:
    """Prove every gradient: each layer's, and a whole small GPT's.

    Each backward is run in float64 on random inputs, with a random cotangent, and every entry of what it returns is
    compared with the complex step: Im f(x + ih) / h, h = 1e-30, which is exact to rounding. The relative error is the
    largest difference over the largest entry. A wrong gradient ends the command with status 1.
    """
    start = time.perf_counter()
    cases = all_cases(seed)
    if layer is not None and layer not in cases:
        raise HandgradError(f"--layer: no layer {layer!r}; there are {', '.join(cases)}")
    table = Table("layer", "gradient of", "shape", "error", "", box=None, header_style="bold", pad_edge=False)
    verdicts = []
    for name in [layer] if layer else cases:
        for row, verdict in enumerate(check_case(cases[name], seed)):
            verdicts.append(verdict)
            table.add_row(
                "" if row else name,
                verdict.tensor,
                "×".join(map(str, verdict.shape)),
                f"{verdict.error:.1e}",
                "[green]proved[/]" if verdict.passed else "[bold red]WRONG[/]",
            )
    console = Console(highlight=False)
    make_room(console)
    console.print(table)
    wrong = sum(not verdict.passed for verdict in verdicts)
    worst = max(verdict.error for verdict in verdicts)
    console.print(
        f"\n{len(verdicts)} gradients against the complex step: "
        f"{f'[bold red]{wrong} wrong[/]' if wrong else '[green]all proved[/]'} in {time.perf_counter() - start:.1f} s\n"
        f"largest relative error {worst:.1e}, bar {BAR:.0e}"
    )
    raise typer.Exit(1 if wrong else 0)
