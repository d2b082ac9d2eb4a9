"""Promises of the character tokenizer: code points, exactly."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from seqvae.data.char_tokenizer import CharTokenizer, CharTokenizerConfig
from seqvae.data.store import TokenStore
from seqvae.data.tokenizers import Tokenizer, load_tokenizer, train_tokenizer
from seqvae.errors import SeqVAEError
from seqvae.types import BOS, EOS, PAD, SPECIALS, UNK

SAMPLES = [
    "中文，没有空格。",
    "e\u0301 is not é",
    "👩‍👩‍👧 🏳️‍🌈",
    "שלום עולם ‏מימין",
    "<pad> <bos> <unk>",
    "\u2581 ▅ \u2028 \xa0",
    "a\tb  c ",
]


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_every_text_in_known_characters_comes_back_exactly(text):
    tokenizer = CharTokenizer(sorted(set(text)))
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert len(ids) == len(text)
    assert not {PAD, BOS, EOS, UNK} & set(ids)


@given(st.text())
def test_no_text_gives_pad_bos_or_eos_and_every_code_point_is_one_token(text):
    tokenizer = CharTokenizer(["a", "<", ">", " "])
    ids = tokenizer.encode(text)
    assert [identity == UNK for identity in ids] == [character not in "a<> " for character in text]
    assert not {PAD, BOS, EOS} & set(ids)
    assert tokenizer.tokens(text) == list(text)


@pytest.mark.parametrize("text", SAMPLES)
def test_a_trained_tokenizer_knows_its_text_white_space_included(text):
    tokenizer = train_tokenizer([text], CharTokenizerConfig())
    assert tokenizer.decode([BOS, *tokenizer.encode(text), EOS, PAD]) == text
    assert tokenizer.vocab_size == len(SPECIALS) + len(set(text))


def test_a_lone_surrogate_and_a_line_break_are_unknown_characters():
    tokenizer = CharTokenizer.train(["ab"], CharTokenizerConfig())
    assert tokenizer.encode("a\ud800\n") == [4, UNK, UNK]
    assert tokenizer.decode([4, UNK]) == "a<unk>"
    assert CharTokenizer.train(["a\udcff"], CharTokenizerConfig()).characters == ["a"]


def test_characters_are_by_frequency_then_code_point_and_blank_lines_do_not_count():
    lines = ["bba", "   ", "", "c a", "\t"]
    assert CharTokenizer.train(lines, CharTokenizerConfig()).characters == ["a", "b", " ", "c"]
    assert CharTokenizer.train(lines, CharTokenizerConfig(min_freq=2)).characters == ["a", "b"]
    assert CharTokenizer.train(lines, CharTokenizerConfig(max_size=5)).vocab_size == 5
    with pytest.raises(ValidationError):
        CharTokenizerConfig(max_size=4)
    with pytest.raises(SeqVAEError, match="no character that occurs 3 times") as caught:
        CharTokenizer.train(lines, CharTokenizerConfig(min_freq=3))
    assert caught.value.code == "E311"


def test_lower_case_and_normal_forms_hold_for_training_and_encoding():
    composed = CharTokenizer.train(["e\u0301A"], CharTokenizerConfig(normalization="NFC", lowercase=True))
    assert composed.characters == ["a", "é"]
    assert composed.decode(composed.encode("É a")) == "é<unk>a"
    compatible = CharTokenizer.train(["ﬁ①"], CharTokenizerConfig(normalization="NFKC"))
    assert compatible.decode(compatible.encode("ﬁ①")) == "fi1"
    assert compatible.tokens("ﬁ") == ["f", "i"]
    exact = CharTokenizer.train(["e\u0301"], CharTokenizerConfig())
    assert exact.encode("é") == [UNK]


def test_a_saved_tokenizer_comes_back_the_same(tmp_path):
    tokenizer = CharTokenizer(["中", "\u0301", "\n", "\x00", " "], lowercase=True, normalization="NFC")
    tokenizer.save(tmp_path)
    back = load_tokenizer(tmp_path)
    assert isinstance(back, Tokenizer)
    assert isinstance(back, CharTokenizer)
    assert (back.characters, back.lowercase, back.normalization) == (tokenizer.characters, True, "NFC")
    assert back.fingerprint() == tokenizer.fingerprint()


def test_the_fingerprint_changes_with_all_that_decides_the_encoding():
    made = [
        CharTokenizer("ab"),
        CharTokenizer("ba"),
        CharTokenizer("ab", lowercase=True),
        CharTokenizer("ab", normalization="NFC"),
    ]
    assert len({tokenizer.fingerprint() for tokenizer in made}) == len(made)


def test_words_and_characters_of_a_store_are_those_of_the_line():
    text = "the  cat "
    stats = TokenStore.from_texts([text, ""], CharTokenizer.train([text], CharTokenizerConfig())).stats
    assert (stats.words, stats.characters, stats.tokens, stats.rows) == (2, len(text), len(text) + 2, 2)


GOOD = {"schema_version": 1, "name": "char", "lowercase": False, "normalization": "none", "characters": ["a", "b"]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"characters": ["a", "a"]}, "'a' stands there twice"),
        ({"characters": ["ab"]}, "not one character"),
        ({"characters": [""]}, "not one character"),
        ({"characters": ["\ud800"]}, "not valid Unicode"),
        ({"characters": "ab"}, "characters"),
        ({"characters": ["a", 3]}, "characters.1"),
        ({"normalization": "nfc"}, "normalization"),
        ({"lowercase": 1}, "lowercase"),
        ({"words": ["a"]}, "words"),
    ],
)
def test_a_hostile_file_is_refused_by_name(tmp_path, change, said):
    (tmp_path / "tokenizer.json").write_text(json.dumps(GOOD | change))
    with pytest.raises(SeqVAEError) as caught:
        load_tokenizer(tmp_path)
    assert caught.value.code == "E401"
    assert said in caught.value.what
