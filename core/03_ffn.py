# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3. The complete Transformer block
#
# Chapter 1 derived one head of attention: the softmax Jacobian, the transpose in `dW = x.T @ dy`, and the sum over
# all the routes by which a tensor reaches the loss. Chapter 2 split the width into heads and added positions and the
# causal mask. This chapter adds what makes a block trainable at depth (residuals, LayerNorm, a feed-forward layer, a
# sensible initialisation) and closes the circle from tokens to loss:
#
# | step      | forward                                         | shape       | parameters                 |
# |-----------|-------------------------------------------------|-------------|----------------------------|
# | embedding | `x = E[tokens] + P[:T]`                         | (T, C)      | E (words, C), P (T_max, C) |
# | norm 1    | `normed_1 = LN(x)`                              | (T, C)      | gamma_1, beta_1 (C,)       |
# | attention | `attended = attention(normed_1)`                | (T, C)      | W_q, W_k, W_v, W_o (C, C)  |
# | residual  | `h = x + attended`                              | (T, C)      |                            |
# | norm 2    | `normed_2 = LN(h)`                              | (T, C)      | gamma_2, beta_2 (C,)       |
# | SwiGLU    | `gate, up = normed_2 @ W_gate, normed_2 @ W_up` | (T, F) each | W_gate, W_up (C, F)        |
# |           | `fed = (silu(gate) * up) @ W_down`              | (T, C)      | W_down (F, C)              |
# | residual  | `y = h + fed`                                   | (T, C)      |                            |
# | norm f    | `normed_f = LN(y)`                              | (T, C)      | gamma_f, beta_f (C,)       |
# | head      | `logits = normed_f @ W_lm`                      | (T, words)  | W_lm (C, words)            |
# | loss      | `loss = cross_entropy(logits, targets)`         | scalar      |                            |
#
# T tokens, width C, H heads of width D = C / H, hidden width F, and a vocabulary of `words` words. The conventions
# are those of the chapters before: `dX` is the gradient of the loss with respect to X, its *cotangent*, and has the
# shape of X; every `*_backward` stands directly below its `*_forward` and undoes its lines from last to first; one
# sentence at a time, and the gradients of several sentences add.

# %%
import sys

import numpy as np

# %% [markdown]
# ## The instruments
#
# Central differences and the relative error, as in chapter 1. A layer's output is a tensor, not a scalar, so a layer
# is tested through the loss L = Σ dy * y with a *random* cotangent dy. Never with ones: the rows of a softmax sum to
# 1 and those of x_hat in LayerNorm to 0 whatever the input is. With dy = 1 both true gradients are identically zero,
# and a backward that returns zeros would pass.


# %%
def numerical_gradient(loss, array, step=1e-5):
    """Central differences of `loss()` with respect to every entry of `array`.

    `loss` takes no arguments and reads `array`, which is changed in place, entry by entry, and restored.
    """
    gradient = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        kept = array[index]
        array[index] = kept + step
        loss_above = loss()
        array[index] = kept - step
        loss_below = loss()
        array[index] = kept
        gradient[index] = (loss_above - loss_below) / (2 * step)
    return gradient


# %%
def relative_error(gradient, reference):
    """max |gradient - reference| / max |reference|, or infinity where that would prove nothing.

    It proves nothing if the shapes differ, if anything is not finite, or if the reference is zero but for rounding.
    """
    largest = np.abs(reference).max()
    if gradient.shape != reference.shape or not (1e-8 < largest < np.inf and np.isfinite(gradient).all()):
        return np.inf
    return float(np.abs(gradient - reference).max() / largest)


# %%
def check_layer(forward, backward, tensors, rng):
    """The relative error of a layer's gradient with respect to each of its tensors, by name.

    `forward(*tensors)` returns y and a cache, and `backward(dy, cache)` a tuple with one gradient for each tensor.
    """
    y, cache = forward(*tensors.values())
    dy = rng.normal(size=y.shape)
    gradients = dict(zip(tensors, backward(dy, cache), strict=True))
    return {
        name: relative_error(
            gradients[name], numerical_gradient(lambda: (dy * forward(*tensors.values())[0]).sum(), tensor)
        )
        for name, tensor in tensors.items()
    }


# %%
def print_check(errors, tensors, tolerance=1e-7):
    """Print a row for each tensor; return whether every one of them passed."""
    width = max(map(len, ["gradient of", *errors]))
    print(f"    {'gradient of':{width}} {'shape':>9}   largest relative error")
    for name, error in errors.items():
        verdict = "ok" if error <= tolerance else f"WRONG by {error:.0%}" if 0.01 < error < np.inf else "WRONG"
        print(f"    {name:{width}} {tensors[name].shape!s:>9}   {error:.0e}   {verdict}")
    return all(error <= tolerance for error in errors.values())


# %% [markdown]
# ## Softmax, once more
#
# S_j = exp(Z_j) / Σ_k exp(Z_k) along the last axis, and its backward in the row form of chapter 1.


# %%
def softmax_forward(Z):
    exponentials = np.exp(Z - Z.max(axis=-1, keepdims=True))  # the shift cancels, and nothing overflows
    S = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return S, S  # the cache is S itself: the Jacobian needs nothing else


def softmax_backward(dS, cache):
    S = cache
    return S * (dS - (dS * S).sum(axis=-1, keepdims=True))  # dZ, from S = softmax(Z), row by row


# %% [markdown]
# ## LayerNorm: one input, three routes
#
# Each row of x (one token) is shifted to mean 0 and scaled to variance 1 over its C entries, then given a learned
# scale and offset:
#
#     mean     = (1/C) Σ_j x_j
#     variance = (1/C) Σ_j (x_j - mean)²
#     std      = √(variance + ε)
#     x_hat_j  = (x_j - mean) / std
#     y_j      = gamma_j x_hat_j + beta_j
#
# The ε, 1e-5, keeps the division finite where a row is constant. The last line is easy. beta_j is added in every row
# and gamma_j multiplies in every row, so each gathers a sum over the rows: `dbeta = Σ_rows dy`,
# `dgamma = Σ_rows dy * x_hat`; and `dx_hat = dy * gamma`.
#
# Now one x_i. It reaches the loss by three routes, because x_hat_j is a function of three quantities, x_hat_j(x_j,
# mean, variance), and x_i moves all of them. The total derivative is the sum over the routes:
#
#     dx_i  =  Σ_j dx_hat_j ∂x_hat_j/∂x_i   +   dmean · ∂mean/∂x_i   +   dvariance · ∂variance/∂x_i
#              direct                           through the mean         through the variance
#
# **Direct.** With mean and variance held fixed, x_i appears in x_hat_i alone:
#
#     direct_i = dx_hat_i / std
#
# **Through the mean.** The mean is subtracted in every numerator, hence `dmean = -Σ_j dx_hat_j / std`, and each x_i
# contributes 1/C of itself to the mean:
#
#     through_mean_i = dmean / C = -(1/std) · mean_j(dx_hat_j)
#
# **Through the variance ("variance routing").** The variance sits in every denominator. With std = √(v + ε),
#
#     d(1/std)/dv = -(1/2) (v + ε)^(-3/2) = -1/(2 std³)
#
# and the three factors of the chain are
#
#     dvariance = Σ_j dx_hat_j (x_j - mean) · (-1/(2 std³)) = -(1/(2 std²)) Σ_j dx_hat_j x_hat_j
#     ∂variance/∂x_i = (2/C) (x_i - mean) = (2/C) std x_hat_i                      (the mean held fixed)
#     through_variance_i = dvariance · ∂variance/∂x_i = -(1/std) · x_hat_i · mean_j(dx_hat_j x_hat_j)
#
# **A fourth route?** The mean also stands inside the variance: x_i -> mean -> variance. That route exists, and it
# carries exactly nothing:
#
#     ∂variance/∂mean = -(2/C) Σ_j (x_j - mean) = 0
#
# because deviations from the mean sum to zero. Put differently, the mean is the very point at which the mean squared
# deviation is smallest, and at a minimum the derivative vanishes.
#
# **The sum.** All three share the factor 1/std:
#
#     dx = (dx_hat - mean(dx_hat) - x_hat * mean(dx_hat * x_hat)) / std
#
# It reads as geometry. The subtractions remove from dx_hat its component along (1, ..., 1) and its component along
# x_hat. They must: shifting a row or stretching it does not change x_hat, so the gradient can have no part in those
# two directions. (For the stretch this holds up to ε, which does not stretch along: below, sum(dx * x_hat) is of the
# size of ε, not of rounding.)


