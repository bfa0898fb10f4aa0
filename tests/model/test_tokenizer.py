"""Texts become tokens and come back, whatever is in them."""

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as HuggingFace
from tokenizers import decoders, processors
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing

from handgrad.errors import HandgradError, TextError
from handgrad.model import Tokenizer

CAT = "the cat sat on the mat, and the dog lay by the log.\n" * 20
TEXTS = {
    "empty": "",
    "ascii": CAT[:60],
    "spaces": "  two,   three\t\n\n \r\n end ",
    "accents": "größer, naïve, e\u0301 (two code points)",
    "wide": "漢字かな \U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 ‮ \u2028",
    "control": "".join(map(chr, range(32))) + "\x7f\x80\x85\xa0\xad\ufeff\ufffd",
    "latin": "".join(map(chr, range(0x250))),
    "highest": "\ud7ff\ue000\uffff\U00010000\U0010ffff",
    "like special tokens": "<|endoftext|> [UNK] Ġ Ċ Ā <s>",
}
EVERY_TEXT = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)


@pytest.fixture(scope="module", params=["chars", "bytes", "bpe"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """Each kind; that of characters knows all the texts', the one of byte pairs learned from another text."""
    if request.param == "chars":
        return Tokenizer.of_characters("".join(TEXTS.values()))
    return Tokenizer.of_bytes() if request.param == "bytes" else Tokenizer.of_byte_pairs(CAT, 290)


@EVERY_TEXT
def test_a_text_comes_back(text: str, tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode(text)
    assert tokens.dtype == np.int32
    assert tokens.ndim == 1
    assert tokenizer.decode(tokens) == text
    assert ((tokens >= 0) & (tokens < tokenizer.vocabulary)).all()


@EVERY_TEXT
def test_a_text_that_is_saved_and_loaded_has_the_same_tokens(text: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizer.to_json(), encoding="utf-8")
    loaded = Tokenizer.load(path)
    assert loaded.vocabulary == tokenizer.vocabulary
    assert loaded.encode(text).tolist() == tokenizer.encode(text).tolist()
    assert loaded.decode(loaded.encode(text)) == text
    assert loaded.to_json() == tokenizer.to_json()


@EVERY_TEXT
def test_a_stream_loses_nothing_and_cuts_no_character(text: str, tokenizer: Tokenizer) -> None:
    pieces = list(tokenizer.decode_stream(tokenizer.encode(text)))
    assert "".join(pieces) == text
    assert all(pieces)


def test_characters_are_numbered_by_their_code_points() -> None:
    tokenizer = Tokenizer.of_characters("cab\n漢\U0001f600a")
    assert tokenizer.vocabulary == 6
    assert tokenizer.encode("\nabc漢\U0001f600").tolist() == [0, 1, 2, 3, 4, 5]


@EVERY_TEXT
def test_a_byte_s_number_is_its_value(text: str) -> None:
    assert Tokenizer.of_bytes().encode(text).tolist() == list(text.encode())


def test_there_are_256_bytes_and_each_is_decoded() -> None:
    tokenizer = Tokenizer.of_bytes()
    assert tokenizer.vocabulary == 256
    for byte in range(256):
        assert tokenizer.decode([byte]) == bytes([byte]).decode(errors="replace")
    assert tokenizer.decode(np.array(list("é".encode()))) == "é"


def test_a_stream_holds_back_a_character_until_it_is_complete() -> None:
    tokenizer = Tokenizer.of_bytes()
    heard: list[int] = []

    def bytes_of(text: str) -> object:
        for byte in text.encode():
            heard.append(byte)
            yield byte

    stream = tokenizer.decode_stream(bytes_of("aé漢\U0001f600b"))  # type: ignore[arg-type]
    for character, read in (("a", 1), ("é", 3), ("漢", 6), ("\U0001f600", 10), ("b", 11)):
        assert next(stream) == character
        assert len(heard) == read
    assert list(stream) == []


def test_a_stream_writes_bytes_that_are_no_text_as_soon_as_a_character_follows() -> None:
    """A model of bytes may draw anything."""
    tokenizer, generator = Tokenizer.of_bytes(), random.Random(0)
    for _ in range(300):
        tokens = [*generator.choices(range(256), k=generator.randrange(1, 30)), ord("."), ord("!")]
        assert "".join(tokenizer.decode_stream(tokens)) == tokenizer.decode(tokens)


@pytest.mark.parametrize("end", [b"\xc3", b"\xf0\x9f\x98", b"\xff\xff", b"\xe6\xbc"])
def test_a_stream_that_ends_within_a_character_ends_like_the_text(end: bytes) -> None:
    tokenizer = Tokenizer.of_bytes()
    tokens = [*b"cut ", *end]
    assert (
        "".join(tokenizer.decode_stream(tokens)) == tokenizer.decode(tokens) == (b"cut " + end).decode(errors="replace")
    )


def test_byte_pairs_are_the_bytes_and_what_is_frequent() -> None:
    tokenizer = Tokenizer.of_byte_pairs(CAT, 290)
    assert len(tokenizer.encode(" the")) == 1
    assert len(tokenizer.encode("xyz")) == 3
    assert len(tokenizer.encode(CAT)) < len(CAT) / 2
    single = [tokenizer.decode([token]) for token in range(256)]
    assert sum(len(text) == 1 and text.isascii() for text in single) == 128
    assert sum(text == "\ufffd" for text in single) == 128


def test_the_same_text_gives_the_same_byte_pairs() -> None:
    """Byte for byte, also where many pairs are equally frequent."""
    generator = random.Random(0)
    text = " ".join("".join(generator.choices("abcdefgh", k=5)) for _ in range(2000))
    first, *others = (Tokenizer.of_byte_pairs(text, 500).to_json() for _ in range(5))
    assert others == [first] * 4
    assert Tokenizer.of_byte_pairs(text[::-1], 500).to_json() != first


@pytest.mark.parametrize("vocabulary", [256, 257, 262, 290, 5000])
def test_a_vocabulary_is_not_exceeded(vocabulary: int) -> None:
    tokenizer = Tokenizer.of_byte_pairs(CAT, vocabulary)
    assert tokenizer.vocabulary == vocabulary if vocabulary < 280 else tokenizer.vocabulary <= vocabulary
    assert tokenizer.decode(tokenizer.encode(CAT)) == CAT
    assert sorted(tokenizer.inner.get_vocab().values()) == list(range(tokenizer.vocabulary))


@pytest.mark.parametrize("text", ["", "a", "ab", " "])
def test_a_text_without_a_frequent_pair_leaves_the_bytes(text: str) -> None:
    tokenizer = Tokenizer.of_byte_pairs(text, 1000)
    assert tokenizer.vocabulary == 256
    assert tokenizer.decode(tokenizer.encode("größer")) == "größer"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ab©", "character '©' (position 2) is not in the model's vocabulary; one of"),
        ("\n", "character '\\n' (position 0) is not in the model's vocabulary; one of"),
        ("abab\U0001f600x", "character '\U0001f600' (position 4) is not in the model's vocabulary; one of"),
        ("aA", "character 'A' (position 1) is not in the model's vocabulary; one of"),
    ],
)
def test_a_character_without_a_token_is_named_with_its_place(text: str, message: str) -> None:
    with pytest.raises(TextError) as raised:
        Tokenizer.of_characters("ab").encode(text)
    assert str(raised.value) == f"{message} bytes or byte pairs has them all"


@pytest.mark.parametrize("kind", ["chars", "bytes", "bpe"])
def test_half_a_surrogate_is_named(kind: str) -> None:
    """It is how Python reads an argument that is not UTF-8."""
    tokenizer = {
        "chars": Tokenizer.of_characters("a\nb é"),
        "bytes": Tokenizer.of_bytes(),
        "bpe": Tokenizer.of_byte_pairs(CAT, 260),
    }[kind]
    with pytest.raises(TextError) as raised:
        tokenizer.encode("a\nb é\udcff")
    assert str(raised.value).startswith("character '\\udcff' (position 5) ")
    str(raised.value).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ": not a tokenizer file: "),
        (b"{}", ": not a tokenizer file: "),
        (b"[1, 2]", ": not a tokenizer file: "),
        (b"\xff{}", ": not UTF-8 (byte 0)"),
        (None, ": no such file"),
    ],
    ids=["empty", "object", "array", "latin", "missing"],
)
def test_a_tokenizer_file_that_cannot_be_read_is_named(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(HandgradError) as raised:
        Tokenizer.load(path)
    assert str(raised.value).startswith(f"{path}{message}")
    assert "\n" not in str(raised.value)


def test_a_file_on_which_the_library_panics_is_refused(tmp_path: Path) -> None:
    """Which is no exception for Python."""
    content = json.loads(Tokenizer.of_byte_pairs("the cat sat on the mat, the cat sat.", 260).to_json())
    assert content["model"]["merges"]
    content["model"]["continuing_subword_prefix"] = "a longer prefix than any token"
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    with pytest.raises(TextError, match=r"tokenizer.json: not a tokenizer file: range "):
        Tokenizer.load(path)


def test_a_decoder_that_fails_is_told() -> None:
    def fail(tokens: list[int]) -> str:
        raise Exception("no such decoder")

    tokenizer = Tokenizer(SimpleNamespace(decode=fail))  # type: ignore[arg-type]
    with pytest.raises(TextError, match=r"^the tokens cannot be made a text: no such decoder$"):
        tokenizer.decode([0, 1])


def test_a_number_that_the_file_has_no_room_for_is_refused(tmp_path: Path) -> None:
    """The library makes room for all up to it, when it writes the file, and ends the process where there is none."""
    content = json.loads(Tokenizer.of_characters("abc").to_json())
    content["model"]["vocab"]["c"] = 2**31
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    with pytest.raises(TextError, match=r"tokenizer.json: .* it has a token of the number 2,147,483,648$"):
        Tokenizer.load(path)


def test_no_room_is_made_for_more_byte_pairs_than_a_text_can_have() -> None:
    assert Tokenizer.of_byte_pairs("abab" * 20, 2**62).to_json() == Tokenizer.of_byte_pairs("abab" * 20, 5000).to_json()


def test_a_gap_in_the_tokens_numbers_counts_as_tokens(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    content = json.loads(Tokenizer.of_characters("abc").to_json())
    content["model"]["vocab"]["c"] = 9
    path.write_text(json.dumps(content))
    assert Tokenizer.load(path).vocabulary == 10


@pytest.mark.parametrize("part", [1, 3, 100])
def test_a_long_text_in_parts_has_the_tokens_of_the_whole(
    part: int, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = random.Random(0)
    signs = [
        "the",
        "cat",
        "'s",
        "'",
        "12",
        "-",
        " ",
        "  ",
        "\n",
        " \n",
        "\t",
        "\x1c",
        "\u2028",
        "\xa0",
        "漢",
        "e\u0301",
    ]
    text = CAT[:200] + "".join(generator.choices(signs, k=3000))
    tokenizer = Tokenizer.of_characters(text) if tokenizer.vocabulary not in (256, 290) else tokenizer
    whole = tokenizer.encode(text).tolist()
    monkeypatch.setattr("handgrad.model.tokenizer.PART", part)
    parts = list(tokenizer._parts(text))
    assert "".join(parts) == text
    assert len(parts) > 3000 // (50 + 20 * part)
    assert (
        [token for piece in parts for token in tokenizer.inner.encode(piece).ids]
        == whole
        == tokenizer.encode(text).tolist()
    )


def test_a_tokenizer_of_another_make_is_not_given_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that begins every text with a token of its own would begin every part with it."""
    tokenizer = Tokenizer.of_characters("^ab ")
    tokenizer.inner.post_processor = TemplateProcessing(single="^ $A", special_tokens=[("^", 1)])
    monkeypatch.setattr("handgrad.model.tokenizer.PART", 1)
    assert tokenizer.decode(tokenizer.encode("a b a b")) == "^a b a b"


def test_truncation_and_padding_of_a_file_are_not_taken_over(tmp_path: Path) -> None:
    tokenizer = Tokenizer.of_characters("abc")
    tokenizer.inner.enable_truncation(2)
    tokenizer.inner.enable_padding(length=9, pad_id=0, pad_token="a")
    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizer.to_json())
    assert Tokenizer.load(path).encode("abcab").tolist() == [0, 1, 2, 0, 1]


@pytest.mark.parametrize("tokenizer", [Tokenizer.of_bytes(), Tokenizer.of_characters("aé<>s")])
def test_special_tokens_stand_for_no_bytes_and_others_that_were_added_for_theirs(tokenizer: Tokenizer) -> None:
    special, other = tokenizer.vocabulary, tokenizer.vocabulary + 1
    tokenizer.inner.add_special_tokens(["<s>"])
    tokenizer.inner.add_tokens(["éa"])
    assert (tokenizer.bytes_of(special), tokenizer.bytes_of(other)) == (0, 3)


def test_the_text_of_a_token_is_what_it_adds() -> None:
    characters = Tokenizer.of_characters("a é漢\n ")
    assert [characters.text_of(n) for n in range(characters.vocabulary)] == ["\n", " ", "a", "é", "漢"]
    whole = Tokenizer.of_bytes()
    assert [whole.text_of(byte) for byte in range(256)] == [bytes([n]).decode(errors="replace") for n in range(256)]


def test_the_texts_of_byte_pairs_are_the_text() -> None:
    tokenizer = Tokenizer.of_byte_pairs(CAT + "größer " * 40, 290)
    tokens = tokenizer.encode(CAT + "größer")
    assert "".join(tokenizer.text_of(token) for token in tokens) == CAT + "größer"
    assert tokenizer.text_of(int(tokenizer.encode(" the")[0])) == " the"
    (half,) = [n for n in range(256) if tokenizer.inner.id_to_token(n) == "Ã"]
    assert tokenizer.text_of(half) == "\ufffd"


STRIPPED = decoders.Sequence(
    [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
)


@pytest.mark.parametrize("decoder", [decoders.Metaspace(), STRIPPED], ids=["metaspace", "strip"])
def test_the_text_of_a_token_has_the_space_that_begins_no_text(decoder: decoders.Decoder) -> None:
    """SentencePiece's: the space before a text's first word is not the text's."""
    pieces = {"▁the": 0, "▁cat": 1, "s": 2, "▁": 3, "▁▁": 4}
    inner = HuggingFace(WordLevel(pieces))
    inner.decoder = decoder
    tokenizer = Tokenizer(inner)
    assert tokenizer.decode([0, 1, 2]) == "the cats"
    assert [tokenizer.text_of(n) for n in range(5)] == [" the", " cat", "s", " ", "  "]


def test_a_token_that_stands_for_no_text_adds_none() -> None:
    tokenizer = Tokenizer.of_characters("ab")
    tokenizer.inner.add_special_tokens(["<s>"])
    tokenizer.inner.add_tokens(["ba b"])
    assert [tokenizer.text_of(n) for n in range(5)] == ["a", "b", "", "ba b", ""]


def template(single: str) -> TemplateProcessing:
    return TemplateProcessing(single=single, special_tokens=[("<s>", 3), ("</s>", 4)])


@pytest.mark.parametrize(
    ("processor", "before", "after"),
    [
        (None, [], []),
        (processors.ByteLevel(), [], []),
        (template("<s> <s> $A </s>"), [3, 3], [4]),
        (template("$A </s>"), [], [4]),
        (processors.Sequence([processors.ByteLevel(), template("<s> $A")]), [3], []),
        (processors.RobertaProcessing(("</s>", 4), ("<s>", 3)), [3], [4]),
    ],
)
@pytest.mark.parametrize("characters", ["бвг", "abc"])
def test_the_special_tokens_around_a_text_whatever_its_characters(
    characters: str, processor: Any, before: list[int], after: list[int]
) -> None:
    tokenizer = Tokenizer.of_characters(characters)
    if processor is not None:
        tokenizer.inner.add_special_tokens(["<s>", "</s>"])
        tokenizer.inner.post_processor = processor
    assert [part.tolist() for part in tokenizer.frame] == [before, after]
    assert tokenizer.encode(characters).tolist() == [*before, 0, 1, 2, *after]


def test_special_tokens_without_a_place_for_the_text() -> None:
    tokenizer = Tokenizer.of_characters("abc")
    tokenizer.inner.add_special_tokens(["<s>", "</s>"])
    tokenizer.inner.post_processor = template("<s> </s>")
    with pytest.raises(TextError, match=r"^no text can be put between special tokens: "):
        _ = tokenizer.frame
