"""handgrad trace: every activation and every cotangent of one pass, in a file."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer

from ..errors import HandgradError, counted
from ..files import require_place
from ..proof import refuse_other_files
from ..proof import trace as trace_model
from ..training import PRESETS
from . import complete
from .model import fresh_model, load_model
from .refuse import refuse_seed


def trace(
    text: Annotated[
        list[str],
        typer.Option(
            metavar="TEXT", help="Each of its tokens is predicted from those before it; given several times: a batch."
        ),
    ],
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN",
            autocompletion=complete.models,
            help="A run's folder, or a Hugging Face folder; or --preset, for a fresh model.",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", autocompletion=complete.presets, help=f"A fresh model, reading bytes: {', '.join(PRESETS)}."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to; the manifest as JSON goes beside it.")] = Path(
        "trace.safetensors"
    ),
    dtype: Annotated[Literal["float64", "float32"], typer.Option(help="What to compute in.")] = "float64",
    seed: Annotated[int | None, typer.Option(min=0, help="Decides the weights of a fresh model.  [default: 0]")] = None,
) -> None:
    """Run a model forward and backward on a text, and write down every tensor.

    The file has activations/NAME, cotangents/NAME (the gradient of the loss by that activation), parameters/NAME,
    gradients/NAME, tokens and targets; its metadata, and the JSON file beside it, say of each its axes, shape, formulas
    and place in the order of the dataflow. `handgrad compare` holds another program's tensors against it.
    """
    if (run is None) == (preset is None):
        raise HandgradError("give a RUN, or --preset NAME for a fresh model: one of the two")
    if run is not None:
        refuse_seed(seed, run)
    require_place(out)
    model = load_model(run) if run else fresh_model(preset or "", seed or 0)
    refuse_other_files(out)
    traced = trace_model(model, text, dtype=dtype)
    traced.save(out)
    size = sum(x.nbytes for x in traced.tensors().values()) / 1e6
    print(
        f"{out} and {out.with_suffix('.json').name}: {len(traced.activations)} activations, "
        f"{len(traced.cotangents)} cotangents, {len(traced.gradients)} gradients, {dtype}, {size:,.1f} MB\n"
        f"loss {traced.loss:.6f} nats over {counted(int(np.count_nonzero(traced.targets >= 0)), 'target')}"
    )
