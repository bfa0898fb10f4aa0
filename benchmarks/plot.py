"""The picture of the README: what a step takes, by size."""

from pathlib import Path
from typing import Any

from .rounds import figures

MEASURE = "PyTorch eager"
COLOURS = {
    "handgrad": "#1f6f8b",
    MEASURE: "#c8553d",
    "torch.compile": "#e8a598",
    "matrix products": "#c9ced1",
}


def draw_steps(record: dict[str, Any], out: Path) -> None:
    """Bars from 0, the median of PyTorch eager at each size being 1; the time in milliseconds stands in each."""
    from matplotlib.figure import Figure

    contests = {
        title.removeprefix("step "): figures(contest["turns"], MEASURE)
        for title, contest in record["contests"].items()
        if MEASURE in contest["turns"]
    }
    if not contests:
        raise ValueError(f"no step that {MEASURE} took part in")
    picture = Figure(figsize=(7, 0.9 + 1.15 * len(contests)), layout="constrained")
    axes = picture.subplots()
    for place, found in enumerate(contests.values()):
        for n, (name, figure) in enumerate(found.items()):
            y = place + (n - (len(found) - 1) / 2) * 0.2
            axes.barh(y, figure.ratio, 0.18, color=COLOURS[name], label=name if place == 0 else None)
            axes.text(figure.ratio + 0.01, y, f"{figure.seconds * 1e3:,.0f} ms", va="center", fontsize=8)
    axes.set_yticks(range(len(contests)), contests)
    axes.invert_yaxis()
    axes.set_xlabel(f"time of a training step, {MEASURE} = 1 (shorter is faster)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.03, 1))
    picture.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)
