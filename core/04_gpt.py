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
# # 4. The whole GPT
#
# Chapters 1 to 3 derived every layer of a GPT, one sentence at a time. This chapter derives none of them again. It
# puts them together: N blocks, batches of real text, an optimizer, a held-out loss, sampling. It is the course on a
# few pages, and a program that learns to write.
#
# The forward pass, for a batch of B windows of T characters each. C is the width, H heads have width D = C / H, F is
# the hidden width, and the vocabulary has V characters:
#
# | step            | forward                                                | shape        | from      |
# |-----------------|--------------------------------------------------------|--------------|-----------|
# | embedding       | `x = E[tokens] + P[:T]`                                | (B·T, C)     | chapter 2 |
# | block, N times: | `normed_1 = LN(x)`                                     | (B·T, C)     | chapter 3 |
# |                 | `Q, K, V = rows_to_heads(normed_1 @ W_q, ...)`         | (B, H, T, D) | chapter 2 |
# |                 | `context = softmax(Q @ K.T / √D + mask) @ V`           | (B, H, T, D) | chapter 1 |
# |                 | `h = x + heads_to_rows(context) @ W_o`                 | (B·T, C)     | chapter 2 |
# |                 | `normed_2 = LN(h)`                                     | (B·T, C)     | chapter 3 |
# |                 | `hidden = silu(normed_2 @ W_gate) * (normed_2 @ W_up)` | (B·T, F)     | chapter 3 |
# |                 | `x = h + hidden @ W_down`                              | (B·T, C)     | chapter 3 |
# | head            | `logits = LN(x) @ W_lm`                                | (B·T, V)     | chapter 3 |
# | loss            | `loss = cross_entropy(logits, targets)`                | scalar       | chapter 1 |
#
# As before, `dX` is the gradient of the loss with respect to X, its *cotangent*; each `*_backward` stands directly
# below its `*_forward`; and each of its lines quotes the forward line that it undoes.
#
# ## The batch axis
#
# Until now a batch was a loop over sentences whose gradients add. A loop in Python is slow, so the sentences become an
# axis. Most layers treat each token by itself, and to them a token is a *row*, whichever sentence it stands in. So we
# lay the B sentences below one another, as a matrix of B·T rows, and what was written for T rows is right for B·T.
# Those functions are taken over word for word; where their comments on shapes say T, read B·T.
#
# * **Products, x @ W.** The gradient sums over all rows, hence over batch and time. With x_b the rows of sentence b,
#   `x.T @ dQ` = Σ_b x_bᵀ dQ_b: the loop's sum, done by one product.
# * **LayerNorm, SwiGLU, residuals.** They work row by row. gamma and beta sum over the rows, as they did.
# * **Cross-entropy.** The mean runs over B·T rows. The 1/B that each sentence's cotangent carried is now in it.
# * **The embedding.** A character's row of E gathers from every place in every sentence. Row P[t] is read once in each
#   sentence, so its gradient, which was a plain copy, becomes a sum over the batch.
# * **Attention** alone needs to know which rows form a sentence, since a token looks at its own sentence only. There
#   the axes are taken apart, (B, H, T, D). `@`, softmax and mask act on the last two, so they stay as they were.

# %%
import os
import sys

if __name__ == "__main__":
    # One thread. For products as small as ours several save little, and lose much where other programs want the cores.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when numpy is imported, so it stands before that

import numpy as np

# %% [markdown]
# ## The instruments
#
# Central differences and the relative error (chapter 1 derives both).


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
def print_check(errors, tensors, tolerance=1e-7):
    """Print a row for each tensor; return whether every one of them passed."""
    width = max(map(len, ["gradient of", *errors]))
    print(f"    {'gradient of':{width}} {'shape':>9}   largest relative error")
    for name, error in errors.items():
        verdict = "ok" if error <= tolerance else f"WRONG by {error:.0%}" if 0.01 < error < np.inf else "WRONG"
        print(f"    {name:{width}} {tensors[name].shape!s:>9}   {error:.0e}   {verdict}")
    return all(error <= tolerance for error in errors.values())


