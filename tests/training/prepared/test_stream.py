"""Pieces have the tokens of the whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handgrad.model import Tokenizer
from handgrad.training.prepared.stream import Piece, Stream

from .conftest import text_of

TEXT = text_of(2000, seed=5)
TOKENIZERS = {
    "chars": Tokenizer.of_characters(TEXT + "ab \n\t\r\x1c\u2003'st1"),
    "bytes": Tokenizer.of_bytes(),
    "bpe": Tokenizer.of_byte_pairs(TEXT, 400),
}


def pieces_of(stream: Stream, documents: list[list[str]]) -> list[Piece]:
    return [piece for texts in documents for piece in stream.add(texts)] + stream.end()


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.text("ab \n\t\r\x1c\u2003'st1", min_size=1, max_size=150), max_size=3), max_size=6))
def test_tokens_of_pieces_are_those_of_the_joined_text(kind: str, documents: list[list[str]]) -> None:
    whole = "\n\n".join(text for texts in documents for text in texts)
    pieces = [piece.text for piece in pieces_of(Stream(whole=True), documents)]
    assert "".join(pieces) == whole
    if any(len(piece) >= 400 for piece in pieces):  # cut by force
        return
    tokens = TOKENIZERS[kind].encode_pieces(pieces)
    expected = TOKENIZERS[kind].encode(whole)
    np.testing.assert_array_equal(np.concatenate([*tokens, np.empty(0, np.int32)]), expected)


@pytest.mark.usefixtures("small_steps")
def test_a_long_text_is_cut_into_pieces_that_are_short() -> None:
    pieces = pieces_of(Stream(whole=True), [[TEXT], [TEXT, TEXT]])
    assert len(pieces) > 300
    assert max(len(piece.text) for piece in pieces) < 120
    assert not any(piece.begins or piece.ends for piece in pieces)


@pytest.mark.usefixtures("small_steps")
def test_a_text_without_white_space_does_not_wait_for_ever() -> None:
    stream = Stream(whole=True)
    assert sum(len(piece.text) for piece in stream.add(["a" * 5000])) >= 4600
    assert len(stream.rest) <= 400


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("whole", [True, False])
def test_what_has_no_place_to_cut_is_cut_where_it_is_too_long(whole: bool) -> None:
    pieces = pieces_of(Stream(whole), [["a" * 1000 + " b"]])
    assert [piece.text for piece in pieces if piece.text] == [
        *["a" * 400] * 2,
        *(["a" * 200, " b"] if whole else ["a" * 200 + " b"]),
    ]


@pytest.mark.usefixtures("small_steps")
def test_documents_for_other_peoples_tokenizers() -> None:
    """Each for itself; a long one in pieces that end with a line, the first of which begins the document."""
    long = "a line of words\n" * 30
    pieces = pieces_of(Stream(whole=False), [["one", "two"], [], [long]])
    assert pieces[:4] == [Piece("one", True, True), Piece("\n\n"), Piece("two", True, True), Piece("\n\n")]
    rest = pieces[4:]
    assert "".join(piece.text for piece in rest) == long
    assert len(rest) > 3
    assert all(piece.text.endswith("\n") for piece in rest)
    assert [piece.begins for piece in rest] == [True] + [False] * (len(rest) - 1)
    assert [piece.ends for piece in rest] == [False] * (len(rest) - 1) + [True]


def test_going_on_gives_the_same_pieces() -> None:
    documents = [[text_of(40, seed)] for seed in range(6)]
    stream = Stream(whole=True)
    whole = [piece for texts in documents for piece in stream.add(texts)]
    found, state = list[Piece](), (False, "")
    for texts in documents:
        again = Stream(True, *state)
        found += again.add(texts)
        state = again.begun, again.rest
    assert found == whole
    assert state == (stream.begun, stream.rest)
