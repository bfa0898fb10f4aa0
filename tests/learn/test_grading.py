"""The grader: what passes, what is refused, and what it says."""

import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from handgrad import HandgradError
from handgrad.learn import EXERCISES, Exercise, Grade, Limits, find, grade
from handgrad.learn.exercise import YOURS, with_mistake

each_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=[exercise.name for exercise in EXERCISES])
only_linux = pytest.mark.skipif(sys.platform != "linux", reason="the limit is held by Linux")


def written(name: str, code: str) -> str:
    """A reader's file: the exercise with this code for an answer."""
    above, marker, below = find(name).unsolved.partition(YOURS)
    return (
        above + marker + below.partition("\n")[0] + "\n" + textwrap.indent(textwrap.dedent(code).strip(), "    ") + "\n"
    )


def graded(name: str, code: str, **options: Any) -> Grade:
    return grade(find(name), written(name, code), "mine.py", seed=7, **options)


def line_of(name: str, code: str) -> int:
    """The number of the first line of an answer."""
    return written(name, code).split("\n").index("    " + textwrap.dedent(code).strip().split("\n")[0]) + 1


@each_exercise
def test_unsolved_solved_and_mistaken(exercise: Exercise) -> None:
    """A reader's file, from its source to what is said of it; all mistakes are tried in test_feedback.py."""
    assert grade(exercise, exercise.unsolved, "mine.py", seed=1).state == "unwritten"
    assert grade(exercise, exercise.solved, "mine.py", seed=2) == Grade(exercise, "passed", seed=2)
    for mistake in exercise.mistakes[:1]:
        found = grade(exercise, with_mistake(exercise.solved, mistake), "mine.py", seed=3)
        assert (found.state, found.kind, found.mistake) == ("wrong", "values", mistake.name)
        assert mistake.why in found.message
        assert "exactly" in found.headline


RIGHT_IN_OTHER_WORDS = {
    "linear": "return np.einsum('btf,cf->btc', dy, w), np.einsum('btc,btf->cf', x, dy)",
    "bias": """
        db = np.zeros(dy.shape[-1])
        for row in dy.reshape(-1, dy.shape[-1]):
            db = db + row
        return dy, db
    """,
    "softmax": """
        rows, drows = y.reshape(-1, y.shape[-1]), dy.reshape(-1, y.shape[-1])
        dz = [(np.diag(row) - np.outer(row, row)) @ drow for row, drow in zip(rows, drows)]
        return np.array(dz).reshape(y.shape)
    """,
    "embedding": """
        dtable = np.zeros(shape)
        for token, row in zip(tokens.ravel(), dy.reshape(-1, shape[1])):
            dtable[token] += row
        return dtable
    """,
    "chain_rule": "return [dy * 3 * u * u * w, np.float64(dy * 3 * u * u * x), np.array(dy * 3 * u * u)]",
    "scale": """
        d = np.sqrt(q.shape[-1])
        return np.einsum('...ts,...sd->...td', dscores, k) / d, np.einsum('...ts,...td->...sd', dscores, q) / d
    """,
}


@pytest.mark.parametrize("name", RIGHT_IN_OTHER_WORDS)
def test_right_in_other_words(name: str) -> None:
    assert graded(name, RIGHT_IN_OTHER_WORDS[name]).passed


