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
# Chapter 1 derived one head of attention: the softmax Jacobian, the transpose in `dW = x.T @ dy`, and the
# sum over all the routes by which a tensor reaches the loss. Chapter 2 split the width into heads and
# added positions and the causal mask. This chapter adds what makes a block trainable at depth (residuals,
# LayerNorm, a feed-forward layer, a sensible initialisation) and closes the circle from tokens to loss:
#
# | step      | forward                                        | shape      | parameters                     |
# |-----------|------------------------------------------------|------------|--------------------------------|
# | embedding | `x = E[tokens] + P[:T]`                        | (T, C)     | E (words, C), P (positions, C) |
# | norm 1    | `a = LN(x)`                                    | (T, C)     | gamma_1, beta_1 (C,)           |
# | attention | `m = MHA(a)`                                   | (T, C)     | W_q, W_k, W_v, W_o (C, C)      |
# | residual  | `h = x + m`                                    | (T, C)     |                                |
# | norm 2    | `b = LN(h)`                                    | (T, C)     | gamma_2, beta_2 (C,)           |
# | SwiGLU    | `f = (silu(b @ W_gate) * (b @ W_up)) @ W_down` | (T, C)     | W_gate, W_up, W_down.T (C, F)  |
# | residual  | `y = h + f`                                    | (T, C)     |                                |
# | norm f    | `n = LN(y)`                                    | (T, C)     | gamma_f, beta_f (C,)           |
# | head      | `logits = n @ W_lm`                            | (T, words) | W_lm (C, words)                |
# | loss      | `mean of -log softmax(logits)[target]`         | scalar     |                                |
#
# T tokens, width C, H heads of width D = C / H, hidden width F, and `words` entries in the vocabulary.
#
# Conventions. `dname` is the derivative of the scalar loss with respect to `name`, and has the shape of
# `name`; it is called the *cotangent* of `name`. Every `*_backward` stands directly below its
# `*_forward`, undoes its lines in reverse order, and quotes beside each line the forward line that it
# undoes. One sentence at a time: there is no batch axis, and the gradients of several sentences simply
# add. (The row form of the softmax in chapter 1 has the letter E for the cotangent of S. Here that
# cotangent is dS, and E is the table of embeddings.)

# %%
import sys

import numpy as np

EPSILON = 1e-5  # LayerNorm's: keeps the division finite when a row is constant
STEP = 1e-5  # of the central differences
LIMIT = 1e-7  # largest relative error that still counts as right

# %% [markdown]
# ## The instrument: central differences
#
# For every single entry t of a tensor, `(L(t + h) - L(t - h)) / 2h` is the derivative up to an error of
# order h² from the Taylor series, plus about 1e-16 / h from rounding. The two balance near the cube root
# of 1e-16, so h = 1e-5.
#
# The error of a tensor is relative: `max|ours - differences| / max|differences|`. The check also demands
# that the differences are not all zero: a tensor without influence on the loss has not been tested.
#
# A layer's output is a tensor, not a scalar, so a layer is tested through `L = sum(dy * y)` with a
# *random* cotangent dy. Never with ones: the rows of a softmax sum to 1 and those of x_hat in LayerNorm
# sum to 0 whatever the input is, so with `dy = 1` both true gradients are identically zero, and a
# backward that returns zeros would pass.


# %%
def numerical_gradient(loss, tensor, step=STEP):
    """d loss() / d tensor, entry by entry; `loss` reads `tensor`, which is changed in place and restored."""
    gradient = np.zeros_like(tensor)
    for index in np.ndindex(tensor.shape):
        kept = tensor[index]
        tensor[index] = kept + step
        above = loss()
        tensor[index] = kept - step
        below = loss()
        tensor[index] = kept
        gradient[index] = (above - below) / (2 * step)
    return gradient


# %%
def relative_error(ours, reference):
    """max|ours - reference| / max|reference|; infinite where the reference is zero: nothing was tested."""
    scale = np.max(np.abs(reference))
    if not scale > 1e-8:  # the differences of a constant are rounding noise, about 1e-11
        return float("inf")
    return float(np.max(np.abs(ours - reference)) / scale)


# %%
def check_layer(name, forward, backward, tensors, rng):
    """Rows (name, shape, error, right): the layer's gradient with respect to each of its tensors, a dict."""
    y, cache = forward(*tensors.values())
    dy = rng.standard_normal(np.shape(y))
    gradients = backward(dy, cache)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    rows = []
    for (tensor_name, tensor), gradient in zip(tensors.items(), gradients, strict=True):
        reference = numerical_gradient(lambda: np.sum(dy * forward(*tensors.values())[0]), tensor)
        error = relative_error(gradient, reference)
        rows.append((f"{name}: {tensor_name}", tensor.shape, error, error <= LIMIT))
    return rows


# %%
def print_check(rows):
    print(f"    {'gradient of':<22}{'shape':>9}   largest relative error")
    for name, shape, error, right in rows:
        if right:
            verdict = "ok"
        elif np.isinf(error):
            verdict = "NOT TESTED: the differences are zero"
        else:
            verdict = f"WRONG by {100 * error:.0f} %" if error >= 0.01 else "WRONG"
        print(f"    {name:<22}{shape!s:>9}   {error:.0e}   {verdict}")


# %% [markdown]
# ## Softmax, once more
#
# `S_i = exp(Z_i) / Σ_j exp(Z_j)` along the last axis. Subtracting the row's maximum changes nothing,
# since it cancels between numerator and denominator, and it keeps exp from overflowing. S does not depend
# on the number subtracted, so for differentiation it is a constant. Chapter 1 folded the N×N Jacobian
# `diag(S) - S Sᵀ` into a row form.


# %%
def softmax_forward(Z):
    exponentials = np.exp(Z - Z.max(axis=-1, keepdims=True))
    S = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return S, S


def softmax_backward(dS, cache):
    S = cache
    return S * (dS - np.sum(dS * S, axis=-1, keepdims=True))  # S = softmax(Z)


