"""Every case against PyTorch's autograd, and the kit's checker in plain PyTorch; most tests need PyTorch."""

import ast
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import handgrad.proof
from handgrad.errors import HandgradError
from handgrad.layers import IGNORE_INDEX, Array
from handgrad.proof import Case, all_cases
from handgrad.proof.against_torch import check_against_torch
from handgrad.proof.cases import LAYER_OF
from handgrad.proof.recording import zeros_of

CASES = all_cases(seed=6)
SCRIPT = Path(handgrad.proof.__file__).parent / "kit/kit_torch.py"
normal = np.random.default_rng(7).standard_normal


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def test_without_pytorch_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # an import of it fails
    with pytest.raises(HandgradError, match=r"^PyTorch is not installed; .*'handgrad\[parity\]'.*$"):
        next(check_against_torch(CASES["linear"], "linear"))


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradients_equal_pytorchs(name: str) -> None:
    verdicts = list(check_against_torch(CASES[name], name, seed=8))
    assert [verdict.tensor for verdict in verdicts] == [CASES[name].output, *CASES[name].inputs]
    for verdict in verdicts:
        assert verdict.passed, verdict


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize("name", CASES)
def test_a_gradient_or_a_value_that_is_off_by_a_billionth_is_noticed(name: str) -> None:
    case = CASES[name]
    for tensor in case.inputs:

        def backward(dy: Array, cache: Any, off: str = tensor) -> list[Array]:
            wrong = (lambda dx: dx + 1e-9) if off in case.vanishing else one_entry_off
            return [wrong(dx) if name == off else dx for name, dx in case.gradients(dy, cache).items()]

        assert wrong_tensors(case._replace(backward=backward), name) == [tensor]

    def forward(**given: Any) -> tuple[Array, Any]:
        y, cache = case.forward(**given)
        return one_entry_off(y), cache

    assert wrong_tensors(case._replace(forward=forward), name) == [case.output]


def one_entry_off(x: Array) -> Array:
    wrong = x.copy()
    wrong.flat[np.abs(x).argmax()] *= 1 + 1e-9
    return wrong


def wrong_tensors(case: Case, name: str) -> list[str]:
    return [verdict.tensor for verdict in check_against_torch(case, name, seed=8) if not verdict.passed]


