"""Which of somebody else's tensors is wrong first, and why."""

import inspect
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import CodeType
from typing import Literal, NamedTuple

import numpy as np

from ...errors import HandgradError
from ...layers import IGNORE_INDEX, Array
from ..envelope import DTYPES, deviation
from ..mutations import MUTATIONS, Mutation
from .mine import read_mine
from .reference import Reference, read_reference
from .relations import explains, relation


class Row(NamedTuple):
    """A tensor, in the order of the dataflow."""

    key: str
    error: float
    envelope: float
    verdict: Literal["ok", "wrong", "follows"]
    """`follows`: beyond the envelope, but what the right formula makes of the tensors before it, as they are."""
    misfit: str = ""
    """Of which shape it is, where that is not the right one, and the error infinite."""


class Comparison(NamedTuple):
    """How the tensors of a file stand to those of a reference."""

    dtype: str
    """The coarser of what the two were kept in; it decides the envelope."""
    known: int
    """How many tensors the reference has; rows are those that are compared."""
    rows: tuple[Row, ...]
    mutations: tuple[Mutation, ...]
    """Of the first that is wrong, the mistakes that reproduce it on these data; more than one cannot be told apart."""
    relation: str | None
    """Where there is no such mistake, how it stands to the right tensor."""

    @property
    def first(self) -> Row | None:
        """The first that is wrong by itself; where none is, the first beyond its envelope."""
        beyond = [row for row in self.rows if row.verdict != "ok"]
        return next((row for row in beyond if row.verdict == "wrong"), beyond[0] if beyond else None)


def compare_files(reference: Path, mine: Path, dtype: str | None = None, mapping: Path | None = None) -> Comparison:
    """Hold the tensors of a file against those of a trace or of a kit's case; see `compare`.

    dtype: what they were kept in; where not given, that of the file. mapping: where the file has other names, see
    `read_mapping`. A `HandgradError` has a line for each tensor that cannot be compared.
    """
    expected = read_reference(reference)
    tensors, found = read_mine(mine, expected, mapping)
    coarsest = max(dtype or found, expected.dtype, key=DTYPES.index)
    try:
        return compare(expected, tensors, coarsest)
    except HandgradError as error:
        raise HandgradError(*(f"{mine}: {problem}" for problem in error.args)) from None


@np.errstate(all="ignore")  # what a mistake makes may overflow
def compare(
    reference: Reference, mine: Mapping[str, Array], dtype: str, mutations: Iterable[Mutation] = MUTATIONS
) -> Comparison:
    """Hold tensors against the reference's, each against its envelope in this dtype.

    A tensor is explained by what the library makes of the *foreign* tensors before it: the pass is run again, and at
    each tap it goes on with the foreign tensor where there is one. What is wrong then is wrong by itself. The same with
    a mutation planted gives what somebody gets who makes that mistake.
    """
    mine = {key: mine[key] for key in reference.tensors if key in mine}
    envelope = reference.envelope(dtype)
    right = _pass(reference, mine)
    sizes = _sizes(reference)

    def related(key: str) -> str | None:
        return relation(mine[key], right[key], reference.axes[key], envelope[key], sizes)

    misshapen = [key for key, x in mine.items() if x.shape != right[key].shape and related(key) is None]
    if misshapen:
        raise HandgradError(*(f"{key}: shape {mine[key].shape}, not {right[key].shape}" for key in misshapen))
    rows = [_row(key, x, reference.tensors[key], right[key], envelope[key]) for key, x in mine.items()]
    comparison = Comparison(dtype, len(reference.tensors), tuple(rows), (), None)
    first = comparison.first
    if first is None or first.verdict == "follows":
        return comparison
    if found := _reproducing(first.key, reference, mine, right, envelope, mutations):
        return comparison._replace(mutations=tuple(found))
    return comparison._replace(relation=related(first.key))


def _pass(reference: Reference, mine: Mapping[str, Array], mutation: Mutation | None = None) -> dict[str, Array]:
    """What the library, perhaps with a mutation, makes of the foreign tensors; of its own where there is none."""
    made: dict[str, Array] = {}

    def through(key: str, x: Array) -> Array:
        made.setdefault(key, x.copy())
        foreign = mine.get(key)
        return x if foreign is None or foreign.shape != x.shape else foreign.copy()

    reference.run(through, mutation)
    return made


def _row(key: str, mine: Array, expected: Array, right: Array, envelope: float) -> Row:
    error = deviation(mine, expected)
    if error <= envelope:
        return Row(key, error, envelope, "ok")
    misfit = ""
    if mine.shape != expected.shape:
        misfit = f"of shape {'×'.join(map(str, mine.shape))} where {'×'.join(map(str, expected.shape))} is right"
    return Row(key, error, envelope, "follows" if deviation(mine, right) <= envelope else "wrong", misfit)


def _reproducing(
    key: str,
    reference: Reference,
    mine: Mapping[str, Array],
    right: Mapping[str, Array],
    envelope: Mapping[str, float],
    mutations: Iterable[Mutation],
) -> list[Mutation]:
    """The mutations that make the foreign tensor out of those before it.

    Several may: a factor forgotten in dq and one forgotten in the scores give the same dq, and differ in dk. So only
    those are told that leave the fewest of the block's other tensors unexplained.
    """
    block = [other for other in mine if _block_of(other) == _block_of(key)]
    unexplained: dict[Mutation, int] = {}
    called = _called(reference)
    for mutation in mutations:
        if inspect.unwrap(mutation.of).__code__ not in called:
            continue
        try:
            made = _pass(reference, mine, mutation)
        except (ValueError, IndexError, ArithmeticError, AttributeError):  # it fits no such shapes, or no such parts:
            continue  # nobody can have made it here
        if explains(made[key], mine[key], right[key], envelope[key]):
            unexplained[mutation] = sum(not deviation(mine[other], made[other]) <= envelope[other] for other in block)
    fewest = min(unexplained.values(), default=0)
    return [mutation for mutation, count in unexplained.items() if count == fewest]


def _called(reference: Reference) -> set[CodeType]:
    """The code that the pass runs: in other code nobody's mistake can be here."""
    called: set[CodeType] = set()
    before = sys.getprofile()
    sys.setprofile(lambda frame, event, _: called.add(frame.f_code))
    try:
        reference.run()
    finally:
        sys.setprofile(before)
    return called


def _block_of(key: str) -> str:
    """The block that a tensor is in; empty for the rest of the model."""
    name = key.partition("/")[2].split(".")
    return name[1] if name[0] == "blocks" else ""


def _sizes(reference: Reference) -> dict[str, int]:
    """The lengths of the axes by their letters, how many positions there are, and how many targets count."""
    sizes: dict[str, int] = {}
    for key, x in reference.tensors.items():
        sizes |= dict(zip(reference.axes[key], x.shape, strict=True))
    if sizes.keys() >= {"B", "T"}:
        sizes["(B·T)"] = sizes["B"] * sizes["T"]
    if "targets" in reference.case.given:
        sizes["targets"] = int(np.count_nonzero(reference.case.given["targets"] != IGNORE_INDEX))
    return {name: size for name, size in sizes.items() if name not in ("S", "context", "G", "HD", "GD")}