# %% [markdown]
# ## Softmax (chapter 1)
#
# Row by row: subtract the cotangent's weighted mean, then multiply by the weight. The Jacobian is never built.


# %%
def softmax_forward(Z):
    exponentials = np.exp(Z - Z.max(axis=-1, keepdims=True))  # the shift cancels, and nothing overflows
    S = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return S, S  # the cache is S itself: the Jacobian needs nothing else


def softmax_backward(dS, cache):
    S = cache
    return S * (dS - (dS * S).sum(axis=-1, keepdims=True))  # dZ, from S = softmax(Z), row by row


# %% [markdown]
# ## Attention (chapters 1 and 2)
#
# Each token takes a weighted mean of the values at and before it. The future's weights are exactly zero, and by the
# softmax's factor S so are its gradients. Chapter 2's text; with one more axis in front it does the whole batch.


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


# %% [markdown]
# The rows are cut into B sentences and H heads, and put back. Both only move numbers, so each is the other's backward.


# %%
def rows_to_heads(x, B, heads):
    T, D = len(x) // B, x.shape[1] // heads
    return x.reshape(B, T, heads, D).transpose(0, 2, 1, 3)  # (B·T, C) -> (B, T, H, D) -> (B, H, T, D)


def heads_to_rows(x):
    B, heads, T, D = x.shape
    return x.transpose(0, 2, 1, 3).reshape(B * T, heads * D)  # (B, H, T, D) -> (B, T, H, D) -> (B·T, C)


# %% [markdown]
# x feeds Q, K and V, so dx is a sum of three (chapter 1: what the forward pass copies, the backward pass adds).


# %%
def batched_attention_forward(x, W_q, W_k, W_v, W_o, heads, B):
    Q = rows_to_heads(x @ W_q, B, heads)  # (B·T, C) -> (B, H, T, D)
    K = rows_to_heads(x @ W_k, B, heads)
    V = rows_to_heads(x @ W_v, B, heads)
    context, attention_cache = masked_attention_forward(Q, K, V)  # (B, H, T, D)
    merged = heads_to_rows(context)  # (B·T, C)
    y = merged @ W_o  # (B·T, C)
    return y, (x, W_q, W_k, W_v, W_o, heads, B, merged, attention_cache)


def batched_attention_backward(dy, cache):
    x, W_q, W_k, W_v, W_o, heads, B, merged, attention_cache = cache
    dmerged = dy @ W_o.T  # y = merged @ W_o
    dW_o = merged.T @ dy  # y = merged @ W_o                                           sums over B·T rows
    dcontext = rows_to_heads(dmerged, B, heads)  # merged = heads_to_rows(context)     (B, H, T, D)
    dQ, dK, dV = masked_attention_backward(dcontext, attention_cache)  # context = masked_attention(Q, K, V)
    dQ, dK, dV = heads_to_rows(dQ), heads_to_rows(dK), heads_to_rows(dV)  # Q = rows_to_heads(x @ W_q, B, heads), ...
    dW_v = x.T @ dV  # V = x @ W_v
    dW_k = x.T @ dK  # K = x @ W_k
    dW_q = x.T @ dQ  # Q = x @ W_q
    dx = dQ @ W_q.T + dK @ W_k.T + dV @ W_v.T  # Q, K, V = x @ W_q, x @ W_k, x @ W_v
    return dx, dW_q, dW_k, dW_v, dW_o


# %% [markdown]
# ## LayerNorm (chapter 3)
#
# x reaches the loss directly, through the mean and through the variance; the three routes fold into one line.


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
# ## SwiGLU (chapter 3)
#
# The gate silu(a) = a σ(a) multiplies; each factor's cotangent is the other factor times that of the product.


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
# ## The two ends: embedding (chapter 2) and cross-entropy (chapter 1)
#
# The embedding is where the batch shows: dE gathers over every place of a character, dP[t] over the sentences.


