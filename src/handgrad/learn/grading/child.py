"""Runs a reader's function, alone in a process of its own.

This file imports nothing of handgrad: what it is given is all that the reader's code can reach. `run.py` starts it as
`python -I child.py FOLDER NUMPY`, with NUMPY the folder that NumPy is in. FOLDER/task has the reader's source, the
arguments of each question, and the limits; FOLDER/answer.json and FOLDER/answer.npz tell what became of it.

The forwards of the reader's file, and of those that it imports, are taken out before anything is run.
"""

import ast
import builtins
import contextlib
import copy
import ctypes
import errno
import faulthandler
import json
import os
import pickle
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.append(sys.argv[-1])

import numpy as np

Arrays = dict[str, Any]

COMPLEX = {"complex64", "complex128", "clongdouble", "csingle", "cdouble", "imag"}
SHOWN = 12  # arrays whose shapes are told beside an exception
LARGEST = 1_000_000  # numbers that are handed back: no right answers have as many


class TakenOut(Exception):
    """The forward was called."""


def main(folder: Path) -> None:
    end_with_the_parent()
    task = pickle.loads((folder / "task").read_bytes())
    limit(task["megabytes"], task["written_megabytes"])
    with (folder / "stuck").open("w") as stuck:
        faulthandler.enable(stuck)
        faulthandler.dump_traceback_later(task["seconds"], exit=True, file=stuck)
        arrays: Arrays = {}
        answer = attempt(task, arrays)
        faulthandler.cancel_dump_traceback_later()
        np.savez(folder / "answer.npz", **arrays)
        (folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    os._exit(0)  # threads of the reader's may still run


def end_with_the_parent() -> None:
    """Where the system can: if the parent is killed, nobody waits for an endless loop."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def limit(megabytes: int, written_megabytes: int) -> None:
    """What the process may take more than it has, and may write to a file; where the system can hold it to that."""
    try:
        import resource
    except ImportError:
        return
    taken = 0
    if Path("/proc/self/statm").exists():
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = {"RLIMIT_AS": taken + (megabytes << 20), "RLIMIT_FSIZE": written_megabytes << 20, "RLIMIT_CORE": 0}
    for name, most in limits.items():
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (most, most))


def attempt(task: dict[str, Any], arrays: Arrays) -> dict[str, Any]:
    """What came of the reader's file: `answers`, or the `problem`."""
    source = task["source"]
    file = task["module"] + ".py"
    try:
        tree = ast.parse(source, file)
        changed = [name for name, code in task["forwards"].items() if code_of(tree, name) != code]
        complex_line = None if task["complex"] else first_complex(tree)
        code = compile(without(tree, task["forwards"]), file, "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None) or 0
        return {"problem": "syntax", "type": type(error).__name__, "message": message_of(error), "line": line}
    if complex_line:
        return {"problem": "complex", "line": complex_line}
    importer = Importer(task["earlier"])
    try:
        module = importer.run(task["module"], code)
        function = getattr(module, task["function"], None)
        if not callable(function):
            return {"problem": "no_function", "changed": changed}
        answers = [answer_of(function, arguments, arrays) for arguments in task["questions"]]
    except BaseException as error:
        return {"problem": "exception", "changed": changed, **described(error, source, file)}
    return {"answers": answers, "changed": changed}


def answer_of(function: Callable[..., Any], arguments: tuple[Any, ...], arrays: Arrays) -> dict[str, Any]:
    before = copy.deepcopy(arguments)
    returned = function(*arguments)
    return {"returned": encoded(returned, arrays), "touched": touched(before, arguments)}


def encoded(value: Any, arrays: Arrays) -> dict[str, Any]:
    """A value as JSON, in which arrays stand as their names in `arrays`."""
    kind = type(value).__name__
    if isinstance(value, np.ndarray) and value.size + sum(x.size for x in arrays.values()) > LARGEST:
        return {"other": f"array of shape {value.shape}"}
    if isinstance(value, (tuple, list)):
        return {"items": [encoded(item, arrays) for item in value], "kind": kind}
    if isinstance(value, dict):
        return {"dict": {str(name): encoded(item, arrays) for name, item in value.items()}}
    if isinstance(value, (np.ndarray, bool, int, float, np.number, np.bool_)):
        x = np.array(value, subok=False)  # a copy: a reader may use one buffer for all answers
        if x.dtype.kind in "biufc":
            name = f"a{len(arrays)}"
            arrays[name] = x
            return {"array": name}
        kind = f"array of dtype {x.dtype}" if isinstance(value, np.ndarray) else kind
    return {"other": kind}


def touched(before: Any, after: Any, way: tuple[Any, ...] = ()) -> dict[str, Any] | None:
    """Where an argument is no longer what it was: the way to it, the index, and both values."""

    def change(was: object, now: object, index: tuple[int, ...] = ()) -> dict[str, Any]:
        return {"way": way, "index": index, "was": str(was), "is": str(now)}

    if type(before) is not type(after):
        return change(type(before).__name__, type(after).__name__)
    if isinstance(before, np.ndarray):
        if before.shape != after.shape:
            return change(before.shape, after.shape)
        off = np.argwhere(~((before == after) | ((before != before) & (after != after))))
        index = tuple(off[0].tolist()) if len(off) else None
        return None if index is None else change(f"{before[index]:.6g}", f"{after[index]:.6g}", index)
    if isinstance(before, (tuple, list, dict)):
        names = list(before) if isinstance(before, dict) else range(len(before))
        if len(before) != len(after) or (isinstance(before, dict) and before.keys() != after.keys()):
            return change(f"of length {len(before)}", f"of length {len(after)}")
        found = (touched(before[key], after[key], (*way, key)) for key in names)
        return next((each for each in found if each), None)
    return change(before, after) if before != after else None


class Importer:
    """The modules that there are: the reader's own, and, where it imports earlier ones, these, solved."""

    def __init__(self, sources: dict[str, str]) -> None:
        self.sources = sources
        self.original = builtins.__import__
        self.allowed = sys.stdlib_module_names | {"numpy"}
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, *_: Any) -> None:
        """Refuse what is not to be had here, however it is imported."""
        if name.partition(".")[0] not in self.allowed:
            raise ImportError(f"{name}: only NumPy, the standard library and earlier exercises can be imported here")

    def __call__(self, name: str, *arguments: Any, **options: Any) -> Any:
        if name in self.sources and name not in sys.modules:
            tree = ast.parse(self.sources[name])
            self.run(name, compile(without(tree, forwards_in(tree)), f"{name}.py", "exec"))
        return self.original(name, *arguments, **options)

    def run(self, name: str, code: Any) -> ModuleType:
        module = ModuleType(name)
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": self, "TakenOut": TakenOut}
        module.__dict__["__file__"] = code.co_filename
        sys.modules[name] = module
        exec(code, module.__dict__)
        return module


def forwards_in(tree: ast.Module) -> set[str]:
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.endswith("_forward")}