# %%
def layer_norm_forward(x, gamma, beta, epsilon=1e-5):
    deviation = x - x.mean(axis=-1, keepdims=True)
    variance = np.mean(deviation**2, axis=-1, keepdims=True)  # (T, 1)
    std = np.sqrt(variance + epsilon)
    x_hat = deviation / std
    y = gamma * x_hat + beta
    return y, (x_hat, std, gamma)


def layer_norm_backward(dy, cache):
    x_hat, std, gamma = cache
    dbeta = np.sum(dy, axis=0)  # y = gamma * x_hat + beta
    dgamma = np.sum(dy * x_hat, axis=0)  # y = gamma * x_hat + beta
    dx_hat = dy * gamma  # y = gamma * x_hat + beta
    along_ones = dx_hat.mean(axis=-1, keepdims=True)
    along_x_hat = np.mean(dx_hat * x_hat, axis=-1, keepdims=True)
    dx = (dx_hat - along_ones - x_hat * along_x_hat) / std  # x_hat = (x - mean) / std, all three routes
    return dx, dgamma, dbeta


# %% [markdown]
# The same gradient once more, unfolded: each line is one line of the derivation, and nothing has been cancelled.


# %%
def layer_norm_routes(dy, cache):
    """The three routes from x to the loss, whose sum is dx: direct, through the mean, the variance."""
    x_hat, std, gamma = cache
    C = x_hat.shape[-1]
    deviation = x_hat * std
    dx_hat = dy * gamma  # y = gamma * x_hat + beta
    direct = dx_hat / std  # x_hat_i = (x_i - ...) / ...
    dmean = -np.sum(dx_hat / std, axis=-1, keepdims=True)  # x_hat = (... - mean) / ...
    through_mean = dmean / C * np.ones_like(x_hat)  # mean = sum(x) / C
    dvariance = -0.5 * np.sum(dx_hat * deviation / std**3, axis=-1, keepdims=True)  # std = √(variance + ε)
    through_variance = dvariance * 2 * deviation / C  # variance = sum((x - mean)**2) / C
    return direct, through_mean, through_variance


# %% [markdown]
# Here the routes, singly and together, are held against central differences. The fourth route is measured as well:
# the mean is moved by hand, with x held fixed, and the variance does not move. One unit away from the mean, where the
# deviations no longer sum to zero, it does.


# %%
def show_layer_norm(rng):
    x = 3.0 * rng.normal(size=(5, 8)) + 2.0
    gamma = 1.0 + 0.5 * rng.normal(size=8)
    beta = 0.5 * rng.normal(size=8)
    dy = rng.normal(size=(5, 8))
    _, cache = layer_norm_forward(x, gamma, beta)
    x_hat, _, _ = cache
    reference = numerical_gradient(lambda: (dy * layer_norm_forward(x, gamma, beta)[0]).sum(), x)
    direct, through_mean, through_variance = layer_norm_routes(dy, cache)
    dx, _, _ = layer_norm_backward(dy, cache)

    print("LayerNorm: the routes from x to the loss, against central differences")
    for label, candidate in (
        ("direct alone", direct),
        ("without the direct route", through_mean + through_variance),
        ("without the mean's route", direct + through_variance),
        ("without the variance's route", direct + through_mean),
        ("all three", direct + through_mean + through_variance),
        ("all three, folded", dx),
    ):
        error = relative_error(candidate, reference)
        print(f"    {label:<30} relative error {error:.0e}   {'ok' if error <= 1e-7 else f'WRONG by {error:.0%}'}")

    row, mean = x[0], x[0].mean()
    print("    the mean's own effect through the variance (first row):")
    for place, centre in (("at the mean", mean), ("at the mean + 1", mean + 1)):
        above, below = np.mean((row - centre - 1e-5) ** 2), np.mean((row - centre + 1e-5) ** 2)
        slope, total = abs(above - below) / 2e-5, abs(np.sum(row - centre))
        print(f"        {place:<16} |sum of deviations| {total:.6f}   |d variance / d mean| {slope:.6f}")

    print("    along the two directions that LayerNorm does not see (largest over the rows):")
    for label, direction in (("sum(dx)", np.ones_like(x)), ("sum(dx * x_hat)", x_hat)):
        alone, folded = (np.max(np.abs(np.sum(g * direction, axis=-1))) for g in (direct, dx))
        print(f"        {label:<16} {folded:.0e}   (of the direct route alone: {alone:.1f})")
    _, plain_cache = layer_norm_forward(x, np.ones(8), beta)
    blind, _, _ = layer_norm_backward(np.ones_like(x), plain_cache)
    print(f"    with ones for dy and gamma the test is blind: largest |dx| {np.max(np.abs(blind)):.0e}")


# %%
if __name__ == "__main__":
    show_layer_norm(np.random.default_rng(0))

# %% [markdown]
# ## Masked multi-head attention
#
# As in chapter 2, word for word.


# %%
def causal_mask(T):
    """-1e9 above the diagonal (key j later than query i), zero on it and below."""
    return np.triu(np.full((T, T), -1e9, dtype=np.float32), k=1)  # exact in float32, which widens no scores


# %%
def masked_attention_forward(Q, K, V):
    T, D = Q.shape[-2:]
    Z = Q @ K.swapaxes(-1, -2) / D**0.5 + causal_mask(T)  # (H, T, T)
    S, softmax_cache = softmax_forward(Z)
    context = S @ V  # (H, T, D)
    return context, (Q, K, V, S, softmax_cache)


def masked_attention_backward(dcontext, cache):
    Q, K, V, S, softmax_cache = cache
    D = Q.shape[-1]
    dS = dcontext @ V.swapaxes(-1, -2)  # context = S @ V                              (H, T, T)
    dV = S.swapaxes(-1, -2) @ dcontext  # context = S @ V                              (H, T, D)
    dZ = softmax_backward(dS, softmax_cache)  # S = softmax(Z)
    dQ = dZ @ K / D**0.5  # Z = Q @ K.T / √D + mask                                    (H, T, D)
    dK = dZ.swapaxes(-1, -2) @ Q / D**0.5  # Z = Q @ K.T / √D + mask                   (H, T, D)
    return dQ, dK, dV


