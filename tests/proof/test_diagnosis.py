"""The comparer's diagnosis: mistakes planted in a small GPT and in a layer, relations, and what must get no name."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handgrad.layers import Array
from handgrad.proof import MUTATIONS, Case, Mutation, Trace, gpt_case
from handgrad.proof.compare import Comparison, Reference, Row, compare, read_reference
from handgrad.proof.compare.relations import explains, relation
from handgrad.proof.envelope import EPSILON, record_in
from handgrad.proof.kit import kit_case
from handgrad.proof.lesson import config_of, family_of
from handgrad.proof.making import FAMILIES
from handgrad.proof.recording import as_it_is, key_in_trace
from handgrad.proof.tensor_files import tensor_file

SIZES = {"layers": 2, "heads": 2, "width": 4, "hidden": 5, "context": 4, "vocabulary": 6}
CONFIGS = {family: config_of(family, **SIZES | ({} if family == "default" else {"width": 16})) for family in FAMILIES}
BY_NAME = {mutation.name: mutation for mutation in MUTATIONS}
FEW = MUTATIONS[::9]
"""Where names are not the point: each costs a pass."""
UNSEEN = {"tile_with_its_own_row_sum", "tile_weights_not_rescaled", "upstream_gradient_ignored"}
"""A trace has one tile, and dloss is 1."""


@cache
def case(family: str = "default") -> Case:
    return gpt_case(CONFIGS[family], np.random.default_rng(3))


def made(mutation: Mutation | None = None, dtype: str = "float64", family: str = "default") -> dict[str, Array]:
    """What somebody's code gives who makes this mistake."""
    right = case(family)
    recorded = record_in(right.planted(mutation) if mutation else right, "gpt", np.ones(()), dtype)
    return {key_in_trace(key): x.astype(np.float64) for key, x in recorded.items()}


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reference]:
    """The trace of each family's model, read back."""
    folder = tmp_path_factory.mktemp("traces")
    for family, config in CONFIGS.items():
        inputs, given = case(family).inputs, case(family).given
        trace = Trace(config, given["tokens"], given["targets"], inputs, made(family=family))
        trace.save(folder / f"{family}.safetensors")
    return {family: read_reference(folder / f"{family}.safetensors") for family in CONFIGS}


@pytest.fixture(scope="module")
def reference(references: dict[str, Reference]) -> Reference:
    return references["default"]


def verdicts(comparison: Comparison) -> dict[str, str]:
    return {row.key: row.verdict for row in comparison.rows}


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_right_tensors_are_within_the_envelope(references: dict[str, Reference], family: str, dtype: str) -> None:
    reference = references[family]
    comparison = compare(reference, made(dtype=dtype, family=family), dtype)
    assert comparison.first is None
    assert set(verdicts(comparison).values()) == {"ok"}
    assert [row.key for row in comparison.rows] == list(reference.tensors)
    assert len(comparison.rows) == comparison.known


@pytest.mark.parametrize("name", [name for name in BY_NAME if name not in UNSEEN][::7])
def test_a_planted_mistake_is_named(references: dict[str, Reference], name: str) -> None:
    family = family_of(BY_NAME[name])
    comparison = compare(references[family], made(BY_NAME[name], family=family), "float64")
    assert comparison.mutations == (BY_NAME[name],)
    assert comparison.relation is None


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("block", [0, 1])
def test_a_gradient_that_is_zero_by_mathematics(references: dict[str, Reference], block: int, dtype: str) -> None:
    """What rounding leaves of GPT-2's bias of the keys passes, as zero does; what is no rounding is wrong, but no known
    mistake, though next to what float64 leaves anything is far off and near to anything."""
    reference, mine, key = (
        references["gpt2"],
        made(dtype=dtype, family="gpt2"),
        f"gradients/blocks.{block}.attention.b_k",
    )
    assert not reference.tensors[key].any()
    for right in (mine[key], np.zeros_like(mine[key]), 1e-17 * np.ones_like(mine[key])):
        assert compare(reference, mine | {key: right}, dtype, ()).first is None
    changing = [mutation for mutation in MUTATIONS if mutation.layer in ("bias", "softmax", "linear")]
    largest = max(np.abs(x).max() for other, x in reference.tensors.items() if other.startswith("gradients/"))
    epsilon = {"float64": 1e-10}.get(dtype) or EPSILON[dtype]
    for size in (30 * epsilon, 1.0):
        garbage = size * largest * np.random.default_rng(2).standard_normal(mine[key].shape)
        comparison = compare(reference, mine | {key: garbage}, dtype, changing)
        assert comparison.first is not None
        assert (comparison.first.key, comparison.mutations) == (key, ())


