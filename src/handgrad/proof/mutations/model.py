"""What goes wrong where layers are put together: the residuals, what a layer was given, the order of the blocks."""

from ...model.block import block_backward, block_forward
from ...model.gpt import trunk_backward, with_head
from .mutation import Mutation

LEFT_BY_THE_BLOCK = "BlockCache(config.residual, norm_1, attention, norm_2, feed_forward)"


def _from_the_raw_input(part: str) -> str:
    """The block's cache, where attention's part has the input from before the norm."""
    raw = f"attention._replace({part}=attention.{part}._replace(linear=attention.{part}.linear._replace(x=x)))"
    return f"BlockCache(config.residual, norm_1, {raw}, norm_2, feed_forward)"


BLOCK = (
    *(
        Mutation(
            f"dw_{part}_of_the_raw_input",
            "block",
            block_forward,
            right=LEFT_BY_THE_BLOCK,
            wrong=_from_the_raw_input(part),
            why=f"w_{part} multiplied the *normalised* input. Taken from the raw one, dw_{part} is wrong by most of "
            "its size, and the loss falls all the same.",
        )
        for part in "qkv"
    ),
    Mutation(
        "dw_gate_of_the_raw_input",
        "block",
        block_forward,
        right=LEFT_BY_THE_BLOCK,
        wrong="BlockCache(config.residual, norm_1, attention, norm_2, feed_forward._replace("
        "gate_cache=feed_forward.gate_cache._replace(x=residual_1)))",
        why="The feed-forward layer, too, read a normalised copy of the stream, and not the stream.",
    ),
    Mutation(
        "dw_up_of_the_raw_input",
        "block",
        block_forward,
        right=LEFT_BY_THE_BLOCK,
        wrong="BlockCache(config.residual, norm_1, attention, norm_2, feed_forward._replace("
        "up_cache=feed_forward.up_cache._replace(x=residual_1)))",
        why="w_up read what the second norm made of the stream; it is that, not the stream itself, that meets dup.",
    ),
    Mutation(
        "residual_past_the_feed_forward_lost",
        "block",
        block_backward,
        right="dresidual_1 = dresidual_1 + dresidual_2",
        wrong="pass",
        why="y = h + f(h): the gradient comes back through f *and* past it. `=` where `+=` is due cuts the highway.",
    ),
    Mutation(
        "residual_past_attention_lost",
        "block",
        block_backward,
        right="dx = dx + dresidual_1",
        wrong="pass",
        why="h = x + attention(norm(x)): without the path past attention, what is below learns only through it.",
    ),
    Mutation(
        "feed_forward_path_lost",
        "block",
        block_backward,
        right="dresidual_1 = dresidual_1 + dresidual_2",
        wrong="dresidual_1 = dresidual_2",
        why="y = h + f(h): the path past f alone is not enough; what f's own input is worth is missing below it.",
    ),
    Mutation(
        "attention_path_lost",
        "block",
        block_backward,
        right="dx = dx + dresidual_1",
        wrong="dx = dresidual_1",
        why="x reached the block's output through attention too; that path's gradient must be added, not dropped.",
    ),
    Mutation(
        "attention_before_the_sum",
        "block",
        block_backward,
        right="multi_head_attention_backward(dresidual_1, ",
        wrong="multi_head_attention_backward(dresidual_2, ",
        why="Attention's output went into the feed-forward layer too: sum both branches first, and then go on with "
        "the sum.",
    ),
    Mutation(
        "norm_1_skipped",
        "block",
        block_backward,
        right='dx, dnorm_1 = norm_backward(dnormed_1, cache.norm_1, within(tap, "norm_1"))',
        wrong='dx, dnorm_1 = dnormed_1, norm_backward(dnormed_1, cache.norm_1, within(tap, "norm_1"))[1]',
        why="What attention asks of its input is a gradient of the *normalised* x; the norm's Jacobian carries it "
        "to x.",
    ),
    Mutation(
        "norm_1_with_the_cache_of_norm_2",
        "block",
        block_backward,
        right='norm_backward(dnormed_1, cache.norm_1, within(tap, "norm_1"))',
        wrong='norm_backward(dnormed_1, cache.norm_2, within(tap, "norm_1"))',
        why="Two norms in a block, two caches: a copied line kept the other's mean and deviation.",
    ),
)

GPT = (
    Mutation(
        "blocks_in_forward_order",
        "gpt",
        trunk_backward,
        right="while blocks:\n"
        '        dx, dblock = block_backward(dx, blocks.pop(), within(tap, f"blocks.{len(blocks)}"))\n'
        '        yield f"blocks.{len(blocks)}", dblock',
        wrong="for n, block in enumerate(blocks):\n"
        '        dx, dblock = block_backward(dx, block, within(tap, f"blocks.{n}"))\n'
        '        yield f"blocks.{n}", dblock',
        why="The chain rule goes from the last block to the first; in the forward's order each block meets a "
        "gradient that is not its own.",
    ),
    Mutation(
        "last_norm_skipped",
        "gpt",
        trunk_backward,
        right='dx, dnorm = norm_backward(dy, norm, within(tap, "norm"))',
        wrong='dx, dnorm = dy, norm_backward(dy, norm, within(tap, "norm"))[1]',
        why="The head's gradient belongs to the normalised stream; the last norm's Jacobian carries it to the stream.",
    ),
)

TIED = "part.token[...] += dw_lm.T"

HEAD_AND_EMBEDDING = (
    Mutation(
        "tied_without_the_head",
        "gpt2",
        with_head,
        right=TIED,
        wrong="pass",
        why="A table that is embedding and head is used twice, and it is the head that asks something of every row.",
    ),
    Mutation(
        "tied_without_the_embedding",
        "gpt2",
        with_head,
        right=TIED,
        wrong="part.token[...] = dw_lm.T",
        why="`=` where `+=` is due: what the head asks of the table overwrites what the lookups ask of it.",
    ),
    Mutation(
        "tied_averaged",
        "gpt2",
        with_head,
        right=TIED,
        wrong="part.token[...] = (part.token + dw_lm.T) / 2",
        why="Of a tensor with two uses the gradient is the sum of both, and not their mean.",
    ),
    Mutation(
        "tied_without_the_transpose",
        "gpt2",
        with_head,
        right=TIED,
        wrong="part.token[...] += dw_lm.reshape(part.token.shape)",
        why="The head multiplied by the table's *transpose*. A reshape has the same shape, and scatters its gradient "
        "over the wrong rows.",
    ),
)

FULL_BLOCKS = (
    Mutation(
        "window_on_the_full_blocks",
        "qwen2",
        block_forward,
        right=LEFT_BY_THE_BLOCK,
        wrong="BlockCache(config.residual, norm_1, multi_head_attention_forward(\n"
        "        normed_1, *parameters.attention, heads=config.heads, key_value_heads=config.G,\n"
        "        scale=None if config.score_scale else 1.0, rotary=config.rotary,\n"
        "        window=config.window or None, epsilon=config.norm_epsilon)[1], norm_2, feed_forward)",
        why="Not all blocks have the window. What is computed again for the backward asks for its own block's, as the "
        "forward did.",
    ),
)
