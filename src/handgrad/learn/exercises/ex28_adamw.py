"""AdamW

    mean        = β1 * mean        + (1 - β1) * dw
    mean_square = β2 * mean_square + (1 - β2) * dw²
    w           = w - rate * ( m̂ / (√v̂ + ε) + decay * w )

    m̂ = mean / (1 - β1^step)    v̂ = mean_square / (1 - β2^step)          all of w's shape

Now that there are gradients, somebody must use them. AdamW keeps two running means for each
number. Both begin at 0, so that they are too small at first; m̂ and v̂ make up for it. step
counts from 1. The decay pulls w itself towards 0, and does not pass through the means: that is
what the W stands for. The w in it is the one from before the update.

Write to no array that you were given: return new ones.

Question: after the first step, how large is m̂ / √v̂, whatever dw is?
"""

import numpy as np

BETA_1, BETA_2, EPSILON = 0.9, 0.99, 1e-8


def adamw(w, dw, mean, mean_square, step, rate, decay):
    # Your code, which returns w, mean, mean_square after the step:
    mean = BETA_1 * mean + (1 - BETA_1) * dw
    mean_square = BETA_2 * mean_square + (1 - BETA_2) * dw**2
    corrected_mean = mean / (1 - BETA_1**step)
    corrected_square = mean_square / (1 - BETA_2**step)
    direction = corrected_mean / (np.sqrt(corrected_square) + EPSILON)
    return w - rate * (direction + decay * w), mean, mean_square