# %%
def split_heads(x, heads):
    T, C = x.shape
    return x.reshape(T, heads, C // heads).transpose(1, 0, 2)  # (T, C) -> (T, H, D) -> (H, T, D)


def merge_heads(x):
    heads, T, D = x.shape
    return x.transpose(1, 0, 2).reshape(T, heads * D)  # (H, T, D) -> (T, H, D) -> (T, C)


# %%
def multi_head_attention_forward(x, W_q, W_k, W_v, W_o, heads):
    Q = split_heads(x @ W_q, heads)  # (T, C) -> (H, T, D)
    K = split_heads(x @ W_k, heads)
    V = split_heads(x @ W_v, heads)
    context, attention_cache = masked_attention_forward(Q, K, V)  # (H, T, D)
    merged = merge_heads(context)  # (T, C)
    y = merged @ W_o  # (T, C)
    return y, (x, W_q, W_k, W_v, W_o, heads, merged, attention_cache)


def multi_head_attention_backward(dy, cache):
    x, W_q, W_k, W_v, W_o, heads, merged, attention_cache = cache
    dmerged = dy @ W_o.T  # y = merged @ W_o
    dW_o = merged.T @ dy  # y = merged @ W_o
    dcontext = split_heads(dmerged, heads)  # merged = merge_heads(context)            (H, T, D)
    dQ, dK, dV = masked_attention_backward(dcontext, attention_cache)  # context = masked_attention(Q, K, V)
    dQ, dK, dV = merge_heads(dQ), merge_heads(dK), merge_heads(dV)  # Q = split_heads(x @ W_q, heads), ...
    dW_v = x.T @ dV  # V = x @ W_v
    dW_k = x.T @ dK  # K = x @ W_k
    dW_q = x.T @ dQ  # Q = x @ W_q
    dx = dQ @ W_q.T + dK @ W_k.T + dV @ W_v.T  # Q, K, V = x @ W_q, x @ W_k, x @ W_v
    return dx, dW_q, dW_k, dW_v, dW_o


# %% [markdown]
# ## The feed-forward layer: SwiGLU
#
#     gate = x @ W_gate          silu(a) = a σ(a),   σ(a) = 1 / (1 + exp(-a))
#     up   = x @ W_up
#     y    = (silu(gate) * up) @ W_down
#
# A product has two factors, so each one's cotangent is the other factor times the cotangent of the product. For silu,
# the product rule and σ' = σ (1 - σ) give
#
#     silu'(a) = σ(a) + a σ(a) (1 - σ(a)) = σ(a) (1 + a (1 - σ(a)))
#
# x feeds gate and up: a sum of two. σ is computed as (1 + tanh(a/2)) / 2, an identity that never overflows.


# %%
def sigmoid(a):
    return 0.5 * (1 + np.tanh(0.5 * a))


# %%
def swiglu_forward(x, W_gate, W_up, W_down):
    gate = x @ W_gate  # (T, F)
    up = x @ W_up  # (T, F)
    hidden = gate * sigmoid(gate) * up
    y = hidden @ W_down  # (T, C)
    return y, (x, W_gate, W_up, W_down, gate, up, hidden)


def swiglu_backward(dy, cache):
    x, W_gate, W_up, W_down, gate, up, hidden = cache
    s = sigmoid(gate)
    dW_down = hidden.T @ dy  # y = hidden @ W_down
    dhidden = dy @ W_down.T  # y = hidden @ W_down                           (T, F)
    dup = dhidden * gate * s  # hidden = silu(gate) * up
    dgate = dhidden * up * s * (1 + gate * (1 - s))  # hidden = silu(gate) * up
    dW_up = x.T @ dup  # up = x @ W_up
    dW_gate = x.T @ dgate  # gate = x @ W_gate
    dx = dgate @ W_gate.T + dup @ W_up.T  # x feeds gate and up              (T, C)
    return dx, dW_gate, dW_up, dW_down


# %% [markdown]
# The classical layer, for comparison. SwiGLU has three matrices, 3·C·F numbers; this one has two, so a hidden width
# of 3F/2 makes the counts equal. relu has no derivative at 0; taking 0 there is the custom. A central difference that
# straddles the kink would be meaningless; the check below has ninety such inputs, and none lies within reach of its
# step.


# %%
def relu_ffn_forward(x, W_1, W_2):
    before = x @ W_1  # (T, 3F/2)
    hidden = np.maximum(before, 0)
    y = hidden @ W_2  # (T, C)
    return y, (x, W_1, W_2, before, hidden)


def relu_ffn_backward(dy, cache):
    x, W_1, W_2, before, hidden = cache
    dW_2 = hidden.T @ dy  # y = hidden @ W_2
    dhidden = dy @ W_2.T  # y = hidden @ W_2                                 (T, 3F/2)
    dbefore = dhidden * (before > 0)  # hidden = relu(before)
    dW_1 = x.T @ dbefore  # before = x @ W_1
    dx = dbefore @ W_1.T  # before = x @ W_1                                 (T, C)
    return dx, dW_1, dW_2


# %% [markdown]
# ## Cross-entropy, words and positions
#
# As in the chapters before: dlogits is the probability given minus the probability due, over T. The embedding adds
# what a repeated word receives at each of its places.


# %%
def cross_entropy_forward(logits, targets):
    positions = np.arange(len(targets))
    shifted = logits - logits.max(axis=-1, keepdims=True)  # as in the softmax: no overflow, same result
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))  # (positions, words)
    loss = -log_p[positions, targets].mean()
    return loss, (log_p, targets)


def cross_entropy_backward(dloss, cache):
    log_p, targets = cache
    positions = np.arange(len(targets))
    dlogits = np.exp(log_p)  # log_p = logits - log Σ exp(logits)
    dlogits[positions, targets] -= 1.0  # loss = -log_p[positions, targets].mean()
    return dlogits * dloss / len(targets)  # .mean()


# %%
def embedding_forward(tokens, E, P):
    x = E[tokens] + P[: len(tokens)]  # (T, C)
    return x, (tokens, E, P)


def embedding_backward(dx, cache):
    tokens, E, P = cache
    dE, dP = np.zeros_like(E), np.zeros_like(P)
    dP[: len(tokens)] = dx  # x = E[tokens] + P[:T]
    np.add.at(dE, tokens, dx)  # x = E[tokens] + P[:T]
    return dE, dP


# %% [markdown]
# ## The block
#
# A residual `h = x + attended` sends x along two routes, the shortcut and the branch, so its backward is again a sum:
# the cotangent itself plus what comes back through the branch. That bare `dh +` is why depth does not starve the
# lower layers.
#
# The backward has an argument that no library should have. With `planted_bug=True` it makes one mistake, which the
# last section of this chapter is about: W_q, W_k and W_v take their gradients from x instead of normed_1 = LN(x), as
# if the wrong tensor had been cached. Everything else stays right.


# %%
def block_forward(x, parameters, heads):
    p = parameters
    normed_1, norm_1_cache = layer_norm_forward(x, p["gamma_1"], p["beta_1"])
    attended, attention_cache = multi_head_attention_forward(normed_1, p["W_q"], p["W_k"], p["W_v"], p["W_o"], heads)
    h = x + attended
    normed_2, norm_2_cache = layer_norm_forward(h, p["gamma_2"], p["beta_2"])
    fed, swiglu_cache = swiglu_forward(normed_2, p["W_gate"], p["W_up"], p["W_down"])
    y = h + fed
    return y, (x, norm_1_cache, attention_cache, norm_2_cache, swiglu_cache)


