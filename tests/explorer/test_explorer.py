"""Each question and its answer, against a pass that the test traces; and fields that are wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handgrad.errors import HandgradError
from handgrad.explorer import Explorer, Shelf, shelf_of
from handgrad.explorer.explorer import DEEPEST, FIRST_TOKENS, POINTS, TOGETHER
from handgrad.explorer.flow import choices
from handgrad.explorer.mutants import find, first_wrong, spread
from handgrad.explorer.passes import LONGEST
from handgrad.layers import Array
from handgrad.model import Model, Tokenizer, load
from handgrad.proof import MUTATIONS, Trace, trace
from handgrad.training import create_run, evaluations, make_recipe, read_data, read_metrics, smoothed

from .conftest import TEXT, explorer_of, model_of
from .kinds import KINDS, go_on, model_of_kind, traced_of_kind

Header = dict[str, Any]


@pytest.fixture(scope="module")
def traced() -> Trace:
    return trace(model_of(), TEXT)


def asked(explorer: Explorer, question: str, **fields: Any) -> Header:
    """The header, which is JSON, and in the answer's frame."""
    reply = explorer.answers[question](fields, go_on)
    reply.frame()
    header: Header = json.loads(json.dumps(reply.header, allow_nan=False))
    return header


def refusal(explorer: Explorer, question: str, **fields: Any) -> str:
    with pytest.raises(HandgradError) as raised:
        explorer.answers[question](fields, go_on)
    return str(raised.value)


# the pass


@pytest.mark.parametrize("kind", KINDS)
def test_the_pass_tells_of_every_tensor(kind: str) -> None:
    model, traced = model_of_kind(kind), traced_of_kind(kind)
    shown = asked(explorer_of(model), "pass")
    assert (shown["title"], shown["text"], shown["checkpoint"], shown["step"]) == ("a small model", TEXT, "", None)
    assert shown["vocabulary"] == [bytes([n]).decode(errors="replace") for n in range(256)]
    assert shown["config"] == model.config.to_dict() or shown["config"].items() >= model.config.to_dict().items()
    assert shown["loss"] == traced.loss
    assert shown["trace_command"].endswith(f" --text '{TEXT}'")
    assert shown["parameters"] == sum(x.size for x in model.parameters.values())
    axes = {entry["name"]: entry["axes"] for entry in traced.manifest()["tensors"]}
    entries = {entry["name"]: entry for entry in shown["tensors"]}
    assert [*entries] == [*traced.activations, *traced.parameters]
    for name, entry in entries.items():
        of_activation = name in traced.activations
        assert entry["kind"] == ("activations" if of_activation else "parameters")
        x = (traced.activations if of_activation else traced.parameters)[name]
        gradient = (traced.cotangents if of_activation else traced.gradients)[name]
        assert (entry["shape"], entry["axes"]) == ([*x.shape], axes[name])
        for told, tensor in ((entry["norm"], x), (entry["gradient_norm"], gradient)):
            finite = tensor[np.isfinite(tensor)]
            assert told == pytest.approx(np.sqrt((finite * finite).sum()), rel=1e-12)
    assert {path["source"] for path in shown["paths"]} | {"loss"} == {*entries}
    assert all(error <= 1e-14 for error in shown["sums"].values())


def test_the_tokens_have_their_probabilities(traced: Trace) -> None:
    shown = asked(explorer_of(model_of()), "pass", targets={"2": -100, "4": 65})["tokens"]
    assert [each["text"] for each in shown] == [*TEXT[:-1]]
    assert [each["target_text"] for each in shown] == ["e", "l", "", "o", "A", *TEXT[6:]]
    logits = traced.activations["head.logits"][0]
    for t, (each, z) in enumerate(zip(shown, logits, strict=True)):
        p = np.exp(z) / np.exp(z).sum()
        assert each["guess_text"] == bytes([p.argmax()]).decode(errors="replace")
        assert each["guess_probability"] == pytest.approx(p.max(), rel=1e-12)
        if t == 2:
            assert (each["target"], each["probability"], each["loss"]) == (-100, None, None)
            continue
        target = 65 if t == 4 else ord(TEXT[t + 1])
        assert each["target"] == target
        assert each["probability"] == pytest.approx(p[target], rel=1e-12)
        assert each["loss"] == pytest.approx(-np.log(p[target]), rel=1e-12)


