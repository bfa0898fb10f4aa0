"""What the check says of the catalogue's mistakes, how a small model trains with them, and what they look like:

    {mutants} layer_norm     those of a layer: the code, what a teacher would say, what is off, how it trains, a picture
    {lessons}                how many of each layer train as well as right gradients do; with `:each:`, every single one

A mutation that the check does not catch fails the build.
"""

import hashlib
import inspect
import io
import json
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from docutils import nodes
from docutils.parsers.rst import directives
from matplotlib import rc_context
from matplotlib.figure import Figure
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import handgrad
from handgrad.layers import Array
from handgrad.proof import MUTATIONS, Mutation, all_cases, check_mutations

SHOWN = (24, 40)
"""Rows and columns of a gradient that a picture has at most."""
logger = logging.getLogger(__name__)


class Found(NamedTuple):
    """What became of a mutation, in numbers."""

    tensor: str
    error: float
    verdict: str
    loss: float
    right_loss: float


def findings(app: Sphinx) -> dict[Mutation, Found]:
    """Of every mutation, in the order of the catalogue.

    They take a minute, so they are kept beside the pages, until some file of the library changes.
    """
    kept = Path(app.doctreedir).parent / f"findings-{state_of_the_library()}.json"
    if not kept.is_file():
        logger.info("training with each of %d wrong backwards ...", len(MUTATIONS))
        found = list(check_mutations(MUTATIONS))
        if survivors := [mutation.name for mutation, worst, _ in found if worst.passed]:
            raise ExtensionError(f"the check does not catch {', '.join(survivors)}")
        numbers = [
            Found(worst.tensor, worst.error, lesson.verdict, lesson.loss, lesson.right_loss)
            for _, worst, lesson in found
        ]
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(numbers), encoding="utf-8")
    return dict(zip(MUTATIONS, (Found(*each) for each in json.loads(kept.read_text(encoding="utf-8"))), strict=True))


@cache
def sources() -> list[Path]:
    """The library's files, but for the packages that no training comes to."""
    root = Path(handgrad.__file__).parent
    others = {"cli", "explorer", "learn"}
    return sorted(path for path in root.rglob("*.py") if path.relative_to(root).parts[0] not in others)


@cache
def state_of_the_library() -> str:
    state = hashlib.sha256(np.__version__.encode())
    for path in sources():
        state.update(path.read_bytes())
    return state.hexdigest()[:16]


def depend_on_the_library(environment: BuildEnvironment) -> None:
    for path in sources():
        environment.note_dependency(str(path))


SAYS = {
    "as well": "trains as well as right gradients: {loss:.2f} nats, and {right:.2f} with them",
    "worse": "trains, but worse: {loss:.2f} nats, and {right:.2f} with right gradients",
    "no": "does not train: {loss:.2f} nats, and {right:.2f} with right gradients",
    "not met": "changes nothing in a small model, whose training is told by no loss",
}


class Mutants(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        depend_on_the_library(self.env)
        layers = self.arguments[0].split(",")
        chosen = {mutation: found for mutation, found in findings(self.env.app).items() if mutation.layer in layers}
        if missing := set(layers) - {mutation.layer for mutation in chosen}:
            raise self.error(f"no mutation is of {', '.join(missing)}")
        return [self.section(mutation, found) for mutation, found in chosen.items()]

    def section(self, mutation: Mutation, found: Found) -> nodes.Node:
        section = nodes.section(ids=[nodes.make_id(mutation.name)], names=[label_of(mutation)])
        self.state.document.note_explicit_target(section)
        section += nodes.title(text=sentence(mutation.name))
        section += with_code(mutation.why)
        code = as_change(mutation)
        section += nodes.literal_block(code, code, language="diff")
        says = SAYS[found.verdict].format(loss=found.loss, right=found.right_loss)
        numbers = nodes.paragraph(classes=["mutant-numbers"])
        numbers += nodes.literal(text=mutation.name)
        numbers += nodes.Text(f" in {mutation.of.__name__}: d{found.tensor} is off by {found.error:.1%}; {says}.")
        section += numbers
        section += self.picture(mutation, found.tensor)
        return section

    def picture(self, mutation: Mutation, tensor: str) -> nodes.Node:
        """The gradient that is most wrong: right, wrong, and what is between them, in the same colours."""
        cases = all_cases(0)
        case = cases[mutation.layer]
        right, wrong = (gradient_of(each, tensor) for each in (case, case.planted(mutation)))
        path = Path(self.env.srcdir) / "_made" / "mutants" / f"{mutation.name}.svg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(drawn(as_matrix(right), as_matrix(wrong), f"d{tensor}"))
        return nodes.image(uri="/" + path.relative_to(self.env.srcdir).as_posix(), alt=f"d{tensor}, right and wrong")


def label_of(mutation: Mutation) -> str:
    return f"mutant-{mutation.name}"


def sentence(name: str) -> str:
    """A mistake's name in words; those of tensors keep their form, such as `dw_q`."""
    words = re.sub(
        r"(?<![a-z])(d?[wb]_(?:[qkvo]|gate|up|down)|x_hat|norm_\d)(?![a-z])", lambda at: at[0].replace("_", "\0"), name
    )
    return words.replace("_", " ").replace("\0", "_")


def with_code(text: str) -> nodes.paragraph:
    """What stands between backticks is code, a single word between stars is meant; all else is as it is."""
    paragraph = nodes.paragraph()
    for part in re.split(r"(`[^`]+`|(?<!\w)\*\w+\*(?!\w))", text):
        kind = (
            {"`": nodes.literal, "*": nodes.emphasis}.get(part[:1]) if len(part) > 2 and part[0] == part[-1] else None
        )
        paragraph += kind(text=part[1:-1]) if kind else nodes.Text(part)
    return paragraph


def as_change(mutation: Mutation) -> str:
    """The right code and the wrong, as a diff has them."""
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(mutation.of)))
    before = source[: source.index(mutation.right)].rpartition("\n")[2]
    indented = "\n" + " " * (len(before) - len(before.lstrip()))  # all lines but the first stand as in the function
    sides = {"- ": mutation.right, "+ ": mutation.wrong}
    return "\n".join(sign + line for sign, code in sides.items() for line in code.replace(indented, "\n").splitlines())