class TestNoWayRound:
    """Neither constants, nor the library, nor differences of the forward pass."""

    def test_constants(self) -> None:
        """Even the right answers, of another seed."""
        right = find("softmax").questions(seed=1)
        answers = {question.arguments[0].shape: question.right.tolist() for question in right}
        found = graded("softmax", f"return np.array({answers!r}[dy.shape])")
        assert found.kind == "values"

    def test_the_library(self) -> None:
        for line in ("import handgrad", "from handgrad.layers import softmax_backward", "__import__('torch')"):
            found = graded("softmax", f"{line}\nreturn dy")
            assert found.kind == "exception"
            assert "only NumPy, the standard library and earlier exercises" in found.headline
        hidden = "import importlib\nreturn importlib.import_module('handgrad.layers').softmax_backward(dy, cache)"
        assert graded("softmax", hidden).kind == "exception"
        assert "only NumPy" in graded("softmax", hidden).headline
        text = "from pathlib import Path\nreturn Path('ex10_softmax.py').read_text()"
        assert "FileNotFoundError" in graded("softmax", text).headline  # nor the reader's own file
        source = "import inspect\nreturn inspect.getsource(softmax_forward)"
        assert graded("softmax", source).kind == "exception"
        loaded = "import sys\nreturn sys.modules['handgrad.layers'].softmax_backward(dy, cache)"
        assert graded("softmax", loaded).kind == "exception"

    DIFFERENCES = """
        h, dx = 1e-5, np.zeros_like(x)
        for index in np.ndindex(x.shape):
            moved = np.zeros_like(x)
            moved[index] = h
            above, below = (FORWARD(x + sign * moved) for sign in (1, -1))
            dx[index] = ((above - below) * dy).sum() / (2 * h)
        return dx
    """

    def test_differences_of_the_given_forward(self) -> None:
        for forward in ("silu_forward", "(lambda x: silu_forward(x)[0])", "globals()['silu_forward']"):
            found = graded("silu", self.DIFFERENCES.replace("FORWARD", forward))
            assert found.kind == "exception"
            assert "silu_forward is not there while your backward runs" in found.message
            assert "mine.py:" in found.message
        aliased = written("silu", self.DIFFERENCES.replace("FORWARD", "kept"))
        aliased = aliased.replace("def silu_backward", "kept = silu_forward\n\n\ndef silu_backward")
        assert "is not there" in grade(find("silu"), aliased, "mine.py", seed=0).message

    def test_differences_of_an_earlier_forward(self) -> None:
        found = graded("swiglu", "return silu_forward(up)")
        assert "silu_forward is not there" in found.message

    def test_differences_of_a_forward_typed_anew(self) -> None:
        found = graded("silu", self.DIFFERENCES.replace("FORWARD", "(lambda x: x / (1 + np.exp(-x)))"))
        assert found.kind == "values"

    def test_differences_of_a_linear_forward_typed_anew(self) -> None:
        code = """
            def gradient(f, x, h=1e-5):
                dx = np.zeros_like(x)
                for index in np.ndindex(x.shape):
                    moved = np.zeros_like(x)
                    moved[index] = h
                    dx[index] = ((f(x + moved) - f(x - moved)) * dy).sum() / (2 * h)
                return dx
            return gradient(lambda x: x @ w, x), gradient(lambda w: x @ w, w)
        """
        assert graded("linear", code).kind == "values"

    @pytest.mark.parametrize("step", ["1e-30j", "complex(0, 1e-30)", "np.complex128(0)"])
    def test_the_complex_step(self, step: str) -> None:
        found = graded("silu", f"z = x + {step}\nreturn dy * (z / (1 + np.exp(-z))).imag / 1e-30")
        assert found.kind == "complex"
        assert found.message.startswith(f"mine.py:{line_of('silu', f'z = x + {step}')}: ")


class TestBeforeTheNumbers:
    """Structure, shapes, dtypes and untouched arguments, each with what was found and what is wanted."""

    @pytest.mark.parametrize(
        ("code", "kind", "said"),
        [
            ("return", "returned", "it returned None: is the `return` missing? dx, dw are wanted"),
            ("return dy @ w.T", "returned", "it returned an array of shape (3, 5, 8); dx, dw are wanted"),
            ("return 1, 2, 3", "returned", "it returned 3 values; dx, dw are wanted"),
            ("return dy @ w.T, None", "returned", "dw is None"),
            ("return dy @ w.T, 'w'", "returned", "dw is a str, but must be"),
            ("return dy @ w.T, w.T", "shape", "dw has the shape (6, 8), but must have (8, 6)"),
            ("return dy @ w.T, 0", "shape", "dw has the shape (), but must have (8, 6)"),
            ("return dy @ w.T, w.astype(np.float32)", "dtype", "dw is float32, but must be float64"),
            ("return dy @ w.T, w > 0", "dtype", "dw is bool, but must be float64"),
            ("return dy @ w.T, w.astype(object)", "returned", "dw is an array of dtype object"),
        ],
    )
    def test_returned(self, code: str, kind: str, said: str) -> None:
        found = graded("linear", code)
        assert found.kind == kind
        assert said in found.headline

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ("dp['w_q'] = dp['w_q'].T[:1]", "dp['w_q'] has the shape"),
            ("del dp['beta_1']", "dp has no 'beta_1'"),
            ("dp['beta1'] = dp.pop('beta_1')", "dp has no 'beta_1', but 'beta1', which is not wanted"),
            ("dp['bias'] = 0.0", "dp has 'bias', which is not wanted"),
            ("dp = list(dp.values())", "dp is a list, but must be a dict"),
        ],
    )
    def test_dicts(self, change: str, said: str) -> None:
        solution = find("block").solution.rpartition("    return")[0]
        found = graded("block", textwrap.dedent(solution) + f"{change}\nreturn dx + dh, dp")
        assert said in found.headline

    def test_shapes_that_are_wrong_where_a_batch_has_one_sequence(self) -> None:
        found = graded(
            "bias", "return dy, dy.squeeze().sum(axis=(0, 1)) if dy.shape[0] > 1 else dy.squeeze().sum(axis=0)[None]"
        )
        assert "db has the shape (1, 6), but must have (6,)" in found.headline
        assert "B = 1" in found.message

    @pytest.mark.parametrize(
        ("name", "code", "said"),
        [
            ("bias", "dy += 1", "dy[0, 0, 0] was"),
            ("linear", "w *= 2", "w[0, 0] was"),
            ("softmax", "y -= 1", "y[0, 0, 0] was"),
            ("block", "p['w_o'][0, 1] = 3", "p['w_o'][0, 1] was"),
            ("block", "p['w_o'] = 3", "p['w_o'] was ndarray, and is int now"),
            ("gpt", "del blocks[0]", "blocks was of length 2, and is of length 1 now"),
        ],
    )
    def test_arguments_that_were_written_to(self, name: str, code: str, said: str) -> None:
        """The right answer, and before it is returned, a write."""
        above, _, last = textwrap.dedent(find(name).solution).rstrip().rpartition("return ")
        found = graded(name, f"{above}made = {last}\n{code}\nreturn made")
        assert found.kind == "touched", found
        assert said in found.headline


