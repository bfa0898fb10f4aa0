"""Values and gradients against those that PyTorch's autograd left in `tests/golden`; PyTorch itself is not needed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from handgrad.layers import Array
from handgrad.proof import BAR, Case, all_cases, relative_error

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
    for key, value in computed.items():
        assert relative_error(value, golden[key]) <= BAR, key


def at_golden_inputs(case: Case, golden: dict[str, Array]) -> Case:
    """The case's functions, at what the file says they were given; a model's sizes are those of the file's tensors."""
    inputs = {key.removeprefix("inputs/"): x for key, x in golden.items() if key.startswith("inputs/")}
    settings = {key.removeprefix("settings/"): x.item() for key, x in golden.items() if key.startswith("settings/")}
    if "config" in case.given:
        settings = {"config": replace(case.given["config"], heads=settings.pop("heads"))}
    integers = {name: x for name, x in inputs.items() if np.issubdtype(x.dtype, np.integer)}
    assert case.inputs.keys() == inputs.keys() - integers.keys()
    assert case.given.keys() == integers.keys() | settings.keys()
    return case._replace(inputs={name: inputs[name] for name in case.inputs}, given=integers | settings)
