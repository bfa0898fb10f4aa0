"""How long work is given up."""

from collections.abc import Callable

from ..layers import Array
from ..proof.recording import Through

Stop = Callable[[], None]
"""Called now and then during long work; it raises where nobody waits for the result any more."""


def stoppable(stop: Stop) -> Through:
    """What a pass is watched by, so that it ends when its result is not wanted any more."""

    def through(key: str, x: Array) -> Array:
        stop()
        return x

    return through
