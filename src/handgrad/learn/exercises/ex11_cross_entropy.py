"""Log-softmax and cross-entropy

    log_p = log softmax(logits), over the last axis      logits, log_p (B, T, V)
    loss  = - mean over b and t of  log_p[b, t, targets[b, t]]

The loss of every language model: the mean surprise at the token that really came next. targets
(B, T) are integers below V; they have no gradient. The loss is one number, and so is dloss. It
is 1 in most trainings, but yours must work whatever it is.

Softmax and logarithm are one step, and their backward is shorter than softmax's alone. Write out
log_p[v] = logits[v] - log sum exp(logits), and differentiate that.

Question: what is a mean over B·T positions divided by, and is that in your gradient?
"""

import numpy as np


def cross_entropy_forward(logits, targets):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    at_target = np.take_along_axis(log_p, targets[..., None], axis=-1)
    return -at_target.mean(), (log_p, targets)


def cross_entropy_backward(dloss, cache):
    log_p, targets = cache
    # Your code, which returns dlogits:
    truth = np.zeros_like(log_p)
    np.put_along_axis(truth, targets[..., None], 1, axis=-1)
    return (np.exp(log_p) - truth) * (dloss / targets.size)
