"""The catalogue of mistakes: each is in the code, leaves the value right, is caught, and leaves the library alone."""

import importlib
import inspect
import itertools
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest

from handgrad.layers import (
    Array,
    layer_norm_backward,
    linear_cross_entropy_backward,
    softmax_backward,
    softmax_forward,
)
from handgrad.model import Model, Tokenizer, initial_parameters, loss_backward, loss_backward_parts, loss_forward
from handgrad.model.gpt import trunk_backward
from handgrad.proof import BAR, MUTATIONS, Case, Lesson, Mutation, all_cases, check_case, gpt_case, relative_error
from handgrad.proof.cases import LAYER_OF
from handgrad.proof.making import FAMILIES
from handgrad.proof.mutations import mutated
from handgrad.training import Trainer, make_corpus, split

LESSON: Any = importlib.import_module("handgrad.proof.lesson")  # as an attribute it is the function
SEEDS = (0, 1)
CASES = [all_cases(seed) for seed in SEEDS]
LEAVES = (
    *("linear", "bias", "embedding", "positions", "layer_norm", "rms_norm", "rotary"),
    *("softmax", "gelu", "silu", "cross_entropy"),
)
"""Layers that call no other."""
MODELS = {
    f"model of {family}": gpt_case(LESSON.config_of(family, **LESSON.SMALLEST), np.random.default_rng(4))
    for family in FAMILIES
}
BY_NAME = {mutation.name: mutation for mutation in MUTATIONS}
each_mutation = pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.name for mutation in MUTATIONS])


class Made(NamedTuple):
    value: Array
    gradients: dict[str, Array]

    @property
    def bits(self) -> list[bytes]:
        return [self.value.tobytes(), *(gradient.tobytes() for gradient in self.gradients.values())]


def make(case: Case) -> Made:
    """The value, and the gradients for a random cotangent; whoever writes to an input or to the cotangent fails."""
    for x in case.inputs.values():
        x.flags.writeable = False
    y, left = case.run()
    dy = np.asarray(np.random.default_rng(5).standard_normal(y.shape))
    dy.flags.writeable = False
    return Made(y, case.gradients(dy, left))


LIBRARY = {
    name: {key: x for key, x in vars(module).items() if callable(x)}
    for name, module in sys.modules.items()
    if name.partition(".")[0] == "handgrad"
}
"""What each module's functions were before anything was planted."""
RIGHT = {name: make(case) for name, case in (CASES[0] | MODELS).items()}


@cache
def wrong(mutation: Mutation, which: str) -> Made:
    return make((CASES[0] | MODELS)[which].planted(mutation))


@cache
def model_of(mutation: Mutation) -> str:
    """The model that meets it, or the default one."""
    return f"model of {LESSON.family_of(mutation)}"


def made_up(right: str, wrong: str = "pass", of: Callable[..., Any] = softmax_backward) -> Mutation:
    return Mutation("made_up", "softmax", of, right, wrong, "")


# the catalogue


def test_there_are_many_each_with_a_name_and_a_lesson_of_its_own() -> None:
    assert len(MUTATIONS) == len(BY_NAME) == len({mutation.why for mutation in MUTATIONS}) >= 130
    assert all(re.fullmatch(r"[a-z][a-z0-9_]+", name) for name in BY_NAME)


def test_every_layer_has_its_mistakes() -> None:
    layers = [layer for layer, _ in itertools.groupby(mutation.layer for mutation in MUTATIONS)]
    assert layers == [name for name in CASES[0] if name in layers]  # each layer's together, in the layers' order
    assert {LAYER_OF.get(name, name) for name in CASES[0]} == {LAYER_OF.get(layer, layer) for layer in layers}


@each_mutation
def test_a_lesson_is_a_sentence_or_two(mutation: Mutation) -> None:
    assert len(mutation.why) < 220
    assert re.fullmatch(r"\S.*[^.]\.", mutation.why)
    assert len(re.findall(r"[.?!](?: |$)", mutation.why)) in (1, 2)
    assert "  " not in mutation.why


@each_mutation
def test_the_code_is_there_once_and_becomes_the_wrong_one(mutation: Mutation) -> None:
    assert inspect.getsource(inspect.unwrap(mutation.of)).count(mutation.right) == 1
    assert mutation.wrong != mutation.right
    planted = mutated(mutation)
    assert planted.__code__.co_filename == f"<{mutation.name}>"
    assert planted.__name__ == mutation.of.__name__


