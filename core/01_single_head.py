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
# # 1. A single head of self-attention
#
# This is the first of four steps towards a GPT whose every gradient is written by hand. Nothing comes
# before it: you need calculus and NumPy, and need never have written a backward pass. Three ideas are
# derived here, and each is confirmed by printed numbers:
#
# * **(a) the softmax Jacobian**: the explicit N × N matrix, and the row form that replaces it;
# * **(b) the transpose** in `dW_q = sentence_embedding.T @ dQ`: where it comes from;
# * **(c) the total derivative**: `sentence_embedding` feeds Q, K and V, so its gradient is a sum of three.
#
# The whole forward pass, for one sentence of N tokens. The embedding has width C, the head has width D.
#
# | step                                | shape       | meaning                                          |
# |-------------------------------------|-------------|--------------------------------------------------|
# | `tokens`                            | (N,)        | the sentence, each word an integer               |
# | `sentence_embedding = E[tokens]`    | (N, C)      | one trainable row of the table E per word        |
# | `Q = sentence_embedding @ W_q`      | (N, D)      | query: what each word looks for                  |
# | `K = sentence_embedding @ W_k`      | (N, D)      | key: what each word can be found by              |
# | `V = sentence_embedding @ W_v`      | (N, D)      | value: what each word passes on when it is found |
# | `Z = Q @ K.T / √D`                  | (N, N)      | scores: every query against every key            |
# | `S = softmax(Z)`                    | (N, N)      | attention weights: each row is positive, sum 1   |
# | `context = S @ V`                   | (N, D)      | for each word, a weighted mean of the values     |
# | `logits = context @ W_lm`           | (N, words)  | a score for each possible next word              |
# | `loss = cross_entropy(logits, ...)` | scalar      | mean over all N positions                        |
#
# Two things are missing on purpose: no mask hides the answer, and nothing tells the head where a word stands.
# The last section measures what each omission costs. Chapter 2 mends both.

# %%
import sys

import numpy as np

# %% [markdown]
# ## What a backward pass is
#
# Training needs the derivative of one scalar, the loss L, with respect to every parameter. A backward
# pass computes all of them in one sweep from the loss towards the inputs. The conventions of this course:
#
# * `dX` is the gradient of L with respect to the array X: `dX[i, j]` = ∂L/∂X[i, j]. It has the shape of X.
#   It is also called the *cotangent* of X.
# * Every layer is a pair of functions: `y, cache = layer_forward(x, w)`, `dx, dw = layer_backward(dy,
#   cache)`. The cache holds those arrays of the forward pass that the backward pass needs again.
# * The backward function walks through the forward function's lines from last to first. Each of its lines
#   quotes, in a comment, the forward line that it undoes.
#
# One rule does all the work. If y = f(x), a small change δx changes y by δy_j = Σ_i ∂y_j/∂x_i δx_i and the
# loss by δL = Σ_j dy_j δy_j, to first order. Collect what multiplies δx_i:
#
#     dx_i = Σ_j dy_j ∂y_j/∂x_i            that is, dx = Jᵀ dy with the Jacobian J_ji = ∂y_j/∂x_i
#
# A layer's backward is thus the *transposed Jacobian* applied to the incoming cotangent. The art is never
# to build J: it has (size of y) × (size of x) entries.
#
# ## How a gradient is proved
#
# We do not trust a derivation before it has met the definition of the derivative. The central difference
#
#     ∂L/∂x ≈ (L(x + h) - L(x - h)) / 2h
#
# has a truncation error of order h² and a rounding error of order ε/h, with ε = 2.2e-16 in float64. Their sum
# is smallest near h = ε^(1/3) ≈ 6e-6, so we take h = 1e-5 and may expect eight or more correct digits.
#
# The error of a gradient is relative: its largest deviation over the largest entry of the reference. A reference
# that is zero proves nothing, for then the array has no influence on the loss; the differences of a constant are
# rounding noise of about 1e-11.


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