# %%
def batched_embedding_forward(tokens, E, P):
    B, T = tokens.shape
    x = (E[tokens] + P[:T]).reshape(B * T, -1)  # (B, T, C) -> (B·T, C)
    return x, (tokens, E, P)


def batched_embedding_backward(dx, cache):
    tokens, E, P = cache
    B, T = tokens.shape
    dE, dP = np.zeros_like(E), np.zeros_like(P)
    dP[:T] = dx.reshape(B, T, -1).sum(axis=0)  # x = E[tokens] + P[:T]: P[t] was copied into B sentences
    np.add.at(dE, tokens.reshape(-1), dx)  # x = E[tokens] + P[:T]: E[c] was copied to each place of c
    return dE, dP


# %% [markdown]
# *Probability given minus probability due*, over the number of rows.


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


# %% [markdown]
# ## The block (chapter 3)
#
# Two residuals. Each sends its input along a shortcut and a branch; the backward adds the two cotangents.


# %%
def block_forward(x, parameters, heads, B):
    p = parameters
    normed_1, norm_1_cache = layer_norm_forward(x, p["gamma_1"], p["beta_1"])
    weights = p["W_q"], p["W_k"], p["W_v"], p["W_o"]
    attended, attention_cache = batched_attention_forward(normed_1, *weights, heads, B)
    h = x + attended
    normed_2, norm_2_cache = layer_norm_forward(h, p["gamma_2"], p["beta_2"])
    fed, swiglu_cache = swiglu_forward(normed_2, p["W_gate"], p["W_up"], p["W_down"])
    y = h + fed
    return y, (norm_1_cache, attention_cache, norm_2_cache, swiglu_cache)


def block_backward(dy, cache):
    norm_1_cache, attention_cache, norm_2_cache, swiglu_cache = cache
    dnormed_2, dW_gate, dW_up, dW_down = swiglu_backward(dy, swiglu_cache)  # fed = SwiGLU(normed_2)
    dh, dgamma_2, dbeta_2 = layer_norm_backward(dnormed_2, norm_2_cache)  # normed_2 = LN(h)
    dh = dy + dh  # y = h + fed
    dnormed_1, dW_q, dW_k, dW_v, dW_o = batched_attention_backward(dh, attention_cache)  # attention(normed_1)
    dx, dgamma_1, dbeta_1 = layer_norm_backward(dnormed_1, norm_1_cache)  # normed_1 = LN(x)
    dx = dh + dx  # h = x + attended
    gradients = {"gamma_1": dgamma_1, "beta_1": dbeta_1, "W_q": dW_q, "W_k": dW_k, "W_v": dW_v, "W_o": dW_o}
    gradients |= {"gamma_2": dgamma_2, "beta_2": dbeta_2, "W_gate": dW_gate, "W_up": dW_up, "W_down": dW_down}
    return dx, gradients


# %% [markdown]
# ## The GPT
#
# All parameters live in one dict; those of block n have names that begin with `blocks.n.`. A block's output is the
# next one's input, so the forward is a loop over the blocks, and the backward the same loop from the last to the first.


# %%
def block_parameters(parameters, n):
    prefix = f"blocks.{n}."
    return {name.removeprefix(prefix): value for name, value in parameters.items() if name.startswith(prefix)}


def count_blocks(parameters):
    return sum(name.endswith(".W_q") for name in parameters)