@pytest.mark.parametrize("right", ["dz *= y * y", "mean_dy", ""], ids=["nowhere", "often", "empty"])
def test_code_that_is_not_there_once_is_refused(right: str) -> None:
    message = f"^made_up: {re.escape(repr(right))} is not once in softmax_backward$"
    with pytest.raises(ValueError, match=message):
        mutated(made_up(right))
    with pytest.raises(ValueError, match=message):
        made_up(right).planted(softmax_backward)
    with pytest.raises(ValueError, match=message):
        CASES[0]["gpt"].planted(made_up(right))


# what it does


@each_mutation
def test_the_value_stays_right_to_the_bit(mutation: Mutation) -> None:
    for which in (mutation.layer, model_of(mutation)):
        assert wrong(mutation, which).value.tobytes() == RIGHT[which].value.tobytes()


@each_mutation
def test_the_gradients_keep_their_shapes(mutation: Mutation) -> None:
    for which in (mutation.layer, model_of(mutation)):
        assert shapes(wrong(mutation, which)) == shapes(RIGHT[which])


def shapes(made: Made) -> dict[str, tuple[int, ...]]:
    return {name: gradient.shape for name, gradient in made.gradients.items()}


@pytest.mark.parametrize("seed", SEEDS)
@each_mutation
def test_it_is_caught(mutation: Mutation, seed: int) -> None:
    case = CASES[seed][mutation.layer].planted(mutation)
    made, right = wrong(mutation, mutation.layer), RIGHT[mutation.layer]
    damaged = [tensor for tensor in case.inputs if not close(made.gradients[tensor], right.gradients[tensor])]
    smallest = min(damaged, key=lambda tensor: case.inputs[tensor].size)  # the other steps need not be taken
    (verdict,) = check_case(only(case, smallest), seed)
    assert verdict.error > BAR
    assert not verdict.passed


def only(case: Case, tensor: str) -> Case:
    """The case as a function of one of its inputs."""

    def forward(**moved: Array) -> tuple[Array, Any]:
        return case.run({name: x.astype(moved[tensor].dtype) for name, x in case.inputs.items()} | moved)

    return Case(forward, lambda dy, left: case.gradients(dy, left)[tensor], {tensor: case.inputs[tensor]})


def test_what_is_not_wrong_is_not_caught() -> None:
    """The copies are as good as what they were copied from; it takes a mistake to make them wrong."""
    harmless = made_up("dz: Array = dy - mean_dy", "dz: Array = -mean_dy + dy")
    for layer in ("softmax", "multi_head_attention"):
        case = CASES[0][layer].planted(harmless)
        assert case.backward is not CASES[0][layer].backward
        assert make(case).bits == RIGHT[layer].bits
        assert all(verdict.passed for verdict in check_case(case))


def test_no_two_mistakes_are_the_same() -> None:
    """By more than rounding: on the case of their layer, and on the first model that meets them."""
    for one, other in itertools.combinations(MUTATIONS, 2):
        if one.layer == other.layer:
            assert not same(wrong(one, one.layer), wrong(other, one.layer)), (one.name, other.name)
        if (model := model_of(one)) == model_of(other):
            met = [not same(wrong(mutation, model), RIGHT[model]) for mutation in (one, other)]
            assert not any(met) or not same(wrong(one, model), wrong(other, model)), (one.name, other.name)


def same(one: Made, other: Made) -> bool:
    """The same gradients but for rounding."""
    return all(close(gradient, other.gradients[name]) for name, gradient in one.gradients.items())


def close(one: Array, other: Array) -> bool:
    """Or both zero; or, in gradients that are zero by mathematics, both what rounding leaves."""
    return relative_error(one, other) < 1e-9 or max(np.abs(one).max(), np.abs(other).max()) < 1e-13


# planting


@each_mutation
def test_it_is_planted_through_the_whole_model(mutation: Mutation) -> None:
    """One of its families; but for what only shows in texts longer than a tile."""
    model = model_of(mutation)
    assert same(wrong(mutation, model), RIGHT[model]) == (mutation.layer == "attention_tiles")


def test_the_model_that_meets_it_is_the_first_one() -> None:
    expected = {
        "dq_scaled_twice": "default",
        "db_of_the_first_row": "gpt2",
        "rms_norm_gamma_forgotten": "llama",
        "groups_interleaved": "llama",
        "window_one_too_wide": "mistral",
        "window_on_the_full_blocks": "qwen2",
        "query_key_norm_skipped": "qwen3",
        "tile_weights_not_rescaled": "default",
    }
    assert {name: LESSON.family_of(BY_NAME[name]) for name in expected} == expected
    assert [LESSON.config_of(family, **LESSON.SMALLEST).G for family in ("default", "llama")] == [2, 2]
    assert LESSON.config_of("llama", **LESSON.SMALLEST).heads == 4