# %% [markdown]
# ## LayerNorm: one input, three routes
#
# Each row of x (one token) is shifted to mean 0 and scaled to variance 1 over its C entries, then given a
# learned scale and offset:
#
#     mean     = (1/C) Σ_j x_j
#     variance = (1/C) Σ_j (x_j - mean)²
#     std      = √(variance + ε)
#     x_hat_j  = (x_j - mean) / std
#     y_j      = gamma_j x_hat_j + beta_j
#
# The last line is easy. beta_j is added in every row and gamma_j multiplies in every row, so each gathers
# a sum over the rows: `dbeta = Σ_rows dy`, `dgamma = Σ_rows dy * x_hat`; and `dx_hat = dy * gamma`.
#
# Now one x_i. It reaches the loss by three routes, because x_hat_j is a function of three quantities,
# x_hat_j(x_j, mean, variance), and x_i moves all of them. The total derivative is the sum over the
# routes:
#
#     dx_i  =  Σ_j dx_hat_j ∂x_hat_j/∂x_i   +   dmean · ∂mean/∂x_i   +   dvariance · ∂variance/∂x_i
#              direct                           through the mean         through the variance
#
# **Direct.** With mean and variance held fixed, x_i appears in x_hat_i alone:
#
#     direct_i = dx_hat_i / std
#
# **Through the mean.** The mean is subtracted in every numerator, hence `dmean = -Σ_j dx_hat_j / std`,
# and each x_i contributes 1/C of itself to the mean:
#
#     through_mean_i = dmean / C = -(1/std) · mean_j(dx_hat_j)
#
# **Through the variance ("variance routing").** The variance sits in every denominator. With std = √(v +
# ε),
#
#     d(1/std)/dv = -(1/2) (v + ε)^(-3/2) = -1/(2 std³)
#
# and the three factors of the chain are
#
#     dvariance = Σ_j dx_hat_j (x_j - mean) · (-1/(2 std³)) = -(1/(2 std²)) Σ_j dx_hat_j x_hat_j
#     ∂variance/∂x_i = (2/C) (x_i - mean) = (2/C) std x_hat_i                      (the mean held fixed)
#     through_variance_i = dvariance · ∂variance/∂x_i = -(1/std) · x_hat_i · mean_j(dx_hat_j x_hat_j)
#
# **A fourth route?** The mean also stands inside the variance: x_i -> mean -> variance. That route
# exists, and it carries exactly nothing:
#
#     ∂variance/∂mean = -(2/C) Σ_j (x_j - mean) = 0
#
# because deviations from the mean sum to zero. Put differently, the mean is the very point at which the
# mean squared deviation is smallest, and at a minimum the derivative vanishes.
#
# **The sum.** All three share the factor 1/std:
#
#     dx = (dx_hat - mean(dx_hat) - x_hat * mean(dx_hat * x_hat)) / std
#
# It reads as geometry. The subtractions remove from dx_hat its component along (1, ..., 1) and its
# component along x_hat. They must: shifting a row or stretching it does not change x_hat, so the gradient
# can have no part in those two directions. (For the stretch this holds up to ε, which does not stretch
# along: below, sum(dx * x_hat) is of the size of ε, not of rounding.)


# %%
def layer_norm_forward(x, gamma, beta, epsilon=EPSILON):
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
# The same gradient once more, unfolded: each line is one line of the derivation, and nothing has been
# cancelled.


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
# Derivations can be believed or shown. Here every choice of routes is held against central differences.
# The fourth route is measured as well: the mean is moved by hand, with x held fixed, and the variance
# does not move. One unit away from the mean, where the deviations no longer sum to zero, it does.


# %%
def show_layer_norm(rng):
    x = 3.0 * rng.standard_normal((5, 8)) + 2.0
    gamma = 1.0 + 0.5 * rng.standard_normal(8)
    beta = 0.5 * rng.standard_normal(8)
    dy = rng.standard_normal((5, 8))
    _, cache = layer_norm_forward(x, gamma, beta)
    x_hat, _, _ = cache
    reference = numerical_gradient(lambda: np.sum(dy * layer_norm_forward(x, gamma, beta)[0]), x)
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
        verdict = "ok" if error <= LIMIT else f"WRONG by {100 * error:.0f} %"
        print(f"    {label:<30} relative error {error:.0e}   {verdict}")

    row, mean = x[0], x[0].mean()
    print("    the mean's own effect through the variance (first row):")
    for place, centre in (("at the mean", mean), ("at the mean + 1", mean + 1)):
        above, below = np.mean((row - centre - STEP) ** 2), np.mean((row - centre + STEP) ** 2)
        slope, total = abs(above - below) / (2 * STEP), abs(np.sum(row - centre))
        print(f"        {place:<16} |sum of deviations| {total:.6f}   |d variance / d mean| {slope:.6f}")

    print("    along the two directions that LayerNorm does not see (largest over the rows):")
    for label, direction in (("sum(dx)", np.ones_like(x)), ("sum(dx * x_hat)", x_hat)):
        alone, folded = (np.max(np.abs(np.sum(g * direction, axis=-1))) for g in (direct, dx))
        print(f"        {label:<16} {folded:.0e}   (of the direct route alone: {alone:.1f})")
    _, plain_cache = layer_norm_forward(x, np.ones(8), beta)
    blind, _, _ = layer_norm_backward(np.ones_like(x), plain_cache)
    print(f"    with ones for dy and gamma the test is blind: largest |dx| {np.max(np.abs(blind)):.0e}\n")


# %%
if __name__ == "__main__":
    show_layer_norm(np.random.default_rng(0))

# %% [markdown]
# ## Masked multi-head attention
#
# As in chapter 2. The scores are divided by √D, because a sum of D products of unit variance has variance
# D, and a softmax fed with large scores saturates. The mask is an upper triangle of -1e9. The library
# uses minus infinity instead; the two would differ only where true scores come near -1e9, or in float16,
# whose largest number is 65504.
#
# The input x feeds Q, K and V, so dx is a sum of three.