def test_other_targets_are_another_loss(traced: Trace) -> None:
    targets = traced.targets.copy()
    targets[0, 3], targets[0, 10], targets[0, 0] = 7, -100, 255
    expected = trace(model_of(), traced.tokens, targets)
    explorer, fields = explorer_of(model_of()), {"targets": {"3": 7, "10": -100, "0": 255}}
    assert asked(explorer, "pass", **fields)["loss"] == expected.loss != traced.loss
    key = "cotangents/blocks.0.residual_1"
    found = explorer.tensors({**fields, "keys": [key]}, go_on).arrays[key]
    np.testing.assert_array_equal(found, expected.cotangents["blocks.0.residual_1"][0])
    assert asked(explorer, "pass")["loss"] == traced.loss


def test_the_command_for_a_pass_has_no_other_targets_than_those_of_the_text() -> None:
    explorer = explorer_of(model_of())
    assert asked(explorer, "pass")["trace_command"].endswith(f" --text '{TEXT}'")
    assert asked(explorer, "pass", targets={"3": 7})["trace_command"] is None


def test_where_no_target_counts_there_is_no_loss() -> None:
    explorer, none = explorer_of(model_of()), {str(t): -100 for t in range(11)}
    said = "targets: none of them counts, so there is nothing to take the loss of"
    for question, fields in (("pass", {}), ("sheet", {"name": "loss"}), ("flow", {})):
        assert refusal(explorer, question, targets=none, **fields) == said
    one = none | {"4": 65}
    shown = asked(explorer, "pass", targets=one)
    assert shown["loss"] == pytest.approx(shown["tokens"][4]["loss"], rel=1e-12)


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e200])
def test_a_model_whose_numbers_overflow_is_shown_all_the_same(number: float) -> None:
    model = model_of()
    model.parameters["head.w_lm"][0, 0] = number
    explorer = explorer_of(model)
    shown = asked(explorer, "pass")
    assert (shown["loss"] is None) == np.isnan(number)
    for key in choices(model.config):
        assert asked(explorer, "flow", key=key)["course"]["key"] == key
    assert asked(explorer, "mutation", name="dk_not_transposed")["wrongs"]
    assert asked(explorer, "nudge", key="parameters/head.w_lm", index=[0, 0])["losses"]
    assert asked(explorer, "tensors", keys=["parameters/head.w_lm", "gradients/head.w_lm"])["window"]


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("a", 1), ("a" * 34, 34), ("a" * 5000, 5000), ("\N{GRINNING FACE}" * 9, 36)]
)
def test_a_text_that_is_too_short_or_too_long_is_refused(text: str, tokens: int) -> None:
    said = refusal(explorer_of(model_of()), "pass", text=text)
    assert said.startswith(f"the text has {tokens:,} token{'s' * (tokens != 1)}; from 2 to 33 can be shown: ")


def test_texts_of_every_other_length_are_shown() -> None:
    explorer = explorer_of(model_of())
    for length in (2, 3, 33):
        shown = asked(explorer, "pass", text="a" * length)
        assert len(shown["tokens"]) == length - 1
        assert asked(explorer, "flow", text="a" * length)["course"]["loss"] == shown["loss"]


def test_no_text_is_longer_than_can_be_drawn() -> None:
    model = model_of(context=LONGEST + 50)
    explorer = explorer_of(model)
    assert "; from 2 to 257 can be shown" in refusal(explorer, "pass", text="a" * (LONGEST + 2))
    assert len(asked(explorer, "pass", text="ab" * 128 + "c")["tokens"]) == LONGEST


def test_without_a_text_the_page_begins_with_some_tokens() -> None:
    assert explorer_of(model_of(context=100), None).text.startswith("The quick brown fox")
    assert len(explorer_of(model_of(context=100), None).text) == FIRST_TOKENS + 1
    assert len(explorer_of(model_of(context=12), None).text) == 13


