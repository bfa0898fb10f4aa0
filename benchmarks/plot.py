"""The pictures of README and docs: what a step takes by size, curves of learning, what each choice gives."""

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from . import learn
from .ablation import Row, find
from .plan import Turn
from .rounds import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURE = "PyTorch eager"
COLOURS = {
    "handgrad": "#1f6f8b",
    MEASURE: "#c8553d",
    "torch.compile": "#e8a598",
    "matrix products": "#c9ced1",
}


CURVES = {
    learn.MEASURE: ("#c8553d", "-", (0, 30)),
    learn.REPRODUCTION: ("#1f6f8b", "--", (0, -14)),
    learn.RECIPE: ("#2a9d5c", "-", (82, -3)),
}
"""The colour of each contender, its line, and where its label begins, in points from the last one drawn."""
GREY = "#6b7280"


def draw(record: dict[str, Any], out: Path) -> None:
    """What the record is of."""
    if "ablation" in record:
        draw_ablation([Row(**row) for row in record["ablation"]], out)
    elif "learn" in record["contests"]:
        draw_learning(record["contests"]["learn"]["turns"], out)
    else:
        draw_steps(record, out)


def draw_learning(turns: dict[str, list[Turn]], out: Path) -> None:
    """Validation losses: by step, where the same recipe makes the same curve, and by the seconds of the updates."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(10, 4), layout="constrained")
    by_step, by_time = picture.subplots(1, 2, sharey=True)
    for name, (colour, line, place) in CURVES.items():
        if name not in turns:
            continue
        runs = turns[name][1:]
        steps, losses = np.array(learn.curve(turns[name])).T
        seconds = steps * median(run["seconds"] / run["losses"][-1][0] for run in runs)
        for axes, x in ((by_step, steps), (by_time, seconds)):
            if axes is by_step and name == learn.RECIPE:
                continue
            axes.plot(x, losses, line, color=colour, marker="o", markersize=3.5, label=name)
            for run in runs:
                axes.plot(x, [loss for _, loss in run["losses"]], color=colour, alpha=0.2, linewidth=0.8)
        end = (seconds[-1], losses[-1])
        label = f"{losses[-1]:.3f} after {seconds[-1]:.0f} s"
        by_time.annotate(label, end, xytext=place, textcoords="offset points", color=colour, fontsize=8, ha="right")
    if learn.MEASURE in turns:
        by_time.axhline(learn.final_loss(turns[learn.MEASURE]), color=GREY, linewidth=0.8, linestyle=":")
    by_step.set(xlabel="step", ylabel="validation loss, nats a character", title="The same recipe")
    by_time.set(xlabel="seconds of training, evaluations not counted", title="The same loss", xlim=(0, None))
    for axes in (by_step, by_time):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    _save(picture, out)


def draw_ablation(rows: list[Row], out: Path) -> None:
    """How much each choice lowers the loss, in the recipe and alone: a bar for the median, a dot for each seed."""
    from matplotlib.figure import Figure

    names = [name for name in dict.fromkeys(row.choice for row in rows) if name]
    picture = Figure(figsize=(8, 1.2 + 0.42 * len(names)), layout="constrained")
    axes = picture.subplots()
    kinds = (("recipe", 1, "in the recipe", "#1f6f8b"), ("nanogpt", -1, "alone, in nanoGPT's", "#e8a598"))
    for base, sign, label, colour in kinds:
        whole = find(rows, "", base)
        for place, name in enumerate(names):
            row = find(rows, name, base)
            if row is None or whole is None:
                continue
            y = place - sign * 0.18
            axes.barh(y, sign * (row.loss - whole.loss), 0.32, color=colour, label=label if place == 0 else None)
            gains = [sign * (loss - as_it_is) for loss, as_it_is in zip(row.losses, whole.losses, strict=True)]
            axes.plot(gains, [y] * len(gains), ".", color="black", markersize=3)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("nats by which the choice lowers the validation loss")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    _save(picture, out)


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
    _save(picture, out)


def _save(picture: "Figure", out: Path) -> None:
    picture.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)
