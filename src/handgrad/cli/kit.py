"""handgrad kit: reference tensors for people who write kernels."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from ..proof import KIT, write_kit
from . import complete


def kit(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; it is made, files of a kit are replaced.")],
    layers: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            autocompletion=complete.kit_layers,
            help=f"Only these, with commas between: {', '.join(KIT)}.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides the random inputs and cotangents.")] = 0,
) -> None:
    """Write cases that a kernel in any language can be held against.

    For each layer, a block and a small GPT, in ordinary and in nasty shapes: inputs, random cotangents, outputs, every
    intermediate and every gradient in float64, and how far off a right implementation may be in float32, float16 and
    bfloat16. DIR/README.md explains; kit.c and kit_torch.py there read and check.
    """
    chosen = list(dict.fromkeys(name.strip() for name in layers.split(","))) if layers is not None else list(KIT)
    console = Console(stderr=True)
    count = sum(len(KIT.get(name, ())) for name in chosen)
    cases = track(
        write_kit(folder, chosen, seed),
        "measuring",
        count,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    print(f"{len(list(cases))} cases in {folder}; {folder / 'README.md'} explains")
