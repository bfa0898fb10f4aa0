"""A tap sees each named array on its way, and may replace it.

A forward calls `x = tap("name", x)` where an activation comes to be; its backward calls `dx = tap("name", dx)`, under
the same name, for the cotangent, once all its branches have been summed. The default, `no_tap`, is the identity and
costs nothing. A tap never writes to its argument, which a cache may hold too. What it returns is what the function
goes on with, and belongs to it from then on: to collect, keep a copy; to intervene, return a new array.
"""

from collections.abc import Callable, Iterable

from .arrays import Array

Tap = Callable[[str, Array], Array]
"""What is called with a name and an array, and returns the array to go on with."""


class TapOf:
    """A tap of arrays whose names end in one of these; nothing is made whole for it that it does not see."""

    def __init__(self, names: Iterable[str], tap: Tap) -> None:
        self.names = frozenset(names)
        self.tap = tap

    def __call__(self, name: str, x: Array, /) -> Array:
        return self.tap(name, x) if name.rpartition(".")[2] in self.names else x


def no_tap(name: str, x: Array) -> Array:
    """The identity: what a forward and a backward take where nobody looks."""
    return x


def within(tap: Tap, scope: str) -> Tap:
    """The same tap for an inner layer, whose names it sees as `scope.name`."""
    if tap is no_tap:
        return no_tap
    if isinstance(tap, TapOf):
        return TapOf(tap.names, within(tap.tap, scope))
    return lambda name, x: tap(f"{scope}.{name}", x)


def sees(tap: Tap, *names: str) -> bool:
    """Whether an array of one of these names must exist for the tap."""
    return not tap.names.isdisjoint(names) if isinstance(tap, TapOf) else tap is not no_tap