def block_backward(dy, cache, planted_bug=False):
    x, norm_1_cache, attention_cache, norm_2_cache, swiglu_cache = cache
    if planted_bug:
        attention_cache = (x, *attention_cache[1:])  # x where normed_1 belongs: dW_q = x.T @ dQ, and so on
    # y = h + fed: h goes straight to y, and through LN and SwiGLU. The cotangent of fed is dy itself.
    dnormed_2, dW_gate, dW_up, dW_down = swiglu_backward(dy, swiglu_cache)  # fed = SwiGLU(normed_2)
    dh, dgamma_2, dbeta_2 = layer_norm_backward(dnormed_2, norm_2_cache)  # normed_2 = LN(h)
    dh = dy + dh  # y = h + fed
    # h = x + attended: likewise for x, and the cotangent of attended is dh itself.
    dnormed_1, dW_q, dW_k, dW_v, dW_o = multi_head_attention_backward(dh, attention_cache)  # attention(normed_1)
    dx, dgamma_1, dbeta_1 = layer_norm_backward(dnormed_1, norm_1_cache)  # normed_1 = LN(x)
    dx = dh + dx  # h = x + attended
    gradients = {"gamma_1": dgamma_1, "beta_1": dbeta_1, "W_q": dW_q, "W_k": dW_k, "W_v": dW_v, "W_o": dW_o}
    gradients |= {"gamma_2": dgamma_2, "beta_2": dbeta_2, "W_gate": dW_gate, "W_up": dW_up, "W_down": dW_down}
    return dx, gradients


# %% [markdown]
# The same block without its two LayerNorms. Nobody trains this one; the section on initialisation measures what
# becomes of it.


# %%
def block_without_norm_forward(x, parameters, heads):
    p = parameters
    attended, attention_cache = multi_head_attention_forward(x, p["W_q"], p["W_k"], p["W_v"], p["W_o"], heads)
    h = x + attended
    fed, swiglu_cache = swiglu_forward(h, p["W_gate"], p["W_up"], p["W_down"])
    y = h + fed
    return y, (attention_cache, swiglu_cache)


def block_without_norm_backward(dy, cache):
    attention_cache, swiglu_cache = cache
    dh, dW_gate, dW_up, dW_down = swiglu_backward(dy, swiglu_cache)  # fed = SwiGLU(h)
    dh = dy + dh  # y = h + fed
    dx, dW_q, dW_k, dW_v, dW_o = multi_head_attention_backward(dh, attention_cache)  # attended = attention(x)
    dx = dh + dx  # h = x + attended
    gradients = {"W_q": dW_q, "W_k": dW_k, "W_v": dW_v, "W_o": dW_o}
    return dx, gradients | {"W_gate": dW_gate, "W_up": dW_up, "W_down": dW_down}


# %% [markdown]
# ## The model
#
# Every W starts with a standard deviation of 1/√(its number of inputs); the section on initialisation says why. E and
# P are looked up, not multiplied, so the number of inputs says nothing about them, and from what attention reads
# LayerNorm divides their scale out. A small scale, here 0.1, lets the first updates move them far in proportion.


# %%
def initial_parameters(rng, words, T_max, C, F):
    return {
        "E": 0.1 * rng.normal(size=(words, C)),
        "P": 0.1 * rng.normal(size=(T_max, C)),
        "gamma_1": np.ones(C),
        "beta_1": np.zeros(C),
        "W_q": rng.normal(size=(C, C)) / np.sqrt(C),
        "W_k": rng.normal(size=(C, C)) / np.sqrt(C),
        "W_v": rng.normal(size=(C, C)) / np.sqrt(C),
        "W_o": rng.normal(size=(C, C)) / np.sqrt(C),
        "gamma_2": np.ones(C),
        "beta_2": np.zeros(C),
        "W_gate": rng.normal(size=(C, F)) / np.sqrt(C),
        "W_up": rng.normal(size=(C, F)) / np.sqrt(C),
        "W_down": rng.normal(size=(F, C)) / np.sqrt(F),
        "gamma_f": np.ones(C),
        "beta_f": np.zeros(C),
        "W_lm": rng.normal(size=(C, words)) / np.sqrt(C),
    }


# %%
def model_forward(parameters, tokens, targets, heads=2):
    p = parameters
    x, embedding_cache = embedding_forward(tokens, p["E"], p["P"])  # (T, C)
    y, block_cache = block_forward(x, p, heads)  # (T, C)
    normed_f, norm_f_cache = layer_norm_forward(y, p["gamma_f"], p["beta_f"])
    logits = normed_f @ p["W_lm"]  # (T, words)
    loss, loss_cache = cross_entropy_forward(logits, targets)
    return loss, (embedding_cache, block_cache, norm_f_cache, normed_f, p["W_lm"], loss_cache)


def model_backward(dloss, cache, planted_bug=False):
    embedding_cache, block_cache, norm_f_cache, normed_f, W_lm, loss_cache = cache
    dlogits = cross_entropy_backward(dloss, loss_cache)  # loss = cross_entropy(logits, targets)
    dW_lm = normed_f.T @ dlogits  # logits = normed_f @ W_lm
    dnormed_f = dlogits @ W_lm.T  # logits = normed_f @ W_lm
    dy, dgamma_f, dbeta_f = layer_norm_backward(dnormed_f, norm_f_cache)  # normed_f = LN(y)
    dx, gradients = block_backward(dy, block_cache, planted_bug)  # y = block(x)
    dE, dP = embedding_backward(dx, embedding_cache)  # x = E[tokens] + P[:T]
    return {"E": dE, "P": dP, **gradients, "gamma_f": dgamma_f, "beta_f": dbeta_f, "W_lm": dW_lm}


# %%
def model_backward_with_bug(dloss, cache):
    return model_backward(dloss, cache, planted_bug=True)


# %% [markdown]
# A batch is a loop, as before. The functions below take the model's backward as an argument: it is on trial.


# %%
def batch_loss(parameters, sentences, heads=2):
    losses = [model_forward(parameters, tokens, targets, heads)[0] for tokens, targets in sentences]
    return sum(losses) / len(losses)


# %%
def batch_loss_and_gradients(parameters, sentences, heads=2, backward=model_backward):
    loss = 0.0
    gradients = {name: np.zeros_like(value) for name, value in parameters.items()}
    for tokens, targets in sentences:
        sentence_loss, cache = model_forward(parameters, tokens, targets, heads)
        loss += sentence_loss / len(sentences)
        for name, gradient in backward(1 / len(sentences), cache).items():
            gradients[name] += gradient
    return loss, gradients


# %% [markdown]
# ## The proof
#
# First every layer on its own, then every entry of every parameter of the whole model. The point at which a gradient
# is checked matters as much as the check. At the initial values gamma = 1 and beta = 0, a backward that forgets gamma
# is still right. So the parameters are drawn anew: gamma and beta away from 1 and 0, embeddings with a scale and an
# offset of their own, and a sentence in which words recur.


# %%
def parameters_for_check(rng, words=6, T_max=7, C=8, F=12):
    """Initial parameters, moved away from every value at which a mistake could hide."""
    parameters = initial_parameters(rng, words, T_max, C, F)
    for name, value in parameters.items():
        if name.startswith(("gamma", "beta")):
            value += 0.3 * rng.normal(size=value.shape)
    parameters["E"] = 1.5 * rng.normal(size=(words, C)) + 1.0
    parameters["P"] = 0.5 * rng.normal(size=(T_max, C))
    return parameters