def test_a_text_that_the_tokenizer_cannot_express_is_refused() -> None:
    model = model_of(vocabulary=3)
    explorer = explorer_of(Model(model.config, model.parameters, Tokenizer.of_characters("abc")), "abcab")
    assert refusal(explorer, "pass", text="abXc").startswith("character 'X' (position 2)")
    assert refusal(explorer_of(model_of()), "pass", text="ab\ud800").startswith(r"character '\ud800' (position 2)")
    assert asked(explorer, "pass")["loss"] > 0


@pytest.mark.parametrize(
    ("targets", "wrong"),
    [
        ({"11": 1}, "targets: position 11, token 1: there is no such position or token"),
        ({"0": 256}, "targets: position 0, token 256: there is no such position or token"),
        ({"99999": -100}, "targets: position 99999, token -100: there is no such position or token"),
        ({"0": -1}, "targets: -1 is no token"),
        ([], "targets: not an object"),
    ],
)
def test_targets_that_are_not_there_are_refused(targets: Any, wrong: str) -> None:
    assert refusal(explorer_of(model_of()), "pass", targets=targets).startswith(wrong)


# what is kept


class Counter:
    """Explorer of a model whose passes are counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passes = 0
        real = trace

        def counted(*arguments: Any, **options: Any) -> Trace:
            self.passes += 1
            return real(*arguments, **options)

        monkeypatch.setattr("handgrad.explorer.passes.trace", counted)


def test_passes_are_kept_but_not_without_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    counter, explorer = Counter(monkeypatch), explorer_of(model_of())
    for text in ("one", "two", "one", "two"):
        asked(explorer, "pass", text=text)
    assert counter.passes == 2
    size = sum(x.nbytes for x in trace(model_of(), "one").tensors().values())
    monkeypatch.setattr("handgrad.explorer.passes.KEPT_BYTES", 4 * size)
    asked(explorer, "pass", text="one")
    asked(explorer, "pass", text="six")  # two of them fill half of what there is, and no more: nothing goes
    assert counter.passes == 3
    for text in ("one", "two", "six", "one"):
        asked(explorer, "pass", text=text)
    assert counter.passes == 3
    asked(explorer, "pass", text="ten")  # `two` has not been looked at for the longest time
    assert counter.passes == 4
    for text in ("six", "one", "ten"):
        asked(explorer, "pass", text=text)
    assert counter.passes == 4
    asked(explorer, "pass", text="two")
    assert counter.passes == 5
    monkeypatch.setattr("handgrad.explorer.passes.KEPT_BYTES", 0)
    for _ in range(3):
        asked(explorer, "sheet", text="new", name="loss")  # the last one is kept always
    assert counter.passes == 6
    asked(explorer, "pass", text="two")
    assert counter.passes == 7


def test_room_is_made_before_the_next_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are never two large ones, and no mistaken one beside them."""
    explorer = explorer_of(model_of())
    kept, seen = explorer.passes, list[tuple[list[str], bool]]()
    monkeypatch.setattr("handgrad.explorer.passes.KEPT_BYTES", 0)
    real = trace

    def watched(*arguments: Any, **options: Any) -> Trace:
        seen.append(([view.text for view, _ in kept._kept], kept._mistaken is None))
        return real(*arguments, **options)

    monkeypatch.setattr("handgrad.explorer.passes.trace", watched)
    asked(explorer, "mutation", name="dk_not_transposed")
    assert kept._mistaken is not None
    asked(explorer, "pass", text="large")
    asked(explorer, "pass", text="larger")
    assert seen == [([], True)] * 3
    monkeypatch.setattr("handgrad.explorer.passes.KEPT_BYTES", 1 << 30)
    asked(explorer, "pass", text="small")
    assert seen[3] == (["larger"], True)