# %%
def gpt_forward(parameters, tokens, heads):
    p = parameters
    x, embedding_cache = batched_embedding_forward(tokens, p["E"], p["P"])  # (B, T) -> (B·T, C)
    block_caches = []
    for n in range(count_blocks(p)):
        x, block_cache = block_forward(x, block_parameters(p, n), heads, len(tokens))
        block_caches.append(block_cache)
    normed_f, norm_f_cache = layer_norm_forward(x, p["gamma_f"], p["beta_f"])
    logits = normed_f @ p["W_lm"]  # (B·T, V)
    return logits, (embedding_cache, block_caches, norm_f_cache, normed_f, p["W_lm"])


def gpt_backward(dlogits, cache):
    embedding_cache, block_caches, norm_f_cache, normed_f, W_lm = cache
    gradients = {}
    gradients["W_lm"] = normed_f.T @ dlogits  # logits = normed_f @ W_lm
    dnormed_f = dlogits @ W_lm.T  # logits = normed_f @ W_lm
    dx, gradients["gamma_f"], gradients["beta_f"] = layer_norm_backward(dnormed_f, norm_f_cache)  # normed_f = LN(x)
    for n in reversed(range(len(block_caches))):
        dx, block_gradients = block_backward(dx, block_caches[n])  # x = block(x)
        gradients |= {f"blocks.{n}.{name}": gradient for name, gradient in block_gradients.items()}
    gradients["E"], gradients["P"] = batched_embedding_backward(dx, embedding_cache)  # x = E[tokens] + P[:T]
    return gradients


# %%
def gpt_loss(parameters, tokens, targets, heads):
    logits, _ = gpt_forward(parameters, tokens, heads)
    return cross_entropy_forward(logits, targets.reshape(-1))[0]


def loss_and_gradients(parameters, tokens, targets, heads):
    logits, cache = gpt_forward(parameters, tokens, heads)
    loss, loss_cache = cross_entropy_forward(logits, targets.reshape(-1))
    dlogits = cross_entropy_backward(1.0, loss_cache)  # loss = cross_entropy(logits, targets)
    return loss, gpt_backward(dlogits, cache)


# %% [markdown]
# ## Initial values
#
# As in chapter 3: a standard deviation of 1/√(number of inputs) for what multiplies, 0.1 for what is looked up. New is
# that W_o and W_down begin smaller by 1/√(2N). They write to the residual stream, which sums 2N of their outputs; so
# the variance of the sum does not grow with the number of blocks.


# %%
def initial_parameters(rng, V, T_max, C, F, N, dtype=np.float32):
    def normal(*shape, std):
        return (std * rng.normal(size=shape)).astype(dtype)

    def gamma_and_beta():
        return np.ones(C, dtype), np.zeros(C, dtype)

    parameters = {"E": normal(V, C, std=0.1), "P": normal(T_max, C, std=0.1)}
    for n in range(N):
        block = {}
        block["gamma_1"], block["beta_1"] = gamma_and_beta()
        for name in ("W_q", "W_k", "W_v"):
            block[name] = normal(C, C, std=C**-0.5)
        block["W_o"] = normal(C, C, std=C**-0.5 / (2 * N) ** 0.5)
        block["gamma_2"], block["beta_2"] = gamma_and_beta()
        for name in ("W_gate", "W_up"):
            block[name] = normal(C, F, std=C**-0.5)
        block["W_down"] = normal(F, C, std=F**-0.5 / (2 * N) ** 0.5)
        parameters |= {f"blocks.{n}.{name}": value for name, value in block.items()}
    parameters["gamma_f"], parameters["beta_f"] = gamma_and_beta()
    parameters["W_lm"] = normal(C, V, std=C**-0.5)
    return parameters


# %% [markdown]
# ## The proof
#
# Every entry of every parameter of a small GPT: two blocks, a batch of two windows, characters that recur within a
# window and across both, random targets. gamma and beta are moved away from 1 and 0: the point of a check matters as
# much as the check (chapter 3).
#
# All of it is in float64. In float32, in which the model is trained, ε is 1.2e-7, and a central difference keeps some
# three digits: too few to prove anything. The gradients themselves keep six, as the last line printed below shows; that
# is more than training needs, and it takes half the time.


