"""handgrad compare: which of somebody else's tensors is wrong first, and why."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from ..proof import Comparison, compare_files
from .terminal import make_room

VERDICTS = {"ok": "[green]ok[/]", "follows": "[dim]follows[/]", "wrong": "[bold red]WRONG[/]"}


def compare(
    reference: Annotated[Path, typer.Argument(metavar="REFERENCE", help="What `trace` or `kit` wrote.")],
    mine: Annotated[
        Path, typer.Argument(metavar="MINE", help="Tensors of yours, safetensors or npz: as many as there are.")
    ],
    dtype: Annotated[
        Literal["float64", "float32", "float16", "bfloat16"] | None,
        typer.Option(help="What yours were kept in, which says how far off they may be; else that of the file."),
    ] = None,
    map: Annotated[  # noqa: A002 - the option's name
        Path | None,
        typer.Option(
            metavar="NAMES.toml",
            help='Where yours have other names: `"gradients/blocks.*.attention.w_q" = "layers.*.wq.grad"`, a star '
            'for a number; or `= { name = "...", transposed = true }`.',
        ),
    ] = None,
) -> None:
    """Find the first of your tensors that is wrong, and say why.

    Each tensor is held against the reference's, in the order of the dataflow: activations, then cotangents and
    gradients on the way back. One beyond its envelope is WRONG; or it follows, where it is what right code makes of
    your tensors before it. The first is explained by the mistakes that reproduce it on these data, else by how it
    stands to the right tensor. Ends with status 1 where a tensor is beyond its envelope.
    """
    with Console(stderr=True).status("comparing, and trying each known mistake"):
        comparison = compare_files(reference, mine, dtype, map)
    console = Console(highlight=False)
    make_room(console)
    table = Table("", "error", "envelope", "", box=None, header_style="bold", pad_edge=False)
    for row in comparison.rows:
        table.add_row(row.key, "–" if row.misfit else f"{row.error:.1e}", f"{row.envelope:.1e}", VERDICTS[row.verdict])
    console.print(table)
    _conclude(console, comparison)
    raise typer.Exit(0 if comparison.first is None else 1)


def _conclude(console: Console, comparison: Comparison) -> None:
    verdicts = [row.verdict for row in comparison.rows]
    first = comparison.first
    compared = f"{len(verdicts)} of {comparison.known} tensors against {comparison.dtype}'s envelope"
    if first is None:
        console.print(f"\n{compared}: [green]all within it[/]")
        return
    console.print(
        f"\n{compared}: {verdicts.count('ok')} ok, "
        f"[bold red]{verdicts.count('wrong')} wrong[/], {verdicts.count('follows')} follow\n"
        f"first: [bold]{first.key}[/], "
        f"{first.misfit or f'off by {first.error:.2g} where {first.envelope:.2g} would pass'}\n"
    )
    if len(comparison.mutations) > 1:
        console.print(f"These {len(comparison.mutations)} mistakes reproduce it, and are the same on these data:")
    elif comparison.mutations:
        console.print("This mistake reproduces it:")
    for mutation in comparison.mutations:
        console.print(f"  [bold]{mutation.name}[/] ({mutation.layer})")
        console.print(Padding(mutation.why, (0, 0, 0, 4), expand=False), markup=False)
    if comparison.relation:
        console.print(f"No known mistake reproduces it, but {comparison.relation}.")
    elif first.verdict == "follows":
        console.print("Each step is right by itself; their errors have added up.")
    elif not comparison.mutations:
        console.print("No cause was found.")