# %% [markdown]
# ## Idea (a): the softmax and its Jacobian
#
# The softmax turns one row of N scores into N positive weights with sum 1:
#
#     S_j = exp(Z_j) / Σ_k exp(Z_k)
#
# Adding one number to the whole row multiplies numerator and denominator by the same factor, so S stays as
# it is. We use this freedom to subtract the row's maximum: every exponent is then ≤ 0 and none can
# overflow. The maximum depends on Z, and yet it is a constant of differentiation: since S does not depend
# on the number subtracted, the derivative of S with respect to that number is zero, whatever the number is
# made of.
#
# **The Jacobian.** Take the logarithm, then differentiate with respect to Z_k (δ_jk is 1 if j = k, else 0):
#
#     log S_j = Z_j - log Σ_m exp(Z_m)      ⇒     (∂S_j/∂Z_k) / S_j = δ_jk - S_k
#
#     ∂S_j/∂Z_k = S_j (δ_jk - S_k)                  as a matrix:  J = diag(S) - S Sᵀ
#
# J is symmetric. Its rows sum to zero, because a common shift of Z changes nothing.
#
# **The row form.** Write E = dL/dS for the cotangent of S (in the code it is `dS`; the name `E` belongs to
# the embedding table there). Row i of Z acts on row i of S only. The rule dx = Jᵀ dy gives
#
#     dZ_ik = Σ_j E_ij S_ij (δ_jk - S_ik) = S_ik E_ik - S_ik Σ_j E_ij S_ij
#
#     dZ_i  = S_i (E_i - Σ_j E_ij S_ij)
#
# In words: from each cotangent subtract the row's weighted mean, then multiply by the weight. This costs N
# operations per row in place of N², and no matrix. The explicit form needs an N × N matrix for each of N rows: for
# 1024 tokens 8 MiB at a time if each is built, used and dropped, and 8 GiB if all are kept.


# %%
def softmax_forward(Z):
    exponentials = np.exp(Z - Z.max(axis=-1, keepdims=True))  # the shift cancels, and nothing overflows
    S = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return S, S  # the cache is S itself: the Jacobian needs nothing else


def softmax_backward(dS, cache):
    S = cache
    return S * (dS - (dS * S).sum(axis=-1, keepdims=True))  # dZ, from S = softmax(Z), row by row


# %%
def softmax_jacobian(S_row):
    """The explicit (N, N) matrix J[j, k] = ∂S_j/∂Z_k = S_j (δ_jk - S_k) of one row."""
    return np.diag(S_row) - np.outer(S_row, S_row)


# %%
def softmax_backward_by_jacobian(dS, S):
    """What `softmax_backward` computes, the long way: build each row's Jacobian and multiply."""
    dZ = np.empty_like(S)
    for i in range(len(S)):
        dZ[i] = softmax_jacobian(S[i]).T @ dS[i]
    return dZ


# %% [markdown]
# Now the numbers. The cotangent is *random*, never all ones. With ones the loss would be the sum of S,
# which is N whatever Z is. Its gradient is zero, and a backward pass that returns zeros would pass the test.

# %%
if __name__ == "__main__":
    rng = np.random.default_rng(1)
    Z = rng.normal(size=(5, 5))
    dS = rng.normal(size=(5, 5))
    S, softmax_cache = softmax_forward(Z)
    J = softmax_jacobian(S[0])

    # Column k of the same Jacobian by differences: move Z[0, k], watch all of S[0].
    J_numerical = np.empty((5, 5))
    for k in range(5):
        move = 1e-5 * np.eye(5)[k]
        J_numerical[:, k] = (softmax_forward(Z[0] + move)[0] - softmax_forward(Z[0] - move)[0]) / 2e-5

    dZ_rows = softmax_backward(dS, softmax_cache)
    dZ_matrices = softmax_backward_by_jacobian(dS, S)
    dZ_numerical = numerical_gradient(lambda: (softmax_forward(Z)[0] * dS).sum(), Z)
    dZ_ones = softmax_backward(np.ones((5, 5)), softmax_cache)

    error = relative_error(dZ_rows, dZ_numerical)
    print("(a) The softmax Jacobian")
    print("    one row of scores Z   ", "".join(f"{z:8.3f}" for z in Z[0]))
    print("    its softmax S         ", "".join(f"{s:8.3f}" for s in S[0]))
    for j in range(5):
        print("    J = diag(S) - S S^T   " if j == 0 else " " * 26, "".join(f"{v:8.3f}" for v in J[j]))
    print(f"    J against central differences, relative error     {relative_error(J, J_numerical):.0e}")
    print(f"    largest |row sum| of J (a shift changes nothing)  {np.abs(J.sum(axis=1)).max():.0e}")
    print("    all five rows, random cotangent dS:")
    print(f"    row form against explicit Jacobians, difference   {np.abs(dZ_rows - dZ_matrices).max():.0e}")
    print(f"    row form against central differences, rel. error  {error:.0e}")
    print(f"    largest |dZ|                                      {np.abs(dZ_rows).max():.3f}")
    print(f"    largest |dZ| if dS were all ones: blind test      {np.abs(dZ_ones).max():.0e}")

