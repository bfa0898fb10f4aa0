"""Values and gradients against those that PyTorch's autograd left in `tests/golden`; PyTorch itself is not needed."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from handgrad.layers import Array
from handgrad.proof import BAR, Case, all_cases, relative_error
from handgrad.proof.check import largest_entry

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.safetensors"))
CASES = all_cases()


def test_every_case_has_a_golden_file() -> None:
    assert sorted(CASES) == NAMES  # else run tests/golden/make.py


@pytest.mark.parametrize("name", NAMES)
def test_value_and_gradients_equal_pytorchs(name: str) -> None:
    golden = load_file(GOLDEN / f"{name}.safetensors")
    case = at_golden_inputs(CASES[name], golden)
    y, cache = case.run()
    computed = {f"outputs/{case.output}": y}
    for tensor, gradient in case.gradients(golden[f"cotangents/{case.output}"], cache).items():
        computed[f"gradients/{tensor}"] = gradient
    assert computed.keys() == {key for key in golden if key.startswith(("outputs/", "gradients/"))}
    largest = largest_entry(computed)
    vanishing = {f"gradients/{tensor}" for tensor in case.vanishing}
    for key, value in computed.items():
        assert relative_error(value, golden[key], largest if key in vanishing else None) <= BAR, key


def at_golden_inputs(case: Case, golden: dict[str, Array]) -> Case:
    """The case's functions, at the inputs of the file, which must have been given the same settings."""
    inputs = {key.removeprefix("inputs/"): x for key, x in golden.items() if key.startswith("inputs/")}
    settings = {key.removeprefix("settings/"): x.item() for key, x in golden.items() if key.startswith("settings/")}
    integers = {name: x for name, x in inputs.items() if np.issubdtype(x.dtype, np.integer)}
    assert case.inputs.keys() == inputs.keys() - integers.keys()
    assert case.integers.keys() == integers.keys()
    assert case.settings == settings
    return case._replace(inputs={name: inputs[name] for name in case.inputs}, given={**case.given, **integers})