# %%
def parameters_for_check(rng, V=7, T_max=5, C=6, F=5, N=2):
    """Initial parameters in float64, moved away from every value at which a mistake could hide."""
    parameters = initial_parameters(rng, V, T_max, C, F, N, dtype=np.float64)
    for value in parameters.values():
        if value.ndim == 1:
            value += 0.3 * rng.normal(size=value.shape)
    parameters["E"] = 1.5 * rng.normal(size=(V, C)) + 1.0
    parameters["P"] = 0.5 * rng.normal(size=(T_max, C))
    return parameters


# %%
def check_gradients(parameters, tokens, targets, heads):
    """The relative error of each parameter's gradient against central differences, by name."""
    _, gradients = loss_and_gradients(parameters, tokens, targets, heads)
    return {
        name: relative_error(
            gradients[name], numerical_gradient(lambda: gpt_loss(parameters, tokens, targets, heads), value)
        )
        for name, value in parameters.items()
    }


# %% [markdown]
# A gradient check proves that you differentiated what you wrote, not that you wrote what you meant (chapter 2). A
# reshape that confuses sentences with time or heads would pass it. So two more tests, of what a batch and a mask mean:
#
# * the batch's gradients are the mean of those of its windows, each computed alone;
# * a change in one window at position t changes nothing in another window, and nothing before t.


# %%
def check_batch(parameters, tokens, targets, heads):
    """The largest relative error of a batch's gradients against the mean of those of its windows, one by one."""
    _, gradients = loss_and_gradients(parameters, tokens, targets, heads)
    singles = [
        loss_and_gradients(parameters, tokens[b : b + 1], targets[b : b + 1], heads)[1] for b in range(len(tokens))
    ]
    return max(
        relative_error(gradient, sum(single[name] for single in singles) / len(singles))
        for name, gradient in gradients.items()
    )


# %%
def check_independence(parameters, tokens, heads):
    """Change each token in turn: the largest change of a logit that it may not reach, and the least where it must."""
    B, T = tokens.shape
    logits, _ = gpt_forward(parameters, tokens, heads)
    forbidden, wanted = [], []
    for b, t in np.ndindex(B, T):
        changed = tokens.copy()
        changed[b, t] = (tokens[b, t] + 1) % len(parameters["E"])
        change = np.abs(gpt_forward(parameters, changed, heads)[0] - logits).max(axis=-1).reshape(B, T)
        reached = np.zeros((B, T), dtype=bool)
        reached[b, t:] = True
        forbidden.append(change[~reached].max())
        wanted.append(change[reached].min())
    return max(forbidden), min(wanted)


# %%
CHECK_TOKENS = np.array([[2, 0, 3, 0], [0, 5, 5, 2]])  # 0, 2 and 5 recur; 1, 4 and 6 do not occur, nor does P[4]

if __name__ == "__main__":
    rng = np.random.default_rng(1)
    check_point = parameters_for_check(rng)
    targets = rng.integers(0, 7, CHECK_TOKENS.shape)

    print("The proof: two blocks, two windows; each gradient against central differences, every entry")
    passed = print_check(check_gradients(check_point, CHECK_TOKENS, targets, heads=2), check_point)

    batch_error = check_batch(check_point, CHECK_TOKENS, targets, heads=2)
    forbidden, wanted = check_independence(check_point, CHECK_TOKENS, heads=2)
    single_precision = {name: value.astype(np.float32) for name, value in check_point.items()}
    _, gradients = loss_and_gradients(check_point, CHECK_TOKENS, targets, heads=2)
    _, rounded = loss_and_gradients(single_precision, CHECK_TOKENS, targets, heads=2)
    rounding = max(relative_error(rounded[name], gradient) for name, gradient in gradients.items())
    print("\nBeyond that check")
    print(f"    the batch's gradients against the mean of its windows'             {batch_error:.0e}")
    print(f"    a changed token: largest change before it, or in the other window  {forbidden:.0e}")
    print(f"                     least change at it or after                       {wanted:.0e}")
    print(f"    the same gradients in float32, relative error                      {rounding:.0e}")
    if not (passed and batch_error < 1e-12 and forbidden < 1e-12 < wanted and rounding < 1e-4):
        print("    something is wrong: nothing is trained with it")
        sys.exit(1)

