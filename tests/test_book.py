"""What the book's own directives make of their input; that the pages hold together is for the build to say."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="the book's tools are a group of their own: docs")
sys.path.insert(0, str(Path(__file__).parents[1] / "docs" / "extensions"))

from docstrings import as_rst
from mutants import as_change, sentence, with_code
from shell import commands_in

from handgrad.proof import MUTATIONS
from handgrad.proof.formulas import defined_in, equations_of


def test_a_docstring_s_markdown_becomes_restructuredtext() -> None:
    text = "Add `b` to *each* row of x, |b| * 2, with $a^2$.\n\n$$ y = x + b, \\qquad b = 1 $$\n\n    code = `b`\n"
    assert [line for line in as_rst(text.split("\n")) if line] == [
        r"Add ``b`` to *each* row of x, \|b\| \* 2, with :math:`a^2`.",
        ".. math:: y = x + b",
        ".. math:: b = 1",
        "::",
        "    code = `b`",
    ]


def test_a_formula_over_two_lines_is_one() -> None:
    assert as_rst(["a $x +", "y$ b"]) == ["a :math:`x + y` b"]


def test_commands_are_lines_or_what_belongs_together() -> None:
    lines = ["a b", "", "c \\", "  d", "python3 - <<'END'", "x = 1", "END", "cat <<<word", "e"]
    assert commands_in(lines) == ["a b", "c \\\n  d", "python3 - <<'END'\nx = 1\nEND", "cat <<<word", "e"]


def test_a_formula_is_cut_into_equations_and_what_explains_a_sign_stays() -> None:
    latex = r"\mathrm{d}x = a, \qquad a = b \odot c, \qquad \odot \text{ entry by entry} \qquad w \leftarrow w - g"
    assert equations_of(latex) == [
        r"\mathrm{d}x = a",
        r"a = b \odot c, \quad \odot \text{ entry by entry}",
        r"w \leftarrow w - g",
    ]
    assert defined_in(latex) == ["dx", "a", "w"]


def test_a_mistake_is_shown_as_a_change_with_its_indentation() -> None:
    mutations = {mutation.name: mutation for mutation in MUTATIONS}
    assert as_change(mutations["blocks_in_forward_order"]).splitlines()[:2] == [
        "- while blocks:",
        '-     dx, dblock = block_backward(dx, blocks.pop(), within(tap, f"blocks.{len(blocks)}"))',
    ]
    assert as_change(mutations["dgamma_without_x_hat"]) == (
        "- dgamma = column_sums(dy * x_hat)\n+ dgamma = column_sums(dy)"
    )


def test_names_of_tensors_keep_their_form() -> None:
    assert sentence("dw_gate_and_dw_up_swapped") == "dw_gate and dw_up swapped"
    assert sentence("norm_1_with_the_cache_of_norm_2") == "norm_1 with the cache of norm_2"


def test_only_code_and_single_words_are_set_apart() -> None:
    parts = with_code("y = gamma * x_hat + beta: `=` where *and* is").children
    assert [(part.tagname, part.astext()) for part in parts] == [
        ("#text", "y = gamma * x_hat + beta: "),
        ("literal", "="),
        ("#text", " where "),
        ("emphasis", "and"),
        ("#text", " is"),
    ]
