"""What is said of a wrong gradient: the catalogue's sentence, a relation, or the first wrong entry and its inputs."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from handgrad.layers import Array
from handgrad.learn import EXERCISES, Exercise, find
from handgrad.learn.exercise import Question, with_mistake
from handgrad.learn.grading.entries import dependencies, part
from handgrad.learn.grading.feedback import (
    Diagnosis,
    Known,
    diagnose,
    explaining,
    known_mistakes,
    mistaken_for,
    of_twin,
    reaches,
)
from handgrad.learn.grading.judge import evidence, scales, tensors
from handgrad.proof import MUTATIONS

TWINNED = [exercise for exercise in EXERCISES if exercise.questions(0)[0].problem.twin is not None]
OWN = {"gpt": {"gpt", "positions", "embedding"}, "block": {"block", "multi_head_attention"}}
"""Of the models, which are slow, the mistakes of these layers are tried; of the others all that they reach."""


def diagnosis(exercise: Exercise, questions: list[Question], answers: list[dict[str, Array]]) -> Diagnosis:
    return diagnose(evidence(exercise, questions, answers), known_mistakes(exercise, questions))


@pytest.mark.parametrize("exercise", EXERCISES, ids=[exercise.name for exercise in EXERCISES])
def test_each_mistake_of_an_exercise_is_named(exercise: Exercise) -> None:
    questions = exercise.questions(seed=2)
    known = list(known_mistakes(exercise, questions))
    assert len({mistake.name for mistake in exercise.mistakes}) == len(exercise.mistakes)
    for mistake in exercise.mistakes:
        assert with_mistake(exercise.solved, mistake) != exercise.solved
        with np.errstate(all="ignore"):
            answers = [tensors(question.ask(exercise.mistaken(mistake)), exercise.returns) for question in questions]
        found = diagnose(evidence(exercise, questions, answers), known)
        assert found.name == mistake.name
        assert found.text.endswith(mistake.why)


@pytest.mark.parametrize("exercise", TWINNED, ids=[exercise.name for exercise in TWINNED])
def test_each_mutation_of_the_catalogue_is_named(exercise: Exercise) -> None:
    questions = exercise.questions(seed=4)
    known = list(known_mistakes(exercise, questions))
    tried = 0
    for mutation in MUTATIONS:
        twin = questions[0].problem.twin
        if (
            twin is None
            or not reaches(mutation, twin)
            or mutation.layer not in OWN.get(exercise.name, {mutation.layer})
        ):
            continue
        made = [of_twin(exercise, question, mutation) for question in questions]
        if any(x is None for x in made):
            continue  # of other shapes: told as such
        seen = evidence(exercise, questions, [x for x in made if x is not None])
        if not seen.names:
            continue  # what it is about is not in the exercise
        tried += 1
        (named, names), *others = explaining(known, seen)
        assert not others
        assert names == seen.names, mutation.name
        if named.name != mutation.name:  # then the two cannot be told apart here
            assert same(named, seen.answers), (mutation.name, named.name)
    assert tried


def same(known: Known, answers: Sequence[Mapping[str, Array]]) -> bool:
    made = [known.answer(n) for n in range(len(answers))]
    return all(
        found is not None
        and all(np.allclose(found[name], x, rtol=1e-9, atol=1e-12, equal_nan=True) for name, x in mine.items())
        for found, mine in zip(made, answers, strict=True)
    )


def answers_of(exercise: Exercise, seed: int = 0) -> list[dict[str, Array]]:
    return [tensors(question.right, exercise.returns) for question in exercise.questions(seed)]


def test_two_mistakes_at_once_are_told_one_by_one() -> None:
    exercise = find("layer_norm")
    questions = exercise.questions(0)
    answers = answers_of(exercise)
    for answer, question in zip(answers, questions, strict=True):
        dy, (x_hat, inverse_std, gamma) = question.arguments
        answer["dgamma"] = dy.sum(axis=(0, 1))
        answer["dx"] = inverse_std * (dy * gamma - x_hat * (dy * gamma * x_hat).mean(axis=-1, keepdims=True))
    found = diagnosis(exercise, questions, answers)
    whys = {mutation.name: mutation.why for mutation in MUTATIONS}
    assert whys["layer_norm_without_the_mean_route"] in found.text
    assert whys["dgamma_without_x_hat"] in found.text
    assert "does not explain" not in found.text
    for answer in answers:
        answer["dbeta"] = np.cos(answer["dbeta"])
    assert diagnosis(exercise, questions, answers).text.endswith("dbeta is wrong as well, which this does not explain.")


def test_a_mistake_that_one_case_contradicts_is_not_named() -> None:
    exercise = find("causal_attention")
    questions = exercise.questions(0)
    (mistake,) = (each for each in exercise.mistakes if each.name == "dv_weights_not_transposed")
    answers = [tensors(question.ask(exercise.mistaken(mistake)), exercise.returns) for question in questions]
    assert diagnosis(exercise, questions, answers).name == mistake.name
    for answer, question in zip(answers, questions, strict=True):
        if question.sizes["T"] == 1:  # where the mistake changes nothing
            answer["dv"] = 7 * answer["dv"]
    assert diagnosis(exercise, questions, answers).name == ""


def test_zeros_are_not_mistaken_for_another_tensor() -> None:
    exercise = find("shared_input")
    questions = exercise.questions(0)
    answers = answers_of(exercise)
    for answer in answers:
        answer["dw_k"] = answer["dw_v"]
        answer["dw_q"] = 0 * answer["dw_q"]
    assert mistaken_for(evidence(exercise, questions, answers)) == {"dw_k": "dw_v"}
    found = diagnosis(exercise, questions, answers)
    assert found.text == "Your dw_k is the right dw_v.\nYour dw_q is wrong: it is zero."


def test_a_relation_is_told_of_several() -> None:
    exercise = find("shared_input")
    questions = exercise.questions(0)
    answers = answers_of(exercise)
    for answer in answers:
        answer |= {name: 2.5 * answer[name] for name in ("dw_q", "dw_v")} | {"dx": -answer["dx"]}
    assert diagnosis(exercise, questions, answers).text.splitlines() == [
        "Your dx is wrong: the sign is turned round.",
        "Your dw_q and dw_v are wrong: they are the right ones times 2.5.",
    ]


def test_a_factor_of_single_numbers() -> None:
    for name, tensor in (("chain_rule", "db"), ("heads", "dg"), ("broadcasting", "ds")):
        exercise = find(name)
        answers = answers_of(exercise)
        for answer in answers:
            answer[tensor] = 1.75 * answer[tensor]
        text = diagnosis(exercise, exercise.questions(0), answers).text
        assert text == f"Your {tensor} is wrong: it is the right one times 1.75."


def test_what_is_only_a_fact_is_told_as_such() -> None:
    """One tensor in the place of several is no order of returning."""
    exercise = find("shared_input")
    answers = answers_of(exercise)
    for answer in answers:
        answer |= {"dw_k": answer["dw_q"], "dw_v": answer["dw_q"], "dx": np.cos(answer["dx"])}
    assert diagnosis(exercise, exercise.questions(0), answers).text == (
        "Your dw_k is the right dw_q and your dw_v is the right dw_q.\n"
        "dx is wrong as well, perhaps for the same reason."
    )


def test_factors_by_the_lengths_that_fit_all_cases() -> None:
    factors: list[tuple[str, str, Callable[[Mapping[str, int]], float], str]] = [
        ("grouped_queries", "dk", lambda sizes: sizes["H"], "times H"),
        ("linear", "dx", lambda sizes: 1 / (sizes["B"] * sizes["T"]), "times 1/(B·T)"),
        ("linear", "dx", lambda sizes: sizes["F"] ** 0.5, "times √F"),
    ]
    for name, tensor, factor, said in factors:
        exercise = find(name)
        questions = exercise.questions(0)
        answers = answers_of(exercise)
        for answer, question in zip(answers, questions, strict=True):
            answer[tensor] = factor(question.sizes) * answer[tensor]
        assert diagnosis(exercise, questions, answers).text == f"Your {tensor} is wrong: it is the right one {said}."


def test_small_tensors_are_measured_by_a_part_of_the_largest() -> None:
    x = np.array([1.0, -4.0])
    assert scales({"a": x, "b": x / 10, "c": 0 * x}) == {"a": 4.0, "b": 0.4, "c": 0.04}


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [
        ("linear", lambda x: 0 * x, "it is zero"),
        ("linear", lambda x: 3.5 * x, "the right one times 3.5"),
        ("linear", lambda x: -x, "the sign is turned round"),
        ("softmax", lambda x: x / 5**0.5, "the right one times 0.447214"),
    ],
)
def test_a_relation_where_no_mistake_fits(name: str, tensor: object, said: str) -> None:
    assert callable(tensor)
    exercise = find(name)
    answers = answers_of(exercise)
    wrong_one = next(iter(exercise.returns))
    for answer in answers:
        answer[wrong_one] = tensor(answer[wrong_one])
    found = diagnosis(exercise, exercise.questions(0), answers)
    assert found.name == ""
    assert found.text.startswith(f"Your {wrong_one} is wrong: ")
    assert said in found.text


def test_the_first_wrong_entry_and_what_it_depends_on() -> None:
    exercise = find("linear")
    questions = exercise.questions(0)
    answers = answers_of(exercise)
    noise = np.random.default_rng(9)
    for answer in answers:
        changed = answer["dw"].copy()
        changed[2:] += noise.standard_normal(changed[2:].shape)
        answer["dw"] = changed
    smallest = 1  # the case of one position is smaller, but has much that is 0
    mine, right = answers[smallest]["dw"], tensors(questions[smallest].right, exercise.returns)["dw"]
    text = diagnosis(exercise, questions, answers).text
    assert f"dw[2, 0] is {mine[2, 0]:.6g}, and should be {right[2, 0]:.6g}." in text
    assert f"{mine.size - 2 * mine.shape[1]} of {mine.size} are wrong" in text
    assert "The right one changes with dy[0, :, 0], x[0, :, 2]." in text


def test_dependencies_by_the_names_that_the_file_has() -> None:
    for name, tensor, index, needed in [
        ("softmax", "dz", (0, 1, 2), ["dy[0, 1, :]", "y[0, 1, :]"]),
        ("layer_norm", "dbeta", (3,), ["dy[:, :, 3]"]),
        ("layer_norm", "dgamma", (3,), ["dy[:, :, 3]", "x_hat[:, :, 3]"]),
        ("mean_variance", "dx", (0, 1, 2), ["dmean[0, 1]", "dvariance[0, 1]", "centred[0, 1, 2]"]),
        ("causal_attention", "dv", (0, 1, 2, 3), ["dy[0, 1, 2:, 3]", "weights[0, 1, :, 2]"]),
        ("chain_rule", "dx", (), ["dy", "w", "u"]),
        ("relu", "dx", (0, 0, 0), ["dy[0, 0, 0]", "y[0, 0, 0]"]),
    ]:
        exercise = find(name)
        question = exercise.questions(0)[0]
        if name == "relu":
            question.arguments[1][0, 0, 0] = 5.0  # it passed
        assert dependencies(exercise, question, tensor, index) == needed


def test_parts_of_arrays() -> None:
    where = np.zeros((3, 4), bool)
    where[1] = True
    assert part("x", where) == "x[1, :]"
    where[2] = True
    assert part("x", where) == "x[1:, :]"
    where[:] = False
    where[0, [0, 2]] = True
    assert part("x", where) == "x[0, [0, 2]]"
    where[2, 1] = True
    assert part("x", where) == "3 entries of x, the first of them [0, 0]"
    assert part("x", np.array(True)) == "x"


def test_a_large_answer_names_no_dependencies() -> None:
    exercise = find("gpt")
    question = exercise.questions(0)[0]
    assert dependencies(exercise, question, "dp['w_lm']", (0, 0)) == []