# %%
def split_heads(x, heads):
    T, C = x.shape
    return x.reshape(T, heads, C // heads).transpose(1, 0, 2)  # (T, C) -> (H, T, D)


def merge_heads(x):
    H, T, D = x.shape
    return x.transpose(1, 0, 2).reshape(T, H * D)  # (H, T, D) -> (T, C)


# %%
def multi_head_attention_forward(x, W_q, W_k, W_v, W_o, heads):
    T, C = x.shape
    scale = 1 / np.sqrt(C // heads)
    Q = split_heads(x @ W_q, heads)  # (H, T, D)
    K = split_heads(x @ W_k, heads)
    V = split_heads(x @ W_v, heads)
    mask = np.triu(np.full((T, T), -1e9), k=1)
    Z = scale * Q @ K.transpose(0, 2, 1) + mask  # (H, T, T)
    S, _ = softmax_forward(Z)
    A = S @ V  # (H, T, D)
    M = merge_heads(A)  # (T, C)
    y = M @ W_o
    return y, (x, W_q, W_k, W_v, W_o, Q, K, V, S, M)


def multi_head_attention_backward(dy, cache):
    x, W_q, W_k, W_v, W_o, Q, K, V, S, M = cache
    heads, _, D = Q.shape
    scale = 1 / np.sqrt(D)
    dW_o = M.T @ dy  # y = M @ W_o                                           (C, C)
    dM = dy @ W_o.T  # y = M @ W_o                                           (T, C)
    dA = split_heads(dM, heads)  # M = merge_heads(A)                        (H, T, D)
    dS = dA @ V.transpose(0, 2, 1)  # A = S @ V                              (H, T, T)
    dV = S.transpose(0, 2, 1) @ dA  # A = S @ V                              (H, T, D)
    dZ = softmax_backward(dS, S)  # S = softmax(Z)                           (H, T, T)
    dQ = scale * dZ @ K  # Z = scale * Q @ K.T + mask                        (H, T, D)
    dK = scale * dZ.transpose(0, 2, 1) @ Q  # Z = scale * Q @ K.T + mask     (H, T, D)
    dQ, dK, dV = (merge_heads(d) for d in (dQ, dK, dV))  # Q = split_heads(...), also K, V: (T, C)
    dW_q = x.T @ dQ  # Q = x @ W_q                                           (C, C)
    dW_k = x.T @ dK  # K = x @ W_k                                           (C, C)
    dW_v = x.T @ dV  # V = x @ W_v                                           (C, C)
    dx = dQ @ W_q.T + dK @ W_k.T + dV @ W_v.T  # x feeds Q, K and V          (T, C)
    return dx, dW_q, dW_k, dW_v, dW_o


# %% [markdown]
# ## The feed-forward layer: SwiGLU
#
#     gate = x @ W_gate          silu(a) = a σ(a),   σ(a) = 1 / (1 + exp(-a))
#     up   = x @ W_up
#     y    = (silu(gate) * up) @ W_down
#
# A product has two factors, so each one's cotangent is the other factor times the cotangent of the
# product. For silu, the product rule and `σ' = σ (1 - σ)` give
#
#     silu'(a) = σ(a) + a σ(a) (1 - σ(a)) = σ(a) (1 + a (1 - σ(a)))
#
# x feeds gate and up: a sum of two. σ is computed as `(1 + tanh(a/2)) / 2`, an identity that never
# overflows.


# %%
def sigmoid(a):
    return 0.5 * (1 + np.tanh(0.5 * a))


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
# The classical layer, for comparison. SwiGLU has three matrices, 3·C·F numbers; this one has two, so that
# a hidden width of 3F/2 makes the counts equal. relu has no derivative at 0; taking 0 there is the
# custom. A central difference that straddles the kink would be meaningless; the check below has ninety
# such inputs, and none lies within reach of its step.


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
# ## Cross-entropy over all positions
#
#     loss = (1/T) Σ_t -log softmax(logits_t)[target_t]
#          = (1/T) Σ_t (log Σ_v exp(logits_tv) - logits_t[target_t])
#
# The derivative of log Σ exp is the softmax itself, so its Jacobian is not needed. What remains is
# *probability minus truth*:
#
#     dlogits_t = (softmax(logits_t) - onehot(target_t)) / T


# %%
def cross_entropy_forward(logits, targets):
    T = len(targets)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_sum = np.log(np.sum(np.exp(shifted), axis=-1))  # (T,)
    loss = np.mean(log_sum - shifted[np.arange(T), targets])  # scalar
    return loss, (logits, targets)


def cross_entropy_backward(dloss, cache):
    logits, targets = cache
    T = len(targets)
    dlogits, _ = softmax_forward(logits)  # loss = mean(log_sum - ...)       (T, words)
    dlogits[np.arange(T), targets] -= 1  # loss = mean(... - logits[target])
    return dloss * dlogits / T


# %% [markdown]
# ## Embedding
#
# A lookup is a product with one-hot rows, so its backward adds each row's cotangent to the row of E that
# was read. A word that occurs twice must receive both: `np.add.at` accumulates, whereas `dE[tokens] +=
# dx` keeps only one of them.


# %%
def embedding_forward(tokens, E, P):
    x = E[tokens] + P[: len(tokens)]  # (T, C)
    return x, (tokens, E.shape, P.shape)


def embedding_backward(dx, cache):
    tokens, shape_E, shape_P = cache
    dP = np.zeros(shape_P)
    dP[: len(tokens)] = dx  # x = ... + P[:T]
    dE = np.zeros(shape_E)
    np.add.at(dE, tokens, dx)  # x = E[tokens] + ...
    return dE, dP


# %% [markdown]
# ## The block
#
# A residual `h = x + m(x)` sends x along two routes, the shortcut and the branch, so its backward is
# again a sum: the cotangent itself plus what comes back through the branch. That bare `dy +` is why depth
# does not starve the lower layers.
#
# The backward has an argument that no library should have. With `planted_bug=True` it makes one mistake,
# which the last section of this chapter is about: the attention's weights take their gradients from x
# instead of a = LN(x), as if the wrong tensor had been cached. Everything else stays right.


# %%
def block_forward(x, parameters, heads):
    p = parameters
    a, cache_a = layer_norm_forward(x, p["gamma_1"], p["beta_1"])
    m, cache_m = multi_head_attention_forward(a, p["W_q"], p["W_k"], p["W_v"], p["W_o"], heads)
    h = x + m
    b, cache_b = layer_norm_forward(h, p["gamma_2"], p["beta_2"])
    f, cache_f = swiglu_forward(b, p["W_gate"], p["W_up"], p["W_down"])
    y = h + f
    return y, (x, cache_a, cache_m, cache_b, cache_f)


def block_backward(dy, cache, planted_bug=False):
    x, cache_a, cache_m, cache_b, cache_f = cache
    if planted_bug:
        cache_m = (x, *cache_m[1:])  # x where a = LN(x) belongs: dW_q = x.T @ dQ, and so on
    g = {}
    # y = h + f: h goes straight to y, and through LN and SwiGLU. The cotangent of f is dy itself.
    db, g["W_gate"], g["W_up"], g["W_down"] = swiglu_backward(dy, cache_f)  # f = SwiGLU(b)
    dh, g["gamma_2"], g["beta_2"] = layer_norm_backward(db, cache_b)  # b = LN(h)
    dh = dy + dh  # y = h + f
    # h = x + m: likewise for x, and the cotangent of m is dh itself.
    da, g["W_q"], g["W_k"], g["W_v"], g["W_o"] = multi_head_attention_backward(dh, cache_m)  # m = MHA(a)
    dx, g["gamma_1"], g["beta_1"] = layer_norm_backward(da, cache_a)  # a = LN(x)
    dx = dh + dx  # h = x + m
    return dx, g


# %% [markdown]
# The same block without its two LayerNorms. Nobody trains this one; the section on initialisation
# measures what becomes of it.


# %%
def block_without_norm_forward(x, parameters, heads):
    p = parameters
    m, cache_m = multi_head_attention_forward(x, p["W_q"], p["W_k"], p["W_v"], p["W_o"], heads)
    h = x + m
    f, cache_f = swiglu_forward(h, p["W_gate"], p["W_up"], p["W_down"])
    y = h + f
    return y, (cache_m, cache_f)


def block_without_norm_backward(dy, cache):
    cache_m, cache_f = cache
    g = {}
    dh, g["W_gate"], g["W_up"], g["W_down"] = swiglu_backward(dy, cache_f)  # f = SwiGLU(h)
    dh = dy + dh  # y = h + f
    dx, g["W_q"], g["W_k"], g["W_v"], g["W_o"] = multi_head_attention_backward(dh, cache_m)  # m = MHA(x)
    dx = dh + dx  # h = x + m
    return dx, g


# %% [markdown]
# ## The model
#
# Every W starts with a standard deviation of 1/√(its number of inputs); the section on initialisation
# says why. E and P are looked up, not multiplied, so fan-in says nothing about them, and from what
# attention reads LayerNorm divides their scale out. A small scale, here 0.1, lets the first updates move
# them far in proportion.


# %%
def initial_parameters(rng, vocabulary, positions, width, hidden):
    def weight(inputs, outputs):
        return rng.standard_normal((inputs, outputs)) / np.sqrt(inputs)

    return {
        "E": 0.1 * rng.standard_normal((vocabulary, width)),
        "P": 0.1 * rng.standard_normal((positions, width)),
        "gamma_1": np.ones(width),
        "beta_1": np.zeros(width),
        "W_q": weight(width, width),
        "W_k": weight(width, width),
        "W_v": weight(width, width),
        "W_o": weight(width, width),
        "gamma_2": np.ones(width),
        "beta_2": np.zeros(width),
        "W_gate": weight(width, hidden),
        "W_up": weight(width, hidden),
        "W_down": weight(hidden, width),
        "gamma_f": np.ones(width),
        "beta_f": np.zeros(width),
        "W_lm": weight(width, vocabulary),
    }


# %%
def logits_forward(parameters, tokens, heads):
    p = parameters
    x, cache_embedding = embedding_forward(tokens, p["E"], p["P"])
    y, cache_block = block_forward(x, p, heads)
    n, cache_norm = layer_norm_forward(y, p["gamma_f"], p["beta_f"])
    logits = n @ p["W_lm"]  # (T, words)
    return logits, (cache_embedding, cache_block, cache_norm, n, p["W_lm"])


def logits_backward(dlogits, cache, planted_bug=False):
    cache_embedding, cache_block, cache_norm, n, W_lm = cache
    g = {}
    g["W_lm"] = n.T @ dlogits  # logits = n @ W_lm
    dn = dlogits @ W_lm.T  # logits = n @ W_lm                               (T, C)
    dy, g["gamma_f"], g["beta_f"] = layer_norm_backward(dn, cache_norm)  # n = LN(y)
    dx, g_block = block_backward(dy, cache_block, planted_bug)  # y = block(x)
    g["E"], g["P"] = embedding_backward(dx, cache_embedding)  # x = E[tokens] + P[:T]
    return g | g_block


# %%
def model_forward(parameters, tokens, targets, heads):
    logits, cache_logits = logits_forward(parameters, tokens, heads)
    loss, cache_loss = cross_entropy_forward(logits, targets)
    return loss, (cache_logits, cache_loss)


def model_backward(dloss, cache, planted_bug=False):
    cache_logits, cache_loss = cache
    dlogits = cross_entropy_backward(dloss, cache_loss)  # loss = cross_entropy(logits, targets)
    return logits_backward(dlogits, cache_logits, planted_bug)  # logits = head(LN(block(embedding)))


# %% [markdown]
# ## The proof
#
# First every layer on its own, then every entry of every parameter of the whole model. The point at which
# a gradient is checked matters as much as the check. At the initial values gamma = 1 and beta = 0, a
# backward that forgets gamma is still right. So the parameters are drawn anew: gamma and beta away from 1
# and 0, embeddings with a scale and an offset of their own, and a sentence in which words recur.


# %%
def check_layers(rng, T=5, C=8, F=12, words=7, heads=2):
    """Every layer against central differences, with respect to each of its tensors."""

    def draw(*shape):
        return rng.standard_normal(shape)

    targets = rng.integers(0, words, T)
    gamma, beta = 1.0 + 0.5 * draw(C), 0.5 * draw(C)
    weights = initial_parameters(rng, words, T, C, F) | {"gamma_1": gamma, "beta_1": beta}
    W_q, W_k, W_v, W_o = draw(4, C, C) / np.sqrt(C)
    layers = (
        ("softmax", softmax_forward, softmax_backward, {"Z": draw(T, C)}),
        (
            "LayerNorm",
            layer_norm_forward,
            layer_norm_backward,
            {"x": 2.0 * draw(T, C) + 1.0, "gamma": gamma, "beta": beta},
        ),
        (
            "LayerNorm's routes",
            lambda x: layer_norm_forward(x, gamma, beta),
            lambda dy, cache: sum(layer_norm_routes(dy, cache)),
            {"x": 2.0 * draw(T, C) + 1.0},
        ),
        (
            "attention",
            lambda *tensors: multi_head_attention_forward(*tensors, heads),
            multi_head_attention_backward,
            {"x": draw(T, C), "W_q": W_q, "W_k": W_k, "W_v": W_v, "W_o": W_o},
        ),
        (
            "SwiGLU",
            swiglu_forward,
            swiglu_backward,
            {"x": draw(T, C), "W_gate": draw(C, F), "W_up": draw(C, F), "W_down": draw(F, C)},
        ),
        (
            "ReLU",
            relu_ffn_forward,
            relu_ffn_backward,
            {"x": draw(T, C), "W_1": draw(C, 3 * F // 2), "W_2": draw(3 * F // 2, C)},
        ),
        (
            "cross-entropy",
            lambda logits: cross_entropy_forward(logits, targets),
            cross_entropy_backward,
            {"logits": draw(T, words)},
        ),
        (
            "block",
            lambda x: block_forward(x, weights, heads),
            lambda dy, cache: block_backward(dy, cache)[0],
            {"x": draw(T, C)},
        ),
        (
            "block without norm",
            lambda x: block_without_norm_forward(x, weights, heads),
            lambda dy, cache: block_without_norm_backward(dy, cache)[0],
            {"x": draw(T, C)},
        ),
    )
    return [row for layer in layers for row in check_layer(*layer, rng)]


# %%
def parameters_for_check(rng, vocabulary=6, positions=7, width=8, hidden=12):
    """Initial parameters, moved away from every value at which a mistake could hide."""
    parameters = initial_parameters(rng, vocabulary, positions, width, hidden)
    for name, tensor in parameters.items():
        if name.startswith(("gamma", "beta")):
            tensor += 0.3 * rng.standard_normal(tensor.shape)
    parameters["E"] = 1.5 * rng.standard_normal((vocabulary, width)) + 1.0
    parameters["P"] = 0.5 * rng.standard_normal((positions, width))
    return parameters


# %%
def check_gradients(parameters, tokens, targets, heads, planted_bug=False, step=STEP, limit=LIMIT):
    """Rows (name, shape, error, right) for every parameter of the model, each entry by differences."""

    def loss():
        return model_forward(parameters, tokens, targets, heads)[0]

    _, cache = model_forward(parameters, tokens, targets, heads)
    gradients = model_backward(1.0, cache, planted_bug)
    rows = []
    for name, tensor in parameters.items():
        error = relative_error(gradients[name], numerical_gradient(loss, tensor, step))
        rows.append((name, tensor.shape, error, error <= limit))
    return rows


# %%
CHECK_TOKENS = np.array([2, 0, 3, 0, 5, 2])  # 0 and 2 recur
CHECK_TARGETS = np.array([0, 3, 0, 5, 2, 1])

if __name__ == "__main__":
    print("The proof, layer by layer: random cotangents, every entry against central differences")
    layer_rows = check_layers(np.random.default_rng(1))
    print_check(layer_rows)
    print("\nThe proof, the whole model: every entry of every parameter against central differences")
    check_point = parameters_for_check(np.random.default_rng(2))
    model_rows = check_gradients(check_point, CHECK_TOKENS, CHECK_TARGETS, heads=2)
    print_check(model_rows)
    if not all(right for *_, right in layer_rows + model_rows):
        print("    a gradient is wrong: nothing will be trained with it")
        sys.exit(1)
    print(f"    every error is below {LIMIT:.0e}\n")

# %% [markdown]
# ## Initialisation
#
# Let `y_j = Σ_i x_i W_ij` with N independent inputs of variance 1 and weights of mean 0 and variance v.
# The N terms are uncorrelated, so Var(y_j) = N v. One layer multiplies the variance by N v, and L layers
# by (N v)^L: only v = 1/N, a standard deviation of 1/√N, neither explodes nor vanishes. The last column
# below is this theory at the last depth; single chains scatter about it, the more the deeper.
#
# The backward `dx = dy @ W.T` is a product too, but it sums over the *outputs*. It keeps the cotangent's
# variance if v = 1/out. Where in ≠ out, forward and backward cannot both be served:
#
# - **Xavier** takes v = 2/(in + out), the harmonic mean of 1/in and 1/out: a compromise between forward
#   and backward, and 1/N again where the matrix is square.
# - **He** takes v = 2/in: a ReLU sets half of a symmetric variable to zero, E[relu(z)²] = Var(z)/2, and
#   the 2 gives back what the ReLU takes.


# %%
def bare_chain(rng, std, depths, width=256, rows=4, draws=8, relu=False):
    """E[x²] after `depth` products x @ W with W of the given std, averaged over independent chains."""
    # Few rows and several chains: rows of one chain share its matrices, so they say the same thing again.
    measured = dict.fromkeys(depths, 0.0)
    for _ in range(draws):
        x = rng.standard_normal((rows, width))
        for depth in range(1, max(depths) + 1):
            x = (np.maximum(x, 0) if relu else x) @ (std * rng.standard_normal((width, width)))
            if depth in measured:
                measured[depth] += np.mean(x**2) / draws
    return measured


# %%
def show_bare_chain(rng, width=256, depths=(1, 2, 4, 8, 16, 32)):
    print(f"Initialisation, a bare chain: the variance after repeated x @ W, width N = {width}")
    print(f"    {'std of W':<28}" + "".join(f"{f'depth {depth}':>10}" for depth in depths) + "    theory")
    for label, std, relu in (
        ("1/√N", 1 / np.sqrt(width), False),
        ("1", 1.0, False),
        ("0.5/√N", 0.5 / np.sqrt(width), False),
        ("0.02", 0.02, False),
        ("1/√N, ReLU between", 1 / np.sqrt(width), True),
        ("√(2/N) (He), ReLU between", np.sqrt(2 / width), True),
    ):
        measured = bare_chain(rng, std, depths, width, relu=relu)
        factor = width * std**2 / (2 if relu else 1)  # of one layer
        cells = [*measured.values(), factor ** depths[-1]]
        print(f"    {label:<28}" + "".join(f"{value:>10.2g}" for value in cells))
    inputs, outputs = 256, 1024
    print(f"    a matrix that is not square, {inputs} -> {outputs}: the variance that comes out if 1 goes in")
    print(f"    {'variance of W':<28}{'forward':>10}{'backward':>10}")
    x, dy = rng.standard_normal((256, inputs)), rng.standard_normal((256, outputs))
    for label, variance in (
        ("1/in", 1 / inputs),
        ("1/out", 1 / outputs),
        ("2/(in+out) (Xavier)", 2 / (inputs + outputs)),
    ):
        W = np.sqrt(variance) * rng.standard_normal((inputs, outputs))
        print(f"    {label:<28}{np.var(x @ W):>10.2f}{np.var(dy @ W.T):>10.2f}")
    print()


# %%
if __name__ == "__main__":
    show_bare_chain(np.random.default_rng(3))

# %% [markdown]
# A Transformer is no bare chain: it has residuals, a softmax and a product of two activations. So the
# same measurement on a stack of real blocks, forward and backward, once with LayerNorm and once without.


# %%
def stack_statistics(rng, forward, backward, scale=0.3, depth=12, tokens=16, width=64, hidden=128, heads=4):
    """Rows (level, Var(x), |dx|, |dW_q|, |dW_gate|); level n lies below block n: x enters, dx leaves it."""
    x = scale * rng.standard_normal((tokens, width))
    variances, caches = [], []
    for _ in range(depth):
        variances.append(np.var(x))
        x, cache = forward(x, initial_parameters(rng, 1, 1, width, hidden), heads)
        caches.append(cache)
    dx = rng.standard_normal(x.shape)
    dx /= np.linalg.norm(dx)
    rows = [(depth, np.var(x), 1.0, None, None)]  # above the last block
    for level in reversed(range(depth)):
        dx, g = backward(dx, caches[level])
        rows.append((level, variances[level], *map(np.linalg.norm, (dx, g["W_q"], g["W_gate"]))))
    return rows[::-1]


# %%
def show_stacks():
    with_norm = stack_statistics(np.random.default_rng(4), block_forward, block_backward)
    bare = (block_without_norm_forward, block_without_norm_backward)
    without_norm = stack_statistics(np.random.default_rng(4), *bare)
    with np.errstate(all="ignore"):  # this one is meant to overflow
        overflowing = stack_statistics(np.random.default_rng(4), *bare, scale=1.0)

    print("Initialisation, a stack of 12 fresh blocks: x enters below with std 0.3, dy above with norm 1")
    print(f"           {'with pre-LayerNorm':<40}without")
    print("    level" + 2 * f"{'Var(x)':>10}{'|dx|':>10}{'|dW_q|':>10}{'|dW_gate|':>10}")
    for level, *_ in with_norm:
        values = with_norm[level][1:] + without_norm[level][1:]
        cells = "".join(" " * 10 if value is None else f"{value:>10.2g}" for value in values)
        print(f"    {level:>5}{cells}".rstrip())
    lost = next(level for level, variance, *_ in overflowing if not np.isfinite(variance))
    print(f"    without, and x entering with std 1: the variance overflows float64 at level {lost}\n")


# %%
if __name__ == "__main__":
    show_stacks()

# %% [markdown]
# **Without LayerNorm.** SwiGLU is a product of two factors that each grow with x. While x is small it
# adds next to nothing. Once the variance has passed 1, doubling x about quadruples the output, so each
# block squares the scale: from level 6 on, the exponent of the variance about doubles in every row. The
# exponent of a bare chain only grows in proportion to depth. The gradient meets the same factors on its
# way down. And where x is huge, the scores are huge, and the softmax is exactly one-hot. The Jacobian of
# a one-hot row, `diag(S) - S Sᵀ`, is zero: |dW_q| is exactly 0 in the upper blocks, which can never learn
# where to look, while |dW_gate| beside it stands at 1e51. With x entering at variance 1, float64 itself
# gives up.
#
# **With pre-LayerNorm.** Each branch reads a normalised input, so it adds much the same variance however
# large x has become. The variance does not stay at 1. It grows, but roughly in proportion to depth; hence
# the final LayerNorm before W_lm. Downwards, the shortcut passes dx on unchanged, and LayerNorm divides
# what the branch adds by std, which is larger the higher the block: |dx| grows slowly. The jump at level
# 0 is the same 1/std: x enters with std 0.3, and LayerNorm's backward divides by it.
#
# So pre-LayerNorm is not what makes gradients equal at every level. It turns growth that is exponential,
# or worse, into growth that training can live with.

# %% [markdown]
# ## The optimiser
#
# Plain Adam: running means of the gradient and of its square, both corrected for having started at zero.
# The step is their quotient, so the *size* of a gradient cancels and only its direction, entry by entry,
# is left. Remember that for the end.


# %%
def adam_step(parameters, gradients, moments, step, rate):
    """One update in place; `moments` keeps the two running means per tensor, and `step` counts from 1."""
    for name, gradient in gradients.items():
        first, second = moments.get(name, (0.0, 0.0))
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        moments[name] = first, second
        parameters[name] -= rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)


# %% [markdown]
# ## SwiGLU against ReLU, with equal parameters
#
# What does the gate buy? A ReLU layer without biases is homogeneous: relu(2x) = 2 relu(x), so doubling
# its input doubles its output, always. It cannot multiply. SwiGLU multiplies two linear functions of x,
# and two of its units make an exact product, because σ(a) + σ(-a) = 1:
#
#     silu(a) u - silu(-a) u = a u (σ(a) + σ(-a)) = a u
#
# Conversely relu(a) + relu(-a) = |a| is exact for two ReLU units, and SwiGLU, being smooth, can only come
# near. The comparison asks for both, and for two smooth functions of a random mix of the inputs. The
# inputs are normalised rows, which is what the layer is fed with in a block.


# %%
def fit(forward, backward, weights, x, target, steps=200, rate=0.03):
    """Full-batch Adam on the mean squared error; returns the trained weights."""
    weights, moments = {index: weight.copy() for index, weight in enumerate(weights)}, {}
    for step in range(1, steps + 1):
        y, cache = forward(x, *weights.values())
        dy = 2 * (y - target) / y.size  # loss = mean((y - target)**2)
        adam_step(weights, dict(enumerate(backward(dy, cache)[1:])), moments, step, rate)
    return tuple(weights.values())


# %%
def exact_product_weights(width):
    """SwiGLU weights with 2 * width hidden units for y_i = x_i x_(i+1), cyclically."""
    identity = np.eye(width)
    following = np.roll(identity, 1, axis=0)  # entry i of x @ following is x_(i+1)
    return (
        np.hstack([identity, -identity]),
        np.hstack([following, following]),
        np.vstack([identity, -identity]),
    )


# %%
def exact_absolute_weights(width):
    """ReLU weights with 2 * width hidden units for y_i = |x_i|."""
    identity = np.eye(width)
    return np.hstack([identity, -identity]), np.vstack([identity, identity])


# %%
def show_ffn_comparison(rng, C=8, F=16, rows=512, repeats=2):
    layers = {
        "SwiGLU": (swiglu_forward, swiglu_backward, ((C, F), (C, F), (F, C))),
        "ReLU": (relu_ffn_forward, relu_ffn_backward, ((C, 3 * F // 2), (3 * F // 2, C))),
    }

    def draw(shapes):
        return tuple(rng.standard_normal(shape) / np.sqrt(shape[0]) for shape in shapes)

    def product(x):
        return x * np.roll(x, -1, axis=1)

    x, fresh = layer_norm_forward(rng.standard_normal((2, rows, C)), 1.0, 0.0)[0]
    (mix,) = draw([(C, C)])
    print("SwiGLU against ReLU: the part of the target's variance left unexplained, on fresh inputs")
    print(f"    {'target (8 outputs)':<26}" + "".join(f"{name:>10}" for name in layers))
    for label, target in (
        ("product  x_i x_(i+1)", product),
        ("absolute value  |x_i|", np.abs),
        ("sin(2 x @ mix)", lambda x: np.sin(2 * x @ mix)),
        ("tanh(2 x @ mix)", lambda x: np.tanh(2 * x @ mix)),
    ):
        left = dict.fromkeys(layers, 0.0)
        for name, (forward, backward, shapes) in layers.items():
            for _ in range(repeats):
                weights = fit(forward, backward, draw(shapes), x, target(x))
                error = forward(fresh, *weights)[0] - target(fresh)
                left[name] += np.mean(error**2) / np.var(target(fresh)) / repeats
        print(f"    {label:<26}" + "".join(f"{value:>10.3f}" for value in left.values()))

    by_hand = (
        swiglu_forward(fresh, *exact_product_weights(C))[0] - product(fresh),
        relu_ffn_forward(fresh, *exact_absolute_weights(C))[0] - np.abs(fresh),
    )
    counts, growth = [], []
    for forward, _, shapes in layers.values():
        weights = draw(shapes)
        once, twice = (np.linalg.norm(forward(factor * fresh, *weights)[0]) for factor in (1, 2))
        counts.append(sum(W.size for W in weights))
        growth.append(twice / once)
    print(f"    {'parameters':<26}" + "".join(f"{count:>10}" for count in counts))
    print(f"    {'twice x: |y| grows by':<26}" + "".join(f"{factor:>10.2f}" for factor in growth))
    print(f"    {'exact by hand, error':<26}" + "".join(f"{np.max(np.abs(e)):>10.0e}" for e in by_hand))
    print("    (by hand: SwiGLU's product and ReLU's absolute value)\n")


# %%
if __name__ == "__main__":
    show_ffn_comparison(np.random.default_rng(5))

# %% [markdown]
# Each layer wins at what it can do exactly, and of the two smooth targets each takes one. So the gate is
# no free gain: it buys multiplication, at the price of a narrower layer. That this pays in language
# models is an empirical finding about language models, which a toy can neither support nor refute.

# %% [markdown]
# ## Training
#
# Four sentences and a loss at every position. They are chosen so that the previous word is not enough:
# "drinks" is followed by "green" or "black", according to who drinks, and "every" by "morning" or
# "evening". Only attention can look back. Each sentence begins with a word of its own, so a model that
# uses all it has seen can predict every next word.

# %%
SENTENCES = (
    "alice drinks green tea every morning .",
    "bob drinks black coffee every evening .",
    "carol reads old books every evening .",
    "dave reads new papers every morning .",
)
HEADS = 2


# %%
def encode(sentences):
    """The vocabulary, and for each sentence (tokens, targets); the targets are the tokens one step ahead."""
    words = sorted({word for sentence in sentences for word in sentence.split()})
    encoded = [np.array([words.index(word) for word in sentence.split()]) for sentence in sentences]
    return words, [(ids[:-1], ids[1:]) for ids in encoded]


# %% [markdown]
# A batch is a loop: its loss is the mean over the sentences, so each sentence receives the cotangent 1/n,
# and the gradients add.


# %%
def batch_gradients(parameters, pairs, heads, planted_bug=False):
    total_loss, total = 0.0, {name: np.zeros_like(tensor) for name, tensor in parameters.items()}
    for tokens, targets in pairs:
        loss, cache = model_forward(parameters, tokens, targets, heads)
        total_loss += loss / len(pairs)
        for name, gradient in model_backward(1 / len(pairs), cache, planted_bug).items():
            total[name] += gradient
    return total_loss, total


# %%
def train(parameters, pairs, heads, steps=400, rate=0.02, planted_bug=False, frozen=()):
    """Trained copies of the parameters, and the loss before every step and after the last."""
    parameters = {name: tensor.copy() for name, tensor in parameters.items()}
    losses, moments = [], {}
    for step in range(1, steps + 1):
        loss, gradients = batch_gradients(parameters, pairs, heads, planted_bug)
        losses.append(loss)
        gradients = {name: gradient for name, gradient in gradients.items() if name not in frozen}
        adam_step(parameters, gradients, moments, step, rate)
    losses.append(batch_gradients(parameters, pairs, heads)[0])
    return parameters, losses


# %%
def loss_without_context(pairs):
    """The least loss of any model that sees only the current token and its position: a mean entropy."""
    following = {}
    for tokens, targets in pairs:
        for position, (token, target) in enumerate(zip(tokens, targets, strict=True)):
            following.setdefault((position, token), []).append(target)
    entropies = []
    for targets in following.values():
        p = np.unique(targets, return_counts=True)[1] / len(targets)
        entropies += len(targets) * [-np.sum(p * np.log(p))]
    return float(np.mean(entropies))


# %%
def print_losses(columns, shown, floor=1e-5, bar=5):
    """Pairs (label, losses) side by side; a bar has `bar` characters for each power of ten above `floor`."""
    longest = round(bar * np.log10(10 / floor))
    print("    step  " + "  ".join(f"{label:<{longest + 9}}" for label, _ in columns).rstrip())
    for step in shown:
        cells = []
        for _, losses in columns:
            length = max(0, round(bar * np.log10(losses[step] / floor)))
            cells.append(f"{losses[step]:<8.2g} {'#' * length:<{longest}}")
        print(f"    {step:>4}  " + "  ".join(cells).rstrip())


# %%
SHOWN_STEPS = (0, 10, 20, 30, 40, 60, 80, 120, 160, 240, 320, 400)

if __name__ == "__main__":
    words, pairs = encode(SENTENCES)
    initial = initial_parameters(np.random.default_rng(6), len(words), positions=8, width=16, hidden=24)
    trained, losses = train(initial, pairs, HEADS)
    size = sum(tensor.size for tensor in initial.values())
    print(f"Training: {len(pairs)} sentences, {len(words)} words, {size} parameters; loss over all positions")
    print_losses([("loss, with bars on a logarithmic scale", losses)], SHOWN_STEPS)
    print(f"    all words equally likely: {np.log(len(words)):.3f}")
    print(f"    the best without looking back: {loss_without_context(pairs):.3f}\n")

# %% [markdown]
# ## What was learned


# %%
def attention_probabilities(parameters, tokens, heads):
    x, _ = embedding_forward(tokens, parameters["E"], parameters["P"])
    _, (_, _, cache_m, _, _) = block_forward(x, parameters, heads)
    *_, S, _ = cache_m
    return S  # (H, T, T)


# %%
def print_predictions(parameters, pair, words, heads):
    tokens, targets = pair
    S, _ = softmax_forward(logits_forward(parameters, tokens, heads)[0])
    print(f"    {'token':<10}{'target':<10}{'predicted':<10}{'probability':>11}   second")
    for token, target, row in zip(tokens, targets, S, strict=True):
        second, first = np.argsort(row)[-2:]
        named = "".join(f"{words[index]:<10}" for index in (token, target, first))
        print(f"    {named}{row[first]:>11.4f}   {words[second]}")


# %%
def print_attention(parameters, tokens, words, heads):
    S = attention_probabilities(parameters, tokens, heads)
    labels = [words[token] for token in tokens]
    for head in range(heads):
        print(f"    {f'head {head + 1}':<10}" + "".join(f"{label:>9}" for label in labels))
        for t, label in enumerate(labels):
            print(f"    {label:<10}" + "".join(f"{value:>9.2f}" for value in S[head, t, : t + 1]))


# %%
def generate(parameters, tokens, heads, count, stop=None):
    """Greedy continuation: append the likeliest token `count` times, or until `stop` or the last position."""
    tokens = list(tokens)
    for _ in range(count):
        if len(tokens) == len(parameters["P"]) or (stop is not None and tokens[-1] == stop):
            break
        logits, _ = logits_forward(parameters, np.array(tokens), heads)
        tokens.append(int(np.argmax(logits[-1])))
    return tokens


# %%
if __name__ == "__main__":
    print("Predictions: every position of the first sentence")
    print_predictions(trained, pairs[0], words, HEADS)
    hits = [np.argmax(logits_forward(trained, t, HEADS)[0], axis=-1) == targets for t, targets in pairs]
    print(f"    in all four sentences: {np.sum(hits)} of {np.size(hits)} right")
    print("\nAttention: each row says what that token looks at (later tokens: exactly 0, left blank)")
    print_attention(trained, pairs[0][0], words, HEADS)
    print("\nContinuations: the likeliest word, appended until the full stop")
    for prompt in ("alice", "bob drinks", "carol reads old", "dave reads new papers every", "alice reads"):
        ids = [words.index(word) for word in prompt.split()]
        continued = generate(trained, ids, HEADS, count=7, stop=words.index("."))
        known = any(sentence.startswith(prompt) for sentence in SENTENCES)
        continuation = " ".join(words[token] for token in continued[len(ids) :])
        print(f"    {prompt} | {continuation}" + ("" if known else "   (a beginning it never saw)"))
    print()

# %% [markdown]
# The loss fell far below the best that is possible without looking back, so the model does use what
# attention brings it. The rows themselves deserve caution: a head may look at a word because training
# sent it there, or because its random initial weights did, and the rest of the model made do with it. The
# next section has evidence. And a beginning that it never saw ends in nonsense: four sentences teach four
# sentences.

# %% [markdown]
# ## The trap
#
# Everything above looks right, and is. Would we have noticed if it were not? The planted bug in
# `block_backward` computes
#
#     dW_q = x.T @ dQ         where the forward line  Q = a @ W_q,  a = LN(x),  demands  dW_q = a.T @ dQ
#
# and likewise for W_k and W_v. The shapes agree. Nothing overflows. The same model starts from the same
# parameters and is trained with these gradients. Beside it stands a third run in which W_q, W_k and W_v
# do not learn at all.


# %%
def compare_with_bug(parameters, pairs, heads):
    """Rows (name, cosine between the wrong and the right gradient, size of the wrong over the right)."""
    _, right = batch_gradients(parameters, pairs, heads)
    _, wrong = batch_gradients(parameters, pairs, heads, planted_bug=True)
    rows = []
    for name in ("W_q", "W_k", "W_v"):
        size_right, size_wrong = np.linalg.norm(right[name]), np.linalg.norm(wrong[name])
        cosine = np.sum(right[name] * wrong[name]) / (size_right * size_wrong)
        rows.append((name, float(cosine), float(size_wrong / size_right)))
    return rows


# %%
def parameters_that_hide_the_bug(rng):
    """A point at which x is already normalised: rows of E with mean 0, variance 1; P, beta = 0, gamma = 1."""
    parameters = initial_parameters(rng, vocabulary=6, positions=7, width=8, hidden=12)
    parameters["E"], _ = layer_norm_forward(rng.standard_normal((6, 8)), 1.0, 0.0, epsilon=0.0)
    parameters["P"] = np.zeros((7, 8))
    return parameters


# %%
if __name__ == "__main__":
    print("The trap: dW_q, dW_k and dW_v taken from x instead of LN(x); the losses side by side")
    _, wrong_losses = train(initial, pairs, HEADS, planted_bug=True)
    _, frozen_losses = train(initial, pairs, HEADS, frozen=("W_q", "W_k", "W_v"))
    columns = [("right", losses), ("planted bug", wrong_losses), ("W_q, W_k, W_v frozen", frozen_losses)]
    print_losses(columns, SHOWN_STEPS, bar=3)

    print("\nThe same check as above, of the backward with the bug")
    sentence = (CHECK_TOKENS, CHECK_TARGETS, 2)
    print_check(check_gradients(check_point, *sentence, planted_bug=True))

    print("\nWhy the loss falls nevertheless: the wrong gradient at the first step of training")
    for name, cosine, ratio in compare_with_bug(initial, pairs, HEADS):
        print(f"    d{name}   cosine with the right one {cosine:.2f}   size {ratio:.2f} of the right one's")

    print("\nWhere even a check sees little: x already normalised, gamma = 1, beta = 0")
    blind_point = parameters_that_hide_the_bug(np.random.default_rng(7))
    worst = max(error for _, _, error, _ in check_gradients(blind_point, *sentence, planted_bug=True))
    print(f"    largest relative error of the wrong backward: {worst:.0e}, by LayerNorm's epsilon alone")
    print("\nA falling loss proves nothing.")

# %% [markdown]
# The three curves can hardly be told apart, and for a while the other two are even ahead of the right
# one. Yet one backward is right, one is wrong in three tensors by more than their own size, and one is
# missing for those three.
#
# Why does it work? LN(x) is x, shifted and stretched row by row, so the wrong gradient points roughly
# where the right one does, as the cosines show. Its size is wrong, but Adam divides by the size. And the
# frozen run shows that the other parameters can do without: random attention already tells the beginnings
# apart. Training is a feedback loop, and feedback absorbs errors. That is its strength, and it is what
# makes the loss useless as a test. On a harder problem the same bug may cost accuracy, and nobody would
# miss it, because nobody has seen the right curve.
#
# What does prove something is the table: every entry of every tensor against differences, each layer with
# a random cotangent, at a point where nothing is 0 or 1 by construction. The last figure shows how much
# the point matters: where x is already normalised, x and LN(x) differ by ε alone, and a check with a
# tolerance of 1e-4 would have let the bug pass.
#
# **A falling loss proves nothing.**
