"""A tap sees each named array on its way, and may replace it.

A forward calls `x = tap("name", x)` where an activation comes to be; its backward calls `dx = tap("name", dx)`, under
the same name, for the cotangent, once all its branches have been summed. The default, `no_tap`, is the identity and
costs nothing. A tap never writes to its argument, which a cache may hold too. What it returns is what the function
goes on with, and belongs to it from then on: to collect, keep a copy; to intervene, return a new array.
"""

from collections.abc import Callable

from .arrays import Array

Tap = Callable[[str, Array], Array]


def no_tap(name: str, x: Array) -> Array:
    return x


def within(tap: Tap, scope: str) -> Tap:
    """The same tap for an inner layer, whose names it sees as `scope.name`."""
    if tap is no_tap:
        return no_tap
    return lambda name, x: tap(f"{scope}.{name}", x)