def test_right_answers_in_another_order() -> None:
    found = graded("linear", "dx, dw = dy @ w.T, np.einsum('btc,btf->cf', x, dy)\nreturn dw, dx")
    assert found.kind == "shape"
    assert "It is the right dw: return dx, dw, in this order." in found.message
    solution = textwrap.dedent(find("causal_attention").solution).replace("return dq, dk, dv", "return dq, dv, dk")
    found = graded("causal_attention", solution)
    assert found.headline == "You returned dq, dv, dk: return dq, dk, dv, in this order."


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("bias", "return dy, dy", "It must still be summed over its axis 0 (of length 3) and 1 (of length 5)."),
        ("mean_variance", "return dmean[..., None]", "Broadcast to (3, 5, 8) it would have the right shape."),
        ("bias", "return dy, dy.sum(axis=0)", "It must still be summed over its axis 0 (of length 5)."),
        ("linear", "return dy @ w.T, np.einsum('btc,btf->fc', x, dy)", "Its axes are in the order F C."),
        (
            "broadcasting",
            "return dy * s, (dy * x).sum(axis=(0, 2))",
            "An axis of length 1 makes the difference: keepdims?",
        ),
    ],
)
def test_a_wrong_shape_in_words(name: str, code: str, said: str) -> None:
    assert said in graded(name, code).message


def test_nearly_right() -> None:
    found = graded("relu", "return dy * (y > 0) * (1 + 1e-9)")
    assert "is nearly right, but not to the last digits" in found.headline


def test_wrong_only_where_there_is_one_position() -> None:
    code = "return dy * (y > 0) * (1 if y.shape[1] > 1 else 2)"
    assert "It is wrong only where there is one position: T = 1." in graded("relu", code).message


