"""loss.svg: the losses of a run over its steps."""

import io
import warnings
from collections.abc import Sequence

import numpy as np

from ..layers import Array
from .metrics import Entry, best_of, evaluations

PLOT_FILE = "loss.svg"
POINTS = 400
"""Of the training loss, each the mean of as many steps as it takes."""
FARTHEST = 1e30
"""Of what is drawn: no axis reaches from one end of the floating-point numbers to the other."""


def loss_plot(entries: Sequence[Entry], title: str) -> bytes:
    """An SVG of the loss in each batch, and on the held-out text with the lowest marked."""
    from matplotlib import rc_context  # half a second, which only who draws should pay
    from matplotlib.figure import Figure

    steps, losses = _numbers(entries, "step"), _numbers(entries, "loss")
    size = -(-len(steps) // POINTS)
    cuts = np.arange(0, len(steps), size)
    counts = np.diff(np.append(cuts, len(steps)))
    evaluated = evaluations(entries)
    drawn = io.BytesIO()
    # text as text, and the same bytes for the same losses
    with (
        warnings.catch_warnings(),
        rc_context({"svg.fonttype": "none", "svg.hashsalt": "handgrad", "font.family": "sans-serif"}),
    ):
        figure = Figure(figsize=(8, 4.5))
        figure.subplots_adjust(left=0.08, right=0.97, bottom=0.11, top=0.92)
        axes = figure.add_subplot()
        label = "in each batch" if size == 1 else f"in batches, the mean of {size}"
        axes.plot(
            np.add.reduceat(steps, cuts) / counts, np.add.reduceat(losses, cuts) / counts, color="#9db7d5", label=label
        )
        if evaluated:
            x, y = _numbers(evaluated, "step"), _numbers(evaluated, "validation_loss")
            axes.plot(x, y, color="#b3261e", marker="o", markersize=4, label="on the held-out text")
            best = best_of(evaluated)
            lowest = evaluated.index(best)
            axes.annotate(
                f"{best['validation_loss']:.3f} nats\n{best['bits_per_character']:.3f} bits a character",
                (x[lowest], y[lowest]),
                xytext=(0, 12),
                textcoords="offset points",
                ha="right" if best["step"] > steps[-1] / 2 else "left",
                color="#b3261e",
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
            )
        axes.set_title(title.encode(errors="replace").decode(), parse_math=False)
        axes.set(xlabel="step", ylabel="loss, nats a token", xlim=(0, None))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # who shows the picture brings the font
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    return drawn.getvalue()


def _numbers(entries: Sequence[Entry], name: str) -> Array:
    """As far as they can be drawn: a damaged line may have any."""
    return np.clip([float(entry[name]) for entry in entries], -FARTHEST, FARTHEST)
