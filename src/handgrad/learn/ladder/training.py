"""What becomes of the gradients."""

import numpy as np

from ...proof.making import Maker
from ..exercise import Exercise, Mistake, Problem


def _state(make: Maker) -> Problem:
    C, F = make.sizes.C, make.sizes.F
    step = 1 if make.sizes.B == 1 else int(make.generator.integers(2, 20))
    began = step > 1
    return Problem(
        {
            "w": make.normal(C, F),
            "dw": make.normal(C, F),
            "mean": make.normal(C, F, scale=0.3 * began),
            "mean_square": np.square(make.normal(C, F, scale=0.3 * began)),
            "step": step,
            "rate": float(make.generator.uniform(0.01, 0.1)),
            "decay": float(make.generator.uniform(0.01, 0.1)),
        }
    )


MEAN = "mean = BETA_1 * mean + (1 - BETA_1) * dw"
SQUARE = "mean_square = BETA_2 * mean_square + (1 - BETA_2) * dw**2"

ADAMW = Exercise(
    "adamw",
    "AdamW",
    {"w": "C F", "mean": "C F", "mean_square": "C F"},
    _state,
    (
        Mistake(
            "decay_through_the_means",
            right=MEAN,
            wrong=f"dw = dw + decay * w\n    {MEAN}",
            why="A decay that is added to the gradient passes through both means, and is divided by √v̂ with the "
            "gradient. The W of AdamW is that it does not: it goes to w directly.",
        ),
        Mistake(
            "decay_not_times_the_rate",
            right="rate * (direction + decay * w)",
            wrong="rate * direction - decay * w",
            why="The rate stands before the bracket: it scales the decay too, so that a smaller rate decays less.",
        ),
        Mistake(
            "decay_forgotten",
            right="(direction + decay * w)",
            wrong="direction",
            why="That is Adam. Where is the decay of w?",
        ),
        Mistake(
            "decay_of_the_new_w",
            right="return w - rate * (direction + decay * w), mean, mean_square",
            wrong="w = w - rate * direction\n    return w - rate * decay * w, mean, mean_square",
            why="The w that decays is the one from before the update.",
        ),
        Mistake(
            "mean_not_corrected",
            right="mean / (1 - BETA_1**step)",
            wrong="mean",
            why="The mean began at 0, and is too small at first: m̂ makes up for it.",
        ),
        Mistake(
            "mean_square_not_corrected",
            right="mean_square / (1 - BETA_2**step)",
            wrong="mean_square",
            why="The mean of the squares began at 0, too; without its correction the first steps are too large.",
        ),
        Mistake(
            "one_beta_for_both_corrections",
            right="mean_square / (1 - BETA_2**step)",
            wrong="mean_square / (1 - BETA_1**step)",
            why="Each mean is corrected by its own β: that of the squares is slower, and needs more.",
        ),
        Mistake(
            "corrected_means_kept",
            right="return w - rate * (direction + decay * w), mean, mean_square",
            wrong="return w - rate * (direction + decay * w), corrected_mean, corrected_square",
            why="m̂ and v̂ serve for this step only. What is kept for the next one are the plain means.",
        ),
        Mistake(
            "gradient_not_squared",
            right=SQUARE,
            wrong="mean_square = BETA_2 * mean_square + (1 - BETA_2) * np.abs(dw)",
            why="The second mean is of the *squares*: the root that is taken later makes them sizes again.",
        ),
        Mistake(
            "one_beta_for_both_means",
            right=SQUARE,
            wrong="mean_square = BETA_1 * mean_square + (1 - BETA_1) * dw**2",
            why="The squares have a β of their own, β2.",
        ),
        Mistake(
            "mean_without_its_share",
            right="(1 - BETA_1) * dw\n",
            wrong="dw\n",
            why="A running mean of β1 old and (1 - β1) new; with all of dw it is a sum, and in the end ten times as "
            "large.",
        ),
        Mistake(
            "epsilon_under_the_root",
            right="np.sqrt(corrected_square) + EPSILON",
            wrong="np.sqrt(corrected_square + EPSILON)",
            why="ε is added to the root, and not under it: nearly the same where gradients are large, and far smaller "
            "steps where they are not.",
        ),
        Mistake(
            "uphill",
            right="w - rate *",
            wrong="w + rate *",
            why="The gradient points to where the loss grows. Which way do you want to go?",
        ),
        Mistake(
            "root_forgotten",
            right="np.sqrt(corrected_square)",
            wrong="corrected_square",
            why="m̂ is divided by the *root* of v̂, which has the unit of a gradient again.",
        ),
        Mistake(
            "betas_exchanged",
            right="mean = BETA_1 * mean + (1 - BETA_1) * dw\n"
            "    mean_square = BETA_2 * mean_square + (1 - BETA_2) * dw**2",
            wrong="mean = BETA_2 * mean + (1 - BETA_2) * dw\n"
            "    mean_square = BETA_1 * mean_square + (1 - BETA_1) * dw**2",
            why="β1 belongs to the mean, and β2 to the mean of the squares.",
        ),
        Mistake(
            "means_not_corrected",
            right="corrected_mean = mean / (1 - BETA_1**step)\n    corrected_square = mean_square / (1 - BETA_2**step)",
            wrong="corrected_mean = mean\n    corrected_square = mean_square",
            why="The means began at 0, and are too small at first: m̂ and v̂ make up for it, and they are what w "
            "moves by.",
        ),
        Mistake(
            "step_counted_from_0",
            right="corrected_mean = mean / (1 - BETA_1**step)\n    corrected_square = mean_square / (1 - BETA_2**step)",
            wrong="corrected_mean = mean / (1 - BETA_1 ** (step + 1))\n"
            "    corrected_square = mean_square / (1 - BETA_2 ** (step + 1))",
            why="step counts from 1 already: one more is one too many.",
        ),
        Mistake(
            "decay_only_through_the_means",
            right="mean = BETA_1 * mean + (1 - BETA_1) * dw\n",
            wrong="dw = dw + decay * w\n    decay = 0\n    mean = BETA_1 * mean + (1 - BETA_1) * dw\n",
            why="That is Adam with the decay in the gradient, where it passes through both means. The W of AdamW is "
            "that it goes to w directly.",
        ),
        Mistake(
            "mean_square_without_its_share",
            right="(1 - BETA_2) * dw**2",
            wrong="dw**2",
            why="A running mean of β2 old and (1 - β2) new; with all of dw² it is a sum.",
        ),
        Mistake(
            "epsilon_forgotten",
            right="(np.sqrt(corrected_square) + EPSILON)",
            wrong="np.sqrt(corrected_square)",
            why="Where is ε? It keeps the division finite where v̂ is 0.",
        ),
        Mistake(
            "epsilon_outside_the_fraction",
            right="corrected_mean / (np.sqrt(corrected_square) + EPSILON)",
            wrong="corrected_mean / np.sqrt(corrected_square) + EPSILON",
            why="ε belongs under the fraction's line, beside the root: a bracket is missing.",
        ),
        Mistake(
            "decay_without_the_bracket",
            right="(direction + decay * w)",
            wrong="direction + decay * w",
            why="The bracket is missing: the minus and the rate hold for the decay too.",
        ),
        Mistake(
            "mean_corrected_by_beta_2",
            right="mean / (1 - BETA_1**step)",
            wrong="mean / (1 - BETA_2**step)",
            why="Each mean is corrected by its own β: that of the gradient by β1.",
        ),
        Mistake(
            "corrections_without_the_step",
            right="corrected_mean = mean / (1 - BETA_1**step)\n    corrected_square = mean_square / (1 - BETA_2**step)",
            wrong="corrected_mean = mean / (1 - BETA_1)\n    corrected_square = mean_square / (1 - BETA_2)",
            why="β^step, and not β: the correction fades as the steps go on.",
        ),
    ),
    function="adamw",
    forward=None,
)