def test_a_mistaken_pass_is_made_once_for_all_that_is_asked_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    explorer, made = explorer_of(model_of()), list[str]()

    def counted(traced: Trace, mutation: Any, stop: Any) -> Any:
        made.append(mutation.name)
        return spread(traced, mutation, stop)

    monkeypatch.setattr("handgrad.explorer.passes.spread", counted)
    key = "parameters/blocks.0.attention.w_k"
    for name in ("dk_not_transposed", "mask_forgotten"):
        asked(explorer, "mutation", name=name)
        asked(explorer, "tensors", keys=["cotangents/norm.output"], mutation=name)
        asked(explorer, "nudge", key=key, index=[0, 0], step=0.1, mutation=name)
    assert made == ["dk_not_transposed", "mask_forgotten"]
    asked(explorer, "mutation", name="mask_forgotten", text="other")
    assert made == ["dk_not_transposed", "mask_forgotten", "mask_forgotten"]
    wrongs = [asked(explorer, "mutation", name="mask_forgotten", text=text)["wrongs"] for text in (TEXT, "other")]
    assert wrongs[0] != wrongs[1]  # though both passes were there
    assert len(made) == 5


def test_targets_make_another_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    counter, explorer = Counter(monkeypatch), explorer_of(model_of())
    for targets in ({}, {"1": 5}, {"1": 6}, {"01": 6}, {}):
        asked(explorer, "pass", targets=targets)
    assert counter.passes == 3


def test_a_pass_that_was_given_up_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    counter, explorer, asked_for = Counter(monkeypatch), explorer_of(model_of()), 0

    def stop() -> None:
        nonlocal asked_for
        asked_for += 1
        if asked_for == 20:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        explorer.answers["pass"]({}, stop)
    assert asked_for == 20
    asked(explorer, "pass")
    assert counter.passes == 2


# tensors


@pytest.mark.parametrize(
    ("name", "fields", "part"),
    [
        ("blocks.1.attention.weights", {"at": [0, 1]}, np.s_[0, 1]),
        ("blocks.1.attention.weights", {}, np.s_[0, 0]),
        ("blocks.1.attention.masked_scores", {"at": [0, 1], "row": 3, "column": 2}, np.s_[0, 1, 3:, 2:]),
        ("head.logits", {"row": 10, "column": 250}, np.s_[0, 10:, 250:]),
        ("blocks.0.feed_forward.w_gate", {"at": [0, 0, 0]}, np.s_[:, :]),
        ("norm.gamma", {"column": 4}, np.s_[None, 4:]),
        ("loss", {}, np.s_[None, None]),
    ],
)
def test_a_part_of_a_tensor_and_of_its_gradient(name: str, fields: Header, part: Any, traced: Trace) -> None:
    explorer = explorer_of(model_of())
    keys = [key for key in traced.tensors() if key.partition("/")[2] == name]
    assert len(keys) == 2
    reply = explorer.tensors({"keys": keys, **fields}, go_on)
    json.dumps(reply.header, allow_nan=False)
    assert [*reply.arrays] == keys
    for key in keys:
        whole = traced.tensors()[key]
        np.testing.assert_array_equal(reply.arrays[key], whole[part])
        told, finite = reply.header["tensors"][key], whole[np.isfinite(whole)]
        assert (told["statistics"]["maximum"], told["statistics"]["finite"]) == (finite.max(), finite.size)
        assert sum(told["histogram"]["counts"]) == finite.size
    window = reply.header["window"]
    assert (window["row"], window["column"]) == (fields.get("row", 0), fields.get("column", 0))
    assert (window["rows"], window["columns"]) == reply.arrays[keys[0]].shape


def test_with_a_mistake_in_it_tensors_are_those_of_the_mistaken_pass(traced: Trace) -> None:
    explorer, keys = explorer_of(model_of()), ["cotangents/blocks.0.attention.k", "activations/blocks.0.attention.k"]
    for name in ("dk_not_transposed", "dk_without_the_scale", "dk_not_transposed"):
        made = spread(traced, find(name), go_on)[1]
        found = explorer.tensors({"keys": keys, "mutation": name, "at": [0, 1]}, go_on).arrays
        np.testing.assert_array_equal(found[keys[0]], made[keys[0]][0, 1])
        assert not np.array_equal(found[keys[0]], traced.cotangents["blocks.0.attention.k"][0, 1])
        np.testing.assert_array_equal(found[keys[1]], traced.activations["blocks.0.attention.k"][0, 1])
    other = trace(model_of(), "another text")
    found = explorer.tensors({"keys": keys, "mutation": "dk_not_transposed", "text": "another text"}, go_on).arrays
    np.testing.assert_array_equal(found[keys[0]], spread(other, find("dk_not_transposed"), go_on)[1][keys[0]][0, 0])
    right = explorer.tensors({"keys": keys, "mutation": ""}, go_on).arrays
    np.testing.assert_array_equal(right[keys[0]], traced.cotangents["blocks.0.attention.k"][0, 0])


