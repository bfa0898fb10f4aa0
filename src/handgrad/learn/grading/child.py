"""Runs a reader's function, alone in a process of its own.

This file imports nothing of handgrad: what it is given is all that the reader's code can reach. `run.py` starts it as
`python -I child.py FOLDER`. FOLDER/task has the reader's source, the arguments of each question, and the limits;
FOLDER/answer.json and FOLDER/answer.npz tell what became of it.

The forwards of the reader's file, and of those that it imports, are taken out before anything is run.
"""

import ast
import builtins
import contextlib
import copy
import faulthandler
import json
import linecache
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

Arrays = dict[str, Any]
COMPLEX = {"complex", "complex64", "complex128", "clongdouble", "csingle", "cdouble", "imag", "iscomplexobj"}
SHOWN = 12  # arrays whose shapes are told beside an exception


class TakenOut(Exception):
    """The forward was called."""


def main(folder: Path) -> None:
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
    path = task["path"]
    lines = task["source"].splitlines(keepends=True)
    linecache.cache[path] = (len(task["source"]), None, lines, path)
    try:
        tree = ast.parse(task["source"], path)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return {"problem": "syntax", "type": type(error).__name__, "message": message_of(error), **place_of(error)}
    complex_line = first_complex(tree)
    if complex_line:
        return {"problem": "complex", "line": complex_line, "text": lines[complex_line - 1].strip()}
    changed = [name for name, code in task["forwards"].items() if code_of(tree, name) not in (code, None)]
    earlier = Earlier(task["earlier"])
    try:
        module = earlier.run(task["module"], tree, path)
        function = getattr(module, task["function"], None)
        if not callable(function):
            return {"problem": "missing", "changed": changed}
        answers = [answer_of(function, arguments, arrays) for arguments in task["questions"]]
    except NotImplementedError as error:
        if not str(error):
            return {"problem": "todo", "changed": changed}
        return {"problem": "exception", "changed": changed, **described(error, path)}
    except BaseException as error:
        return {"problem": "exception", "changed": changed, **described(error, path)}
    return {"answers": answers, "changed": changed}


def answer_of(function: Any, arguments: tuple[Any, ...], arrays: Arrays) -> dict[str, Any]:
    before = copy.deepcopy(arguments)
    returned = function(*arguments)
    return {"returned": encoded(returned, arrays), "touched": touched(before, arguments)}


def encoded(value: Any, arrays: Arrays) -> dict[str, Any]:
    """A value as JSON, in which arrays stand as their names in `arrays`."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        name = f"a{len(arrays)}"
        arrays[name] = np.asarray(value)
        return {"array": name}
    if isinstance(value, (bool, int, float, np.number, np.bool_)):
        name = f"a{len(arrays)}"
        try:
            arrays[name] = np.asarray(value)
        except OverflowError:
            return {"other": type(value).__name__}
        return {"array": name} if arrays[name].dtype.kind in "biufc" else {"other": type(arrays.pop(name)).__name__}
    if isinstance(value, (tuple, list)):
        return {"items": [encoded(item, arrays) for item in value]}
    if isinstance(value, dict):
        return {"dict": {str(name): encoded(item, arrays) for name, item in value.items()}}
    return {"other": f"array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__}


def touched(before: Any, after: Any, name: tuple[Any, ...] = ()) -> dict[str, Any] | None:
    """Where an argument is no longer what it was: the way to it, the index, and both values."""
    if type(before) is not type(after):
        return {"way": name, "index": [], "was": type(before).__name__, "is": type(after).__name__}
    if isinstance(before, np.ndarray):
        if before.shape != after.shape:
            return {"way": name, "index": [], "was": str(before.shape), "is": str(after.shape)}
        wrong = np.argwhere(~((before == after) | ((before != before) & (after != after))))
        if not len(wrong):
            return None
        index = wrong[0].tolist()
        return {"way": name, "index": index, "was": number(before[tuple(index)]), "is": number(after[tuple(index)])}
    if isinstance(before, (tuple, list, dict)):
        names = list(before) if isinstance(before, dict) else range(len(before))
        if len(before) != len(after) or (isinstance(before, dict) and before.keys() != after.keys()):
            return {"way": name, "index": [], "was": f"{len(before)} items", "is": f"{len(after)} items"}
        found = (touched(before[key], after[key], (*name, key)) for key in names)
        return next((change for change in found if change), None)
    return None


def number(x: Any) -> str:
    return f"{x:.6g}"


class Earlier:
    """The modules of the course: the reader's own, and, where it imports earlier ones, these, solved."""

    def __init__(self, sources: dict[str, str]) -> None:
        self.sources = sources
        self.loaded: dict[str, ModuleType] = {}
        self.allowed = sys.stdlib_module_names | {"numpy"}
        self.original = builtins.__import__

    def __call__(self, name: str, *arguments: Any, **options: Any) -> Any:
        if name in self.sources:
            if name not in self.loaded:
                self.loaded[name] = self.run(name, ast.parse(self.sources[name]), f"{name}.py")
            return self.loaded[name]
        if name.partition(".")[0] not in self.allowed:
            raise ImportError(f"{name} is not here: NumPy and the standard library are, and the exercises before this")
        return self.original(name, *arguments, **options)

    def run(self, name: str, tree: ast.Module, path: str) -> ModuleType:
        module = ModuleType(name)
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": self, "TakenOut": TakenOut}
        exec(compile(without_forwards(tree), path, "exec"), module.__dict__)
        return module