# %% [markdown]
# ## Idea (b): why a transpose appears
#
# Q = sentence_embedding @ W_q; write x for sentence_embedding. What is dW_q, given dQ?
#
# **By indices.** Q_nd = Σ_c x_nc W_cd. The weight W_cd acts on column d of Q, in *every* row n, with the
# factor x_nc:
#
#     dW_cd = Σ_n dQ_nd ∂Q_nd/∂W_cd = Σ_n x_nc dQ_nd = Σ_n (xᵀ)_cn dQ_nd = (xᵀ dQ)_cd
#
# The sum runs over n, since all positions share one W_q and their contributions add. A matrix product sums
# over the *second* index of its left factor; n is the *first* index of x. The transpose is nothing but that
# exchange. For the input, x_nc acts on row n of Q, in every column d, with the factor W_cd:
#
#     dx_nc = Σ_d dQ_nd W_cd = Σ_d dQ_nd (Wᵀ)_dc = (dQ Wᵀ)_nc
#
# **By shapes.** dW_q must be (C, D). There are x: (N, C) and dQ: (N, D). If N, C and D differ, only one
# product has that shape: (C, N) @ (N, D). Likewise (N, D) @ (D, C) for dx. A good way to remember, but no
# proof: if W_q is square, `dQ @ W_q` has the right shape too, and it is wrong.
#
# **Against differences.** Both statements are now measured.

# %%
if __name__ == "__main__":
    rng = np.random.default_rng(2)
    sentence_embedding = rng.normal(size=(5, 8))  # (N, C)
    W_q = rng.normal(size=(8, 6))  # (C, D)
    dQ = rng.normal(size=(5, 6))  # (N, D): a random cotangent, so the loss is Σ Q * dQ
    dW_q = sentence_embedding.T @ dQ
    dW_q_numerical = numerical_gradient(lambda: ((sentence_embedding @ W_q) * dQ).sum(), W_q)

    # One entry by the index formula, the sum over positions written out.
    terms = [sentence_embedding[n, 2] * dQ[n, 3] for n in range(5)]

    W_square = rng.normal(size=(8, 8))
    dQ_square = rng.normal(size=(5, 8))
    dx_numerical = numerical_gradient(lambda: ((sentence_embedding @ W_square) * dQ_square).sum(), sentence_embedding)

    error_right = relative_error(dQ_square @ W_square.T, dx_numerical)
    error_wrong = relative_error(dQ_square @ W_square, dx_numerical)

    print("\n(b) The transpose")
    print("    by indices, dW_q[2, 3] = sum over n of x[n, 2] dQ[n, 3]:")
    print("       ", " ".join(f"{term:+.4f}" for term in terms), f"= {sum(terms):+.4f}")
    print(f"        (x.T @ dQ)[2, 3]                 = {dW_q[2, 3]:+.4f}")
    print(f"        central difference               = {dW_q_numerical[2, 3]:+.4f}")
    print(f"    by shapes, x.T {sentence_embedding.T.shape} @ dQ {dQ.shape} -> {dW_q.shape}, as W_q {W_q.shape}")
    print("    against differences, relative error:")
    print(f"        dW_q = x.T @ dQ                  {relative_error(dW_q, dW_q_numerical):.0e}")
    print(f"        dx = dQ @ W.T, W square          {error_right:.0e}")
    print(f"        dx = dQ @ W,   W square          {error_wrong:.2f}   wrong, though of the right shape")

# %% [markdown]
# ## The head, forward and backward
#
# Each product of two matrices follows the two formulas of (b): for Y = A @ B, dA = dY @ Bᵀ and dB = Aᵀ @ dY.
#
# * context = S @ V gives dS = dcontext @ Vᵀ and dV = Sᵀ @ dcontext.
# * Z = Q @ Kᵀ / √D gives dQ = dZ @ K / √D. The other factor is Kᵀ: d(Kᵀ) = Qᵀ @ dZ / √D. Transpose both
#   sides to find dK = dZᵀ @ Q / √D.
#
# Why divide by √D: if the entries of a query and of a key are independent with mean 0 and variance 1, their
# inner product of D terms has variance D. The division restores variance 1. Without it a wide head starts
# with a saturated softmax: S near 0 or 1, where S_j (δ_jk - S_k) is near zero and little gradient passes.
# The table printed below shows all of this.
#
# The last line of the backward pass is idea (c), which comes next.


