"""What a manifest says of a tensor is what the layers' own docstrings and signatures say, of every tensor there is."""

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from handgrad import layers
from handgrad.layers import Array
from handgrad.model import ModelConfig
from handgrad.model.gpt import with_head
from handgrad.proof import KIT, Case, all_cases, gpt_case
from handgrad.proof.formulas import axes_of, formula_of, formulas, named_axes
from handgrad.proof.kit import draw_case
from handgrad.proof.making import FAMILIES
from handgrad.proof.recording import record
from handgrad.proof.sites import Site, Source, follows, site_of, sites_of

SIZES = {"layers": 2, "heads": 2, "width": 8, "hidden": 7, "context": 6, "vocabulary": 11}
MODELS = {
    family: gpt_case(ModelConfig(**SIZES | parts), np.random.default_rng(0))
    for family, parts in (FAMILIES | {"no norm": {"norm": "none"}}).items()
}
PAIRS = [name.removesuffix("_forward") for name in layers.__all__ if name.endswith("_forward")]
CASES = {f"{name} of the proof": (case, name) for name, case in all_cases(seed=9).items()} | {
    f"{layer}.{variant}": (draw_case(layer, variant, seed=9)[0], layer) for layer in KIT for variant in KIT[layer]
}


def pair(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    return getattr(layers, f"{name}_forward"), getattr(layers, f"{name}_backward")


def differentiated(forward: Callable[..., Any]) -> list[str]:
    """The arguments that may be complex, so that they have a gradient: not the tokens. Some may be left out."""
    hints = get_type_hints(inspect.unwrap(forward))
    del hints["return"]
    return [
        name
        for name, hint in hints.items()
        if any("complex128" in getattr(each, "dtypes", ()) for each in (hint, *get_args(hint)))
    ]


def assert_defines(formula: str, symbol: str) -> None:
    """The formula has `symbol = something`, with or without an index."""
    plain = re.sub(r"\\mathrm|\\[,;!]|[\s{}\\]", "", formula)
    assert re.search(rf"(^|qquad){re.escape(symbol)}(_[^=]+)?=.", plain), (symbol, formula)


# the layers' docstrings


def test_every_layer_is_a_pair() -> None:
    backwards = [name.removesuffix("_backward") for name in layers.__all__ if name.endswith("_backward")]
    assert len(PAIRS) > 10
    assert sorted(PAIRS) == sorted(backwards)


@pytest.mark.parametrize("name", PAIRS)
def test_a_forward_has_a_formula_of_its_value(name: str) -> None:
    forward, _ = pair(name)
    value = "loss" if name.endswith("cross_entropy") else "y"
    assert_defines(formula_of(forward, value), value)


@pytest.mark.parametrize("name", PAIRS)
def test_a_backward_has_a_formula_of_each_gradient(name: str) -> None:
    forward, backward = pair(name)
    arguments = differentiated(forward)
    returned = get_type_hints(inspect.unwrap(backward))["return"]
    assert len(arguments) == len(get_args(returned) or [returned])
    own = [argument for argument in arguments if argument not in ("gamma_q", "gamma_k")]  # whose formula is RMSNorm's
    found = {argument: formula_of(backward, f"d{argument}") for argument in own}
    for argument, formula in found.items():
        assert_defines(formula, f"d{argument}")
    alone = [formula for argument, formula in found.items() if argument[:2] != "b_"]  # a bias may share its matrix's
    assert len(set(alone)) == len(alone)


@pytest.mark.parametrize("name", PAIRS)
def test_a_name_without_a_formula_is_an_error_that_names_those_that_have_one(name: str) -> None:
    for function in pair(name):
        with pytest.raises(LookupError) as error:
            formula_of(function, "nothing")
        expected = f"{function.__name__} has no formula for nothing; it has {', '.join(formulas(function))}"
        assert error.value.args == (expected,)


def explained() -> None:
    r"""With $x = 1$ in a sentence, which is no formula.

    $$ y_{bt} = \mathrm{scale}\; x_{bt}, \qquad
       \hat x = x - \mu $$
    $$ \text{a block that defines nothing} $$
    $$ \mathrm{d}w_{down} = 1 $$
    $$ \mathrm{d}\mathrm{table}_v = 2 $$
    """


def test_a_formula_is_known_by_each_name_that_its_block_defines() -> None:
    first = r"y_{bt} = \mathrm{scale}\; x_{bt}, \qquad \hat x = x - \mu"
    table = r"\mathrm{d}\mathrm{table}_v = 2"
    assert formulas(explained) == {
        "y_bt": first,
        "hatx": first,
        "dw_down": r"\mathrm{d}w_{down} = 1",
        "dtable_v": table,
    }
    assert formula_of(explained, "y") == formula_of(explained, "y_bt") == formula_of(explained, "hatx") == first
    assert formula_of(explained, "dtable") == table
    for name in ("x", "table", "dtab", "y_b"):
        with pytest.raises(LookupError, match=rf"^explained has no formula for {name}; it has y_bt, hatx, .*$"):
            formula_of(explained, name)


def test_a_function_that_explains_nothing_has_no_formula() -> None:
    assert formulas(test_a_function_that_explains_nothing_has_no_formula) == {}


# the signatures' axes


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linear", {"x": "*batch C_in", "w": "C_in C_out", "return": "*batch C_out"}),
        ("embedding", {"tokens": "*batch", "table": "V C", "return": "*batch C"}),
        ("causal_attention", {"q": "B H T D", "k": "B G S D", "v": "B G S D", "return": "B H T D"}),
        ("mlp", {"x": "*batch C", "w_up": "C F", "w_down": "F C", "b_up": "F", "b_down": "C", "return": "*batch C"}),
        ("cross_entropy", {"logits": "*batch V", "targets": "*batch", "return": ""}),
        ("silu", {"x": "*shape", "return": "*shape"}),
    ],
)
def test_axes_are_those_of_the_signature(name: str, expected: dict[str, str]) -> None:
    assert axes_of(pair(name)[0]) == expected


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("B T C", "B T C"),
        ("V C", "V C"),
        ("C", "C"),
        ("context C", "context C"),
        ("*batch V", "B T V"),
        ("*batch V", "T V"),
        ("*batch V", "V"),
        ("*batch", "B T"),
        ("*batch", "T"),
        ("*batch C_in", "B T C_in"),
        ("*shape", "B T F"),
        ("*shape", "T F"),
        ("*shape", ""),
        ("", ""),
    ],
)
def test_axes_one_by_one(declared: str, expected: str) -> None:
    assert named_axes(declared, len(expected.split())) == expected.split()


