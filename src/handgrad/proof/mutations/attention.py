"""What goes wrong in attention: the scale, the mask, the transposes, the heads, the input that serves three times."""

from ...layers import causal_attention_backward, causal_attention_forward, multi_head_attention_backward
from ...layers.causal_attention import sum_of_group
from ...layers.multi_head_attention import _heads_backward
from .mutation import Mutation

CAUSAL_ATTENTION = (
    Mutation(
        "dq_without_the_scale",
        "causal_attention",
        causal_attention_backward,
        right="dq = np.multiply(dq_scaled, scale, out=dq_scaled)",
        wrong="dq = dq_scaled",
        why="The scores were scale * q kᵀ, so dq carries the factor 1/√D as well.",
    ),
    Mutation(
        "dq_scaled_twice",
        "causal_attention",
        causal_attention_backward,
        right="return dq, dk, dv",
        wrong="return dq * scale, dk, dv",
        why="One factor 1/√D forwards, one backwards: scaling dscores and then dq again is one too many.",
    ),
    Mutation(
        "dk_without_the_scale",
        "causal_attention",
        causal_attention_backward,
        right="return dq, dk, dv",
        wrong="return dq, dk / scale, dv",
        why="The scale stands before the product of q and k, so it reaches both of their gradients.",
    ),
    Mutation(
        "dk_scaled_twice",
        "causal_attention",
        causal_attention_backward,
        right="return dq, dk, dv",
        wrong="return dq, dk * scale, dv",
        why="dk has its factor 1/√D already: it is in dscores, or, where q was scaled, in the q that was kept.",
    ),
    Mutation(
        "scores_without_the_scale",
        "causal_attention",
        causal_attention_backward,
        right="return dq, dk, dv",
        wrong="return dq / scale, dk / scale, dv",
        why="The forward divided the scores by √D; a backward that forgets it is √D too large for q and k, and for "
        "all that lies below.",
    ),
    Mutation(
        "scale_of_the_width",
        "causal_attention",
        causal_attention_backward,
        right="return dq, dk, dv",
        wrong="H = q_scaled.shape[1]\n    return dq * H**-0.5, dk * H**-0.5, dv",
        why="1/√C in place of 1/√D: a score is a product of one head's vectors, of width D, and not of the model's.",
    ),
    Mutation(
        "mask_forgotten",
        "causal_attention",
        causal_attention_backward,
        right="softmax = SoftmaxCache(probabilities, maximum_block, total_block)",
        wrong="_, softmax = softmax_forward(by_group(q_block, k[:, :, tile.keys].swapaxes(-1, -2)))",
        why="The softmax that is undone is that of the masked scores: without the mask, hidden keys have weights, and "
        "get gradients.",
    ),
    Mutation(
        "mask_forgotten_for_the_values_too",
        "causal_attention",
        causal_attention_backward,
        right="dv[:, :, tile.keys] += sum_of_group(weights",
        wrong="probabilities = weights = softmax_forward(by_group(q_block, k[:, :, tile.keys].swapaxes(-1, -2)))[0]\n"
        "            dv[:, :, tile.keys] += sum_of_group(weights",
        why="Weights that are made again for the backward must be the forward's: a value that no query saw has "
        "gradient 0.",
    ),
    Mutation(
        "mask_forgotten_in_the_recomputation",
        "causal_attention",
        causal_attention_backward,
        right="softmax = SoftmaxCache(probabilities, maximum_block, total_block)",
        wrong="hidden = by_group(q_block, k[:, :, tile.keys].swapaxes(-1, -2))\n"
        "            softmax = SoftmaxCache(np.exp(hidden - maximum_block) / total_block, maximum_block, total_block)",
        why="Weights made again from the kept maximum must be masked again: exp(z - maximum) of a hidden key is no "
        "longer below 1, and can be huge.",
    ),
    Mutation(
        "mask_off_by_one",
        "causal_attention",
        causal_attention_backward,
        right="softmax = SoftmaxCache(probabilities, maximum_block, total_block)",
        wrong="t, s = probabilities.shape[-2:]\n"
        "            softmax = SoftmaxCache(np.tril(probabilities, s - t - 1), maximum_block, total_block)",
        why="A position sees itself: the mask begins above the diagonal, triu(k=1), and with k=0 the backward hides "
        "what the forward saw.",
    ),
    Mutation(
        "scores_softmax_derivative_skipped",
        "causal_attention",
        causal_attention_backward,
        right="softmax_backward(dweights, softmax, mean_dy=mean_dweights)",
        wrong="dweights * (probabilities != 0)",
        why="Between the weights and the scores lies the softmax, and its Jacobian belongs between their gradients.",
    ),
    Mutation(
        "dv_weights_not_transposed",
        "causal_attention",
        causal_attention_backward,
        right="sum_of_group(weights, dy_block, v)",
        wrong="sum_of_group(weights.swapaxes(-1, -2), dy_block, v)",
        why="v_s gave to every query t with weight p_ts, so dv_s sums over t: the transpose. The matrix is square, "
        "so nothing complains.",
    ),
    Mutation(
        "dk_not_transposed",
        "causal_attention",
        causal_attention_backward,
        right="sum_of_group(dscores, q_block, k)",
        wrong="sum_of_group(dscores.swapaxes(-1, -2), q_block, k)",
        why="A key's gradient sums over the queries that it met: dscoresᵀ q.",
    ),
    Mutation(
        "dq_and_dk_swapped",
        "causal_attention",
        causal_attention_backward,
        right="return dq, dk, dv",
        wrong="return dk, dq, dv",
        why="dq is made of keys and dk of queries; what is returned is in the order of the arguments, not of the "
        "products.",
    ),
    Mutation(
        "dweights_from_the_keys",
        "causal_attention",
        causal_attention_backward,
        right="by_group(dy_block, v[:, :, tile.keys].swapaxes(-1, -2))",
        wrong="by_group(dy_block, k[:, :, tile.keys].swapaxes(-1, -2))",
        why="The weights multiplied the values: dweights = dy vᵀ. The keys have done their work before the softmax.",
    ),
)