def without_forwards(tree: ast.Module) -> ast.Module:
    """Each function whose name ends in _forward says that it is not there."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.endswith("_forward"):
            refusal = f"{node.name} is not there while your backward runs: work with what it left in the cache"
            node.body = ast.parse(f"raise TakenOut({refusal!r})").body  # a builtin of these modules
    return ast.fix_missing_locations(tree)


def first_complex(tree: ast.Module) -> int | None:
    """The first line with a complex number: no backward needs one, and a forward differentiated by one is none."""
    found = [
        node.lineno
        for node in ast.walk(tree)
        if (isinstance(node, ast.Constant) and isinstance(node.value, complex))
        or (isinstance(node, ast.Name) and node.id in COMPLEX)
        or (isinstance(node, ast.Attribute) and node.attr in COMPLEX)
    ]
    return min(found, default=None)


def code_of(tree: ast.Module, name: str) -> str | None:
    """A function of the file without its docstring and comments; None where there is none."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return ast.dump(node)
    return None


def described(error: BaseException, path: str) -> dict[str, Any]:
    """An exception by the reader's own lines, with the shapes of what was at hand in the last of them."""
    frames: list[dict[str, Any]] = []
    shapes: dict[str, str] = {}
    at = error.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        if code.co_filename == path and not (isinstance(error, TakenOut) and code.co_name.endswith("_forward")):
            text = linecache.getline(path, at.tb_lineno).strip()
            frames.append({"line": at.tb_lineno, "function": code.co_name, "text": text})
            shapes = {
                name: str(value.shape)
                for name, value in at.tb_frame.f_locals.items()
                if isinstance(value, np.ndarray) and not name.startswith("_")
            }
        at = at.tb_next
    if len(frames) > 4:  # a recursion, say
        frames = [*frames[:2], *frames[-2:]]
    kind = "TakenOut" if isinstance(error, TakenOut) else type(error).__name__
    shapes = dict(list(shapes.items())[:SHOWN])
    return {"type": kind, "message": message_of(error), "frames": frames, "shapes": shapes}


def message_of(error: BaseException) -> str:
    try:
        return str(error.msg if isinstance(error, SyntaxError) else error)[:500]
    except BaseException:
        return ""


def place_of(error: BaseException) -> dict[str, Any]:
    return {"line": getattr(error, "lineno", None) or 0, "text": (getattr(error, "text", None) or "").strip()[:200]}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