# %% [markdown]
# ## The text
#
# The reference of the Python language, which comes with Python itself, as plain text. (It differs a little between
# Python's versions, and with it the figures below.) A token is a character. The last tenth is held out: the model never
# trains on it, so its loss there says what was learned rather than memorised.


# %%
def default_text():
    try:
        from pydoc_data.topics import topics
    except ImportError:
        print("this Python has no pydoc_data.topics, the text to train on")
        sys.exit(1)
    return "\n\n".join(topics[name] for name in sorted(topics))


# %%
def encode(text, vocabulary):
    index = {character: n for n, character in enumerate(vocabulary)}
    return np.array([index[character] for character in text])


def decode(tokens, vocabulary):
    return "".join(vocabulary[token] for token in tokens)


# %% [markdown]
# **Windows.** The text is cut into windows of T characters, side by side; the targets are the same windows, one
# character later. An epoch deals out all windows in random order, B at a time, *without replacement*: each is seen
# once before any is seen again. Draws at random would miss a share of 1/e of them in an epoch's time. Each epoch cuts
# at another offset, so that a character does not stand at the same position every time.


# %%
def cut_into_windows(tokens, T, offset=0):
    """Two arrays (windows, T): what is read, and what follows each character. What does not fill a window is left."""
    count = (len(tokens) - 1 - offset) // T
    return tuple(tokens[start : start + count * T].reshape(count, T) for start in (offset, offset + 1))


# %%
def epoch_batches(rng, tokens, T, B):
    """All windows at a random offset, in random order, B at a time; the last batch may be smaller."""
    inputs, targets = cut_into_windows(tokens, T, rng.integers(T))
    order = rng.permutation(len(inputs))
    for at in range(0, len(order), B):
        chosen = order[at : at + B]
        yield inputs[chosen], targets[chosen]


# %%
def held_out_loss(parameters, tokens, heads, every=1, B=16):
    """The mean loss in nats over consecutive windows, or over one in `every` of them."""
    inputs, targets = (part[::every] for part in cut_into_windows(tokens, len(parameters["P"])))
    total = 0.0
    for at in range(0, len(inputs), B):
        batch = inputs[at : at + B], targets[at : at + B]
        total += float(gpt_loss(parameters, *batch, heads)) * len(batch[0])
    return total / len(inputs)


# %% [markdown]
# **A bar to pass**: the loss of a table of pairs, which knows how often each character followed each other one. A model
# without attention sees the character at hand, and could hardly do better. What is gained beyond it, attention gained.


# %%
def pair_table_loss(tokens, held_out, V):
    """The held-out loss of the frequencies of pairs, each counted once more than it occurred."""
    counts = np.ones((V, V))
    np.add.at(counts, (tokens[:-1], tokens[1:]), 1)
    log_p = np.log(counts / counts.sum(axis=1, keepdims=True))
    return -log_p[held_out[:-1], held_out[1:]].mean()