LOGITS = ["activations/head.logits"]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        *(
            ({"keys": keys}, f"keys: not a list of 1 to {TOGETHER} names of tensors")
            for keys in (None, [], "tokens", [1], [None], [["tokens"]], {"tokens": 1}, LOGITS * (TOGETHER + 1), True)
        ),
        ({"keys": ["activations/head"]}, "keys: the pass has no tensor 'activations/head'"),
        ({"keys": ["../../etc/passwd"]}, "keys: the pass has no tensor '../../etc/passwd'"),
        ({"keys": ["\ud800"]}, r"keys: the pass has no tensor '\ud800'"),
        ({"keys": [*LOGITS, "activations/loss"]}, "keys: tensors of different shapes"),
        ({"keys": LOGITS, "at": [1]}, "there is no index 1 on an axis of 1"),
        ({"keys": LOGITS, "at": [0, 0, 0, 0, 0]}, "at: not a list of at most 4 whole numbers"),
        *(
            ({"keys": LOGITS, "at": at}, "at: not a list")
            for at in ([True], [0.0], ["0"], "0", None, 0, [float("nan")])
        ),
        *(
            ({"keys": LOGITS, name: x}, f"{name}: not a whole number")
            for name in ("row", "column")
            for x in (True, 1.5, "1", None, [1], float("nan"), float("inf"))
        ),
        ({"keys": LOGITS, "row": 11}, "there is no index 11 on an axis of 11"),
        ({"keys": LOGITS, "row": -1}, "there is no index -1 on an axis of 11"),
        ({"keys": LOGITS, "column": 10**40}, f"there is no index {10**40} on an axis of 256"),
        ({"keys": LOGITS, "mutation": "none such"}, "there is no mutation 'none such'"),
        ({"keys": LOGITS, "mutation": 3}, "mutation: not a text"),
        ({"keys": ["parameters/norm.gamma"], "mutation": "dk_not_transposed"}, "keys: the pass has no tensor 'param"),
        ({"keys": LOGITS, "text": 3}, "text: not a text"),
        ({"keys": LOGITS, "checkpoint": "last"}, "checkpoint: the run keeps none of the name 'last'"),
    ],
)
def test_tensors_that_cannot_be_shown(explorer: Explorer, fields: Header, wrong: str) -> None:
    assert refusal(explorer, "tensors", **fields).startswith(wrong)


# the other questions


@pytest.mark.parametrize("name", ["", "head", "activations/loss", "tokens", "../page", 3, None, True])
def test_a_sheet_of_nothing_is_refused(explorer: Explorer, name: Any) -> None:
    assert refusal(explorer, "sheet", name=name).startswith("name: ")


def test_a_nudge_is_told(explorer: Explorer, traced: Trace) -> None:
    key = "parameters/blocks.0.attention.w_q"
    found = asked(explorer, "nudge", key=key, index=[3, 5])
    assert (found["value"], found["gradient"]) == (
        traced.parameters["blocks.0.attention.w_q"][3, 5],
        traced.gradients["blocks.0.attention.w_q"][3, 5],
    )
    assert len(found["losses"]) == len(found["steps"]) > 2
    one = asked(explorer, "nudge", key=key, index=[3, 5], step=2)
    assert (one["steps"], one["complex_step"], len(one["losses"])) == ([2], None, 1)
    assert asked(explorer, "nudge", key="activations/head.logits", index=[0, 0, 0], step=1e299)["losses"] != []


