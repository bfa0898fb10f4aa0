"""Portions: every number has one owner, rows are whole, matrices of Muon too, and the work is shared equally."""

from math import prod

import numpy as np
import pytest

from handgrad.model import ModelConfig, Shape, named_shapes
from handgrad.training import AdamW, Muon
from handgrad.training.optimizers import OPTIMIZERS, Optimizer
from handgrad.training.ranks.ownership import part_of, share_out

SMALL = ModelConfig(layers=3, heads=2, width=16, hidden=24, context=8, vocabulary=11)
S = ModelConfig(layers=4, heads=4, width=128, hidden=344, context=64, vocabulary=65)
L = ModelConfig(layers=12, heads=12, width=768, hidden=2048, context=64, vocabulary=5025)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values())
@pytest.mark.parametrize("ranks", [1, 2, 4, 64])
def test_every_number_has_one_owner(ranks: int, optimizer: type[Optimizer]) -> None:
    """Counted on the flat vector, which portions cut as the rows do."""
    shapes = named_shapes(SMALL)
    ownership = share_out(shapes, optimizer, ranks)
    owners = np.zeros(sum(map(prod, shapes.values())), int)
    starts = dict(zip(shapes, np.cumsum([0, *map(prod, shapes.values())]), strict=False))
    for rank in range(ranks):
        by_portion = [slice(*cuts[rank : rank + 2]) for cuts in ownership.cuts.values()]
        by_row = [
            slice(starts[name] + rows.start * prod(shapes[name][1:]), starts[name] + rows.stop * prod(shapes[name][1:]))
            for name, rows in ownership.all_rows(rank).items()
        ]
        for portion in by_row:
            owners[portion] += 1
        assert sum(x.stop - x.start for x in by_row) == sum(x.stop - x.start for x in by_portion)
        for name, rows in ownership.all_rows(rank).items():
            if len(shapes[name]) == 1 or optimizer.has_one_owner(name, shapes[name]):
                assert rows == slice(0, shapes[name][0])
    np.testing.assert_array_equal(owners, 1)
    assert [*ownership.cuts] == [*dict.fromkeys(map(part_of, shapes))]


@pytest.mark.parametrize(("config", "optimizer", "uneven"), [(S, AdamW, 0.02), (L, AdamW, 0.001), (S, Muon, 0.12)])
@pytest.mark.parametrize("ranks", [2, 4])
def test_no_rank_has_much_more_to_update(
    config: ModelConfig, optimizer: type[Optimizer], uneven: float, ranks: int
) -> None:
    shapes = named_shapes(config)
    ownership = share_out(shapes, optimizer, ranks)
    loads = [
        sum(optimizer.cost(name, shapes[name]) * (x.stop - x.start) / shapes[name][0] for name, x in rows.items())
        for rows in map(ownership.all_rows, range(ranks))
    ]
    assert max(loads) <= (1 + uneven) * sum(loads) / ranks


def test_only_muon_wants_matrices_whole() -> None:
    matrix, vector = (16, 24), (16,)

    def whole(optimizer: type[Optimizer], name: str, shape: Shape) -> bool:
        return optimizer.has_one_owner(name, shape)

    assert whole(Muon, "blocks.0.attention.w_q", matrix)
    assert not whole(Muon, "blocks.0.norm_1.gamma", vector)
    assert not whole(Muon, "head.w_lm", matrix)
    assert not whole(AdamW, "blocks.0.attention.w_q", matrix)