# %%
def attention_forward(sentence_embedding, W_q, W_k, W_v):
    Q = sentence_embedding @ W_q  # (N, D)
    K = sentence_embedding @ W_k  # (N, D)
    V = sentence_embedding @ W_v  # (N, D)
    Z = Q @ K.T / np.sqrt(Q.shape[1])  # (N, N)
    S, softmax_cache = softmax_forward(Z)
    context = S @ V  # (N, D)
    return context, (sentence_embedding, W_q, W_k, W_v, Q, K, V, S, softmax_cache)


def attention_backward(dcontext, cache):
    sentence_embedding, W_q, W_k, W_v, Q, K, V, S, softmax_cache = cache
    dS = dcontext @ V.T  # context = S @ V                                   (N, N)
    dV = S.T @ dcontext  # context = S @ V                                   (N, D)
    dZ = softmax_backward(dS, softmax_cache)  # S = softmax(Z)
    dQ = dZ @ K / np.sqrt(Q.shape[1])  # Z = Q @ K.T / √D                    (N, D)
    dK = dZ.T @ Q / np.sqrt(Q.shape[1])  # Z = Q @ K.T / √D                  (N, D)
    dW_v = sentence_embedding.T @ dV  # V = sentence_embedding @ W_v         (C, D)
    dW_k = sentence_embedding.T @ dK  # K = sentence_embedding @ W_k         (C, D)
    dW_q = sentence_embedding.T @ dQ  # Q = sentence_embedding @ W_q         (C, D)
    # sentence_embedding was read three times, so three paths lead back to it and their gradients add.
    dsentence_embedding = dQ @ W_q.T + dK @ W_k.T + dV @ W_v.T  #            (N, C)
    return dsentence_embedding, dW_q, dW_k, dW_v


# %%
if __name__ == "__main__":
    print("\nWhy 1/sqrt(D): 1000 rows of 8 scores, random Q and K")
    print("                 variance of Z        largest weight       mean |Jacobian entry|")
    print("          D     without     with     without     with     without     with")
    for D in (4, 64, 1024):
        rng = np.random.default_rng(D)
        Q, K = rng.normal(size=(1000, 1, D)), rng.normal(size=(1000, 8, D))
        Z_unscaled = (Q * K).sum(axis=-1)
        columns = []
        for Z in (Z_unscaled, Z_unscaled / np.sqrt(D)):
            S, _ = softmax_forward(Z)
            entry = np.mean([np.abs(softmax_jacobian(row)).mean() for row in S])
            columns.append((Z.var(), S.max(axis=1).mean(), entry))
        without, scaled = columns
        print(
            f"       {D:4}    {without[0]:8.2f} {scaled[0]:8.2f}    {without[1]:8.3f} {scaled[1]:8.3f}"
            f"    {without[2]:8.4f} {scaled[2]:8.4f}"
        )

# %% [markdown]
# ## Idea (c): the total derivative
#
# The loss reads x = sentence_embedding three times: L(Q(x), K(x), V(x)). Give each reader a copy of its own,
# L(x_Q, x_K, x_V). Move x by δx, and all three copies move by δx. To first order
#
#     δL = Σ ∂L/∂x_Q δx + Σ ∂L/∂x_K δx + Σ ∂L/∂x_V δx
#
#     dx = dQ @ W_qᵀ + dK @ W_kᵀ + dV @ W_vᵀ
#
# That is the total derivative: *an array that is used several times receives the sum of the gradients of
# its uses.* Remember it as one rule: what the forward pass copies, the backward pass adds.
#
# We check more than the sum. First each path alone: x moves in one reader while the other two keep their old
# values. Then all seven ways to include or forget paths, each against the true gradient.


# %%
def loss_of_readers(Q, K, V, dcontext):
    """The loss Σ context * dcontext, written as a function of what the three readers made of x."""
    return ((softmax_forward(Q @ K.T / np.sqrt(Q.shape[1]))[0] @ V) * dcontext).sum()