def test_it_is_planted_where_its_layer_is_called() -> None:
    """Directly, six calls down, and in a generator expression."""
    attention = ["causal_attention", "grouped_attention", "window_attention"]
    heads = ["multi_head_attention", "grouped_queries"]
    turned = ["llama", "mistral", "qwen2", "qwen3"]
    for name, layers in {
        "softmax_plain_mean": ["softmax", *attention, *heads, "block", "gpt", "gpt2", *turned, "nanogpt"],
        "silu_as_a_relu": ["silu", "swiglu", "block", "gpt", *turned],
        "truth_not_subtracted": ["cross_entropy", "linear_cross_entropy", "gpt", "gpt2", *turned, "nanogpt"],
        "gelu_as_a_relu": ["gelu", "mlp", "gpt2", "nanogpt"],
        "db_of_the_first_row": ["bias", "grouped_queries", "mlp", "gpt2", "qwen2"],
        "rotary_turned_forwards": ["rotary", "grouped_queries", *turned],
    }.items():
        changed = [layer for layer in CASES[0] if not same(wrong(BY_NAME[name], layer), RIGHT[layer])]
        assert changed == layers


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("dbeta_averaged", "norm"),
        ("layer_norm_gamma_forgotten", "blocks.1"),
        ("path_of_the_keys_lost", "blocks.1"),
        ("softmax_plain_mean", "blocks.1"),
        ("blocks_in_forward_order", "blocks.1"),
        ("positions_averaged_over_the_batch", "embedding"),
    ],
)
def test_it_is_planted_in_generator_functions(name: str, first: str) -> None:
    """Which stay what they are; and nothing above the first part that it reaches is wrong."""
    planted = BY_NAME[name].planted(trunk_backward)
    assert planted is not trunk_backward
    assert inspect.isgeneratorfunction(planted)
    assert inspect.isgeneratorfunction(BY_NAME[name].planted(loss_backward_parts))
    case = CASES[0]["gpt"]
    _, left = case.run()
    given = case.given
    dy = np.random.default_rng(0).standard_normal((*given["tokens"].shape, given["config"].width))
    right = dict(trunk_backward(dy, left.trunk))
    found = dict(planted(dy, left.trunk))
    assert list(right) == ["norm", "blocks.1", "blocks.0", "embedding"]
    assert sorted(found) == sorted(right)
    assert next(part for part in right if not all(equal(right[part], found[part]))) == first


def equal(one: Any, other: Any) -> Iterator[bool]:
    """Of nested tuples of gradients, whether each is the same to the bit."""
    for a, b in zip(one, other, strict=True):
        if isinstance(a, tuple):
            yield from equal(a, b)
        elif a is not None:
            yield a.tobytes() == b.tobytes()


@each_mutation
def test_what_does_not_call_it_is_returned_as_it_is(mutation: Mutation) -> None:
    for layer in LEAVES:
        if layer != mutation.layer:
            case = CASES[0][layer]
            planted = case.planted(mutation)
            assert planted.forward is case.forward
            assert planted.backward is case.backward
    for function in (np.sum, len, re.compile, Case):
        assert mutation.planted(function) is function


def test_only_the_side_that_calls_it_is_copied() -> None:
    mutation = BY_NAME["softmax_plain_mean"]
    assert mutation.planted(softmax_forward) is softmax_forward
    assert mutation.planted(layer_norm_backward) is layer_norm_backward
    assert CASES[0]["gpt"].planted(mutation).forward is CASES[0]["gpt"].forward
    assert CASES[0]["gpt"].planted(mutation).backward is not CASES[0]["gpt"].backward


def test_a_copy_is_called_as_the_function_is() -> None:
    mutation = BY_NAME["truth_minus_probability"]
    for function in (CASES[0]["gpt"].backward, loss_backward, linear_cross_entropy_backward):
        of_copy, of_function = (
            [(x.name, x.kind, x.default) for x in inspect.signature(f).parameters.values()]
            for f in (mutation.planted(function), function)
        )
        assert mutation.planted(function) is not function
        assert of_copy == of_function


@each_mutation
def test_a_tap_sees_the_same_names(mutation: Mutation) -> None:
    """What the mistake makes of each is what a comparison looks for."""
    model = model_of(mutation)
    assert names_seen(MODELS[model].planted(mutation)) == right_names(model)


@cache
def right_names(model: str) -> list[str]:
    return names_seen(MODELS[model])


