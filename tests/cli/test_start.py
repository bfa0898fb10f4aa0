"""How the command line starts: with no more than is asked for, and interruptible from the first."""

import ast
import importlib
import inspect
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import handgrad
from handgrad.cli import app, learn

HEAVY = ("numpy", "jaxtyping", "tokenizers", "matplotlib", "threadpoolctl")
PACKAGES = ("layers", "model", "interop", "training", "proof", "explorer")


def modules_after(*arguments: str) -> set[str]:
    """The modules that a process has imported when the command line ends."""
    code = "import sys; from handgrad.cli import main\ntry: main()\nfinally: print(); print(*sys.modules)"
    output = subprocess.check_output([sys.executable, "-c", code, *arguments], text=True)
    return set(output.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [["--help"], ["learn", "--help"]], ids=" ".join)
def test_a_list_of_commands_takes_none_of_them(arguments: list[str]) -> None:
    modules = modules_after(*arguments)
    assert "typer" in modules
    assert not modules & {*HEAVY, *(f"handgrad.{name}" for name in PACKAGES)}
    assert not modules & {f"handgrad.cli.{name}" for name in app.COMMANDS if name != "learn"}


def test_a_command_imports_what_it_needs_when_it_is_called() -> None:
    assert {"numpy", "handgrad.proof"} <= modules_after("check", "--help")


@pytest.mark.parametrize(
    ("package", "name"),
    [(module.__package__, name) for module in (app, learn) for name in module.COMMANDS],
    ids=lambda value: value.rpartition(".")[2],
)
def test_the_line_of_the_list_is_the_first_of_the_command_s_own_help(package: str, name: str) -> None:
    module = importlib.import_module(f"{package}.{name}")
    commands = sys.modules[f"{package}.app" if package == "handgrad.cli" else package].COMMANDS
    own: Any = get_command(module.app) if hasattr(module, "app") else getattr(module, name)
    text = (own.help if hasattr(module, "app") else inspect.getdoc(own)) or ""
    assert " ".join(text.split("\n\n")[0].split()) == commands[name]


def test_each_module_of_the_command_line_is_a_command_or_serves_one() -> None:
    """A new command that the list has not is found here."""
    served = {"app", "complete", "lazy", "terminal", "model", "refuse", "run", "show"}
    for module in (app, learn):
        files = {path.stem for path in Path(inspect.getfile(module)).parent.glob("*.py")} - {"__init__"}
        assert files - served == set(module.COMMANDS) - {"learn"}


def test_the_package_imports_what_is_asked_for() -> None:
    code = "import sys, handgrad; {}; print('numpy' in sys.modules, 'handgrad.proof' in sys.modules)"
    for asked, expected in {
        "handgrad.HandgradError": "False False",
        "handgrad.layers.linear_forward": "True False",
        "handgrad.trace": "True True",
        "handgrad.errors, handgrad.settings": "False False",
        "handgrad.model.Model, handgrad.explorer, handgrad.learn": "True True",
        "exec('from handgrad import *'); layers, load, trace": "True True",
    }.items():
        assert subprocess.check_output([sys.executable, "-c", code.format(asked)], text=True).strip() == expected


def test_the_package_has_all_that_it_lists() -> None:
    assert {*handgrad.__all__, "__version__"} <= set(dir(handgrad))
    for name in handgrad.__all__:
        assert getattr(handgrad, name) is not None
    for name in ("nonsense", "__main__"):
        with pytest.raises(AttributeError, match=f"'handgrad' has no attribute '{name}'"):
            getattr(handgrad, name)


def test_a_type_checker_is_told_of_the_same_names() -> None:
    tree = ast.parse(inspect.getsource(handgrad))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name))
    told = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert told == set(handgrad.__all__)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send a signal to one process")
@pytest.mark.parametrize("arguments", [["--help"], ["check", "--layer", "linear"], ["learn", "list"]], ids=" ".join)
def test_ctrl_c_while_modules_are_imported_is_quiet(arguments: list[str], tmp_path: Path) -> None:
    """It comes within a callback, as the import system has them, where Python prints an exception and goes on."""
    first = "typer" if arguments == ["--help"] else "numpy"
    code = f"""
import sys, time, weakref
def wait(_):
    print("importing", flush=True)
    time.sleep(60)
class Slow:
    def find_spec(self, name, path, target=None):
        if name == {first!r}:
            passing = Slow()
            kept = weakref.ref(passing, wait)
            del passing
sys.meta_path.insert(0, Slow())
sys.argv = ["handgrad", *{arguments!r}]
from handgrad.cli import main
main()
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (130, "", "")


def test_ctrl_c_is_heard_as_before_when_all_is_imported(capsys: pytest.CaptureFixture[str]) -> None:
    from handgrad.cli import quiet_imports

    with quiet_imports():
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a shell: it stays so
    try:
        with quiet_imports():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, previous)


def test_a_name_calls_its_command_and_no_other_is_one(cli: Any) -> None:
    assert cli("info", "nowhere").errors == "handgrad: nowhere: no such folder\n"
    assert "no course here" in cli("learn", "list").errors
    assert "No such command 'nonsense'" in cli("nonsense").errors
    assert "No such command 'nonsense'" in cli("learn", "nonsense").errors
