"""Causal attention by tiles: whatever the tiles, it is the same attention, and less of it exists at a time."""

import tracemalloc
from collections.abc import Iterator
from typing import Any

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad

from handgrad.layers import Array, Tap, causal_attention_backward, causal_attention_forward, no_tap
from handgrad.layers.causal_attention import causal_mask, entries_of, merge_tiles, tile_blocks, window_mask
from handgrad.proof import BAR, Case, check_case, relative_error
from tests.layers.conftest import EVERYTHING, Tiled
from tests.reference import visible

SIZES = [
    *((T, T, 512) for T in (1, 5, 63, 64, 65, 130, 200)),  # (queries, positions, keys in a tile); a row is one tile
    *((T, T, 128) for T in (128, 130, 200, 300)),
    *((T, 200, 512) for T in (1, 5, 63, 64, 65, 130)),
    *((T, 200, 130) for T in (1, 63, 65, 130, 199)),
    (1, 2, 1),
    (1, 20, 7),
    (5, 40, 7),
    (7, 49, 7),
    (1, 64, 64),
    (63, 200, 64),
    (64, 65, 64),
    (130, 130, 7),  # fewer keys in a tile than queries in a block: the block shrinks
    (9, 20, 1),
]
NAMES = ("y", "dq", "dk", "dv")


def inputs(
    T: int, S: int, D: int = 3, heads: int = 2, batch: int = 2, groups: int | None = None
) -> tuple[Array, Array, Array, Array]:
    """q, k, v and a cotangent of y."""
    normal = np.random.default_rng(T).standard_normal
    q, k, v, dy = (
        normal((batch, count, length, D))
        for count, length in zip((heads, groups or heads, groups or heads, heads), (T, S, S, T), strict=True)
    )
    return q, k, v, dy


def attention(
    q: Array, k: Array, v: Array, dy: Array, tap: Tap = no_tap, window: int | None = None
) -> tuple[Array, ...]:
    """y, dq, dk, dv."""
    y, cache = causal_attention_forward(q, k, v, scale=0.5, window=window, tap=tap)
    return y, *causal_attention_backward(dy, cache, tap=tap)


def same(name: str, x: Array) -> Array:
    """A tap that does nothing, but is one: with it there is a single tile."""
    return x


class Seen(dict[str, Array]):
    """What a tap has seen, each name once."""

    def see(self, name: str, x: Array) -> Array:
        assert name not in self
        self[name] = x.copy()
        return x


def plain(q: Array, k: Array, v: Array, dy: Array, window: int | None = None) -> tuple[Array, ...]:
    """y, dq, dk, dv from the definition, by autograd."""
    seen = visible(q.shape[2], k.shape[2], window)
    served = q.shape[1] // k.shape[1]

    def f(q: Array, k: Array, v: Array) -> Any:
        k, v = (anp.repeat(x, served, axis=1) for x in (k, v))
        weights = anp.exp(anp.einsum("bhtd,bhsd->bhts", q, k) * 0.5) * seen
        return anp.einsum("bhts,bhsd->bhtd", weights / anp.sum(weights, axis=-1, keepdims=True), v)

    gradients = (grad(lambda *x: anp.sum(f(*x) * dy), position)(q, k, v) for position in range(3))
    return f(q, k, v), *gradients


@pytest.mark.parametrize("kept", [0, EVERYTHING], ids=["made again", "kept"])
@pytest.mark.parametrize(("T", "S", "keys"), SIZES)
def test_tiles_change_neither_the_output_nor_a_gradient(T: int, S: int, keys: int, kept: int, tiled: Tiled) -> None:
    tiled(keys, kept)
    given = inputs(T, S)
    for name, found, whole, expected in zip(
        NAMES, attention(*given), attention(*given, tap=same), plain(*given), strict=True
    ):
        if S == T == 1 and name in ("dq", "dk"):  # one key has all the weight, whatever it is
            np.testing.assert_array_equal((found, whole), 0)
            continue
        assert relative_error(found, whole) < 1e-12, name
        assert relative_error(found, expected) < 1e-12, name


@pytest.mark.parametrize("kept", [0, EVERYTHING], ids=["made again", "kept"])
@pytest.mark.parametrize("window", [2, 3, 6, 7, 8, 13, 14, 63, 64, 65, 129])
@pytest.mark.parametrize(
    ("T", "S", "keys"), [(130, 130, 512), (130, 130, 7), (9, 30, 1), (1, 40, 7), (30, 200, 7), (65, 200, 64)]
)
def test_tiles_of_a_window_change_neither_the_output_nor_a_gradient(
    T: int, S: int, keys: int, window: int, kept: int, tiled: Tiled
) -> None:
    tiled(keys, kept)
    given = inputs(T, S, heads=4, groups=2, batch=1)
    for name, found, expected in zip(NAMES, attention(*given, window=window), plain(*given, window), strict=True):
        assert relative_error(found, expected) < 1e-12, name