def names_seen(case: Case) -> list[str]:
    seen = []

    def see(name: str, x: Array) -> Array:
        seen.append(name)
        return x

    y, left = case.run(tap=see)
    case.gradients(np.ones_like(y), left, tap=see)
    return sorted(seen)


def test_the_library_itself_is_left_as_it_is() -> None:
    for mutation in MUTATIONS:
        for case in CASES[0].values():
            case.planted(mutation)
        wrong(mutation, mutation.layer)
        wrong(mutation, model_of(mutation))
    for name, before in LIBRARY.items():
        now = vars(sys.modules[name])
        assert [key for key, function in before.items() if now[key] is not function] == [], name
    for layer, case in CASES[0].items():
        assert make(case).bits == RIGHT[layer].bits, layer


# the lesson


TEXT = "the cat sat on the mat, and the dog lay by the log.\n" * 30


@pytest.fixture
def short_training(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A smaller model, fewer steps, a shorter text."""
    monkeypatch.setattr(LESSON, "TRAINING", replace(LESSON.TRAINING, steps=30, warmup=3, batch=4))
    monkeypatch.setattr(
        LESSON, "SIZES", {**LESSON.SIZES, "layers": 1, "heads": 1, "width": 8, "hidden": 8, "context": 8}
    )
    monkeypatch.setattr(LESSON, "HELD_OUT", 8)
    monkeypatch.setattr(LESSON, "default_text", lambda: TEXT)
    forget()
    yield
    forget()


def forget() -> None:
    LESSON._material.cache_clear()
    LESSON._trained.cache_clear()


@pytest.mark.usefixtures("short_training")
def test_how_a_small_model_trains_with_it() -> None:
    tile, climbs, scaled = (
        BY_NAME[name]
        for name in ("tile_with_its_own_row_sum", "truth_minus_probability", "loss_not_divided_by_the_count")
    )
    first = [LESSON.lesson(mutation) for mutation in (tile, climbs, scaled)]
    not_met, worse_and_worse, as_well = first
    right, frequencies = LESSON.loss_of_right_gradients(), LESSON._material().loss_of_frequencies
    assert right < frequencies
    assert not_met[:3] == (right, 1, False)
    assert not_met.losses == not_met.right_losses
    assert not_met.verdict == "not met"
    assert worse_and_worse.loss > frequencies
    assert worse_and_worse.learned < 0
    assert worse_and_worse.met
    assert worse_and_worse.verdict == "no"
    assert len(worse_and_worse.losses) == len(worse_and_worse.right_losses) == 30
    assert worse_and_worse.losses[0] == worse_and_worse.right_losses[0]  # before the first update
    assert worse_and_worse.losses[-1] > worse_and_worse.right_losses[-1]
    assert as_well.loss == pytest.approx(right, rel=1e-3)  # a clipped gradient has lost its length
    assert as_well.learned == pytest.approx((frequencies - as_well.loss) / (frequencies - right))
    assert LESSON.lesson(BY_NAME["ignored_targets_counted"]).met
    of_another_family = LESSON.lesson(BY_NAME["tied_averaged"])
    tied_right = LESSON._trained(None, "gpt2")[0]
    assert tied_right != right
    assert of_another_family.met
    assert of_another_family.learned == pytest.approx(
        (frequencies - of_another_family.loss) / (frequencies - tied_right)
    )
    forget()
    assert [LESSON.lesson(mutation) for mutation in (tile, climbs)] == first[:2]


@pytest.mark.usefixtures("short_training")
def test_the_small_model_trains_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the padding, which a trainer's batches do not have."""
    monkeypatch.setattr(LESSON, "PADDING", 0)
    config, _, held_out, _ = LESSON._material()
    tokenizer = Tokenizer.of_characters(TEXT)
    model = Model(config, initial_parameters(config), tokenizer)
    corpus = make_corpus(split([TEXT]), tokenizer, config.context)
    for _ in Trainer(model, corpus, replace(LESSON.TRAINING, evaluations=1)).run():
        pass
    loss, _ = loss_forward(held_out.tokens, held_out.targets, model.parameters.tree, config)
    assert LESSON.loss_of_right_gradients() == pytest.approx(float(loss), rel=1e-4)


@pytest.mark.parametrize(
    ("learned", "verdict"),
    [
        (1.0, "as well"),
        (0.951, "as well"),
        (0.949, "worse"),
        (0.01, "worse"),
        (0.0, "no"),
        (-3.0, "no"),
        (float("nan"), "no"),
    ],
)
def test_the_verdict_on_a_training(learned: float, verdict: str) -> None:
    assert Lesson(2.0, learned, True).verdict == verdict
    assert Lesson(2.0, learned, False).verdict == "not met"