def test_only_mistakes_in_what_a_model_has_are_tried(
    references: dict[str, Reference], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []
    run = Reference.run

    def counted(self: Reference, through: Any = None, mutation: Mutation | None = None) -> dict[str, Array]:
        tried.append(mutation.of.__name__ if mutation else "")
        return run(self, through or as_it_is, mutation)

    monkeypatch.setattr(Reference, "run", counted)
    for family, foreign in (("default", "rotary_backward"), ("llama", "layer_norm_backward")):
        mine = made(BY_NAME["silu_as_a_relu"], family=family)
        tried.clear()
        assert compare(references[family], mine, "float64").mutations == (BY_NAME["silu_as_a_relu"],)
        assert "silu_forward" in tried
        assert foreign not in tried
        assert "mlp_backward" not in tried


@pytest.mark.parametrize(
    "name", ["dq_without_the_scale", "dw_q_of_the_raw_input", "mask_forgotten", "positions_summed_over_time"]
)
def test_a_planted_mistake_is_named_in_float32(reference: Reference, name: str) -> None:
    assert compare(reference, made(BY_NAME[name], "float32"), "float32").mutations == (BY_NAME[name],)


@pytest.mark.parametrize("name", sorted(UNSEEN))
def test_what_a_trace_cannot_show_is_not_there(reference: Reference, name: str) -> None:
    assert compare(reference, made(BY_NAME[name]), "float64", ()).first is None


def test_a_mistake_in_one_block_is_found_there(reference: Reference) -> None:
    """All right but for what is wrong by itself in block 0, and what comes of it below."""
    wrong = made(BY_NAME["dk_not_transposed"])
    mine = made()
    right_above = reference.run(lambda key, x: mine[key].copy(), BY_NAME["dk_not_transposed"])
    assert "cotangents/blocks.0.attention.k" in right_above
    local: dict[str, Array] = {}

    def keep(key: str, x: Array) -> Array:
        local[key] = x.copy()
        return mine[key].copy()

    reference.run(keep, BY_NAME["dk_not_transposed"])
    mine["cotangents/blocks.0.attention.k"] = local["cotangents/blocks.0.attention.k"]
    comparison = compare(reference, mine, "float64")
    assert comparison.first is not None
    assert comparison.first.key == "cotangents/blocks.0.attention.k"
    assert comparison.mutations == (BY_NAME["dk_not_transposed"],)
    assert verdicts(comparison)["cotangents/blocks.1.attention.k"] == "ok"
    assert not np.array_equal(wrong["cotangents/blocks.1.attention.k"], mine["cotangents/blocks.1.attention.k"])


def test_the_tensors_below_a_mistake_follow_and_a_second_one_does_not(reference: Reference) -> None:
    mine = made(BY_NAME["scores_without_the_scale"])
    mine["gradients/blocks.0.norm_1.beta"] = 3 * mine["gradients/blocks.0.norm_1.beta"]
    comparison = compare(reference, mine, "float64")
    found = verdicts(comparison)
    assert comparison.mutations == (BY_NAME["scores_without_the_scale"],)
    assert found["cotangents/blocks.1.attention.v"] == "ok"
    assert found["cotangents/blocks.1.attention.q"] == found["cotangents/blocks.0.attention.k"] == "wrong"
    assert found["cotangents/blocks.1.norm_1.output"] == found["gradients/blocks.1.attention.w_q"] == "follows"
    assert found["gradients/blocks.0.norm_1.beta"] == "wrong"
    assert found["gradients/blocks.0.norm_1.gamma"] == "follows"


def test_the_first_that_is_wrong_comes_before_what_merely_follows() -> None:
    follows, wrong = Row("a", 2.0, 1.0, "follows"), Row("b", 2.0, 1.0, "wrong")
    ok = Row("c", 0.0, 1.0, "ok")
    assert Comparison("float32", 3, (ok, follows, wrong), (), None).first == wrong
    assert Comparison("float32", 3, (ok, follows), (), None).first == follows
    assert Comparison("float32", 3, (ok,), (), None).first is None


def test_a_file_with_a_few_gradients_is_enough(reference: Reference) -> None:
    wrong = made(BY_NAME["dw_down_of_the_activated_gate"])
    mine = {key: x for key, x in wrong.items() if key.endswith(("w_down", "w_up"))}
    comparison = compare(reference, mine, "float64")
    assert comparison.mutations == (BY_NAME["dw_down_of_the_activated_gate"],)
    assert (len(comparison.rows), comparison.known) == (4, len(reference.tensors))


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        ("layer_norm", "layer_norm_without_the_mean_route"),
        ("swiglu", "gate_and_up_swapped"),
        ("linear", "dw_averaged_over_the_batch"),
        ("rotary.scaled", "rotary_neighbours_paired"),
        ("mlp", "db_up_of_the_hidden_units"),
        ("causal_attention.grouped", "groups_interleaved"),
        ("multi_head_attention.everything", "gain_of_the_first_head"),
        ("multi_head_attention.biased", "db_averaged_over_the_rows"),
        ("block.gpt2", "gelu_cube_without_its_3"),
        ("gpt.qwen2", "window_on_the_full_blocks"),
    ],
)
def test_a_mistake_in_a_kit_s_layer_is_named(
    layer: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handgrad.proof.kit.write.DRAWS", 3)
    layer, _, variant = layer.partition(".")
    tensors, manifest = kit_case(layer, variant or "plain")
    path = tmp_path / "case.safetensors"
    path.write_bytes(tensor_file(tensors, manifest))
    expected = read_reference(path)
    assert compare(expected, expected.run(), "float64").first is None
    assert compare(expected, expected.run(mutation=BY_NAME[name]), "float64").mutations == (BY_NAME[name],)


def damaged(key: str, damage: Callable[[Array], Array]) -> dict[str, Array]:
    mine = made()
    return mine | {key: damage(mine[key])}


X = "cotangents/blocks.0.attention.v"  # (B, H, T, D) = (2, 2, 4, 2)


def only(index: Any) -> Callable[[Array], Array]:
    def damage(x: Array) -> Array:
        wrong = x.copy()
        wrong[index] += np.random.default_rng(1).standard_normal(wrong[index].shape)
        return wrong

    return damage


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (np.zeros_like, "it is zero"),
        (np.negative, "its sign is wrong"),
        (lambda x: 0.25 * x, "it is the right one times 0.25 (maybe 1/T or 1/C)"),
        (lambda x: 1.37 * x, "it is the right one times 1.37"),
        (lambda x: x[:, ::-1], "it is permuted along head: 1, 0"),
        (lambda x: x[::-1], "it is permuted along sequence: 1, 0"),
        (only((slice(None), 1)), "it is wrong only at head 1"),
        (only((slice(None), slice(None), 2)), "it is wrong only at position 2"),
        (only((1, 0, 3, 1)), "it is wrong only at sequence 1, head 0, position 3, D 1"),
    ],
)
def test_how_a_tensor_stands_to_the_right_one(
    reference: Reference, damage: Callable[[Array], Array], words: str
) -> None:
    comparison = compare(reference, damaged(X, damage), "float64", FEW)
    assert comparison.first is not None
    assert (comparison.first.key, comparison.mutations) == (X, ())
    assert str(comparison.relation).replace("key ", "position ") == words


