"""BLAS on one thread: where we bring threads of our own, or the products are too small for its own to pay."""

from contextlib import AbstractContextManager
from functools import lru_cache

from threadpoolctl import ThreadpoolController


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def single_threaded_blas() -> AbstractContextManager[object]:
    """A context in which each product runs on the thread that asks for it, as far as threadpoolctl knows the BLAS."""
    limit: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return limit