# %% [markdown]
# ## AdamW
#
# Adam (chapter 3) divides a running mean of the gradient by the root of a running mean of its square. AdamW adds weight
# decay, *decoupled*:
#
#     first  <- β₁ first  + (1 - β₁) g                    second <- β₂ second + (1 - β₂) g²
#     w      <- w - η λ w - η (first / (1 - β₁^t)) / (√(second / (1 - β₂^t)) + ε)
#
# Decoupled means that λw is not added to g, where it would be divided by the root as well: weights with large gradients
# would then hardly decay, and those with small ones strongly. Here all shrink at the same rate. The decay is for
# matrices. A gamma drawn to 0 would silence its LayerNorm, and vectors are too few to overfit.
#
# Two guards stand before it:
#
# * **Clipping by the global norm.** All gradients together are one vector. If it is longer than a bound, it is
#   shortened to it: its direction stays. One odd batch then cannot throw the weights far.
# * **Warm-up and cosine.** At first `second` rests on a few gradients and the steps are rash, so the learning rate
#   rises linearly. Then it falls along half a cosine: large steps to get far, small ones to settle.


# %%
def clip_gradients(gradients, bound=1.0):
    """Scale all gradients in place so that their global norm is at most `bound`; return the norm before."""
    norm = float(np.sqrt(sum(np.vdot(gradient, gradient) for gradient in gradients.values())))
    for gradient in gradients.values():
        gradient *= bound / max(norm, bound)
    return norm


# %%
def learning_rate(step, steps, peak, warmup=100):
    """The rate of a step, counted from 1."""
    return peak * min(1.0, step / warmup) * 0.5 * (1 + float(np.cos(np.pi * step / steps)))


# %%
def adamw_step(parameters, gradients, moments, step, rate, decay=0.1, beta_1=0.9, beta_2=0.99, epsilon=1e-8):
    """One update in place; `moments` keeps the two running means per tensor, and `step` counts from 1."""
    for name, gradient in gradients.items():
        if name not in moments:
            moments[name] = np.zeros_like(gradient), np.zeros_like(gradient)
        first, second = moments[name]
        first += (1 - beta_1) * (gradient - first)
        second += (1 - beta_2) * (gradient**2 - second)
        if gradient.ndim == 2:
            parameters[name] *= 1 - rate * decay
        root = np.sqrt(second / (1 - beta_2**step))
        parameters[name] -= rate * (first / (1 - beta_1**step)) / (root + epsilon)


# %% [markdown]
# ## Training
#
# Losses are in nats, the unit of the natural logarithm. Divided by log 2 they are bits: what a compressor driven by
# this model would spend on a character.
#
# **Where it must start.** Equal probabilities for all V characters cost log V. A fresh model is not even that wise: its
# logits z are random, with mean 0 and, by W_lm's initial values, variance 1. They know nothing of the target, so the
# expected loss is E[log Σ exp(z)] - E[z] ≈ log(V E[exp(z)]) = log V + 1/2. One draw of W_lm is off by a tenth or two,
# since a few frequent characters are most of the targets. A first loss farther off means that something is broken.