# %%
if __name__ == "__main__":
    rng = np.random.default_rng(3)
    x = rng.normal(size=(5, 8))
    W_q, W_k, W_v = rng.normal(size=(3, 8, 6)) / np.sqrt(8)
    dcontext = rng.normal(size=(5, 6))
    _, attention_cache = attention_forward(x, W_q, W_k, W_v)
    *_, Q, K, V, S, softmax_cache = attention_cache

    dZ = softmax_backward(dcontext @ V.T, softmax_cache)
    paths = {
        "Q": dZ @ K / np.sqrt(6) @ W_q.T,
        "K": dZ.T @ Q / np.sqrt(6) @ W_k.T,
        "V": S.T @ dcontext @ W_v.T,
    }
    paths_numerical = {
        "Q": numerical_gradient(lambda: loss_of_readers(x @ W_q, K, V, dcontext), x),
        "K": numerical_gradient(lambda: loss_of_readers(Q, x @ W_k, V, dcontext), x),
        "V": numerical_gradient(lambda: loss_of_readers(Q, K, x @ W_v, dcontext), x),
    }
    total_numerical = numerical_gradient(lambda: (attention_forward(x, W_q, W_k, W_v)[0] * dcontext).sum(), x)

    print("\n(c) The total derivative")
    print("    each path alone, the other two readers frozen, relative error:")
    for name in paths:
        print(f"        through {name}       {relative_error(paths[name], paths_numerical[name]):.0e}")
    print("    as the gradient of sentence_embedding, relative error:")
    for kept_paths in ("Q", "K", "V", "QK", "QV", "KV", "QKV"):
        error = relative_error(sum(paths[name] for name in kept_paths), total_numerical)
        verdict = f"{error:.0e}  right" if error < 1e-7 else f"{error:.2f}   wrong"
        print(f"        {' + '.join(kept_paths):9}       {verdict}")
    dx, *_ = attention_backward(dcontext, attention_cache)
    print(f"    attention_backward:     {relative_error(dx, total_numerical):.0e}")

# %% [markdown]
# ## The embedding table
#
# `E[tokens]` copies one row of E per position. A word that stands twice in a sentence is copied twice, so
# by the rule of (c) its row of E receives the sum of two gradients. In NumPy, `dE[tokens] += d` does *not*
# do this: the indexed row is read once, and of two writes to it only the last survives. `np.add.at`
# performs every addition.


# %%
def embedding_forward(tokens, E):
    sentence_embedding = E[tokens]  # (N, C)
    return sentence_embedding, (tokens, E)


def embedding_backward(dsentence_embedding, cache):
    tokens, E = cache
    dE = np.zeros_like(E)  # a word that is not in the sentence has gradient zero
    np.add.at(dE, tokens, dsentence_embedding)  # sentence_embedding = E[tokens]
    return dE


# %%
if __name__ == "__main__":
    rng = np.random.default_rng(4)
    E = rng.normal(size=(4, 3))
    tokens = np.array([0, 1, 2, 0, 3])  # token 0 stands twice
    dsentence_embedding = rng.normal(size=(5, 3))
    dE_numerical = numerical_gradient(lambda: (E[tokens] * dsentence_embedding).sum(), E)
    dE_lost = np.zeros_like(E)
    dE_lost[tokens] += dsentence_embedding

    dE = embedding_backward(dsentence_embedding, (tokens, E))
    error, error_lost = relative_error(dE, dE_numerical), relative_error(dE_lost, dE_numerical)
    print("\nRepeated tokens, [0 1 2 0 3]: relative error of dE")
    print(f"    np.add.at(dE, tokens, d)   {error:.0e}")
    print(f"    dE[tokens] += d            {error_lost:.2f}   wrong: token 0 lost one of two gradients")