# %%
def layers_for_check(rng, heads=2):
    """Every layer by name: its forward, its backward, and random tensors to differentiate with respect to."""
    p = parameters_for_check(rng)
    x = 2.0 * rng.normal(size=(5, 8)) + 1.0
    targets = rng.integers(0, 7, 5)

    def with_tensors(*names):
        return {"x": x.copy(), **{name: p[name].copy() for name in names}}

    def block(forward, backward, *names):
        def backward_as_tuple(dy, cache):
            dx, gradients = backward(dy, cache)
            return dx, *(gradients[name] for name in names)

        return (
            lambda x, *weights: forward(x, dict(zip(names, weights, strict=True)), heads),
            backward_as_tuple,
            with_tensors(*names),
        )

    attention, ffn = ("W_q", "W_k", "W_v", "W_o"), ("W_gate", "W_up", "W_down")
    norms = ("gamma_1", "beta_1", "gamma_2", "beta_2")
    relu_weights = {"W_1": rng.normal(size=(8, 18)), "W_2": rng.normal(size=(18, 8))}
    return {
        "softmax": (softmax_forward, lambda dS, cache: (softmax_backward(dS, cache),), {"Z": rng.normal(size=(5, 8))}),
        "LayerNorm": (layer_norm_forward, layer_norm_backward, with_tensors("gamma_1", "beta_1")),
        "LayerNorm's routes": (
            lambda x: layer_norm_forward(x, p["gamma_1"], p["beta_1"]),
            lambda dy, cache: (sum(layer_norm_routes(dy, cache)),),
            with_tensors(),
        ),
        "attention": (
            lambda *tensors: multi_head_attention_forward(*tensors, heads),
            multi_head_attention_backward,
            with_tensors(*attention),
        ),
        "SwiGLU": (swiglu_forward, swiglu_backward, with_tensors(*ffn)),
        "ReLU": (relu_ffn_forward, relu_ffn_backward, with_tensors() | relu_weights),
        "cross-entropy": (
            lambda logits: cross_entropy_forward(logits, targets),
            lambda dloss, cache: (cross_entropy_backward(dloss, cache),),
            {"logits": rng.normal(size=(5, 7))},
        ),
        "block": block(block_forward, block_backward, *norms, *attention, *ffn),
        "block without norm": block(block_without_norm_forward, block_without_norm_backward, *attention, *ffn),
    }


# %%
def check_layers(rng):
    """The relative error of every gradient of every layer, and the tensors, both by name."""
    errors, all_tensors = {}, {}
    for layer, (forward, backward, tensors) in layers_for_check(rng).items():
        for name, error in check_layer(forward, backward, tensors, rng).items():
            errors[f"{layer}: {name}"] = error
            all_tensors[f"{layer}: {name}"] = tensors[name]
    return errors, all_tensors


# %%
def check_gradients(parameters, sentences, heads=2, step=1e-5, backward=model_backward):
    """The relative error of each parameter's gradient against central differences, by name."""
    _, gradients = batch_loss_and_gradients(parameters, sentences, heads, backward)
    return {
        name: relative_error(
            gradients[name], numerical_gradient(lambda: batch_loss(parameters, sentences, heads), value, step)
        )
        for name, value in parameters.items()
    }


# %%
CHECK_SENTENCE = (np.array([2, 0, 3, 0, 5, 2]), np.array([0, 3, 0, 5, 2, 1]))  # tokens, targets; 0 and 2 recur

# %%
if __name__ == "__main__":
    print("\nThe proof, layer by layer: random cotangents, every entry against central differences")
    layers_passed = print_check(*check_layers(np.random.default_rng(1)))
    print("\nThe proof, the whole model: every entry of every parameter against central differences")
    check_point = parameters_for_check(np.random.default_rng(2))
    model_passed = print_check(check_gradients(check_point, [CHECK_SENTENCE]), check_point)
    if not (layers_passed and model_passed):
        print("    a gradient is wrong: nothing is trained with it")
        sys.exit(1)

# %% [markdown]
# ## Initialisation
#
# Let `y_j = Σ_i x_i W_ij` with N independent inputs of variance 1 and weights of mean 0 and variance v. The N terms
# are uncorrelated, so Var(y_j) = N v. One layer multiplies the variance by N v, and L layers by (N v)^L: only v =
# 1/N, a standard deviation of 1/√N, neither explodes nor vanishes. The last column below is this theory at the last
# depth; single chains scatter about it, the more the deeper.
#
# The backward `dx = dy @ W.T` is a product too, but it sums over the *outputs*. It keeps the cotangent's variance if
# v = 1/out. Where in ≠ out, forward and backward cannot both be served:
#
# - **Xavier** takes v = 2/(in + out), the harmonic mean of 1/in and 1/out: a compromise between forward
#   and backward, and 1/N again where the matrix is square.
# - **He** takes v = 2/in: a ReLU sets half of a symmetric variable to zero, E[relu(z)²] = Var(z)/2, and
#   the 2 gives back what the ReLU takes.


# %%
def bare_chain(rng, std, depths, width=256, rows=4, draws=4, relu=False):
    """E[x²] after `depth` products x @ W with W of the given std, averaged over independent chains."""
    # Few rows and several chains: rows of one chain share its matrices, so they say the same thing again.
    measured = dict.fromkeys(depths, 0.0)
    for _ in range(draws):
        x = rng.normal(size=(rows, width))
        for depth in range(1, max(depths) + 1):
            x = (np.maximum(x, 0) if relu else x) @ (std * rng.normal(size=(width, width)))
            if depth in measured:
                measured[depth] += np.mean(x**2) / draws
    return measured


# %%
def show_bare_chain(rng, width=256, depths=(1, 2, 4, 8, 16, 32)):
    print(f"\nInitialisation, a bare chain: the variance after repeated x @ W, width N = {width}")
    print(f"    {'std of W':<28}" + "".join(f"{f'depth {depth}':>10}" for depth in depths) + "    theory")
    for label, std, relu in (
        ("1/sqrt(N)", 1 / np.sqrt(width), False),
        ("1", 1.0, False),
        ("0.5/sqrt(N)", 0.5 / np.sqrt(width), False),
        ("0.02", 0.02, False),
        ("1/sqrt(N), ReLU between", 1 / np.sqrt(width), True),
        ("sqrt(2/N) (He), ReLU between", np.sqrt(2 / width), True),
    ):
        measured = bare_chain(rng, std, depths, width, relu=relu)
        factor = width * std**2 / (2 if relu else 1)  # of one layer
        cells = [*measured.values(), factor ** depths[-1]]
        print(f"    {label:<28}" + "".join(f"{value:>10.2g}" for value in cells))
    inputs, outputs = 256, 1024
    print(f"    a matrix that is not square, {inputs} -> {outputs}: the variance that comes out if 1 goes in")
    print(f"    {'variance of W':<28}{'forward':>10}{'backward':>10}")
    x, dy = rng.normal(size=(256, inputs)), rng.normal(size=(256, outputs))
    for label, variance in (
        ("1/in", 1 / inputs),
        ("1/out", 1 / outputs),
        ("2/(in+out) (Xavier)", 2 / (inputs + outputs)),
    ):
        W = np.sqrt(variance) * rng.normal(size=(inputs, outputs))
        print(f"    {label:<28}{np.var(x @ W):>10.2f}{np.var(dy @ W.T):>10.2f}")