def gradient_of(case: Any, tensor: str) -> Array:
    with np.errstate(all="ignore"):
        y, cache = case.run()
        dy = np.random.default_rng(0).standard_normal(y.shape)
        return np.asarray(case.gradients(dy, cache)[tensor])


def as_matrix(x: Array) -> Array:
    """Its last axis as columns, all others as rows; no more of both than can be seen."""
    matrix = np.atleast_2d(x.reshape(-1, x.shape[-1]) if x.ndim else x.reshape(1, 1))
    return matrix[: SHOWN[0], : SHOWN[1]]


def drawn(right: Array, wrong: Array, name: str) -> bytes:
    """Three pictures in colours that are centred on zero, as the explorer has them: violet negative, green positive."""
    largest = float(np.max(np.abs(right))) or 1.0
    wide = right.shape[1] > 3 * right.shape[0]
    figure = Figure(figsize=(7.2, 1.9) if not wide else (7.2, 2.4), layout="constrained")
    axes = figure.subplots(3, 1) if wide else figure.subplots(1, 3)
    shown = {f"{name}, right": right, "wrong": wrong, "wrong - right": wrong - right}
    for plot, (title, x) in zip(axes, shown.items(), strict=True):
        plot.imshow(
            np.where(np.isfinite(x), x, np.nan),
            cmap="PRGn",
            vmin=-largest,
            vmax=largest,
            aspect="auto",
            interpolation="nearest",
        )
        plot.set_title(title, fontsize=9)
        plot.set_xticks([])
        plot.set_yticks([])
    target = io.BytesIO()
    with rc_context({"svg.hashsalt": name}):  # the same bytes each time
        figure.savefig(target, format="svg", metadata={"Date": None})
    return target.getvalue()


class Lessons(SphinxDirective):
    option_spec: ClassVar[dict[str, Any]] = {"each": directives.flag}

    def run(self) -> list[nodes.Node]:
        depend_on_the_library(self.env)
        return self.parse_text_to_nodes(as_table(self.each() if "each" in self.options else self.by_layer()))

    def each(self) -> Iterator[list[str]]:
        yield ["mistake", "layer", "off by", "trains to", "with right gradients", ""]
        for mutation, found in findings(self.env.app).items():
            losses = ["", ""] if found.verdict == "not met" else [f"{found.loss:.2f}", f"{found.right_loss:.2f}"]
            name = f"{{ref}}`{mutation.name} <{label_of(mutation)}>`"  # one that no page shows fails the build
            yield [name, mutation.layer, f"{found.error:.1e}", *losses, found.verdict]

    def by_layer(self) -> Iterator[list[str]]:
        rows: dict[str, list[str]] = {}
        for mutation, found in findings(self.env.app).items():
            rows.setdefault(mutation.layer, []).append(found.verdict)
        kinds = ("as well", "worse", "no", "not met")
        everything = [verdict for verdicts in rows.values() for verdict in verdicts]
        yield ["layer", "wrong backwards", "train as well", "train worse", "do not train", "not met"]
        for name, verdicts in (*rows.items(), ("**all**", everything)):
            yield [name, str(len(verdicts)), *(str(verdicts.count(kind)) for kind in kinds)]


def as_table(rows: Iterator[list[str]]) -> str:
    first, *others = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in [first, ["---"] * len(first), *others])


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("mutants", Mutants)
    app.add_directive("lessons", Lessons)
    app.connect("builder-inited", findings_first)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def findings_first(app: Sphinx) -> None:
    """Before pages are read, by several processes perhaps: each would look for them."""
    findings(app)
