"""An exercise: the file that a reader gets, its solution, and what it is graded on."""

import ast
import builtins
import copy
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ..errors import HandgradError
from ..files import read_text_file
from ..layers import Array
from ..proof import Case
from ..proof.making import Maker, Sizes

FOLDER = Path(__file__).parent / "exercises"
HINTS = 3
YOURS = "    # Your code, "
"""How the line begins below which the solution stands, down to the end of the file."""
UNSOLVED = "    raise NotImplementedError\n"

Function = Callable[..., Any]


class Mistake(NamedTuple):
    """A mistake that people make in an exercise: a piece of its solution, and what stands there instead."""

    name: str
    right: str
    wrong: str
    why: str
    """What a good teacher would say, or ask."""


class Problem(NamedTuple):
    """What an exercise's forward is called with; without a forward, what the reader's function is called with."""

    inputs: Mapping[str, Any]
    twin: Case | None = None
    """The same at the library's layer, whose mistakes are known by the catalogue of mutations."""
    axes: Mapping[str, int] = {}
    """The lengths of axes beside the usual ones."""
    names: Mapping[str, str] = {}
    """What the twin calls a gradient, where that is not its name here without the d."""


class Question(NamedTuple):
    """One random case of an exercise."""

    sizes: Mapping[str, int]
    """The lengths of the axes that it has."""
    arguments: tuple[Any, ...]
    """What the reader's function is called with."""
    right: Any
    """What it should return."""
    problem: Problem

    def ask(self, function: Function) -> Any:
        """What a function answers, on arguments of its own."""
        return function(*copy.deepcopy(self.arguments))


SIZES = (
    Sizes(B=3, T=5, C=8, H=2, F=6, V=7),
    Sizes(B=1, T=4, C=6, H=3, F=5, V=8),
    Sizes(B=2, T=1, C=4, H=1, F=3, V=5),
    Sizes(B=4, T=6, C=12, H=2, F=9, V=5),
)
"""A usual one; one sequence; one position and one head; and one that is larger. C, F and V differ in each."""


@dataclass(frozen=True, eq=False)
class Exercise:
    """A rung of the ladder. Its file holds the text, the forward and the solution."""

    name: str
    title: str
    returns: Mapping[str, str]
    """What the function returns, each with the letters of its axes: {"dx": "B T C", "dw": "C F"}."""
    make: Callable[[Maker], Problem]
    mistakes: tuple[Mistake, ...] = ()
    sizes: tuple[Sizes, ...] = SIZES
    function: str = ""
    """The function to write; where not given, NAME_backward."""
    forward: str | None = ""
    """What makes the cache; where not given, NAME_forward, and None where there is none."""
    complex_numbers: bool = False
    """Whether a solution may use them; else they are refused, as the tool of numerical derivatives."""
    number: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "function", self.function or f"{self.name}_backward")
        object.__setattr__(self, "forward", f"{self.name}_forward" if self.forward == "" else self.forward)

    @property
    def module(self) -> str:
        """What the file is called, and imported as: `ex02_linear`."""
        return f"ex{self.number:02}_{self.name}"

    @property
    def file(self) -> str:
        """The name of the file, in the package and in a reader's folder."""
        return f"{self.module}.py"

    @property
    def solved(self) -> str:
        """The text of the file with the solution in it."""
        return read_solved(self.module)

    @property
    def unsolved(self) -> str:
        """The text of the file as a reader gets it."""
        above, marker, below = self.solved.partition(YOURS)
        return above + marker + below.partition("\n")[0] + "\n" + UNSOLVED

    @property
    def solution(self) -> str:
        """The lines that were asked for."""
        return self.solved.partition(YOURS)[2].partition("\n")[2]

    @property
    def question(self) -> str:
        """The one that the text ends with."""
        return "Question: " + " ".join(
            str(ast.get_docstring(ast.parse(self.solved))).partition("Question: ")[2].split()
        )

    @property
    def answer(self) -> str:
        """To the question, for who has passed."""
        return " ".join(_words()[self.name]["answer"].split())

    @property
    def hints(self) -> list[str]:
        """Three, from a nudge to nearly the answer."""
        return [hint.strip("\n") for hint in _words()[self.name]["hints"]]

    @property
    def right(self) -> Function:
        """The solution as a function."""
        return getattr(load(self.module), self.function)  # type: ignore[no-any-return]

    def mistaken(self, mistake: Mistake) -> Function:
        """The function with a mistake in it."""
        return _mistaken(self.module, self.function, mistake)

    def questions(self, seed: int) -> list[Question]:
        """Random cases, float64, with random cotangents: one of each of the sizes."""
        generator = np.random.default_rng((seed, self.number))
        return [self._question(generator, sizes) for sizes in self.sizes]

    def _question(self, generator: np.random.Generator, sizes: Sizes) -> Question:
        problem = self.make(Maker(generator, sizes))
        if self.forward is None:
            arguments = tuple(problem.inputs.values())
        else:
            y, cached = getattr(load(self.module), self.forward)(**problem.inputs)
            ys = y if isinstance(y, tuple) else (y,)
            arguments = (*(cotangent(generator, np.asarray(y)) for y in ys), cached)
        right = self.right(*copy.deepcopy(arguments))
        return Question({**_lengths(sizes), **problem.axes}, arguments, right, problem)

    def sizes_of(self, question: Question) -> dict[str, int]:
        """The lengths of the axes that its text speaks of."""
        letters = sorted(set(re.findall(r"\b[A-Z]\b", self.unsolved)))
        return {letter: question.sizes[letter] for letter in letters if letter in question.sizes}

    def argument_names(self) -> dict[str, list[str]]:
        """The arguments of the function, each with the names that its given lines give it, or its parts."""
        tree = ast.parse(self.unsolved)
        function = next(x for x in ast.walk(tree) if isinstance(x, ast.FunctionDef) and x.name == self.function)
        unpacked: dict[str, list[str]] = {}
        for line in ast.walk(function):
            if isinstance(line, ast.Assign) and isinstance(line.value, ast.Name):
                unpacked[line.value.id] = ast.unparse(line.targets[0]).strip("()").split(", ")
        return {name.arg: unpacked.get(name.arg, [name.arg]) for name in function.args.args}