@pytest.mark.parametrize(
    ("key", "index"),
    [("parameters/blocks.0.attention.w_k", [3, 5]), ("activations/blocks.0.attention.k", [0, 1, 2, 3])],
)
def test_a_nudge_with_a_mistake_has_the_mistaken_gradient(
    explorer: Explorer, traced: Trace, key: str, index: list[int]
) -> None:
    comes_back = {"parameters": "gradients", "activations": "cotangents"}[key.partition("/")[0]]
    wrong = spread(traced, find("dk_not_transposed"), go_on)[1][f"{comes_back}/{key.partition('/')[2]}"][tuple(index)]
    right = asked(explorer, "nudge", key=key, index=index)
    found = asked(explorer, "nudge", key=key, index=index, mutation="dk_not_transposed")
    assert found["gradient"] == wrong
    assert right["gradient"] == pytest.approx(found["complex_step"], rel=1e-10)
    assert abs(wrong - found["complex_step"]) > 1e-3 * abs(wrong)
    assert found | {"gradient": right["gradient"]} == right  # the forward is the same
    assert asked(explorer, "nudge", key=key, index=index, mutation="") == right
    assert refusal(explorer, "nudge", key=key, index=index, mutation="none such").startswith("there is no mutation")
    assert refusal(explorer, "nudge", key=key, index=index, mutation=3) == "mutation: not a text"


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        *(
            ({"step": x}, "step: not a number")
            for x in (True, "1", [1], float("nan"), float("inf"), -float("inf"), 1e300, 10**400, ())
        ),
        *(({"index": x}, "index: not a list of at most 4") for x in ("0", [0.0, 0], [True, 0], [0] * 5, None, ())),
        ({"index": [0]}, "parameters/head.w_lm: there is no entry (0,) in the shape (16, 256)"),
        ({"index": [0, -1]}, "parameters/head.w_lm: there is no entry (0, -1)"),
        ({"index": [0, 10**40]}, "parameters/head.w_lm: there is no entry (0, 1000"),
        ({"key": None}, "key: missing"),
        ({"key": 7}, "key: not a text"),
        ({"key": "gradients/head.w_lm"}, "gradients/head.w_lm: no activation and no parameter"),
    ],
)
def test_a_nudge_that_cannot_be(explorer: Explorer, fields: Header, wrong: str) -> None:
    fields = {"key": "parameters/head.w_lm", "index": [0, 0], "step": 0.1} | fields
    assert refusal(explorer, "nudge", **fields).startswith(wrong)


@pytest.mark.parametrize("layers", [0, -1, DEEPEST + 1, 10**40, True, 2.0, "2", None, [2], float("nan")])
def test_models_of_no_depth_are_refused(explorer: Explorer, layers: Any) -> None:
    assert refusal(explorer, "flow", layers=layers).startswith(f"layers: {layers!r} is not a whole number from 1 to 48")


def test_the_flow_is_as_deep_as_was_asked(explorer: Explorer, traced: Trace) -> None:
    for layers in (1, 4):
        assert len(asked(explorer, "flow", layers=layers, key="trained")["course"]["sharpest"]) == 2
        assert len(asked(explorer, "flow", layers=layers, key="fresh")["course"]["sharpest"]) == layers
    assert len(asked(explorer, "flow", key="norm")["course"]["sharpest"]) == 2
    course = asked(explorer, "flow")["course"]
    assert (course["key"], course["loss"]) == ("trained", traced.loss)
    assert course["points"][0] == {
        "name": "embedding.output",
        "std": pytest.approx(traced.activations["embedding.output"].std()),
        "norm": pytest.approx(np.linalg.norm(traced.cotangents["embedding.output"])),
    }


def test_a_model_deeper_than_the_deepest_has_fresh_ones_of_its_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handgrad.explorer.explorer.DEEPEST", 1)
    explorer = explorer_of(model_of())
    for layers in ({}, {"layers": 2}):
        assert len(asked(explorer, "flow", key="fresh", **layers)["course"]["sharpest"]) == 2
    assert refusal(explorer, "flow", layers=3) == "layers: 3 is not a whole number from 1 to 2"


def test_a_model_with_room_for_more_tokens_names_them_all() -> None:
    shown = asked(explorer_of(model_of(vocabulary=300)), "pass")
    assert len(shown["vocabulary"]) == 300
    assert shown["vocabulary"][65] == "A"
    assert {*shown["vocabulary"][256:]} == {""}


