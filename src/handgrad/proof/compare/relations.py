"""How a wrong tensor stands to the right one, where no known mistake explains it: scaled, transposed, wrong in part."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ...layers import Array
from ..envelope import deviation

WORDS = {"B": "sequence", "T": "position", "S": "key", "V": "token", "C": "channel", "F": "hidden unit"}
WORDS |= dict.fromkeys("HG", "head")
CLOSER = 0.25
"""What explains a deviation leaves at most this part of it, beside being within the envelope."""


def explains(guess: Array, mine: Array, right: Array, envelope: float) -> bool:
    """Whether a guess is mine within the envelope, and far nearer to it than the right tensor is."""
    error = deviation(mine, guess)
    if not guess.any():  # envelopes are relative, and the right tensor is what zero is small against
        error /= float(np.max(np.abs(right), initial=0)) or 1.0
    return error <= envelope and error <= CLOSER * deviation(mine, right)


def relation(mine: Array, right: Array, axes: Sequence[str], envelope: float, sizes: Mapping[str, int]) -> str | None:
    """The simplest relation that holds within the envelope, in words; none where none does.

    `sizes`: the lengths of the model's axes by their letters, in which a factor is expressed.
    """
    if mine.shape != right.shape:
        return _unsummed(mine, right, envelope) or _other_shape(mine, right, axes, envelope)
    for found in (_zero, _factor(sizes), _transposed, _permuted, _local):
        if words := found(mine, right, axes, envelope):
            return words
    return None


Finder = Callable[[Array, Array, Sequence[str], float], str | None]


def _zero(mine: Array, right: Array, axes: Sequence[str], envelope: float) -> str | None:
    return None if mine.any() else "it is zero"


def _factor(sizes: Mapping[str, int]) -> Finder:
    def found(mine: Array, right: Array, axes: Sequence[str], envelope: float) -> str | None:
        factor = factor_of(mine, right, envelope)
        if factor is None:
            return None
        if math.isclose(factor, -1, rel_tol=max(envelope, 1e-12)):
            return "its sign is wrong"
        names = known_as(factor, sizes, min(envelope, 0.01))
        return f"it is the right one times {factor:.6g}" + (f" (maybe {' or '.join(names[:2])})" if names else "")

    return found


def factor_of(mine: Array, right: Array, envelope: float) -> float | None:
    """The number that mine is the right one times, where it is."""
    finite = np.isfinite(right)
    if np.count_nonzero(right[finite]) < 2:
        return None  # any number is a multiple of another
    factor = float((mine[finite] * right[finite]).sum() / (right[finite] ** 2).sum())
    return factor if explains(factor * right[finite], mine[finite], right[finite], envelope) else None


def known_as(factor: float, sizes: Mapping[str, int], tolerance: float) -> list[str]:
    """What the factor may be: the length of an axis, its root, or one over these."""
    lengths = [(name, float(size)) for name, size in sizes.items() if size > 1]
    known = [
        named
        for name, size in lengths
        for named in ((name, size), (f"1/{name}", 1 / size), (f"√{name}", size**0.5), (f"1/√{name}", size**-0.5))
    ]
    sign = "-" if factor < 0 else ""
    return [sign + name for name, value in known if math.isclose(abs(factor), value, rel_tol=tolerance)]


def _transposed(mine: Array, right: Array, axes: Sequence[str], envelope: float) -> str | None:
    for a, b in itertools.combinations(range(right.ndim), 2):
        if right.shape[a] == right.shape[b] > 1 and explains(right.swapaxes(a, b), mine, right, envelope):
            return f"it is transposed: {axes[a]} and {axes[b]} are swapped"
    return None


def _permuted(mine: Array, right: Array, axes: Sequence[str], envelope: float) -> str | None:
    """The slices along one axis, such as the heads, in another order."""
    for axis, name in enumerate(axes):
        ours, theirs = np.moveaxis(right, axis, 0), np.moveaxis(mine, axis, 0)
        if not 1 < len(ours) <= 1024 or ours[0].size < 2:
            continue  # single numbers are soon another's
        flat, other = (x.reshape(len(ours), -1) for x in (np.where(np.isfinite(ours), ours, 0), theirs))
        with np.errstate(invalid="ignore"):
            distance = (flat**2).sum(1)[:, None] - 2 * flat @ np.where(np.isfinite(other), other, 0).T
        order = distance.argmin(axis=0)
        if len(set(order.tolist())) == len(order) and explains(ours[order], theirs, ours, envelope):
            listed = f": {', '.join(map(str, order))}" if len(order) <= 16 else ""
            return f"it is permuted along {WORDS.get(name, name)}{listed}"
    return None


def _local(mine: Array, right: Array, axes: Sequence[str], envelope: float) -> str | None:
    """All that is wrong lies at one index of an axis, or of several."""
    with np.errstate(invalid="ignore"):
        worst = np.unravel_index(np.nan_to_num(np.abs(mine - right)).argmax(), right.shape)
    places = []
    for axis, name in enumerate(axes):
        guess = right.copy()
        at = (slice(None),) * axis + (worst[axis],)
        guess[at] = mine[at]
        if right.shape[axis] > 1 and explains(guess, mine, right, envelope):
            places.append(f"{WORDS.get(name, name)} {worst[axis]}")
    return f"it is wrong only at {', '.join(places)}" if places else None


def _unsummed(mine: Array, right: Array, envelope: float) -> str | None:
    for count in range(1, mine.ndim - right.ndim + 1):
        for summed in itertools.combinations(range(mine.ndim), count):
            left = tuple(length for axis, length in enumerate(mine.shape) if axis not in summed)
            if left == right.shape and _is(np.asarray(mine.sum(axis=summed)), right, envelope):
                axes = " and ".join(f"{axis} (of length {mine.shape[axis]})" for axis in summed)
                return f"it is not summed over axis {axes}"
    return None


def _other_shape(mine: Array, right: Array, axes: Sequence[str], envelope: float) -> str | None:
    if sorted(mine.shape) == sorted(right.shape):
        for order in itertools.permutations(range(right.ndim)):
            if _is(mine, right.transpose(order), envelope):
                return f"its axes are in the order {' '.join(axes[axis] for axis in order)}"
    if mine.size == right.size and _is(mine.reshape(right.shape), right, envelope):
        return f"it has the right numbers in the shape {mine.shape}"
    return None


def _is(guess: Array, right: Array, envelope: float) -> bool:
    return guess.shape == right.shape and bool(right.any()) and deviation(guess, right) <= envelope