SUMMED = "product: Array = x.reshape(B, G, -1, x.shape[-1]).swapaxes(-1, -2) @ y.reshape(B, G, -1, y.shape[-1])"

GROUPS = (
    Mutation(
        "group_of_its_first_head",
        "grouped_attention",
        sum_of_group,
        right=SUMMED,
        wrong="first = slice(None, None, x.shape[1] // G)\n    product = x[:, first].swapaxes(-1, -2) @ y[:, first]",
        why="A key and a value that serve several heads of queries have the sum of what all of them ask, not of the "
        "first.",
    ),
    Mutation(
        "group_averaged",
        "grouped_attention",
        sum_of_group,
        right="@ y.reshape(B, G, -1, y.shape[-1])",
        wrong="@ y.reshape(B, G, -1, y.shape[-1]) / (x.shape[1] // G)",
        why="Sharing is broadcasting, and its backward a sum over the heads that shared; the mean is as many times too "
        "small.",
    ),
    Mutation(
        "groups_interleaved",
        "grouped_attention",
        sum_of_group,
        right=SUMMED,
        wrong="each = x.swapaxes(-1, -2) @ y\n    product = each.reshape(B, -1, G, *each.shape[2:]).sum(axis=1)",
        why="Neighbouring heads share a key: head h is of group h // (H/G). As if it were h % G, `tile` in place of "
        "`repeat`, each group gets others' gradients.",
    ),
    Mutation(
        "dv_of_the_first_head_of_a_group",
        "grouped_attention",
        causal_attention_backward,
        right="sum_of_group(weights, dy_block, v)",
        wrong="np.array(weights.swapaxes(-1, -2) @ dy_block)[:, :: weights.shape[1] // v.shape[1]]",
        why="The keys' gradients are summed over the group; the values are shared by the same heads, and need the same "
        "sum.",
    ),
)