# the sites


def sources(site: Site) -> Iterator[Source]:
    yield from (source for source in (site.forward, site.backward) if source)


@pytest.mark.parametrize("family", MODELS)
def test_a_site_has_a_formula_of_the_value_and_of_its_gradient(family: str) -> None:
    sites = sites_of(MODELS[family])
    for name, site in sites.items():
        for source, direction in ((site.forward, "forward"), (site.backward, "backward")):
            if source is not None:
                assert source.function.__name__.endswith(f"_{direction}") or source.function is with_head
                assert_defines(formula_of(*source), source.symbol)
        is_parameter = site.follows is not None
        assert (site.forward is None) == is_parameter  # nothing makes a parameter
        assert (site.backward is None) == (name == "loss")  # nothing makes the gradient of the loss
        if site.follows is not None:
            assert sites[site.follows].forward is not None
            assert site.follows.split(".")[0] == name.split(".")[0]


@pytest.mark.parametrize("family", MODELS)
def test_the_sites_are_the_tensors_of_a_model_and_their_axes_its_sizes(family: str) -> None:
    case = MODELS[family]
    config = case.given["config"]
    B, T = 3, 5
    generator = np.random.default_rng(1)
    given = {name: generator.integers(config.vocabulary, size=(B, T)) for name in ("tokens", "targets")}
    case = case._replace(given={**case.given, **given})
    H, G, D = config.heads, config.G, config.D
    sizes = {"B": B, "T": T, "S": T, "C": 8, "H": H, "G": G, "D": D, "HD": H * D, "GD": G * D, "F": 7, "V": 11}
    tensors = record(case, "gpt", np.ones(()))
    seen = set()
    for key, x in tensors.items():
        name = key.partition("/")[2]
        axes = named_axes(site_of(case, "gpt", name).axes, x.ndim)
        assert [(sizes | {"context": 6})[axis] for axis in axes] == list(x.shape), key
        seen.add(re.sub(r"^blocks\.\d+\.", "", name))
    assert seen == sites_of(case).keys()


@pytest.mark.parametrize(
    ("family", "name", "value", "gradient"),
    [
        ("default", "attention.q", "multi_head_attention_forward", "causal_attention_backward"),
        ("llama", "attention.q", "multi_head_attention_forward", "rotary_backward"),
        ("llama", "attention.k_rotated", "rotary_forward", "causal_attention_backward"),
        ("llama", "attention.v", "multi_head_attention_forward", "causal_attention_backward"),
        ("llama", "norm_1.output", "rms_norm_forward", "multi_head_attention_backward"),
        ("llama", "embedding.output", "embedding_forward", "block_backward"),
        ("llama", "blocks.1.residual_2", "block_forward", "rms_norm_backward"),
        ("llama", "blocks.0.residual_2", "block_forward", "block_backward"),
        ("qwen3", "attention.k", "multi_head_attention_forward", "rms_norm_backward"),
        ("qwen3", "attention.k_normed", "rms_norm_forward", "rotary_backward"),
        ("qwen3", "attention.gamma_q", None, "rms_norm_backward"),
        ("gpt2", "norm_2.output", "layer_norm_forward", "mlp_backward"),
        ("gpt2", "feed_forward.hidden", "mlp_forward", "mlp_backward"),
        ("gpt2", "embedding.token", None, "with_head"),
        ("nanogpt", "norm_2.output", "layer_norm_forward", "mlp_backward"),
        ("nanogpt", "norm_2.gamma", None, "layer_norm_backward"),
        ("gpt2", "blocks.1.residual_2", "block_forward", "layer_norm_backward"),
        ("no norm", "blocks.1.residual_2", "block_forward", "linear_cross_entropy_backward"),
    ],
)
def test_a_gradient_is_made_by_the_backward_of_what_reads_the_tensor(
    family: str, name: str, value: str | None, gradient: str
) -> None:
    site = site_of(MODELS[family], "gpt", name)
    assert (site.forward.function.__name__ if site.forward else None) == value
    assert site.backward is not None
    assert site.backward.function.__name__ == gradient


