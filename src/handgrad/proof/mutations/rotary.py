"""What goes wrong in rotary positions: the way back is the opposite turn, of the same pairs, by the same angle."""

from ...layers import rotary_backward, rotary_forward
from .mutation import Mutation

BACK = "return _rotate(dy, cache.cos, -cache.sin)"

ROTARY = (
    Mutation(
        "rotary_turned_forwards",
        "rotary",
        rotary_backward,
        right=BACK,
        wrong="return _rotate(dy, cache.cos, cache.sin)",
        why="A rotation's transpose is the rotation by the opposite angle. Turned forwards again, it is right at "
        "position 0 only.",
    ),
    Mutation(
        "rotary_not_turned_back",
        "rotary",
        rotary_backward,
        right=BACK,
        wrong="return dy",
        why="Positions have no parameters here, yet they have a backward: the projections were not what attention met.",
    ),
    Mutation(
        "rotary_one_sign_forgotten",
        "rotary",
        rotary_backward,
        right=BACK,
        wrong="dx = _rotate(dy, cache.cos, cache.sin)\n"
        "    half = dx.shape[-1] // 2\n"
        "    dx[..., :half] = _rotate(dy, cache.cos, -cache.sin)[..., :half]\n"
        "    return dx",
        why="The transpose exchanges the two signs of the sine. With one of them left it is no rotation, and lengthens "
        "some gradients.",
    ),
    Mutation(
        "rotary_neighbours_paired",
        "rotary",
        rotary_backward,
        right=BACK,
        wrong="dx, pairs = np.empty_like(dy), np.concatenate((dy[..., ::2], dy[..., 1::2]), axis=-1)\n"
        "    dx[..., ::2], dx[..., 1::2] = np.split(_rotate(pairs, cache.cos, -cache.sin), 2, axis=-1)\n"
        "    return dx",
        why="There are two conventions, pairs of neighbours and pairs that are half a head apart; forward and backward "
        "must have the same one.",
    ),
    Mutation(
        "rotary_positions_off_by_one",
        "rotary",
        rotary_forward,
        right="RotaryCache(cos, sin)",
        wrong="RotaryCache(*_turns(x.shape[-1], start + 1, x.shape[2], rotary, x.real.dtype))",
        why="Scores know only differences of positions, so a shift of all of them is no fault in the forward; but the "
        "way back must have the same angles.",
    ),
)