def without(tree: ast.Module, forwards: Any) -> ast.Module:
    """Each of these functions says that it is not there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name in forwards:
            refusal = f"{node.name} is not there while your backward runs: work with what it left in the cache"
            node.body = ast.parse(f"raise TakenOut({refusal!r})").body  # a builtin of these modules
    return ast.fix_missing_locations(tree)


def first_complex(tree: ast.Module) -> int | None:
    """The first line with a complex number, but for what only runs if the file itself is run."""
    parts = [part for part in tree.body if not (isinstance(part, ast.If) and "__main__" in ast.dump(part.test))]
    found = [
        node.lineno
        for part in parts
        for node in ast.walk(part)
        if (isinstance(node, ast.Constant) and isinstance(node.value, complex))
        or (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "complex")
        or (isinstance(node, ast.Attribute) and node.attr in COMPLEX)
    ]
    return min(found, default=None)


def code_of(tree: ast.Module, name: str) -> str | None:
    """A function of the file without its comments; None where there is none."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return ast.dump(node)
    return None


def described(error: BaseException, source: str, file: str) -> dict[str, Any]:
    """An exception by the reader's own lines, with the shapes of what was at hand in the last of them."""
    frames: list[dict[str, Any]] = []
    shapes: dict[str, str] = {}
    kind = "TakenOut" if isinstance(error, TakenOut) else type(error).__name__
    at = error.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        if code.co_filename == file and not (kind == "TakenOut" and code.co_name.endswith("_forward")):
            line = at.tb_lineno or 0
            frames.append({"line": line, "text": "".join(source.split("\n")[line - 1 : line]).strip()})
            there = at.tb_frame.f_locals
            named = {id(value): name for name, value in there.items() if isinstance(value, np.ndarray)}  # each once
            shapes = {name: str(there[name].shape) for name in named.values() if not name.startswith("_")}
        at = at.tb_next
    if len(frames) > 4:  # a recursion, say
        frames = [*frames[:2], *frames[-2:]]
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        kind = "Flood"
    return {"type": kind, "message": message_of(error), "frames": frames, "shapes": dict(list(shapes.items())[:SHOWN])}


def message_of(error: BaseException) -> str:
    try:
        return str(error.msg if isinstance(error, SyntaxError) else error)[:500]
    except BaseException:
        return ""


if __name__ == "__main__":
    main(Path(sys.argv[1]))
