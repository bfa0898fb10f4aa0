"""Mistakes in the pass: what comes back is what the library gives with the wrong function in its place."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from handgrad.errors import HandgradError
from handgrad.explorer.mutants import Wrong, error_of, find, first_wrong, met_by, spread
from handgrad.model import Model, ModelConfig
from handgrad.proof import MUTATIONS, trace
from handgrad.proof.mutations import mutated

from .conftest import TEXT, model_of
from .kinds import KINDS, go_on, model_of_kind, traced_of_kind

PLANTED = [
    ("default", "dk_not_transposed", "layers.multi_head_attention.causal_attention_backward", "c/1.attention.k"),
    (
        "default",
        "dv_weights_not_transposed",
        "layers.multi_head_attention.causal_attention_backward",
        "c/1.attention.v",
    ),
    ("default", "residual_past_attention_lost", "model.gpt.block_backward", "c/0.residual_2"),
    ("default", "dw_gate_of_the_raw_input", "model.gpt.block_forward", "g/1.feed_forward.w_gate"),
    ("default", "gate_and_up_swapped", "model.feed_forward.swiglu_backward", "c/1.feed_forward.activated"),
    ("default", "layer_norm_without_the_mean_route", "model.norm.layer_norm_backward", "c/1.residual_2"),
    ("default", "truth_not_subtracted", "layers.linear_cross_entropy.cross_entropy_backward", "c/head.logits"),
    ("llama", "rms_norm_gamma_forgotten", "model.norm.rms_norm_backward", "c/1.residual_2"),
    ("gpt2", "tied_without_the_head", "model.gpt.with_head", "g/embedding.token"),
    ("gpt2", "hidden_without_the_slope_of_gelu", "model.feed_forward.mlp_backward", "c/1.feed_forward.up"),
]
"""A mistake, where the library calls what is wrong with it, and the cotangent or gradient in which it first shows."""


@pytest.mark.parametrize(("kind", "name", "place", "first"), PLANTED)
def test_what_comes_back_is_that_of_the_wrong_function(
    kind: str, name: str, place: str, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced, mutation = traced_of_kind(kind), find(name)
    wrongs, made = spread(traced, mutation, go_on)
    with monkeypatch.context() as patch:
        patch.setattr(f"handgrad.{place}", mutated(mutation))
        planted = trace(model_of_kind(kind), TEXT)
    backwards = [key for key in traced.recorded if not key.startswith("activations/")]
    assert [wrong.key for wrong in wrongs] == backwards
    errors = {}
    for key in backwards:
        expected, right = planted.recorded[key], traced.recorded[key]
        np.testing.assert_array_equal(made[key], expected, key)
        scale = np.abs(right).max()
        if key.endswith("b_k"):  # zero by mathematics
            scale = max(np.abs(gradient).max() for gradient in traced.gradients.values())
        errors[key] = np.abs(expected - right).max() / scale
    assert {wrong.key: wrong.error for wrong in wrongs} == pytest.approx(errors, rel=1e-12)
    assert [wrong.wrong for wrong in wrongs] == [errors[key] > 1e-12 for key in backwards]
    found = first_wrong(wrongs)
    assert found == next(key for key in backwards if errors[key] > 1e-12)
    kind, _, at = first.partition("/")
    assert found == {"c": "cotangents/", "g": "gradients/"}[kind] + ("blocks." if at[0].isdigit() else "") + at
    for key in backwards[: backwards.index(found)]:
        assert errors[key] == 0


def test_the_activations_stay_right() -> None:
    traced = traced_of_kind("default")
    made = spread(traced, find("mask_forgotten"), go_on)[1]
    for name, x in traced.activations.items():
        np.testing.assert_array_equal(made[f"activations/{name}"], x)


def test_where_nothing_is_planted_all_is_right() -> None:
    """A mutation of a part that the pass does not come to."""
    wrongs, made = spread(traced_of_kind("default"), find("rotary_turned_forwards"), go_on)
    assert {(wrong.error, wrong.wrong) for wrong in wrongs} == {(0.0, False)}
    assert first_wrong(wrongs) is None
    for key, x in traced_of_kind("default").recorded.items():
        np.testing.assert_array_equal(made[key], x)


def test_the_first_wrong_one() -> None:
    assert first_wrong([]) is None
    assert first_wrong([Wrong("a", 0.0, False), Wrong("b", 1e-13, False)]) is None
    assert first_wrong([Wrong("a", 1e-13, False), Wrong("b", 1e-11, True), Wrong("c", 1.0, True)]) == "b"
    assert first_wrong([Wrong("a", 0.0, False), Wrong("b", None, True), Wrong("c", 1.0, True)]) == "b"


@pytest.mark.parametrize("factor", [1 + 1e-13, 1 + 1e-11, np.inf, np.nan])
def test_beyond_the_bar_or_not_finite_is_wrong(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def planted(*arguments: Any) -> Any:
        return {key: x * factor if key == "cotangents/norm.output" else x for key, x in traced.recorded.items()}

    traced = traced_of_kind("default")
    monkeypatch.setattr("handgrad.explorer.mutants.record", planted)
    wrongs = {each.key: each for each in spread(traced, find("dk_not_transposed"), go_on)[0]}
    found = wrongs.pop("cotangents/norm.output")
    assert found.wrong == (factor != 1 + 1e-13)
    assert found.error == (pytest.approx(factor - 1, rel=1e-2) if np.isfinite(factor) else None)
    assert {(each.error, each.wrong) for each in wrongs.values()} == {(0.0, False)}


def test_errors() -> None:
    x = np.array([1.0, -4.0])
    assert error_of(x, x) == error_of(np.zeros(2), np.zeros(2)) == 0
    assert error_of(x + np.array([0, 1]), x) == 0.25
    assert error_of(x + np.array([0, 1]), x, 8.0) == 0.125
    assert error_of(x, np.zeros(2)) == error_of(np.array([np.inf, 0]), x) == error_of(x[:1], x) == np.inf


ONE_SEQUENCE = {
    *("positions_of_the_last_sequence", "positions_averaged_over_the_batch", "dbeta_of_the_last_sequence"),
    *("db_of_the_first_sequence", "head_averaged_over_the_batch"),
}
ALL_COUNT = {"loss_divided_by_all_targets", "ignored_targets_counted"}
"""Mistakes that a pass of one sequence, all of whose targets count, cannot show."""


@pytest.mark.parametrize(
    ("model", "lacking"),
    [
        (model_of("gpt2"), {"silu", "swiglu", "rms_norm", "rotary", "grouped_attention", "window_attention"}),
        (model_of("qwen3", head_width=6, window=3), {"layer_norm", "gelu", "mlp", "bias", "positions"}),
    ],
    ids=["gpt2", "qwen3"],
)
def test_what_is_met_shows_and_what_is_not_met_does_not(model: Model, lacking: set[str]) -> None:
    """Each of the catalogue in the traced pass: it shows somewhere, or nowhere, or does not fit at all."""
    traced = trace(model, TEXT)
    met = {mutation.name for mutation, is_met in met_by(traced.config, go_on) if is_met}
    shows = set()
    for mutation in MUTATIONS:
        assert mutation.layer not in lacking or mutation.name not in met
        try:
            wrongs, _ = spread(traced, mutation, go_on)
        except HandgradError as error:
            assert str(error) == f"{mutation.name}: the model has not what the wrong code is about"  # noqa: PT017
            assert mutation.name not in met
            continue
        if first_wrong(wrongs):
            shows.add(mutation.name)
    assert shows <= met
    assert met - shows <= ONE_SEQUENCE | ALL_COUNT
    assert met - shows >= ALL_COUNT
    assert len(met) > 60


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes the catalogue one of this mutation alone."""
    return lambda name: monkeypatch.setattr("handgrad.explorer.mutants.MUTATIONS", (find(name),))


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("tied_without_the_head", {"gpt2", "qwen2", "nanogpt", "tied, no norm"}),
        ("window_one_too_wide", {"mistral", "qwen2"}),
        ("window_on_the_full_blocks", {"qwen2"}),
        ("rotary_turned_forwards", {"llama", "mistral", "qwen2", "qwen3"}),
        ("group_averaged", {"llama", "mistral", "qwen3"}),
        ("query_key_norm_skipped", {"qwen3"}),
        ("residual_past_attention_lost", {*KINDS} - {"no residual"}),
        ("last_norm_skipped", {*KINDS} - {"no norm", "tied, no norm"}),
        ("gate_and_up_swapped", {*KINDS} - {"gpt2", "nanogpt"}),
        ("dbeta_averaged", {"default", "gpt2", "no residual"}),
    ],
)
def test_only_a_model_with_that_part_meets_the_mistake(name: str, kinds: set[str], only: Callable[[str], None]) -> None:
    only(name)
    assert {kind for kind in KINDS if names_met(traced_of_kind(kind).config)} == kinds


