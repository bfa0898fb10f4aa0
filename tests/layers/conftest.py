"""Attention by tiles of any size."""

from collections.abc import Callable, Iterator

import pytest

from handgrad.layers.causal_attention import entries_of, tile_blocks

EVERYTHING = 1 << 40

Tiled = Callable[[int, int], None]


@pytest.fixture
def tiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tiled]:
    """Tiles of so many keys, of which so many bytes of weights are kept."""

    def forget() -> None:
        """Tiles are worked out once, and then they are those of the sizes of then."""
        tile_blocks.cache_clear()
        entries_of.cache_clear()

    def patch(keys: int, kept: int) -> None:
        monkeypatch.setattr("handgrad.layers.causal_attention.KEYS", keys)
        monkeypatch.setattr("handgrad.layers.causal_attention.KEPT_BYTES", kept)
        forget()

    yield patch
    forget()