class TestMisbehaviour:
    def test_an_exception_shows_the_readers_lines_alone(self) -> None:
        code = "def part(a):\n    return a @ w\nreturn part(dy), dy"
        found = graded("linear", code)
        first = line_of("linear", code)
        assert found.kind == "exception"
        assert found.message.splitlines()[:2] == [
            f"mine.py:{first + 2}: return part(dy), dy",
            f"mine.py:{first + 1}: return a @ w",
        ]
        assert "ValueError: matmul" in found.headline
        assert "a (3, 5, 6)" in found.message
        assert "child.py" not in found.message

    def test_an_exception_in_an_earlier_exercise_shows_the_line_that_called_it(self) -> None:
        code = "return linear_backward(dy[0, 0], linear_cache)"
        found = graded("residual", code)
        assert found.message.startswith(f"mine.py:{line_of('residual', code)}: {code}\n")
        assert "ex02" not in found.message

    @pytest.mark.parametrize(
        ("code", "kind", "said"),
        [
            ("return (", "syntax", "SyntaxError: '(' was never closed"),
            ("break", "syntax", "SyntaxError: 'break' outside loop"),
            ("\treturn dy\n        return", "syntax", "Error"),
            ("raise SystemExit('done')", "exception", "SystemExit: done"),
            ("return linear_backward(dy, cache)", "exception", "RecursionError"),
            ("import os\nos._exit(3)", "crash", "ended with status 3"),
            ("raise NotImplementedError('later')", "exception", "NotImplementedError: later"),
        ],
    )
    def test_what_ends_it(self, code: str, kind: str, said: str) -> None:
        found = graded("linear", code)
        assert found.kind == kind
        assert said in found.headline

    def test_a_crash_tells_the_line(self) -> None:
        code = "import ctypes\nctypes.string_at(0)\nreturn dy"
        found = graded("softmax", code)
        assert found.kind == "crash"
        assert f"mine.py:{line_of('softmax', code) + 1}: ctypes.string_at(0)" in found.message

    @pytest.mark.parametrize(
        "code", ["while True: pass", "import time; time.sleep(60)", "import threading; threading.Event().wait()"]
    )
    def test_an_endless_loop_is_ended_and_its_line_told(self, code: str) -> None:
        found = graded("softmax", code, limits=Limits(seconds=0.5))
        assert found.kind == "time"
        assert found.headline == "still running after 0.5 s"
        assert found.message.startswith(f"mine.py:{line_of('softmax', code)}: ")

    @only_linux
    @pytest.mark.parametrize(
        "code", ["return np.zeros((10**5, 10**5)) + 1", "kept = []\nwhile True: kept.append(np.ones(10**7))"]
    )
    def test_memory_is_limited(self, code: str) -> None:
        found = graded("softmax", code, limits=Limits(megabytes=300))
        assert found.kind == "exception"
        assert found.headline.startswith("out of memory")
        assert "mine.py:" in found.message

    @only_linux
    def test_a_flood_of_output_is_cut(self) -> None:
        found = graded("softmax", "while True: print('x' * 10**6)")
        assert found.kind == "exception"
        assert found.printed.endswith("... (cut)")
        assert len(found.printed) < 4100

    def test_what_is_printed_is_kept(self) -> None:
        found = graded("softmax", "print('shape', dy.shape)\nreturn y * (dy - (dy * y).sum(axis=-1, keepdims=True))")
        assert found.passed
        assert found.printed.splitlines()[0] == "shape (3, 5, 7)"

    def test_the_function_is_gone(self) -> None:
        text = find("softmax").solved.replace("def softmax_backward", "def softmax_backwards")
        assert grade(find("softmax"), text, "mine.py", seed=0).headline == "there is no function softmax_backward"

    def test_what_it_prints_may_hold_any_character(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LC_ALL", "C")
        monkeypatch.setenv("PYTHONIOENCODING", "ascii")
        found = graded("softmax", "print('∂L/∂z')\nreturn y * (dy - (dy * y).sum(axis=-1, keepdims=True))")
        assert found.passed
        assert found.printed.startswith("∂L/∂z")

    def test_what_was_printed_before_it_was_ended(self) -> None:
        for code in ("while True: pass", "import ctypes\nctypes.string_at(0)"):
            found = graded("softmax", f"print('so far')\n{code}", limits=Limits(seconds=1))
            assert found.printed.startswith("so far")

    def test_each_process_has_one_thread(self) -> None:
        code = "import os\nprint(os.environ['OPENBLAS_NUM_THREADS'], os.environ['OMP_NUM_THREADS'])\nreturn dy"
        assert graded("softmax", code).printed.startswith("1 1")

    def test_numpy_that_python_does_not_find_by_itself(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """As after `pip install --user`, or with PYTHONPATH: an interpreter that has no packages of its own."""
        bare = Path(sys.base_prefix) / "bin" / "python3"
        if not bare.exists():
            pytest.skip("there is no interpreter beside that of the environment")
        monkeypatch.setattr(sys, "executable", str(bare))
        assert grade(find("softmax"), find("softmax").solved, "mine.py", seed=0).passed

    def test_a_process_that_cannot_start_is_not_the_readers_fault(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("handgrad.learn.grading.run.CHILD", Path("nowhere.py"))
        with pytest.raises(HandgradError, match=r"could not be started: .*nowhere\.py"):
            graded("softmax", "return dy")

    @pytest.mark.parametrize(
        "answer",
        [
            '{"answers": 1}',
            '{"answers": []}',
            '{"answers": [{}]}',
            '{"answers": [{"returned": {"array": "a"}}]}',
            '{"changed": 1}',
            '{"changed": ["f"]}',
            '{"problem": "nonsense"}',
            '{"problem": "syntax"}',
            '{"problem": "complex", "line": "1"}',
            '{"problem": "exception", "type": "E", "message": "m", "frames": 1, "shapes": {}}',
        ],
    )
    def test_what_the_code_wrote_in_the_graders_place_is_told(self, answer: str) -> None:
        """It can: its process lies in the folder of its answer."""
        code = f"import os, pathlib\npathlib.Path('answer.json').write_text({answer!r})\nos._exit(0)"
        with pytest.raises(HandgradError, match=r"\.py: what its process answered cannot be read: "):
            graded("softmax", code)

    def test_many_large_answers_are_told_by_their_shape(self) -> None:
        found = graded("linear", "return [np.zeros((900, 1000)), np.zeros((900, 1000))]")
        assert found.kind == "shape" or "array of shape (900, 1000)" in found.headline

    def test_nan_is_told(self) -> None:
        found = graded("linear", "dx = dy @ w.T\ndx[0, 0, 2] = np.nan\nreturn dx, np.einsum('btc,btf->cf', x, dy)")
        assert found.headline.startswith("Your dx has nan or infinity in 1 of ")
        assert "the first at [0, 0, 2]" in found.headline
        assert "dx  not finite" in found.message

    def test_a_thread_that_goes_on_is_not_waited_for(self) -> None:
        code = "import threading, time\nthreading.Thread(target=time.sleep, args=(900,)).start()\n"
        found = graded("softmax", code + "return y * (dy - (dy * y).sum(axis=-1, keepdims=True))")
        assert found.passed

    def test_one_buffer_for_all_answers(self) -> None:
        text = find("bias").solved.replace(
            "    return dx, db", "    kept[: len(db)] = db\n    return dx, kept[: len(db)]"
        )
        text = text.replace("def bias_forward", "kept = np.zeros(100)\n\n\ndef bias_forward")
        assert grade(find("bias"), text, "mine.py", seed=0).passed

    def test_a_huge_answer_is_told_by_its_shape(self) -> None:
        found = graded("softmax", "return np.broadcast_to(dy.ravel()[0], (30_000, 30_000))")
        assert found.headline.startswith("dz is an array of shape (30000, 30000), but must be")

    def test_lines_are_counted_as_python_counts_them(self) -> None:
        code = "x = 1  # \x0c \u2028 \x1e\nreturn 1 / 0"
        found = graded("softmax", code)
        assert found.message.startswith(f"mine.py:{line_of('softmax', code.partition(chr(10))[0]) + 1}: return 1 / 0")

    def test_names_that_only_sound_like_forwards_or_complex_numbers(self) -> None:
        code = """
            def my_forward(a):
                return a
            real, imag = y, dy
            return my_forward(real * (imag - (dy * y).sum(axis=-1, keepdims=True)))
        """
        assert graded("softmax", code).passed

    def test_dataclasses_work(self) -> None:
        row = "\nfrom dataclasses import dataclass\n\n\n@dataclass\nclass Row:\n    n: int\n"
        text = find("softmax").solved.replace("\nimport numpy as np\n", f"\nimport numpy as np{row}")
        assert "class Row" in text
        assert grade(find("softmax"), text, "mine.py", seed=0).passed

    def test_complex_numbers_where_they_are_the_way(self) -> None:
        code = """
            half = dy.shape[-1] // 2
            z = (dy[..., :half] + 1j * dy[..., half:]) * (cos - 1j * sin)
            return np.concatenate([z.real, z.imag], axis=-1)
        """
        assert graded("rotary", code).passed

    def test_a_renamed_forward_is_told(self) -> None:
        text = find("softmax").solved.replace("def softmax_forward", "def softmax_forwards")
        assert grade(find("softmax"), text, "mine.py", seed=0).note.startswith("softmax_forward is not there")

    def test_a_changed_forward_is_told(self) -> None:
        text = find("softmax").solved.replace("exponentials / exp", "2 * exponentials / exp")
        found = grade(find("softmax"), text, "mine.py", seed=0)
        assert found.passed  # the backward is right: it is graded with the forward that was given
        assert found.note.startswith("softmax_forward is not there as it was given")

    @pytest.mark.parametrize("text", ["", "\0", "x = 1\n" * 10, "(" * 5000, "class softmax_backward: pass"])
    def test_files_that_are_none(self, text: str) -> None:
        found = grade(find("softmax"), text, "mine.py", seed=0)
        assert found.state == "wrong"
        assert found.headline