# %%
if __name__ == "__main__":
    show_bare_chain(np.random.default_rng(3))

# %% [markdown]
# A Transformer is no bare chain: it has residuals, a softmax and a product of two activations. So the same
# measurement on a stack of real blocks, forward and backward, once with LayerNorm and once without. The gradients of
# both kinds of block have been checked above, with respect to x and to every weight.


# %%
def stack_statistics(rng, forward, backward, scale=0.3, depth=12, T=16, C=64, F=128, heads=4):
    """Rows (level, Var(x), |dx|, |dW_q|, |dW_gate|); level n lies below block n: x enters, dx leaves it."""
    x = scale * rng.normal(size=(T, C))
    variances, caches = [], []
    for _ in range(depth):
        variances.append(np.var(x))
        x, cache = forward(x, initial_parameters(rng, 1, 1, C, F), heads)
        caches.append(cache)
    dx = rng.normal(size=x.shape)
    dx /= np.linalg.norm(dx)
    rows = [(depth, np.var(x), 1.0, None, None)]  # above the last block
    for level in reversed(range(depth)):
        dx, gradients = backward(dx, caches[level])
        norms = map(np.linalg.norm, (dx, gradients["W_q"], gradients["W_gate"]))
        rows.append((level, variances[level], *norms))
    return rows[::-1]


# %%
def show_stacks():
    with_norm = stack_statistics(np.random.default_rng(4), block_forward, block_backward)
    bare = (block_without_norm_forward, block_without_norm_backward)
    without_norm = stack_statistics(np.random.default_rng(4), *bare)
    with np.errstate(all="ignore"):  # this one is meant to overflow
        overflowing = stack_statistics(np.random.default_rng(4), *bare, scale=1.0)

    print("\nInitialisation, a stack of 12 fresh blocks: x enters below with std 0.3, dy above with norm 1")
    print(f"           {'with pre-LayerNorm':<40}without")
    print("    level" + 2 * f"{'Var(x)':>10}{'|dx|':>10}{'|dW_q|':>10}{'|dW_gate|':>10}")
    for level, *_ in with_norm:
        values = with_norm[level][1:] + without_norm[level][1:]
        cells = "".join(" " * 10 if value is None else f"{value:>10.2g}" for value in values)
        print(f"    {level:>5}{cells}".rstrip())
    lost = next(level for level, variance, *_ in overflowing if not np.isfinite(variance))
    print(f"    without, and x entering with std 1: the variance overflows float64 at level {lost}")


# %%
if __name__ == "__main__":
    show_stacks()

# %% [markdown]
# **Without LayerNorm.** SwiGLU is a product of two factors that each grow with x. While x is small it adds next to
# nothing. Once the variance has passed 1, doubling x about quadruples the output, so each block squares the scale:
# from level 6 on, the exponent of the variance about doubles in every row. The exponent of a bare chain only grows in
# proportion to depth. The gradient meets the same factors on its way down. And where x is huge, the scores are huge,
# and the softmax is exactly one-hot. The Jacobian of a one-hot row, `diag(S) - S Sᵀ`, is zero: |dW_q| is exactly 0 in
# the upper blocks, which can never learn where to look, while |dW_gate| beside it stands at 1e51. With x entering at
# variance 1, float64 itself gives up.
#
# **With pre-LayerNorm.** Each branch reads a normalised input, so it adds much the same variance however large x has
# become. The variance does not stay at 1. It grows, but roughly in proportion to depth; hence the final LayerNorm
# before W_lm. Downwards, the shortcut passes dx on unchanged, and LayerNorm divides what the branch adds by std,
# which is larger the higher the block: |dx| grows slowly. The jump at level 0 is the same 1/std: x enters with std
# 0.3, and LayerNorm's backward divides by it.
#
# So pre-LayerNorm is not what makes gradients equal at every level. It turns growth that is exponential, or worse,
# into growth that training can live with.

# %% [markdown]
# ## The optimizer
#
# Plain Adam: running means of the gradient and of its square, both corrected for having started at zero. The step is
# the first over the root of the second, so the *size* of a gradient cancels, and of a steady gradient only the sign
# of each entry is left. Remember that for the end.


# %%
def adam_step(parameters, gradients, moments, step, learning_rate):
    """One update in place; `moments` keeps the two running means per tensor, and `step` counts from 1."""
    for name, gradient in gradients.items():
        first, second = moments.get(name, (0.0, 0.0))
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        moments[name] = first, second
        corrected_first, corrected_second = first / (1 - 0.9**step), second / (1 - 0.999**step)
        parameters[name] -= learning_rate * corrected_first / (np.sqrt(corrected_second) + 1e-8)


# %% [markdown]
# ## SwiGLU against ReLU, with equal parameters
#
# What does the gate buy? A ReLU layer without biases is homogeneous: doubling its input doubles its output, so it
# cannot multiply. SwiGLU can, exactly: two of its units make a product, because σ(a) + σ(-a) = 1:
#
#     silu(a) u - silu(-a) u = a u (σ(a) + σ(-a)) = a u
#
# Conversely relu(a) + relu(-a) = |a| is exact for two ReLU units, and SwiGLU, being smooth, can only come near. The
# comparison asks for both, and for two smooth functions of a random mix of the inputs, which are normalised rows, as
# in a block.


# %%
def fit(forward, backward, weights, x, target, steps=200, learning_rate=0.03):
    """Full-batch Adam on the mean squared error; returns the trained weights."""
    weights, moments = {index: weight.copy() for index, weight in enumerate(weights)}, {}
    for step in range(1, steps + 1):
        y, cache = forward(x, *weights.values())
        dy = 2 * (y - target) / y.size  # loss = mean((y - target)**2)
        adam_step(weights, dict(enumerate(backward(dy, cache)[1:])), moments, step, learning_rate)
    return tuple(weights.values())