@pytest.mark.parametrize(
    ("fields", "more", "name"),
    [
        ({"layers": 1}, {"layers": 2}, "blocks_in_forward_order"),
        ({"heads": 1}, {"heads": 2}, "heads_merged_in_reverse"),
        ({"heads": 4, "key_value_heads": 1}, {"heads": 4, "key_value_heads": 2}, "groups_interleaved"),
        ({"head_width": 6}, {"head_width": 8}, "dw_o_of_the_input"),  # heads together as wide as the input, or not
    ],
)
def test_one_block_or_head_or_group_has_no_order(
    fields: dict[str, Any], more: dict[str, Any], name: str, only: Callable[[str], None]
) -> None:
    only(name)
    assert names_met(model_of(**fields).config) == []
    assert names_met(model_of(**more).config) == [name]


def test_blocks_without_a_window_below_leave_one_with_it(only: Callable[[str], None]) -> None:
    only("window_one_too_wide")
    for full_blocks in (0, 1, 2):
        assert names_met(model_of(layers=3, window=3, full_blocks=full_blocks).config) == ["window_one_too_wide"]


def names_met(config: ModelConfig) -> list[str]:
    return [mutation.name for mutation, is_met in met_by(config, go_on) if is_met]


def test_a_name_that_is_not_in_the_catalogue_is_refused() -> None:
    assert find("dk_not_transposed").name == "dk_not_transposed"
    for name in ("", "DK_NOT_TRANSPOSED", "../../etc/passwd", "dk_not_transposed "):
        with pytest.raises(HandgradError, match=r"^there is no mutation "):
            find(name)


def test_it_is_given_up_when_nobody_waits() -> None:
    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        spread(traced_of_kind("default"), find("dk_not_transposed"), stop)
    with pytest.raises(InterruptedError):
        next(met_by(model_of().config, stop))