def test_each_flow_that_can_be_shown_is_listed_and_shown(explorer: Explorer) -> None:
    listed = asked(explorer, "flow")["choices"]
    assert [each["key"] for each in listed] == ["trained", "fresh", "norm", "init", "scale", "residual"]
    courses = [asked(explorer, "flow", key=each["key"]) for each in listed]
    assert [each["choices"] for each in courses] == [listed] * 6
    assert [{"key": each["course"]["key"], "title": each["course"]["title"]} for each in courses] == listed
    assert len({each["course"]["loss"] for each in courses}) == 6
    bare = explorer_of(model_of(norm="none"))
    assert [each["key"] for each in asked(bare, "flow")["choices"]] == ["trained", "fresh", "init", "scale", "residual"]
    assert refusal(bare, "flow", key="norm") == "key: 'norm' is none of trained, fresh, init, scale, residual"
    for key in (None, 3, ["fresh"]):
        assert refusal(explorer, "flow", key=key).startswith("key: ")


def test_the_catalogue_and_one_mistake_of_it(explorer: Explorer, traced: Trace) -> None:
    listed = asked(explorer, "mutations")["mutations"]
    assert [each["name"] for each in listed] == [mutation.name for mutation in MUTATIONS]
    assert {each["name"]: each["met"] for each in listed}["rotary_turned_forwards"] is False
    assert asked(explorer, "mutations", text="other", targets={"1": 2})["mutations"] == listed
    mutation = find("dk_not_transposed")
    found = asked(explorer, "mutation", name=mutation.name)
    for field in ("name", "right", "wrong", "why"):
        assert found[field] == getattr(mutation, field)
    assert found["function"] == "causal_attention_backward"
    wrongs, _ = spread(traced, mutation, go_on)
    assert found["wrongs"] == [{"key": each.key, "error": each.error, "wrong": each.wrong} for each in wrongs]
    assert 0 < sum(each["wrong"] for each in found["wrongs"]) < len(wrongs)
    assert found["first"] == first_wrong(wrongs) == "cotangents/blocks.1.attention.k"
    assert refusal(explorer, "mutation", name="none such").startswith("there is no mutation 'none such'")
    assert refusal(explorer, "mutation").startswith("name: missing")
    assert refusal(explorer, "mutation", name=["dk_not_transposed"]).startswith("name: not a text")


def test_a_mistake_that_does_not_fit_the_model_is_refused() -> None:
    said = refusal(explorer_of(model_of("gpt2")), "mutation", name="dw_gate_of_the_raw_input")
    assert said == "dw_gate_of_the_raw_input: the model has not what the wrong code is about"


def test_a_token_of_a_text(explorer: Explorer) -> None:
    assert asked(explorer, "token", token="A") == {"token": 65}
    assert asked(explorer, "token", token="\0") == {"token": 0}
    for text in ("ab", "", "é", "A "):
        assert refusal(explorer, "token", token=text) == f"token: {text!r} is no token of this model's"
    assert refusal(explorer, "token", token=7) == "token: not a text"
    assert refusal(explorer, "token") == "token: missing"
    assert refusal(explorer, "token", token="a", checkpoint="best").startswith("checkpoint: ")


def test_every_token_of_a_model_is_found_by_its_text() -> None:
    """Also one that the tokenizer would never begin a text with, or cut out of one."""
    pairs = Tokenizer.of_byte_pairs("the cat sat on the mat, the cat sat. " * 9, 270)
    model = model_of(vocabulary=pairs.vocabulary)
    explorer = explorer_of(Model(model.config, model.parameters, pairs), "the cat")
    known = asked(explorer, "pass")["vocabulary"]
    assert {" the", " cat"} <= {*known}
    for n, text in enumerate(known):
        assert asked(explorer, "token", token=text) == {"token": n if text != "\ufffd" else known.index("\ufffd")}
    assert refusal(explorer, "token", token=" dog") == "token: ' dog' is no token of this model's"


def test_no_text_is_no_token() -> None:
    """Also where a token stands for none, or a number for no token."""
    tokenizer = Tokenizer.of_characters("abc")
    tokenizer.inner.add_special_tokens(["<s>"])
    model = model_of(vocabulary=4)
    explorer = explorer_of(Model(model.config, model.parameters, tokenizer), "abcab")
    assert asked(explorer, "pass")["vocabulary"] == ["a", "b", "c", ""]
    assert asked(explorer, "token", token="c") == {"token": 2}
    for text in ("", "<s>"):
        assert refusal(explorer, "token", token=text) == f"token: {text!r} is no token of this model's"