RECOMPUTED = "kept_tile or (_made_again(q_scaled, k, tile, maximum_block, total_block),) * 2"

WINDOW = (
    Mutation(
        "window_forgotten_in_the_recomputation",
        "window_attention",
        causal_attention_backward,
        right=RECOMPUTED,
        wrong="(_made_again(q_scaled, k, tile._replace(edge=None), maximum_block, total_block),) * 2",
        why="Weights that are made again need the window as well as the causal mask: what it hid had no weight, and "
        "has no gradient.",
    ),
    Mutation(
        "window_one_too_wide",
        "window_attention",
        causal_attention_backward,
        right=RECOMPUTED,
        wrong="(_made_again(q_scaled, k, tile._replace(\n"
        "                edge=None if tile.edge is None else tile.edge - 1), maximum_block, total_block),) * 2",
        why="A window of w holds w keys, the query's own among them: s > t - w. With >= the backward sees one that the "
        "forward hid.",
    ),
)

TILES = (
    Mutation(
        "tile_with_its_own_row_sum",
        "attention_tiles",
        causal_attention_backward,
        right="row_sums(dy_block * y[:, :, queries]) if len(tiles) > 1 else None",
        wrong="None",
        why="The softmax's row sum runs over all keys; a tile has only some. The output has them all: "
        "δ = rowsum(dO ∘ O).",
    ),
    Mutation(
        "tile_weights_not_rescaled",
        "attention_tiles",
        causal_attention_forward,
        right="probabilities *= np.exp(tile_maximum - maximum[:, :, queries]) * (tile_total / total[:, :, queries])",
        wrong="pass",
        why="A tile's softmax took its own keys for all that there are; for the backward its weights are rescaled "
        "by the row's total.",
    ),
)

MULTI_HEAD_ATTENTION = (
    Mutation(
        "heads_merged_without_the_transpose",
        "multi_head_attention",
        _heads_backward,
        right="merge_heads(tap(name, dy))",
        wrong="tap(name, dy).reshape(dy.shape[0], dy.shape[2], -1)",
        why="(B, H, T, D) becomes (B, T, H·D) by a transpose and then a reshape; the reshape alone fits as well and "
        "mixes heads with positions.",
    ),
    Mutation(
        "context_split_without_the_transpose",
        "multi_head_attention",
        multi_head_attention_backward,
        right="split_heads(dcontext, cache.heads)",
        wrong="dcontext.reshape(len(dy), cache.heads, dy.shape[1], -1)",
        why="The backward of merging heads is splitting them: reshape, then transpose. The reshape alone gives a "
        "head other heads' gradients.",
    ),
    Mutation(
        "heads_merged_in_reverse",
        "multi_head_attention",
        _heads_backward,
        right="merge_heads(tap(name, dy))",
        wrong="merge_heads(tap(name, dy)[:, ::-1])",
        why="Heads are merged in the order in which they were split; each has its own columns of the matrix.",
    ),
    Mutation(
        "shared_input_assigned",
        "multi_head_attention",
        multi_head_attention_backward,
        right="dx += dx_k\n    dx += dx_v",
        wrong="dx = dx_v",
        why="x fed queries, keys and values: `dx +=`, three times. With `=` the last path wins.",
    ),
    Mutation(
        "path_of_the_keys_lost",
        "multi_head_attention",
        multi_head_attention_backward,
        right="dx += dx_k",
        wrong="pass",
        why="x is reached by three paths, and that of the keys is one of them.",
    ),
    Mutation(
        "path_of_the_values_lost",
        "multi_head_attention",
        multi_head_attention_backward,
        right="dx += dx_v",
        wrong="pass",
        why="x is reached by three paths, and that of the values is one of them.",
    ),
    Mutation(
        "keys_back_through_w_q",
        "multi_head_attention",
        multi_head_attention_backward,
        right="_heads_backward(dk, cache.k, ",
        wrong="_heads_backward(dk, cache.k._replace(linear=cache.k.linear._replace(w=cache.q.linear.w)), ",
        why="dk returns through the matrix that made k. A copied line still named the queries' one; dw_k does not "
        "show it, since it needs x and dk alone.",
    ),
    Mutation(
        "w_o_not_transposed",
        "multi_head_attention",
        multi_head_attention_backward,
        right="linear_backward(dprojected, cache.out)",
        wrong="linear_backward(dprojected, cache.out._replace(w=cache.out.w.T))",
        why="dx = dy wᵀ. A square w fits either way round, so only the numbers are wrong.",
    ),
    Mutation(
        "dw_q_transposed",
        "multi_head_attention",
        multi_head_attention_backward,
        right="return dx, dw_q, ",
        wrong="return dx, dw_q.T, ",
        why="dqᵀ x is the gradient for weights kept as (out, in); here they are (in, out): xᵀ dq.",
    ),
    Mutation(
        "dw_o_of_the_input",
        "multi_head_attention",
        multi_head_attention_backward,
        right="linear_backward(dprojected, cache.out)",
        wrong="linear_backward(dprojected, cache.out._replace(x=cache.q.linear.x))",
        why="w_o multiplied the heads' merged contexts, not the layer's input.",
    ),
)