@pytest.mark.parametrize("window", [1, 63, 64, 65, 127, 128, 129, 511, 512, 513, 640, 1099])
@pytest.mark.parametrize(("T", "S"), [(600, 600), (1100, 1100), (300, 1400), (1, 1400)])
def test_windows_and_groups_by_tiles_of_the_usual_size(T: int, S: int, window: int, tiled: Tiled) -> None:
    """In no tile does a query see nothing, so all is finite; what it does not see in one has weight 0."""
    given = inputs(T, S, heads=2, groups=1, batch=1)
    whole = attention(*given, tap=same, window=window)
    for kept in (0, EVERYTHING):
        tiled(512, kept)
        for name, found, expected in zip(NAMES, attention(*given, window=window), whole, strict=True):
            if window == 1 and name in ("dq", "dk"):  # one key has all the weight, whatever it is
                np.testing.assert_array_equal((found, expected), 0)
                continue
            assert relative_error(found, expected) < 1e-12, name


@pytest.mark.parametrize("kept", [0, EVERYTHING], ids=["made again", "kept"])
@pytest.mark.parametrize(
    ("T", "S", "keys", "rows", "columns"),
    [(2, 5, 2, 1, 3), (3, 8, 3, 1, 3), (66, 66, 512, 2, 1), (130, 131, 128, 2, 2)],
)
def test_gradients_of_several_tiles_equal_the_complex_step(
    T: int, S: int, keys: int, rows: int, columns: int, kept: int, tiled: Tiled
) -> None:
    tiled(keys, kept)
    assert (len(tile_blocks(T, S)), max(map(len, tile_blocks(T, S)))) == (rows, columns)
    q, k, v, _ = inputs(T, S, D=1, heads=1, batch=1)
    case = Case(causal_attention_forward, causal_attention_backward, {"q": q, "k": k, "v": v}, {"scale": 0.5})
    for verdict in check_case(case, seed=3):
        assert verdict.error <= BAR, verdict


@pytest.mark.parametrize("kept", [0, EVERYTHING], ids=["made again", "kept"])
@pytest.mark.parametrize(("T", "S", "keys"), [(65, 65, 512), (130, 130, 128), (5, 40, 7), (5, 5, 512)])
def test_a_tap_sees_everything_once_and_whole(T: int, S: int, keys: int, kept: int, tiled: Tiled) -> None:
    """In the backward too, and there also where the forward had none and went by tiles."""
    tiled(keys, kept)
    q, k, v, dy = inputs(T, S)
    forward, cotangents, after_tiles = Seen(), Seen(), Seen()
    _, tapped = causal_attention_forward(q, k, v, scale=0.5, tap=forward.see)
    _, untapped = causal_attention_forward(q, k, v, scale=0.5)
    expected = causal_attention_backward(dy, tapped, tap=cotangents.see)
    gradients = causal_attention_backward(dy, untapped, tap=after_tiles.see)
    assert set(forward) == set(cotangents) == set(after_tiles) == {"scores", "masked_scores", "weights"}
    assert {x.shape for x in (*forward.values(), *cotangents.values(), *after_tiles.values())} == {(2, 2, T, S)}
    np.testing.assert_allclose(forward["weights"].sum(axis=-1), 1)
    assert relative_error(forward["scores"], 0.5 * np.einsum("bhtd,bhsd->bhts", q, k)) < 1e-12
    assert relative_error(after_tiles["weights"], np.einsum("bhtd,bhsd->bhts", dy, v)) < 1e-12
    for name, cotangent in cotangents.items():
        assert relative_error(after_tiles[name], cotangent) < 1e-12, name
    for name, gradient, other in zip(NAMES[1:], gradients, expected, strict=True):
        assert relative_error(gradient, other) < 1e-12, name


@pytest.mark.parametrize(
    ("T", "S", "keys"), [*SIZES, (512, 512, 512), (513, 513, 512), (600, 1100, 512), (1100, 1100, 512), (1, 1025, 512)]
)
def test_what_a_query_sees_is_in_one_tile_and_no_tile_is_all_hidden(T: int, S: int, keys: int, tiled: Tiled) -> None:
    tiled(keys, 0)
    for window in (None, 1, 2, 7, 63, 64, 65, 200, 511, 512, 513, 2000):
        seen = visible(T, S, window)
        tiles = np.zeros((T, S), int)
        for tile in (tile for row in tile_blocks(T, S, window) for tile in row):
            there = seen[tile.queries, tile.keys]
            rows, columns = there.shape
            tiles[tile.queries, tile.keys] += 1
            assert columns <= keys + (rows - 1 if window else 0)
            assert there.any(axis=1).all()  # else softmax would have nothing to share out
            assert not tile.diagonal or tile.keys.stop == S - T + tile.queries.stop
            masked = np.zeros((rows, columns), np.float32)
            if tile.edge is not None:
                masked += window_mask(rows, columns, tile.edge)
                assert not there.all()  # else there is nothing to mask
            if tile.diagonal:
                masked[:, -rows:] += causal_mask(rows)
            np.testing.assert_array_equal(masked, np.where(there, 0, -np.inf))
        np.testing.assert_array_equal(tiles[seen], 1)
        assert tiles.max() == 1