def test_a_guess_that_is_zero_explains_only_what_is_small_against_the_right_tensor() -> None:
    right = np.array([1.0, -3.0, 2.0]) / 1000
    for share, explained in ((0.001, True), (0.02, True), (0.2, False), (1.0, False)):
        mine = share * right[::-1]
        assert explains(np.zeros(3), mine, right, envelope=0.1) == explained


def test_relations_of_shapes() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4))
    parts = np.random.default_rng(1).standard_normal((5, 3, 4))
    assert relation(x.T, x, ["C", "F"], 1e-12, {}) == "its axes are in the order F C"
    assert relation(x[None], x, ["C", "F"], 1e-12, {}) == "it is not summed over axis 0 (of length 1)"
    assert relation(parts, parts.sum(0), ["C", "F"], 1e-12, {}) == "it is not summed over axis 0 (of length 5)"
    assert relation(x.reshape(2, 6), x, ["C", "F"], 1e-12, {}) == "it has the right numbers in the shape (2, 6)"
    assert relation(parts, x, ["C", "F"], 1e-12, {}) is None
    assert relation(np.empty((0, 2**60), np.int8), x[0], ["F"], 1e-12, {}) is None  # whose sum would have no room
    square = np.random.default_rng(2).standard_normal((4, 4))
    assert relation(square.T, square, ["C", "C"], 1e-12, {}) == "it is transposed: C and C are swapped"
    assert relation(0.5 * square, square, ["C", "C"], 1e-12, {"D": 4, "B": 2}) == (
        "it is the right one times 0.5 (maybe 1/√D or 1/B)"
    )


@pytest.mark.parametrize("size", [1e-11, 1e-6, 1e-2, 1.0])
@pytest.mark.parametrize("key", [X, "gradients/blocks.1.feed_forward.w_up", "activations/head.logits"])
def test_noise_gets_no_name(reference: Reference, key: str, size: float) -> None:
    def noisy(x: Array) -> Array:
        noise = size * np.abs(x).max() * np.random.default_rng(4).uniform(0.5, 1, x.shape)
        wrong: Array = x + noise * np.random.default_rng(5).choice([-1, 1], x.shape)
        return wrong

    comparison = compare(reference, damaged(key, noisy), "float64", FEW)
    assert comparison.first is not None
    assert (comparison.first.key, comparison.mutations, comparison.relation) == (key, (), None)
