"""What goes wrong in the loss: what it is divided by, which targets count, and the truth that is subtracted."""

from ...layers import cross_entropy_backward, linear_cross_entropy_backward
from .mutation import Mutation

CROSS_ENTROPY = (
    Mutation(
        "loss_not_divided_by_the_count",
        "cross_entropy",
        cross_entropy_backward,
        right="dloss / divisor",
        wrong="dloss",
        why="The loss is a mean, so each position's gradient is divided by their number. Adam hides the factor; "
        "clipping and SGD do not.",
    ),
    Mutation(
        "loss_divided_twice",
        "cross_entropy",
        cross_entropy_backward,
        right="dloss / divisor",
        wrong="dloss / divisor**2",
        why="Divided by the count in the forward, that is in the derivative already; a second time is once too often.",
    ),
    Mutation(
        "loss_divided_by_all_targets",
        "cross_entropy",
        cross_entropy_backward,
        right="dloss / divisor",
        wrong="dloss / targets.size",
        why="The mean is over the targets that count, in the backward as in the forward, and not over all positions.",
    ),
    Mutation(
        "ignored_targets_counted",
        "cross_entropy",
        cross_entropy_backward,
        right="(counted * np",
        wrong="(np.ones_like(counted) * np",
        why="A position that is ignored added nothing to the loss, so its row of dlogits is zero; here padding is "
        "learned.",
    ),
    Mutation(
        "targets_shifted",
        "cross_entropy",
        cross_entropy_backward,
        right="probabilities, targets, counted, divisor = cache",
        wrong="probabilities, targets, counted, divisor = cache\n    targets = np.roll(targets, 1, axis=-1)",
        why="The forward scored each position against the token that follows it; the backward learns another one.",
    ),
    Mutation(
        "truth_not_subtracted",
        "cross_entropy",
        cross_entropy_backward,
        right="at_target - dsurprise",
        wrong="at_target",
        why="Probability minus truth: without the 1 at the target all logits are pushed down, and none up.",
    ),
    Mutation(
        "truth_minus_probability",
        "cross_entropy",
        cross_entropy_backward,
        right="return dlogits",
        wrong="return -dlogits",
        why="The loss is *minus* the log-probability; with this sign descent climbs.",
    ),
    Mutation(
        "softmax_derived_twice",
        "cross_entropy",
        cross_entropy_backward,
        right="return dlogits",
        wrong="return probabilities * (dlogits - row_sums(dlogits * probabilities))",
        why="Probability minus truth is the gradient of the *logits*: softmax's Jacobian is in it, and must not be "
        "applied again.",
    ),
    Mutation(
        "upstream_gradient_ignored",
        "cross_entropy",
        cross_entropy_backward,
        right="dloss / divisor",
        wrong="1 / divisor",
        why="The loss may be weighted, scaled or averaged further on: dloss is 1 only as long as it is the end.",
    ),
)

HEAD = (
    Mutation(
        "head_targets_shifted",
        "linear_cross_entropy",
        linear_cross_entropy_backward,
        right="cross_entropy_backward(np.asarray(dloss * share), cached)",
        wrong="cross_entropy_backward(np.asarray(dloss * share), cached._replace(targets=np.roll("
        "cached.targets.reshape(-1, shape[-2]), 1, axis=1).reshape(-1)))",
        why="The targets are the tokens one further on; shifted once more within each sequence, the head learns to "
        "repeat its input.",
    ),
    Mutation(
        "head_averaged_over_the_batch",
        "linear_cross_entropy",
        linear_cross_entropy_backward,
        right="return np.concatenate(dxs).reshape(*shape[:-1], -1), dw",
        wrong="return np.concatenate(dxs).reshape(*shape[:-1], -1), dw / shape[0]",
        why="The loss is a mean already, and dlogits knows it: the head's matrix sums over the batch, nothing more.",
    ),
)