QUERIES_AND_KEYS = (
    Mutation(
        "query_key_norm_skipped",
        "grouped_queries",
        _heads_backward,
        right='dy, dgamma = rms_norm_backward(tap(f"{name}_normed", dy), cache.norm)',
        wrong='dy = tap(f"{name}_normed", dy)\n        dgamma = rms_norm_backward(dy, cache.norm)[1]',
        why="The norm of queries and keys has a gain, which gets its gradient, and a Jacobian, which is as easily "
        "forgotten.",
    ),
    Mutation(
        "gain_of_the_projections",
        "grouped_queries",
        _heads_backward,
        right='dy, dgamma = rms_norm_backward(tap(f"{name}_normed", dy), cache.norm)',
        wrong='dnormed = tap(f"{name}_normed", dy)\n'
        "        dy, _ = rms_norm_backward(dnormed, cache.norm)\n"
        "        dgamma = (dnormed * cache.norm.x_hat / cache.norm.inverse_rms).sum(axis=(0, 1, 2))",
        why="gamma_q multiplied the normalised queries; the projections that they were made of are not what its "
        "gradient is weighted by.",
    ),
    Mutation(
        "gain_of_the_first_head",
        "grouped_queries",
        _heads_backward,
        right='dy, dgamma = rms_norm_backward(tap(f"{name}_normed", dy), cache.norm)',
        wrong='dnormed = tap(f"{name}_normed", dy)\n'
        "        dy, _ = rms_norm_backward(dnormed, cache.norm)\n"
        "        dgamma = (dnormed * cache.norm.x_hat)[:, 0].sum(axis=(0, 1))",
        why="All heads share one gain of width D, so it sums over the heads as well as over positions and sequences.",
    ),
    Mutation(
        "norm_undone_before_the_rotation",
        "grouped_queries",
        _heads_backward,
        right="if cache.rotary is not None:\n"
        '        dy = rotary_backward(tap(f"{name}_rotated", dy), cache.rotary)\n'
        "    if cache.norm is not None:\n"
        '        dy, dgamma = rms_norm_backward(tap(f"{name}_normed", dy), cache.norm)',
        wrong="if cache.norm is not None:\n"
        '        dy, dgamma = rms_norm_backward(tap(f"{name}_normed", dy), cache.norm)\n'
        "    if cache.rotary is not None:\n"
        '        dy = rotary_backward(tap(f"{name}_rotated", dy), cache.rotary)',
        why="What was done last is undone first: queries were normalised and then turned, so turn them back first.",
    ),
    Mutation(
        "values_turned_back",
        "grouped_queries",
        multi_head_attention_backward,
        right="_heads_backward(dv, ",
        wrong="_heads_backward(dv if cache.k.rotary is None else rotary_backward(dv, cache.k.rotary), ",
        why="Only queries and keys were turned. A value has no position, and its gradient none either.",
    ),
)