def read_source(path: Path) -> str:
    """The text of a reader's file, with \\n for every line's end. A `HandgradError` says why it cannot be read."""
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise HandgradError(f"{path}: not a file")
    return re.sub(r"\r\n?", "\n", read_text_file(path))


def cotangent(generator: np.random.Generator, y: Array) -> Array | float:
    """Random numbers in the shape of y; of a number, a number."""
    return generator.standard_normal(y.shape) if y.ndim else float(generator.standard_normal())


def _lengths(sizes: Sizes) -> dict[str, int]:
    return {**sizes._asdict(), "D": sizes.C // sizes.H}


@cache
def read_solved(module: str) -> str:
    """The text of an exercise with the solution in it."""
    return (FOLDER / f"{module}.py").read_text(encoding="utf-8")


@cache
def load(module: str) -> ModuleType:
    """A solved exercise as a module."""
    return compiled(module, read_solved(module), str(FOLDER / f"{module}.py"))


def compiled(module: str, source: str, path: str) -> ModuleType:
    """A module of this source, in which the names of exercises are those of the solved ones.

    Nothing is entered into `sys.modules`: a reader's folder has files of the same names.
    """

    def import_(name: str, *arguments: Any, **options: Any) -> Any:
        return load(name) if (FOLDER / f"{name}.py").exists() else builtins.__import__(name, *arguments, **options)

    made = ModuleType(module)
    made.__dict__["__builtins__"] = {**vars(builtins), "__import__": import_}
    exec(compile(source, path, "exec"), made.__dict__)
    return made


@cache
def _mistaken(module: str, function: str, mistake: Mistake) -> Function:
    path = f"<{mistake.name}>"
    return getattr(compiled(module, with_mistake(read_solved(module), mistake), path), function)  # type: ignore[no-any-return]


def with_mistake(solved: str, mistake: Mistake) -> str:
    """The text of an exercise with the mistake in its solution."""
    above, marker, below = solved.partition(YOURS)
    if below.count(mistake.right) != 1:
        raise ValueError(f"{mistake.name}: {mistake.right!r} is not once in the solution")
    return above + marker + below.replace(mistake.right, mistake.wrong)


@cache
def _words() -> dict[str, Any]:
    return tomllib.loads((FOLDER / "words.toml").read_text(encoding="utf-8"))
