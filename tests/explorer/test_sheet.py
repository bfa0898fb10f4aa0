"""How a tensor is made: every one has its formula and its lines, and the lines are those of the file."""

import json
import re
import textwrap
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import handgrad
from handgrad.explorer.sheet import forwards_of, made_by, to_mathml
from handgrad.layers import cross_entropy_forward, embedding_forward
from handgrad.proof import Trace
from handgrad.proof.formulas import defined_in
from handgrad.proof.sites import Source

from .conftest import explorer_of
from .kinds import KINDS, go_on, model_of_kind, traced_of_kind

PACKAGE = Path(handgrad.__file__).parents[1]
MATH = "{http://www.w3.org/1998/Math/MathML}"
Sheet = dict[str, Any]


def sheet_of(kind: str, name: str) -> Sheet:
    return explorer_of(model_of_kind(kind)).sheet({"name": name}, go_on).header


def marked(made: Sheet) -> list[str]:
    """The marked lines, from the file itself."""
    found = []
    for listing in made["listings"]:
        lines = (PACKAGE / listing["file"]).read_text(encoding="utf-8").split("\n")
        found += [lines[number - 1].strip() for number in listing["marked"]]
    return found


USED_IN = {
    **{f"{part}_{name}": name for part in "wb" for name in ("q", "k", "v", "up", "gate")},
    **{f"{part}_{name}": "output" for part in "wb" for name in ("o", "down")},
    **{f"gamma_{name}": f"{name}_normed" for name in "qk"},
    "gamma": "output",
    "beta": "output",
    "position": "output",
    "w_lm": "logits",
}
"""The tensor beside a parameter that it is used in, by their last names."""


def makes_of(traced: Trace, name: str) -> list[str]:
    """What the forwards of a tensor's sheet make."""
    if name == "embedding.token":
        return ["embedding.output", *(["head.logits"] if traced.config.tied else [])]
    scope, _, last = name.rpartition(".")
    return [f"{scope}.{USED_IN[last]}" if name in traced.parameters else name] + (["loss"] if name == "loss" else [])


def docstring_of(function: Any) -> str:
    return " ".join(str(function.__doc__).split())


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_has_formulas_and_lines_of_the_source(kind: str) -> None:
    traced = traced_of_kind(kind)
    explorer = explorer_of(model_of_kind(kind))
    formulas = {entry["name"]: entry for entry in traced.manifest()["tensors"]}
    for name in [*traced.activations, *traced.parameters]:
        sheet = explorer.sheet({"name": name}, go_on).header
        assert {*sheet} == {"forward", "backward"}
        assert [each["makes"] for each in sheet["forward"]] == makes_of(traced, name)
        assert [each["makes"] for each in sheet["backward"]] == ([] if name == "loss" else [name])
        for n, (way, makes, made) in enumerate(
            (way, each["makes"], each["made"]) for way, several in sheet.items() for each in several
        ):
            assert {*made} == {"symbol", "latex", "mathml", "listings"}
            if (name, n) in (("embedding.token", 0), ("loss", 1)):  # not the layer that the trace names
                inner = embedding_forward if n == 0 else cross_entropy_forward
                assert f"$$ {made['latex']} $$" in docstring_of(inner).replace("$$", " $$ ").replace("  ", " ")
            else:
                assert made["latex"] == formulas[makes][way]
            assert made["symbol"] in re.sub(r"\\mathrm|[\s{}\\,;!]", "", made["latex"])
            assert len(made["mathml"]) == len(defined_in(made["latex"]))  # what explains a sign is part of an equation
            for mathml in made["mathml"]:
                element = ElementTree.fromstring(mathml)
                assert (element.tag, element.get("display")) == (f"{MATH}math", "block")
                assert "\\" not in "".join(element.itertext())
            assert made["listings"]
            for listing in made["listings"]:
                assert_is_of_its_file(listing, name)


def assert_is_of_its_file(listing: Sheet, name: str) -> None:
    lines = (PACKAGE / listing["file"]).read_text(encoding="utf-8").split("\n")
    shown = listing["source"].rstrip("\n").split("\n")
    first = listing["line"]
    assert textwrap.dedent("\n".join(lines[first - 1 : first - 1 + len(shown)])) == "\n".join(shown)
    assert any(line.startswith(f"def {listing['function']}(") for line in shown)
    assert listing["marked"], name
    assert listing["marked"] == sorted({*listing["marked"]})
    assert first < listing["marked"][0]
    assert listing["marked"][-1] < first + len(shown)