# %% [markdown]
# ## Cross-entropy at every position
#
# Each position predicts a distribution over the words, p = softmax(logits). Its loss is -log p_t with t the
# index of the true next word, and the loss of the sentence is the mean over its N positions. We compute
# log p directly, as logits - log Σ exp(logits), since a p that underflows to 0 would have no logarithm.
#
# **Backward.** From log p_t = logits_t - log Σ_m exp(logits_m), the derivative of -log p_t with respect to
# logits_k is p_k - δ_tk:
#
#     dlogits = (p - onehot(target)) · dloss / N
#
# *Probability given minus probability due.* This is idea (a) again. The cotangent of p is -1/p_t at the
# target and 0 elsewhere; its weighted mean is p_t · (-1/p_t) = -1. The row form gives p_k (0 + 1) = p_k off
# the target, and p_t (-1/p_t + 1) = p_t - 1 on it.


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
if __name__ == "__main__":
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(5, 12))
    targets = np.array([3, 0, 7, 11, 3])
    loss, loss_cache = cross_entropy_forward(logits, targets)
    dlogits = cross_entropy_backward(1.0, loss_cache)
    dlogits_numerical = numerical_gradient(lambda: cross_entropy_forward(logits, targets)[0], logits)

    # The long way: the cotangent of p, then the row form of the softmax.
    p, softmax_cache = softmax_forward(logits)
    dp = np.zeros_like(p)
    dp[np.arange(5), targets] = -1 / p[np.arange(5), targets] / 5
    difference = np.abs(softmax_backward(dp, softmax_cache) - dlogits).max()

    error = relative_error(dlogits, dlogits_numerical)
    print("\nCross-entropy: dlogits = (p - onehot(target)) / N")
    print(f"    against central differences, relative error      {error:.0e}")
    print(f"    against -1/p through the row form, difference    {difference:.0e}")

# %% [markdown]
# ## The model
#
# Parameters live in a plain dict of arrays; the gradients come back in a dict with the same keys. Every
# matrix starts with standard deviation 1/√(number of inputs), by the argument given for √D: the variance of
# what goes in is the variance of what comes out.


# %%
def initial_parameters(rng, words, C=8, D=6):
    return {
        "E": rng.normal(size=(words, C)),
        "W_q": rng.normal(size=(C, D)) / np.sqrt(C),
        "W_k": rng.normal(size=(C, D)) / np.sqrt(C),
        "W_v": rng.normal(size=(C, D)) / np.sqrt(C),
        "W_lm": rng.normal(size=(D, words)) / np.sqrt(D),
    }


# %%
def model_forward(parameters, tokens, targets):
    W_q, W_k, W_v, W_lm = (parameters[name] for name in ("W_q", "W_k", "W_v", "W_lm"))
    sentence_embedding, embedding_cache = embedding_forward(tokens, parameters["E"])  # (N, C)
    context, attention_cache = attention_forward(sentence_embedding, W_q, W_k, W_v)  # (N, D)
    logits = context @ W_lm  # (N, words)
    loss, loss_cache = cross_entropy_forward(logits, targets)
    return loss, (embedding_cache, attention_cache, context, W_lm, loss_cache)


def model_backward(dloss, cache):
    embedding_cache, attention_cache, context, W_lm, loss_cache = cache
    dlogits = cross_entropy_backward(dloss, loss_cache)  # loss = cross_entropy(logits, targets)
    dW_lm = context.T @ dlogits  # logits = context @ W_lm
    dcontext = dlogits @ W_lm.T  # logits = context @ W_lm
    # context = attention(sentence_embedding, W_q, W_k, W_v):
    dsentence_embedding, dW_q, dW_k, dW_v = attention_backward(dcontext, attention_cache)
    dE = embedding_backward(dsentence_embedding, embedding_cache)  # sentence_embedding = E[tokens]
    return {"E": dE, "W_q": dW_q, "W_k": dW_k, "W_v": dW_v, "W_lm": dW_lm}


# %% [markdown]
# A batch is a loop over sentences. Its loss is the mean of theirs, so each sentence receives the cotangent
# dloss = 1/B and the gradients add: the parameters are read once per sentence, and (c) applies to them too.


# %%
def batch_loss(parameters, sentences):
    losses = [model_forward(parameters, tokens, targets)[0] for tokens, targets in sentences]
    return sum(losses) / len(losses)


# %%
def batch_loss_and_gradients(parameters, sentences):
    loss = 0.0
    gradients = {name: np.zeros_like(value) for name, value in parameters.items()}
    for tokens, targets in sentences:
        sentence_loss, cache = model_forward(parameters, tokens, targets)
        loss += sentence_loss / len(sentences)
        for name, gradient in model_backward(1 / len(sentences), cache).items():
            gradients[name] += gradient
    return loss, gradients