def test_the_work_in_a_window_grows_with_the_length_and_not_with_its_square() -> None:
    for window, least, most in ((1, 1.99, 2.01), (64, 1.9, 2.1), (512, 1.9, 2.1), (1000, 1.9, 2.1), (None, 3.9, 4.0)):
        shorter, longer = (sum(map(len, tile_blocks(T, T, window))) for T in (16384, 32768))
        assert least <= longer / shorter <= most
        shorter, longer = (entries_of(T, T, window) for T in (16384, 32768))
        assert least <= longer / shorter <= most
        if window:
            assert longer <= 32768 * (window + 127)  # a block has the windows of its 128 queries, and no key more


def bytes_of(cache: object) -> int:
    """Of the arrays in a cache, each once."""

    def arrays(part: object) -> Iterator[Array]:
        if isinstance(part, np.ndarray):
            yield part
        elif isinstance(part, tuple):
            for inner in part:
                yield from arrays(inner)

    return sum({id(array): array.nbytes for array in arrays(cache)}.values())


def test_the_cache_grows_with_the_length_and_not_with_its_square(tiled: Tiled) -> None:
    def growth() -> float:
        short, long = (causal_attention_forward(*inputs(T, T)[:3], scale=0.5)[1] for T in (512, 1024))
        assert any(short.kept) == any(long.kept) == (kept > 0)
        return bytes_of(long) / bytes_of(short)

    for kept, least, most in ((0, 1.9, 2.1), (EVERYTHING, 3.3, 4.0)):
        tiled(128, kept)
        assert least < growth() < most


def test_weights_are_kept_up_to_so_many_bytes(tiled: Tiled) -> None:
    q, k, v, _ = inputs(200, 200)
    tiled(128, EVERYTHING)
    _, cache = causal_attention_forward(q, k, v, scale=0.5)
    needed = bytes_of(cache.kept)
    a_sequence = needed // len(q)
    for kept in (a_sequence, a_sequence - 1):
        tiled(128, kept)
        _, cache = causal_attention_forward(q, k, v, scale=0.5)
        assert bytes_of(cache.kept) == (needed if kept == a_sequence else 0)


def test_tiles_take_little_memory(tiled: Tiled) -> None:
    tiled(512, 0)
    q, k, v, dy = (x.astype(np.float32) for x in inputs(2048, 2048, D=16, batch=1))

    def peak(tap: Tap) -> int:
        tracemalloc.start()
        attention(q, k, v, dy, tap)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(no_tap) < peak(same) / 8


@pytest.mark.parametrize("shift", [-1e4, 0, 1e4])
def test_tiles_can_be_merged_in_any_order(shift: float) -> None:
    normal = np.random.default_rng(7).standard_normal
    z, v = normal((5, 9)), normal((9, 4))

    def average(keys: slice) -> tuple[Array, Array, Array]:
        maximum = z[:, keys].max(axis=-1, keepdims=True)
        exponentials = np.exp(z[:, keys] - maximum)
        total = exponentials.sum(axis=-1, keepdims=True)
        return exponentials @ v[keys] / total, shift + maximum, total

    a, b, c = map(average, (slice(0, 2), slice(2, 3), slice(3, 9)))
    expected = average(slice(0, 9))
    for merged in (
        merge_tiles(merge_tiles(a, b), c),
        merge_tiles(a, merge_tiles(b, c)),
        merge_tiles(c, merge_tiles(b, a)),
    ):
        for found, whole in zip(merged, expected, strict=True):
            assert relative_error(found, whole) < (1e-11 if shift else 1e-14)  # maxima of 1e4 have fewer digits left


def test_a_tile_that_is_far_louder_has_all_the_weight() -> None:
    loud, quiet = ((y, maximum, y) for y, maximum in np.array([[3, 1e4], [7, -1e4]])[..., None, None])
    for merged in (merge_tiles(loud, quiet), merge_tiles(quiet, loud)):
        np.testing.assert_array_equal(merged, loud)


@pytest.mark.parametrize("kept", [0, EVERYTHING], ids=["made again", "kept"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_shift_of_all_scores_by_ten_thousand_changes_nothing(sign: int, kept: int, tiled: Tiled) -> None:
    tiled(128, kept)
    q, k, v, dy = inputs(200, 200)
    q[..., -1] = k[..., -1] = 0
    expected = plain(q, k, v, dy)
    q[..., -1], k[..., -1] = sign * 200, 100
    found = attention(q, k, v, dy)
    for name, x, other in zip(NAMES, found, expected, strict=True):
        assert np.isfinite(x).all()
        entries = slice(None) if name in ("y", "dv") else slice(-1)
        assert relative_error(x[..., entries], other[..., entries]) < 1e-10, name


@pytest.mark.parametrize("kept", [0, EVERYTHING], ids=["made again", "kept"])
def test_float32_stays(kept: int, tiled: Tiled) -> None:
    tiled(128, kept)
    q, k, v, dy = (x.astype(np.float32) for x in inputs(200, 300))
    y, cache = causal_attention_forward(q, k, v, scale=np.float64(0.5))
    gradients = causal_attention_backward(dy, cache)
    assert {x.dtype for x in (y, cache.maximum, cache.total, *gradients)} == {np.dtype(np.float32)}