@pytest.mark.parametrize(
    ("kind", "name", "way", "function", "expected"),
    [
        ("default", "blocks.0.attention.q", "backward", "causal_attention_backward", ["dq = "]),
        (
            "default",
            "blocks.0.attention.k",
            "backward",
            "causal_attention_backward",
            ["dq_scaled, dk, dv = ", "dk[:, :, tile.keys] += sum_of_group(dscores, "],
        ),
        ("default", "blocks.0.attention.scores", "backward", "causal_attention_backward", ['dscores = tap("scores"']),
        (
            "default",
            "blocks.0.attention.scores",
            "forward",
            "_masked_scores",
            ['masked_scores = tap("scores", by_group('],
        ),
        (
            "gpt2",
            "blocks.0.feed_forward.hidden",
            "forward",
            "mlp_forward",
            ["hidden, gelu_cache = ", 'projected_back, down_cache = linear_forward(tap("hidden", hidden)'],
        ),
        ("default", "blocks.0.attention.weights", "forward", "causal_attention_forward", ['weights = tap("weights"']),
        ("default", "blocks.0.norm_1.output", "forward", "layer_norm_forward", ["y = x_hat * gamma", "y += beta"]),
        ("llama", "blocks.0.norm_1.output", "forward", "rms_norm_forward", ["return x_hat * gamma, "]),
        (
            "default",
            "blocks.0.norm_1.output",
            "backward",
            "multi_head_attention_backward",
            ["dx, dw_q, db_q, dgamma_q = _heads_backward(", "dx += dx_k", "dx += dx_v"],
        ),
        ("default", "blocks.0.feed_forward.activated", "backward", "swiglu_backward", ["dactivated = tap("]),
        ("default", "blocks.0.feed_forward.hidden", "forward", "swiglu_forward", ['hidden = tap("hidden", activated']),
        ("gpt2", "blocks.0.feed_forward.w_up", "backward", "mlp_backward", ["dx, dw_up = linear_backward(dprojected"]),
        ("gpt2", "blocks.0.feed_forward.b_up", "backward", "mlp_backward", ["dprojected, db_up = bias_backward("]),
        ("gpt2", "embedding.token", "backward", "with_head", ["part.token[...] += dw_lm.T"]),
        ("default", "embedding.token", "backward", "embedding_backward", ["dtable = np.zeros", "dtable[used] = "]),
        ("default", "norm.gamma", "backward", "layer_norm_backward", ["dgamma = column_sums(dy * x_hat)"]),
        ("qwen3", "blocks.0.attention.k_rotated", "forward", "_rotate", ["y: Array = halves * cos", "y += halves["]),
        ("qwen3", "blocks.0.attention.q_normed", "backward", "rotary_backward", ["return _rotate(dy, cache.cos, -"]),
        (
            "default",
            "head.logits",
            "backward",
            "cross_entropy_backward",
            ["dlogits: Array = probabilities * dsurprise", "np.put_along_axis(dlogits, "],
        ),
        ("default", "loss", "forward", "linear_cross_entropy_forward", ["loss, chunks = ", "loss += chunk_loss"]),
    ],
)
def test_the_lines_that_make_it_are_marked(kind: str, name: str, way: str, function: str, expected: list[str]) -> None:
    made = sheet_of(kind, name)[way][0]["made"]
    assert [listing["function"] for listing in made["listings"]] == [function]
    lines = marked(made)
    assert len(lines) == len(expected)
    for line, beginning in zip(lines, expected, strict=True):
        assert line.startswith(beginning)


def test_words_are_texts_and_symbols_are_symbols() -> None:
    element = ElementTree.fromstring(to_mathml(r"\mathrm{d}\mathrm{masked\_scores}_{ts} = \frac{x}{\sqrt{D}} \odot y"))
    assert [text.text for text in element.iter(f"{MATH}mtext")] == ["d", "masked_scores"]
    assert len([*element.iter(f"{MATH}mfrac")]) == len([*element.iter(f"{MATH}msqrt")]) == 1
    assert {symbol.text for symbol in element.iter(f"{MATH}mi")} >= {"x", "y", "D", "t", "s"}


def test_equations_of_one_block_are_told_apart() -> None:
    made = sheet_of("default", "blocks.0.attention.masked_scores")["forward"][0]["made"]
    first, second = ("".join(ElementTree.fromstring(mathml).itertext()) for mathml in made["mathml"])
    assert first.startswith("masked_scores")
    assert second.startswith("mask")
    assert not first.rstrip().endswith(",")


def functions_of(kind: str, name: str) -> list[tuple[str, str]]:
    """What is made for a tensor's sheet, and by which functions, forwards."""
    return [
        (each["makes"], listing["function"])
        for each in sheet_of(kind, name)["forward"]
        for listing in each["made"]["listings"]
    ]


def test_the_table_of_tokens_is_used_at_the_bottom_and_where_it_is_tied_at_the_top() -> None:
    """Also where positions are added to what it gives."""
    bottom, top = ("embedding.output", "embedding_forward"), ("head.logits", "linear_cross_entropy_forward")
    for kind in KINDS:
        tied = kind in ("gpt2", "nanogpt", "qwen2", "tied, no norm")
        assert functions_of(kind, "embedding.token") == ([bottom, top] if tied else [bottom]), kind
    assert functions_of("default", "embedding.position") == [("embedding.output", "positions_forward")]
    lines = marked(sheet_of("default", "embedding.token")["forward"][0]["made"])
    assert len(lines) == 1
    assert "table[tokens]" in lines[0]


def test_the_loss_is_a_mean_and_what_it_is_the_mean_of() -> None:
    assert functions_of("default", "loss") == [
        ("loss", "linear_cross_entropy_forward"),
        ("loss", "cross_entropy_forward"),
    ]
    case = traced_of_kind("default").case()
    assert forwards_of(case, "loss")[1] == ("loss", Source(cross_entropy_forward, "loss"))


def test_what_is_made_is_json() -> None:
    made = made_by(Source(embedding_forward, "y"))
    assert json.loads(json.dumps(made)) == made
    assert (made["symbol"], [listing["function"] for listing in made["listings"]]) == ("y", ["embedding_forward"])