def everything(case: Case, layer: str) -> Iterator[tuple[str, Array]]:
    """Of this layer's case each tensor with its key: what is given, and all that a recording has."""
    y, _ = case.run()
    for name, x in (*case.inputs.items(), *case.given.items()):
        if isinstance(x, np.ndarray):
            yield f"inputs/{name}", x
    yield from record(case, layer, np.ones(y.shape)).items()


@pytest.mark.parametrize("which", CASES)
def test_every_tensor_of_every_case_has_a_site(which: str) -> None:
    case, layer = CASES[which]
    lengths: dict[str, int] = {}
    for key, x in everything(case, layer):
        kind, _, name = key.partition("/")
        site = site_of(case, layer, name)
        axes = named_axes(site.axes, x.ndim)
        assert len(axes) == x.ndim, key
        for axis, length in zip(axes, x.shape, strict=True):
            assert lengths.setdefault(axis, length) == length, (key, axis)
        for source in sources(site):
            assert_defines(formula_of(*source), source.symbol)
        assert (site.forward is None) == (name in case.inputs or name in case.given), key
        has_gradient = name != case.output and name not in case.given
        assert (site.backward is None) == (not has_gradient), key
        if kind in ("cotangents", "gradients") and has_gradient:
            assert site.backward is not None
            assert site.backward.symbol.startswith("d")


@pytest.mark.parametrize("layer", KIT)
def test_a_name_that_a_layer_has_not_is_an_error(layer: str) -> None:
    with pytest.raises(LookupError, match=f"^{layer} has no nothing$"):
        site_of(draw_case(layer, "plain", 0)[0], layer, "nothing")


@pytest.mark.parametrize(
    ("layer", "name", "expected"),
    [
        ("gpt", "embedding.token", "embedding.output"),
        ("gpt", "blocks.1.norm_1.gamma", "blocks.1.norm_1.output"),
        ("gpt", "blocks.1.attention.w_q", "blocks.1.attention.q"),
        ("gpt", "blocks.0.feed_forward.w_down", "blocks.0.feed_forward.output"),
        ("gpt", "norm.beta", "norm.output"),
        ("gpt", "head.w_lm", "head.logits"),
        ("block", "attention.w_o", "attention.output"),
        ("block", "x", None),
        ("multi_head_attention", "w_k", "k"),
        ("multi_head_attention", "x", None),
        ("swiglu", "w_gate", "gate"),
        ("mlp", "b_up", "up"),
        ("linear", "w", None),
        ("multi_head_attention.everything", "b_k", "k"),
        ("multi_head_attention.everything", "gamma_k", "k_normed"),
        ("multi_head_attention.biased", "b_o", "output"),
        ("gpt.qwen3", "blocks.1.attention.gamma_q", "blocks.1.attention.q_normed"),
        ("gpt.gpt2", "embedding.token", "embedding.output"),
        ("gpt.gpt2", "blocks.0.feed_forward.b_down", "blocks.0.feed_forward.output"),
    ],
)
def test_what_a_gradient_is_made_from(layer: str, name: str, expected: str | None) -> None:
    layer, _, variant = layer.partition(".")
    assert follows(draw_case(layer, variant or "plain", 0)[0], layer, name) == expected


@pytest.mark.parametrize("which", CASES)
def test_a_gradient_stands_right_after_the_cotangent_that_it_is_made_from(which: str) -> None:
    case, layer = CASES[which]
    y, _ = case.run()
    keys = [key for key in record(case, layer, np.ones(y.shape)) if key.startswith(("cotangents/", "gradients/"))]
    assert {key for key in keys if key.startswith("gradients/")} == {f"gradients/{name}" for name in case.inputs}
    for name in case.inputs:
        source = follows(case, layer, name)
        if source:
            source = source if f"cotangents/{source}" in keys else case.output  # the output under another name
            between = keys[keys.index(f"cotangents/{source}") + 1 : keys.index(f"gradients/{name}")]
            assert all(key.startswith("gradients/") for key in between), name