def test_the_script_needs_nothing_but_pytorch_and_safetensors() -> None:
    roots = set()
    for node in ast.walk(ast.parse(SCRIPT.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            roots |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add(str(node.module).partition(".")[0] if not node.level else ".")
    assert roots - sys.stdlib_module_names == {"torch", "safetensors"}


KIT = {
    **{
        f"{LAYER_OF[name]}.{name}" if name in LAYER_OF else f"{name}.plain": case
        for name, case in CASES.items()
        if name != "attention_tiles"
    },
    "positions.later_start": CASES["positions"]._replace(given={"start": 2}),
    "causal_attention.fewer_queries": CASES["causal_attention"]._replace(
        inputs={"q": normal((1, 2, 3, 4)), "k": normal((1, 2, 5, 4)), "v": normal((1, 2, 5, 4))}
    ),
    "causal_attention.one_position": CASES["causal_attention"]._replace(  # whose dq and dk are all zero
        inputs={name: normal((2, 3, 1, 9)) for name in "qkv"}
    ),
    "multi_head_attention.scaled": CASES["multi_head_attention"]._replace(given={"heads": 2, "scale": 1.0}),
    "cross_entropy.none_counts": CASES["cross_entropy"]._replace(given={"targets": np.full((2, 5), IGNORE_INDEX)}),
}
ENVELOPE = np.array([1e-4, 0.05, 0.5])


@pytest.fixture
def kit(torch: Any, tmp_path: Path) -> Path:
    """A folder with a kit's files."""
    for name, case in KIT.items():
        save_file(tensors_of(case), tmp_path / f"{name}.safetensors")
    return tmp_path


def tensors_of(case: Case) -> dict[str, Array]:
    """What the kit's file of a case says."""
    case = case._replace(inputs={name: in_bfloat16(x) for name, x in case.inputs.items()})
    y, cache = case.run()
    dy = in_bfloat16(np.asarray(normal(y.shape)))
    reference = {f"outputs/{case.output}": y}
    reference |= {f"gradients/{name}": dx for name, dx in case.gradients(dy, cache).items()} | zeros_of(case)
    given = {name: np.asarray(value) for name, value in (case.integers | case.settings).items()}
    tensors = {
        **{f"inputs/{name}": x for name, x in case.inputs.items()},
        **{f"{'inputs' if value.ndim else 'settings'}/{name}": value for name, value in given.items()},
        f"cotangents/{case.output}": dy,
        **reference,
        **{
            f"envelopes/{key}": ENVELOPE if x.any() or key in zeros_of(case) else 0 * ENVELOPE
            for key, x in reference.items()
        },
    }
    return {key: np.array(x, order="C") for key, x in tensors.items()}


def in_bfloat16(x: Array) -> Array:
    """The values cut to what bfloat16 can hold."""
    cut = x.astype(np.float32)
    cut.view(np.uint32)[...] &= 0xFFFF0000
    return cut.astype(np.float64)


def change(path: Path, key: str, by: Callable[[Array], Array]) -> None:
    tensors = load_file(path)
    save_file(tensors | {key: by(tensors[key])}, path)


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the script in this process, where PyTorch has been imported: exit status, standard output and error."""

    def run(folder: Path, *options: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(folder), *options])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capsys.readouterr()

    return run


def test_the_script_runs_by_itself(kit: Path) -> None:
    status, output, error = run_alone(kit)
    assert (status, error) == (0, "")
    assert output.endswith("none failed\n")
    change(kit / "gpt.plain.safetensors", "outputs/loss", one_entry_off)
    status, output, error = run_alone(kit)
    assert (status, error) == (1, "")
    assert re.search(r"^gpt.plain +outputs/loss .* FAILED$", output, re.MULTILINE)
    truncate(kit)
    status, _, error = run_alone(kit)
    assert status == 2
    assert re.fullmatch(r"kit_torch: \S+/linear\.plain\.safetensors: .+\n", error)


def run_alone(folder: Path) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, "-I", SCRIPT, folder], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_the_script_passes_right_files_in_each_dtype(kit: Path, run: Run, dtype: str) -> None:
    status, output, error = run(kit, "--dtype", dtype)
    assert (status, error) == (0, "")
    *cases, summary = output.splitlines()
    assert [line.split()[0] for line in cases] == sorted(KIT)
    assert summary == f"{len(KIT)} cases in {dtype}, none failed"


@pytest.mark.parametrize("key", ["gradients/gamma", "outputs/y"])
def test_the_script_names_a_tensor_that_is_wrong(kit: Path, run: Run, key: str) -> None:
    change(kit / "layer_norm.plain.safetensors", key, one_entry_off)
    status, output, _ = run(kit)
    assert status == 1
    (failed,) = [line for line in output.splitlines() if line.endswith("FAILED")]
    assert failed.split()[:2] == ["layer_norm.plain", key]
    assert float(failed.split()[2]) == pytest.approx(1e-9 / 1e-12, rel=0.05)  # the error over the bar


@pytest.mark.parametrize("key", ["gradients/z", "outputs/y"])
@pytest.mark.parametrize("wrong", [lambda x: x[:1], lambda x: x * np.nan])
def test_the_script_fails_what_cannot_be_compared(kit: Path, run: Run, key: str, wrong: Any) -> None:
    change(kit / "softmax.plain.safetensors", key, wrong)
    status, output, _ = run(kit, "--layers", "softmax")
    assert status == 1
    assert f"softmax.plain {key} inf of its envelope FAILED" in " ".join(output.split())


@pytest.mark.parametrize("key", ["gradients/z", "outputs/y"])
def test_where_the_reference_is_zero_the_error_is_not_relative(kit: Path, run: Run, key: str) -> None:
    change(kit / "softmax.plain.safetensors", key, np.zeros_like)
    status, output, _ = run(kit, "--layers", "softmax")
    assert status == 1
    assert re.search(rf"softmax.plain +{key} +\d\S*e\+1[01] of its envelope  FAILED", output)


@pytest.mark.parametrize(("own", "others", "status"), [(0.5, 1e-30, 0), (1e-9, 0.5, 1)])
@pytest.mark.parametrize(("position", "dtype"), list(enumerate(["float32", "float16", "bfloat16"])))
def test_the_script_takes_the_dtypes_own_envelope(
    kit: Path, run: Run, position: int, dtype: str, own: float, others: float, status: int
) -> None:
    envelope = np.where(np.arange(3) == position, own, others)
    change(kit / "silu.plain.safetensors", "envelopes/gradients/x", lambda _: envelope)
    assert run(kit, "--layers", "silu", "--dtype", dtype)[0] == status


def truncate(kit: Path) -> None:
    path = kit / "linear.plain.safetensors"
    path.write_bytes(path.read_bytes()[:-9])


def empty(kit: Path) -> None:
    for path in kit.glob("*.safetensors"):
        path.unlink()


def without(key: str) -> Callable[[Path], None]:
    def take(kit: Path) -> None:
        path = kit / "linear.plain.safetensors"
        tensors = load_file(path)
        del tensors[key]
        save_file(tensors, path)

    return take


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (truncate, [], "linear.plain.safetensors: "),
        (empty, [], "no case in it"),
        (shutil.rmtree, [], "no such folder"),
        (without("inputs/w"), [], "linear.plain.safetensors: linear() missing 1 required positional argument: 'w'"),
        (without("outputs/y"), [], "linear.plain.safetensors: no 'outputs/'"),
        (without("gradients/w"), [], "linear.plain.safetensors: no 'gradients/w'"),
        (without("cotangents/y"), [], "linear.plain.safetensors: no 'cotangents/y'"),
        (without("envelopes/gradients/x"), ["--dtype", "float16"], ": no 'envelopes/gradients/x'"),
        (lambda kit: None, ["--layers", "linaer"], "--layers: no layer 'linaer'; there are linear, "),
        (lambda kit: (kit / "MINE.safetensors").touch(), [], "MINE.safetensors: no layer 'MINE'; there are linear, "),
        (lambda kit: (kit / "silu.plain.safetensors").unlink(), ["--layers", "silu"], "no case of silu"),
    ],
)
def test_the_script_says_in_one_line_what_it_cannot_use(
    kit: Path, run: Run, spoil: Callable[[Path], None], options: list[str], message: str
) -> None:
    spoil(kit)
    status, _, error = run(kit, *options)
    assert status == 2
    (line,) = error.splitlines()
    assert line.startswith("kit_torch: ")
    assert message in line