def test_a_large_vocabulary_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handgrad.explorer.passes.NAMED_TOKENS", 256)
    assert len(asked(explorer_of(model_of()), "pass")["vocabulary"]) == 256
    monkeypatch.setattr("handgrad.explorer.passes.NAMED_TOKENS", 255)
    explorer = explorer_of(model_of())
    assert asked(explorer, "pass")["vocabulary"] is None
    assert asked(explorer, "token", token="A") == {"token": 65}


def test_a_model_alone_has_no_training(explorer: Explorer) -> None:
    assert asked(explorer, "training") == {"run": None}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    (folder / "text.txt").write_text("a small text, again and again. " * 60, encoding="utf-8")
    sizes = {"layers": 1, "heads": 1, "width": 8, "hidden": 8, "context": 16, "steps": 12, "evaluations": 3}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("handgrad.training.run.SAMPLE_TOKENS", 2)
        patch.setattr("handgrad.training.run.loss_plot", lambda entries, title: b"")
        recipe = make_recipe(sizes, "tiny")
        with create_run(folder / "mine", "tiny", recipe, read_data([str(folder / "text.txt")])) as run:
            for _ in run.train():
                pass
    return folder / "mine"


@pytest.mark.parametrize(
    ("most", "steps"),
    [
        (POINTS, [*range(1, 13)]),
        (12, [*range(1, 13)]),
        (11, [1, 3, 5, 7, 9, 11, 12]),
        (5, [1, 4, 7, 10, 12]),
        (1, [1, 12]),
    ],
)
def test_the_training_of_a_run(run: Path, most: int, steps: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The curve ends with the last step, and has one point more than the most at most."""
    monkeypatch.setattr("handgrad.explorer.explorer.POINTS", most)
    found = asked(Explorer(Shelf("mine", model_of(), folder=run), TEXT), "training")
    entries = read_metrics(run)
    assert (found["run"], found["active"], found["step"], found["steps"]) == ("mine", False, 12, 12)
    assert found["curve"] == [{"step": step, "loss": smoothed(entries)[step - 1]} for step in steps]
    assert len(steps) <= most + 1
    assert found["evaluations"] == [
        {"step": each["step"], "loss": each["validation_loss"]} for each in evaluations(entries)
    ]
    assert [each["step"] for each in found["evaluations"]] == [4, 8, 12]
    listed = {each["name"]: each["step"] for each in found["checkpoints"]}
    assert listed.items() >= {"0": 0, "4": 4, "8": 8, "12": 12, "last": 12}.items()


def test_every_kept_model_has_its_own_pass(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter, explorer = Counter(monkeypatch), Explorer(shelf_of(run, load(run)), "a small text")
    listed = {each["name"]: each["step"] for each in asked(explorer, "training")["checkpoints"]}
    for name, folder in (("0", "kept/0"), ("8", "kept/8"), ("best", "best"), ("last", "."), ("", ".")):
        shown = asked(explorer, "pass", checkpoint=name)
        assert shown["loss"] == trace(load(run / folder), "a small text").loss
        assert (shown["checkpoint"], shown["step"]) == (name or "last", listed[name or "last"])
    assert counter.passes == 4  # the one that was opened is the last
    assert refusal(explorer, "pass", checkpoint="5").startswith("checkpoint: the run keeps none of the name '5'")


def test_no_answer_writes_to_the_model(traced: Trace) -> None:
    model = model_of()
    before: Array = model.parameters.flat.copy()
    explorer = explorer_of(model)
    for question, fields in (
        ("pass", {}),
        ("flow", {}),
        ("nudge", {"key": "parameters/head.w_lm", "index": [0, 0]}),
        ("mutation", {"name": "dk_not_transposed"}),
        ("mutations", {}),
    ):
        asked(explorer, question, **fields)
    np.testing.assert_array_equal(model.parameters.flat, before)
    assert asked(explorer, "pass")["loss"] == traced.loss