def _parts(make: Maker) -> Problem:
    parts, C, F = make.sizes.B, make.sizes.C, make.sizes.F
    counts = make.generator.permutation(np.arange(1, 20))[:parts].tolist()
    return Problem(
        {
            "losses": [float(make.normal(1)[0]) for _ in range(parts)],
            "gradients": [{"w": make.normal(C, F), "b": make.normal(F)} for _ in range(parts)],
            "counts": counts,
        }
    )


SHARES = "count / sum(counts)"

ACCUMULATION = Exercise(
    "accumulation",
    "gradient accumulation",
    {"loss": "", "gradients": ""},
    _parts,
    (
        Mistake(
            "plain_mean_of_the_parts",
            right=SHARES,
            wrong="1 / len(counts)",
            why="A part with few targets counts as much as one with many here. What is its share of all the targets?",
        ),
        Mistake(
            "sum_of_the_parts",
            right=SHARES,
            wrong="1",
            why="Each part's loss is a mean already; the sum of means grows with the number of parts.",
        ),
        Mistake(
            "not_divided_by_all_targets",
            right=SHARES,
            wrong="count",
            why="That is the sum over all targets. The mean divides it by how many there are.",
        ),
        Mistake(
            "divided_by_the_parts_too",
            right=SHARES,
            wrong="count / sum(counts) / len(counts)",
            why="The shares add up to 1 already: the number of parts has no place in them.",
        ),
        Mistake(
            "only_the_loss_is_weighted",
            right="sum(share * part[name] for",
            wrong="sum(part[name] / len(counts) for",
            why="Your gradients are the plain mean of the parts': weight them by the shares, as the mean loss is.",
        ),
        Mistake(
            "only_the_last_part",
            right="sum(share * part[name] for share, part in zip(shares, gradients, strict=True))",
            wrong="shares[-1] * gradients[-1][name]",
            why="A loop that assigns keeps only the last part: `+=`, and not `=`.",
        ),
        Mistake(
            "only_the_gradients_are_weighted",
            right="sum(share * part for",
            wrong="sum(part / len(losses) for",
            why="Your loss is the plain mean of the parts': weight it by the shares, as the gradients are.",
        ),
    ),
    function="accumulate",
    forward=None,
)