# %%
def show_ffn_comparison(rng, C=8, F=16, rows=256):
    layers = {
        "SwiGLU": (swiglu_forward, swiglu_backward, ((C, F), (C, F), (F, C))),
        "ReLU": (relu_ffn_forward, relu_ffn_backward, ((C, 3 * F // 2), (3 * F // 2, C))),
    }
    x, unseen = layer_norm_forward(rng.normal(size=(2, rows, C)), 1.0, 0.0)[0]
    mix = rng.normal(size=(C, C)) / np.sqrt(C)
    print("\nSwiGLU against ReLU: the part of the target's variance left unexplained, on unseen inputs")
    print(f"    {'target (8 outputs)':<26}" + "".join(f"{name:>10}" for name in layers))
    for label, target in (
        ("product  x_i x_(i+1)", lambda x: x * np.roll(x, -1, axis=1)),
        ("absolute value  |x_i|", np.abs),
        ("sin(2 x @ mix)", lambda x: np.sin(2 * x @ mix)),
        ("tanh(2 x @ mix)", lambda x: np.tanh(2 * x @ mix)),
    ):
        cells = []
        for forward, backward, shapes in layers.values():
            weights = [rng.normal(size=shape) / np.sqrt(shape[0]) for shape in shapes]
            weights = fit(forward, backward, weights, x, target(x))
            error = forward(unseen, *weights)[0] - target(unseen)
            cells.append(f"{np.mean(error**2) / np.var(target(unseen)):>10.3f}")
        print(f"    {label:<26}" + "".join(cells))
    counts = [sum(inputs * outputs for inputs, outputs in shapes) for *_, shapes in layers.values()]
    print(f"    {'parameters':<26}" + "".join(f"{count:>10}" for count in counts))


# %%
if __name__ == "__main__":
    show_ffn_comparison(np.random.default_rng(5))

# %% [markdown]
# Each layer wins at what it can do exactly, and of the two smooth targets each takes one. So the gate is no free
# gain: it buys multiplication, at the price of a narrower layer. That this pays in language models is an empirical
# finding about language models, which a toy can neither support nor refute.

# %% [markdown]
# ## Training
#
# Six sentences and a loss at every position. They differ in three words only: who walks, where to, and what is
# ordered at the end. At two positions the word itself does not tell what follows: after *the* comes *harbour* or
# *market*, after *orders* one of three drinks, and the name that decides stands three or nine words back. Only
# attention can look back. Each sentence begins with a name of its own, so a model that uses all it has seen can
# predict every next word, and the loss can go to zero.

# %%
SENTENCES = [
    "alice walks to the harbour every morning and then orders tea .",
    "bob walks to the market every morning and then orders tea .",
    "carol walks to the harbour every morning and then orders coffee .",
    "dave walks to the market every morning and then orders coffee .",
    "erin walks to the harbour every morning and then orders cocoa .",
    "frank walks to the market every morning and then orders cocoa .",
]


# %%
def build_vocabulary(sentences):
    return sorted({word for sentence in sentences for word in sentence.split()})


# %%
def encode(sentence, vocabulary):
    """All words but the last are the tokens; all but the first are the targets: each word's next word."""
    indices = np.array([vocabulary.index(word) for word in sentence.split()])
    return indices[:-1], indices[1:]


# %% [markdown]
# **A quiet start.** W_q, W_k and W_v begin at a hundredth of their usual size. All scores are then nearly equal, so
# each word attends evenly to everything up to it, and what it fetches is next to nothing. The reason is not that
# training needs this. It is that otherwise the attention of chance is mixed with the attention that was learned, and
# nobody can tell them apart. Now, whatever attention does in the end, it has learned. The last section builds on
# this.


# %%
def with_quiet_attention(parameters, factor=0.01):
    """A copy in which W_q, W_k and W_v are multiplied by `factor`."""
    return {name: value * (factor if name in ("W_q", "W_k", "W_v") else 1) for name, value in parameters.items()}


# %%
def train(parameters, sentences, steps=200, learning_rate=0.02, heads=2, frozen=(), backward=model_backward):
    """Trained copies of all but the frozen parameters, and the loss before each step and after the last."""
    parameters = {name: value.copy() for name, value in parameters.items()}
    losses, moments = [], {}
    for step in range(1, steps + 1):
        loss, gradients = batch_loss_and_gradients(parameters, sentences, heads, backward)
        losses.append(loss)
        learned = {name: gradient for name, gradient in gradients.items() if name not in frozen}
        adam_step(parameters, learned, moments, step, learning_rate)
    return parameters, [*losses, batch_loss(parameters, sentences, heads)]


# %% [markdown]
# How low can the loss go *without* looking back? As in chapter 2: for positions that look alike, the best prediction
# is the frequency of their targets.


# %%
def view_without_context(tokens, t):
    return t, tokens[t]


# %%
def loss_floor(sentences, view):
    """The least loss at each of the T positions, (T,), for a model that sees `view(tokens, t)`."""
    T = len(sentences[0][0])
    floor = np.zeros(T)
    for t in range(T):
        targets_by_view = {}
        for tokens, targets in sentences:
            targets_by_view.setdefault(view(tokens, t), []).append(targets[t])
        for seen in targets_by_view.values():
            floor[t] -= sum(np.log(seen.count(target) / len(seen)) for target in seen) / len(sentences)
    return floor


# %%
def print_loss_curves(columns, shown, floor=1e-4, bar=5):
    """The losses of each title side by side; a bar has `bar` characters for each power of ten above `floor`."""
    longest = round(bar * np.log10(10 / floor))
    print("    step  " + "  ".join(f"{title:<{longest + 9}}" for title in columns).rstrip())
    for step in shown:
        cells = []
        for losses in columns.values():
            length = max(0, round(bar * np.log10(losses[step] / floor)))
            cells.append(f"{losses[step]:<8.2g} {'#' * length:<{longest}}")
        print(f"    {step:>4}  " + "  ".join(cells).rstrip())


# %%
SHOWN_STEPS = (0, 5, 10, 20, 30, 40, 60, 80, 100, 150, 200)

if __name__ == "__main__":
    vocabulary = build_vocabulary(SENTENCES)
    sentences = [encode(sentence, vocabulary) for sentence in SENTENCES]
    drawn = initial_parameters(np.random.default_rng(5), len(vocabulary), T_max=11, C=16, F=24)
    initial = with_quiet_attention(drawn)
    trained, losses = train(initial, sentences)
    count = sum(value.size for value in initial.values())
    print(f"\nTraining: {len(sentences)} sentences, {len(vocabulary)} words, {count} parameters")
    print_loss_curves({"mean loss over all positions, with bars on a logarithmic scale": losses}, SHOWN_STEPS)
    print(f"    all words equally likely           {np.log(len(vocabulary)):.3f}")
    print(f"    the floor without looking back     {loss_floor(sentences, view_without_context).mean():.3f}")

# %% [markdown]
# ## What was learned


# %%
def predict(parameters, tokens, heads=2):
    """The next-word probabilities (T, words), and the attention weights (H, T, T)."""
    p = parameters
    x, _ = embedding_forward(tokens, p["E"], p["P"])
    y, (_, _, (*_, attention_cache), _, _) = block_forward(x, p, heads)
    normed_f, _ = layer_norm_forward(y, p["gamma_f"], p["beta_f"])
    probabilities, _ = softmax_forward(normed_f @ p["W_lm"])
    S = attention_cache[3]
    return probabilities, S


# %%
def print_predictions(parameters, sentence, vocabulary):
    tokens, targets = sentence
    probabilities, _ = predict(parameters, tokens)
    print(f"    {'word':<10}{'next word':<12}{'predicted':<12}{'probability':>11}   second")
    for token, target, row in zip(tokens, targets, probabilities, strict=True):
        second, first = np.argsort(row)[-2:]
        print(f"    {vocabulary[token]:<10}{vocabulary[target]:<12}{vocabulary[first]:<12}", end="")
        print(f"{row[first]:>11.4f}   {vocabulary[second]}")


# %%
def print_asking_words(models, tokens, vocabulary, asking=(3, 9)):
    """The attention rows of the words that must look back, as columns: one for each model, asking word and head."""
    columns = {}
    for title, parameters in models.items():
        _, S = predict(parameters, tokens)
        for t in asking:
            for h in range(len(S)):
                columns[title, vocabulary[tokens[t]], f"head {h}"] = S[h, t, : t + 1]
    for line in range(3):
        print(" " * 12 + "".join(f"{column[line]:>10}" for column in columns))
    for t, token in enumerate(tokens[: max(asking) + 1]):
        cells = (f"{weights[t]:10.2f}" if t < len(weights) else " " * 10 for weights in columns.values())
        print(f"    {vocabulary[token]:8}" + "".join(cells).rstrip())


# %%
def generate(parameters, tokens, stop, heads=2):
    """Greedy continuation: append the likeliest word until `stop`, or until P has no row for the last one."""
    tokens = list(tokens)
    while tokens[-1] != stop and len(tokens) <= len(parameters["P"]):
        probabilities, _ = predict(parameters, np.array(tokens), heads)
        tokens.append(int(probabilities[-1].argmax()))
    return tokens


# %%
if __name__ == "__main__":
    print("\nPredictions: every position of the first sentence")
    print_predictions(trained, sentences[0], vocabulary)
    hits = [predict(trained, tokens)[0].argmax(axis=-1) == targets for tokens, targets in sentences]
    print(f"    in all six sentences {np.sum(hits)} of {np.size(hits)} are right")
    print("\nAttention of the two words that must look back, down each column")
    print_asking_words({"untrained": initial, "trained": trained}, sentences[0][0], vocabulary)
    print("\nContinuations: the likeliest word, appended until the full stop")
    for prompt in ("alice", "bob walks", "erin walks to the harbour every morning", "carol walks to the market"):
        tokens = [vocabulary.index(word) for word in prompt.split()]
        continued = generate(trained, tokens, stop=vocabulary.index("."))
        known = any(sentence.startswith(prompt) for sentence in SENTENCES)
        continuation = " ".join(vocabulary[token] for token in continued[len(tokens) :])
        print(f"    {prompt} | {continuation}" + ("" if known else "   (a beginning it never saw)"))

# %% [markdown]
# The loss fell to less than a hundredth of the floor without looking back, so attention does bring what the current
# word cannot know. The columns show how: *the* and *orders* look back at the name, past all that stands between.
# Untrained they look everywhere alike. And the beginning that was never seen ends as the name demands, although the
# place never stood with it: carol orders coffee. The seed was chosen for columns that are easy to read; other seeds
# spread their attention wider, and predict as well.

# %% [markdown]
# ## The trap
#
# Everything above looks right, and is. Would we have noticed if it were not? The planted bug in `block_backward`
# computes
#
#     dW_q = x.T @ dQ
#
# where the forward line Q = normed_1 @ W_q, with normed_1 = LN(x), demands dW_q = normed_1.T @ dQ. The same is done
# to W_k and W_v. The shapes agree. Nothing overflows. The same model starts from the same parameters and is trained
# with these gradients.
#
# Beside it stands a control, in which W_q, W_k and W_v do not learn at all. If that run fared as well, attention
# would have nothing to learn here, and an error in its gradients could not matter. With the quiet start it must fail,
# at least for a long while: what attention fetches remains a hundredth of what it should be.


# %%
def compare_with_bug(parameters, sentences):
    """For W_q, W_k and W_v by name: the wrong gradient's relative error, its cosine with the right one, its size."""
    _, right = batch_loss_and_gradients(parameters, sentences)
    _, wrong = batch_loss_and_gradients(parameters, sentences, backward=model_backward_with_bug)
    rows = {}
    for name in ("W_q", "W_k", "W_v"):
        size_right, size_wrong = np.linalg.norm(right[name]), np.linalg.norm(wrong[name])
        cosine = (right[name] * wrong[name]).sum() / (size_right * size_wrong)
        rows[name] = relative_error(wrong[name], right[name]), cosine, size_wrong / size_right
    return rows


# %%
def parameters_that_hide_the_bug(rng, words=6, T_max=7, C=8, F=12):
    """A point at which x is already normalised: rows of E with mean 0, variance 1; P, beta = 0, gamma = 1."""
    parameters = initial_parameters(rng, words, T_max, C, F)
    parameters["E"], _ = layer_norm_forward(rng.normal(size=(words, C)), 1.0, 0.0, epsilon=0.0)
    parameters["P"] = np.zeros((T_max, C))
    return parameters


# %%
if __name__ == "__main__":
    attention_weights = ("W_q", "W_k", "W_v")
    _, bug_losses = train(initial, sentences, backward=model_backward_with_bug)
    _, frozen_losses = train(initial, sentences, frozen=attention_weights)
    print("\nThe trap: dW_q, dW_k and dW_v taken from x instead of LN(x); the losses side by side")
    columns = {"right": losses, "planted bug": bug_losses, "W_q, W_k, W_v frozen": frozen_losses}
    print_loss_curves(columns, SHOWN_STEPS, bar=3)

    print("\nWhat must learn? The loss after the last step, if these are frozen")
    for title, start, frozen in (
        ("W_q, W_k", initial, ("W_q", "W_k")),
        ("W_v", initial, ("W_v",)),
        ("W_q, W_k, W_v, started at their usual size", drawn, attention_weights),
    ):
        print(f"    {title:<44}{train(start, sentences, frozen=frozen)[1][-1]:.2g}")
    print(f"    {'W_q, W_k, W_v':<44}{frozen_losses[-1]:.2g}")

    print("\nThe wrong gradients at the first step of training")
    for name, (error, cosine, size) in compare_with_bug(initial, sentences).items():
        print(f"    d{name}   relative error {error:.0%}   cosine {cosine:.2f}   size {size:.2f} of the right one's")

    print("\nThe same check as above, of the backward with the bug")
    errors = check_gradients(check_point, [CHECK_SENTENCE], backward=model_backward_with_bug)
    print_check(errors, check_point)

    print("\nWhere even a check sees little: x already normalised, gamma = 1, beta = 0")
    blind_point = parameters_that_hide_the_bug(np.random.default_rng(7))
    errors = check_gradients(blind_point, [CHECK_SENTENCE], backward=model_backward_with_bug)
    print(f"    largest relative error of the wrong backward {max(errors.values()):.0e}, by LayerNorm's epsilon alone")
    print("\nA falling loss proves nothing.")

# %% [markdown]
# The first two curves can hardly be told apart. Yet one backward is right, and the other is wrong in three tensors:
# by about nine tenths at the first step of training, and by more than their own size at the point of the check. The
# control stays at 0.09: attention had to learn, and with wrong gradients it did. The seed matters little. With each
# of the seeds 0 to 9 the first two runs end between 0.0004 and 0.0007; the control ends between 0.06 and 0.16 with
# nine of them, and at 0.009 with one.
#
# What had to learn? Not all three. With W_q and W_k frozen all words attend evenly, and for these sentences that is
# enough if W_v learns. With W_v frozen, the others in time make up for its size. And at their usual size all three
# might have stayed as chance drew them, since E and the later layers arrange themselves around whatever attention
# fetches. From that start the control would have done as well as the right gradient, and the comparison would have
# shown nothing. That is no comfort: a model that learns around random attention learns around wrong gradients too.
#
# Why does the loss not show the bug? LN(x) is x, shifted and stretched row by row, so the wrong gradient points roughly
# where the right one does, as the cosines show. Its size is wrong, but Adam divides by the size. Training is a
# feedback loop, and feedback absorbs errors. That is its strength, and it is what makes the loss useless as a test.
# On a harder problem the same bug may cost accuracy, and nobody would miss it, because nobody has seen the right
# curve.
#
# What does prove something is the table: every entry of every tensor against differences, each layer with a random
# cotangent, at a point where nothing is 0 or 1 by construction. The last figure shows how much the point matters:
# where x is already normalised, x and LN(x) differ by ε alone, and a check with a tolerance of 1e-4 would have let
# the bug pass.
#
# **A falling loss proves nothing.**
