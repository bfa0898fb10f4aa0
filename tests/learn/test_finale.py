"""The end piece: the reader's functions, together, have right gradients and train a GPT."""

import numpy as np
import pytest

from handgrad import HandgradError
from handgrad.learn import Agreement, Course, Step, Trained, find, needed, train
from handgrad.learn.exercise import with_mistake
from handgrad.learn.finale.train import CONFIG, HELD_OUT, SETTINGS
from handgrad.model import ModelConfig, Tokenizer, initial_parameters, leaves, loss_backward, loss_forward
from handgrad.training import default_text, make_corpus, split, training_batch


def test_it_trains(solved: Course) -> None:
    told = list(train(solved, steps=60))
    agreement, trained = told[0], told[-1]
    steps = [each for each in told if isinstance(each, Step)]
    assert isinstance(agreement, Agreement)
    assert isinstance(trained, Trained)
    assert agreement.tensors == len(trained.model.parameters) == 27
    assert agreement.error < 1e-12
    assert [step.step for step in steps] == list(range(1, 61))
    assert steps[0].loss > 4.5
    assert trained.loss < 2.8  # of what it began with, log(99) = 4.6
    tokens = trained.model.tokenizer.encode("the statement of the")
    loss, _ = trained.model.loss_and_gradients(tokens[:-1], tokens[1:])
    assert loss < 3.5  # the library's forward with the reader's weights


def test_it_is_adamw_with_a_schedule(solved: Course) -> None:
    """The weights after three updates, by the library's gradients and the formula written anew."""
    steps = 3
    text = split([default_text()])
    tokenizer = Tokenizer.of_characters(text.training + text.validation)
    tokens = tokenizer.encode(text.training)
    config = ModelConfig(**CONFIG, vocabulary=tokenizer.vocabulary)
    parameters = initial_parameters(config, dtype=np.float64)
    generator = np.random.default_rng(int(SETTINGS["seed"]))
    state = {name: [np.zeros_like(w), np.zeros_like(w)] for name, w in parameters.items()}
    for step in range(1, steps + 1):
        starts = generator.integers(len(tokens) - config.context, size=int(SETTINGS["batch"]))
        windows = tokens[starts[:, None] + np.arange(config.context + 1)]
        loss, cached = loss_forward(windows[:, :-1], windows[:, 1:], parameters.tree, config)
        rate = SETTINGS["rate"] * min(step / SETTINGS["warmup"], 1 - (step - 1) / steps)
        for (name, w), dw in zip(parameters.items(), leaves(loss_backward(np.ones_like(loss), cached)), strict=True):
            for n, (beta, power) in enumerate(((0.9, dw), (0.99, dw**2))):
                state[name][n] = beta * state[name][n] + (1 - beta) * power
            mean, square = (x / (1 - beta**step) for x, beta in zip(state[name], (0.9, 0.99), strict=True))
            w -= rate * (mean / (np.sqrt(square) + 1e-8) + (SETTINGS["decay"] if w.ndim == 2 else 0) * w)
    trained = list(train(solved, steps))[-1]
    assert isinstance(trained, Trained)
    for name, w in parameters.items():
        np.testing.assert_allclose(trained.model.parameters[name], w, rtol=1e-5, atol=1e-7)
    held_out = training_batch(make_corpus(text, tokenizer, 64).validation.tokens, 64, HELD_OUT, seed=0, step=1)
    assert trained.loss == pytest.approx(float(loss_forward(*held_out, parameters.tree, config)[0]), rel=1e-6)


def test_it_needs_the_parts_of_a_gpt_and_of_training() -> None:
    names = {exercise.name for exercise in needed()}
    assert names >= {"linear", "silu", "softmax", "layer_norm", "heads", "block", "gpt", "adamw", "accumulation"}
    assert not names & {"rotary", "tied", "softmax_jacobian"}


@pytest.mark.parametrize(
    ("name", "mistake"), [("layer_norm", "layer_norm_not_divided"), ("accumulation", "plain_mean_of_the_parts")]
)
def test_it_refuses_wrong_gradients(solved: Course, name: str, mistake: str) -> None:
    exercise = find(name)
    (wrong,) = (each for each in exercise.mistakes if each.name == mistake)
    solved.path(exercise).write_text(with_mistake(exercise.solved, wrong), encoding="utf-8")
    told = []
    with pytest.raises(HandgradError, match="your functions together give a wrong"):
        told += list(train(solved, steps=2))
    assert not any(isinstance(each, Step) for each in told)


def test_what_fails_shows_the_readers_line(solved: Course) -> None:
    exercise = find("silu")
    code = exercise.solved.replace("    return dy *", "    oops\n    return dy *")
    solved.path(exercise).write_text(code, encoding="utf-8")
    path = solved.path(find("linear"))
    path.write_text(path.read_text(encoding="utf-8") + "\nprint('here I am')\n", encoding="utf-8")
    with pytest.raises(HandgradError) as error:
        list(train(solved, steps=2))
    assert error.value.exit_status == 1
    *_, place, what, printed = str(error.value).splitlines()
    assert printed == "printed: here I am"
    assert place.endswith(f"{exercise.file}:{code.splitlines().index('    oops') + 1}: oops")
    assert what == "NameError: name 'oops' is not defined"


def test_what_it_prints_does_not_disturb(solved: Course) -> None:
    path = solved.path(find("linear"))
    path.write_text(path.read_text(encoding="utf-8") + "\nprint('here I am')\n", encoding="utf-8")
    assert isinstance(list(train(solved, steps=1))[-1], Trained)


def test_it_cannot_call_the_library(solved: Course) -> None:
    path = solved.path(find("linear"))
    path.write_text("import handgrad\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(HandgradError, match="handgrad"):
        list(train(solved, steps=1))


def test_breaking_off_ends_the_process(solved: Course) -> None:
    told = train(solved, steps=10_000)
    assert isinstance(next(told), Agreement)
    assert isinstance(next(told), Step)
    told.close()  # which waits for the process to end