# %%
def train(parameters, tokens, held_out, rng, steps, B, heads, peak, reports=10, every=4):
    """Trained copies of the parameters, and each step's loss before it. Prints about `reports` lines as it goes."""
    parameters = {name: value.copy() for name, value in parameters.items()}
    T, interval = len(parameters["P"]), max(1, steps // reports)
    losses, moments = [], {}
    while len(losses) < steps:
        for inputs, targets in epoch_batches(rng, tokens, T, B):
            loss, gradients = loss_and_gradients(parameters, inputs, targets, heads)
            losses.append(float(loss))
            step = len(losses)
            clip_gradients(gradients)
            adamw_step(parameters, gradients, moments, step, learning_rate(step, steps, peak))
            if step % interval == 0:
                print_progress(step, np.mean(losses[-interval:]), held_out_loss(parameters, held_out, heads, every))
            if step == steps:
                break
    return parameters, losses


# %%
def print_progress(step, recent, held_out):
    print(f"    {step:4}   {recent:8.3f}   {held_out:8.3f}   {'#' * round(15 * held_out)}", flush=True)


# %%
HEADS = 4
STEPS = 1600

if __name__ == "__main__":
    text = default_text()
    vocabulary = sorted(set(text))
    tokens = encode(text, vocabulary)
    tokens, held_out = np.split(tokens, [len(tokens) - len(tokens) // 10])
    V = len(vocabulary)
    initial = initial_parameters(np.random.default_rng(2), V, T_max=64, C=96, F=256, N=3)
    count = sum(value.size for value in initial.values())
    windows, following = cut_into_windows(held_out, T=64)

    print(f"\nThe text: {len(text)} characters, {V} different ones; the last {len(held_out)} are held out")
    print("\nLosses to know, in nats a character")
    print(f"    log V                                     {np.log(V):.3f}")
    print(f"    log V + 1/2, expected of a fresh model    {np.log(V) + 0.5:.3f}")
    print(f"    the fresh model, on 16 held-out windows   {gpt_loss(initial, windows[:16], following[:16], HEADS):.3f}")
    print(f"    a table of pairs, on the held-out text    {pair_table_loss(tokens, held_out, V):.3f}")
    print(f"\nTraining: {count} parameters, {STEPS} steps of 8 windows of 64; {len(tokens) // 512} steps are an epoch")
    print("    training: mean since the line before; held out: every fourth window")
    print("    step   training   held out")
    trained, losses = train(initial, tokens, held_out, np.random.default_rng(3), STEPS, B=8, heads=HEADS, peak=4e-3)
    loss = held_out_loss(trained, held_out, HEADS)
    print(f"    on all {len(windows)} held-out windows: {loss:.3f} nats = {loss / np.log(2):.3f} bits a character")

# %% [markdown]
# ## Sampling
#
# The model gives a distribution for the next character. Draw one, append it, ask again. Dividing the logits by a
# *temperature* τ before the softmax raises each probability to the power 1/τ: below 1 the likely becomes likelier,
# near 0 only the likeliest is left, and at 1 one draws from what was learned.
#
# Each character costs a forward pass over the last T, of which only the last row is used. The library keeps the keys
# and values of the past instead, and computes one row.


# %%
def generate(parameters, tokens, count, temperature, rng, heads):
    """The tokens, and `count` more of them, each drawn from the model's prediction."""
    tokens, T = list(tokens), len(parameters["P"])
    for _ in range(count):
        logits, _ = gpt_forward(parameters, np.array([tokens[-T:]]), heads)
        probabilities, _ = softmax_forward(logits[-1].astype(np.float64) / temperature)
        tokens.append(int(rng.choice(len(probabilities), p=probabilities)))
    return tokens


# %%
def print_text(text):
    """The text, indented; a character that is not ASCII becomes a question mark."""
    for line in text.encode("ascii", "replace").decode().split("\n"):
        print(f"    | {line}".rstrip())


# %%
PROMPT = "The class "

if __name__ == "__main__":
    for title, parameters, length in (("The fresh model", initial, 150), ("The trained model", trained, 500)):
        print(f"\n{title} continues '{PROMPT}' at temperature 0.7")
        sampled = generate(parameters, encode(PROMPT, vocabulary), length, 0.7, np.random.default_rng(3), HEADS)
        print_text(decode(sampled, vocabulary))

# %% [markdown]
# Words, and how a line of such a text looks, but hardly a sentence: that takes a larger model, and longer training. The
# seed was chosen for a sample in prose; others stray into the tables and grammar rules of which the text has many.

# %% [markdown]
# ## What you own now
#
# A GPT, all of it: no line above calls anything that you could not write yourself. What larger ones add is size, a
# tokenizer of longer pieces than characters, and machines to run it on; the calculus is this one.
#
# Where to go on: the package `handgrad` has the same formulas, one file a layer, for any batch shape, in three number
# types. `handgrad check` proves every one of its gradients, by the complex step, to 1e-12. `handgrad train` trains a
# model twice this size on any text, and `handgrad generate` writes with it.
#
# And remember the order of this file. The loss fell nicely, the text looks like text, and neither is evidence that the
# gradients are right: a falling loss proves nothing. The check came first.