# %% [markdown]
# ## The task
#
# Predict the next word at each position. The sentences are chosen so that each omission of this chapter
# shows:
#
# * *the dog bites the man* and *the man bites the dog* are the same words in another order. Without positions
#   the head sees a bag of words, so it must give both sentences the same answers. Where they differ, it
#   cannot do better than one half.
# * After *a* may follow a cat or a bird, after *drinks* milk or water. Nobody can know. Without a mask the
#   head can look at the very word that it is asked for, and we shall see it do so.

# %%
SENTENCES = [
    "the dog bites the man .",
    "the man bites the dog .",
    "a cat drinks milk today .",
    "a cat drinks water today .",
    "a bird drinks water today .",
]
UNSEEN_SENTENCE = "a bird drinks milk today ."  # never trained on; each word of it is known


# %%
def build_vocabulary(sentences):
    return sorted({word for sentence in sentences for word in sentence.split()})


# %%
def encode(sentence, vocabulary):
    """All words but the last are the tokens; all but the first are the targets: each word's next word."""
    indices = np.array([vocabulary.index(word) for word in sentence.split()])
    return indices[:-1], indices[1:]


# %% [markdown]
# ## The proof
#
# Every entry of every parameter tensor is moved by ±h, and the change of the loss is compared with the
# gradient written by hand. A tensor's largest deviation, relative to its largest gradient, must stay below
# 1e-7. Rounding alone leaves about 1e-9. A missing path, a wrong transpose or a lost repetition leaves some
# tenths, as was just shown. If one tensor fails, the script ends here with exit status 1.


# %%
def check_gradients(parameters, sentences, step=1e-5):
    """The relative error of each parameter's gradient against central differences, by name."""
    _, gradients = batch_loss_and_gradients(parameters, sentences)
    return {
        name: relative_error(
            gradients[name], numerical_gradient(lambda: batch_loss(parameters, sentences), value, step)
        )
        for name, value in parameters.items()
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


# %%
if __name__ == "__main__":
    vocabulary = build_vocabulary(SENTENCES)
    sentences = [encode(sentence, vocabulary) for sentence in SENTENCES]
    parameters = initial_parameters(np.random.default_rng(6), len(vocabulary))

    print("\nThe proof: each gradient against central differences, every entry")
    if not print_check(check_gradients(parameters, sentences), parameters):
        print("    a gradient is wrong: nothing is trained with it")
        sys.exit(1)

# %% [markdown]
# ## Training
#
# Plain gradient descent: subtract the gradient, times a learning rate, from every parameter.
#
# How low can the loss go? The head's output at a position is a function of two things: the word there, and
# the *bag* of words in the sentence, that is, the words with their counts. Positions that agree in both get
# the same prediction, and the best prediction is the frequency of their targets. The entropy of those
# frequencies, averaged over all positions, is the floor.


# %%
def loss_floor(sentences):
    """The least mean loss for a model that sees, at each position, its word and the bag of all words."""
    targets_by_view = {}
    for tokens, targets in sentences:
        for token, target in zip(tokens, targets, strict=True):
            view = (token, *sorted(tokens))
            targets_by_view.setdefault(view, []).append(target)
    losses = []
    for seen in targets_by_view.values():
        losses += [-np.log(seen.count(target) / len(seen)) for target in seen]
    return np.mean(losses)


# %%
def train(parameters, sentences, steps=1500, learning_rate=0.3):
    """Trained copies of the parameters, and the loss before each step and after the last."""
    parameters = {name: value.copy() for name, value in parameters.items()}
    losses = []
    for _ in range(steps):
        loss, gradients = batch_loss_and_gradients(parameters, sentences)
        losses.append(loss)
        for name in parameters:
            parameters[name] -= learning_rate * gradients[name]
    return parameters, [*losses, batch_loss(parameters, sentences)]


# %%
def print_loss_curve(losses, floor):
    for step in (0, 5, 10, 20, 50, 100, 200, 500, 1000, len(losses) - 1):
        print(f"    step {step:5}   loss {losses[step]:.3f}   {'#' * round(20 * losses[step])}")
    print(f"    floor        loss {floor:.3f}   {'#' * round(20 * floor)}")


# %%
if __name__ == "__main__":
    print("\nTraining: mean loss over all positions of all sentences")
    trained, losses = train(parameters, sentences)
    print_loss_curve(losses, loss_floor(sentences))

# %% [markdown]
# ## What was learned
#
# First the predictions. Where the bag of words decides the answer, it is right, and nearly certain.


# %%
def predict(parameters, tokens):
    """The next-word probabilities (N, words), and the attention weights (N, N)."""
    sentence_embedding, _ = embedding_forward(tokens, parameters["E"])
    context, cache = attention_forward(sentence_embedding, parameters["W_q"], parameters["W_k"], parameters["W_v"])
    probabilities, _ = softmax_forward(context @ parameters["W_lm"])
    S = cache[-2]
    return probabilities, S


# %%
def print_predictions(parameters, sentence, vocabulary):
    tokens, targets = encode(sentence, vocabulary)
    probabilities, _ = predict(parameters, tokens)
    cells = []
    for n, target in enumerate(targets):
        cells.append(f"{vocabulary[tokens[n]]} -> {vocabulary[target]} {probabilities[n, target]:.2f}")
    print("    " + "".join(f"{cell:21}" for cell in cells).rstrip())


# %%
if __name__ == "__main__":
    print("\nPredictions: word -> true next word, and the probability given to it")
    for sentence in SENTENCES:
        print_predictions(trained, sentence, vocabulary)
    print("  a sentence never trained on:")
    print_predictions(trained, UNSEEN_SENTENCE, vocabulary)

# %% [markdown]
# **No positions: a bag of words.** The two sentences about the dog and the man get the same answers, word
# for word, up to rounding. After *dog* the right answer is *bites* in one and *.* in the other; the head says
# about one half to each.
#
# **No mask: the answer is visible.** After *a*, the head "predicts" *cat* or *bird* with near certainty, even
# in a sentence that it has never seen. That is no foresight. Change the second word, and the prediction
# changes with it.

# %%
if __name__ == "__main__":
    dog_first, man_first = (predict(trained, tokens)[0] for tokens, _ in sentences[:2])
    same_words = [3, 4, 2, 0, 1]  # where each word of the first sentence stands in the second
    difference = np.abs(dog_first - man_first[same_words]).max()
    print("\nNo positions: 'the dog bites the man' and 'the man bites the dog'")
    print(f"    largest difference between the same word's predictions: {difference:.0e}")
    dog = dog_first[1]
    P_bites, P_stop = dog[vocabulary.index("bites")], dog[vocabulary.index(".")]
    print(f"    after 'dog', in both: P(bites) = {P_bites:.2f}, P(.) = {P_stop:.2f}")

    print("\nNo mask: the first word 'a' is asked for the second")
    for sentence in ("a cat drinks milk today .", "a bird drinks milk today ."):
        first = predict(trained, encode(sentence, vocabulary)[0])[0][0]
        P_cat, P_bird = first[vocabulary.index("cat")], first[vocabulary.index("bird")]
        print(f"    {sentence:27} P(cat) = {P_cat:.2f}   P(bird) = {P_bird:.2f}")

# %% [markdown]
# The attention rows show how. Read each line as: this word's context is so much of that word's value. The
# word *a* puts nearly all its weight on the word after it, whose value it copies into its prediction.
# *drinks* looks for *water*; where there is none it looks at itself, and says *milk*: what remains.
#
# Such habits are found by training, not designed. The seed was chosen because its habits are easy to read;
# other seeds find others, and of the seeds 0 to 9 three stop above the floor. What all have in common is
# that nothing keeps them from the answer.


# %%
def print_attention(parameters, sentence, vocabulary):
    tokens, _ = encode(sentence, vocabulary)
    words = [vocabulary[token] for token in tokens]
    _, S = predict(parameters, tokens)
    print(" " * 12 + "".join(f"{word:>8}" for word in words))
    for n, word in enumerate(words):
        print(f"    {word:8}" + "".join(f"{weight:8.2f}" for weight in S[n]))


# %%
if __name__ == "__main__":
    print("\nAttention: row = the word that looks, column = the word looked at")
    for sentence in (SENTENCES[0], SENTENCES[3], UNSEEN_SENTENCE):
        print_attention(trained, sentence, vocabulary)

# %% [markdown]
# So the loss is near its floor, and the model is useless for writing: it predicts by looking at the answer,
# and a model that is to *continue* a text has no answer to look at. Chapter 2 adds the mask, which hides
# the answer with proof; positions, which tell the dog's sentence from the man's; and several heads, because
# one row of weights that has two reasons to look must divide itself between them.
