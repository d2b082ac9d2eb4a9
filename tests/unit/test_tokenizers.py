"""Promises of the tokenizers: nothing in a text becomes a special token, and nothing in a file is trusted."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from seqvae.data.tokenizers import Tokenizer, WordTokenizer, WordTokenizerConfig, load_tokenizer, train_tokenizer
from seqvae.errors import SeqVAEError
from seqvae.types import BOS, EOS, PAD, SPECIALS, UNK

WORDS = ["the", "market", "fell", "<pad>", "<unk>", "中文", "e\u0301"]


@given(st.lists(st.sampled_from(WORDS)), st.lists(st.sampled_from([" ", "\t", "  ", "\u2028", "\xa0"]), min_size=1))
def test_known_words_come_back_whatever_the_white_space(words, gaps):
    text = "".join(word + gaps[index % len(gaps)] for index, word in enumerate(words))
    tokenizer = WordTokenizer(WORDS)
    assert tokenizer.decode(tokenizer.encode(text)) == " ".join(text.split()) == " ".join(words)


@given(st.text())
def test_no_text_gives_pad_bos_or_eos(text):
    ids = WordTokenizer(WORDS).encode(text)
    assert len(ids) == len(text.split())
    assert not {PAD, BOS, EOS} & set(ids)


@given(st.lists(st.text(alphabet="ab <>unkpad\t"), min_size=1))
def test_a_trained_tokenizer_knows_its_training_text(lines):
    if not any(line.split() for line in lines):
        lines = [*lines, "a"]
    tokenizer = train_tokenizer(lines, WordTokenizerConfig())
    assert [tokenizer.decode(tokenizer.encode(line)) for line in lines] == [" ".join(line.split()) for line in lines]
    assert all(UNK not in tokenizer.encode(line) for line in lines)


@pytest.mark.parametrize("special", SPECIALS)
def test_a_special_written_in_the_text_stays_an_ordinary_word(special):
    tokenizer = WordTokenizer.train([f"a {special}"], WordTokenizerConfig())
    (identity,) = tokenizer.encode(special)
    assert identity >= len(SPECIALS)
    assert tokenizer.decode([identity]) == special
    assert WordTokenizer(["a"]).encode(special) == [UNK]


def test_decoding_skips_the_specials_and_shows_the_unknown():
    assert WordTokenizer(["a", "b"]).decode([BOS, 5, UNK, 4, EOS, PAD, PAD]) == "b <unk> a"


def test_vocabulary_is_by_frequency_then_alphabet_and_does_not_depend_on_line_order():
    lines = ["c b a", "b d", "b a d", "e"]
    expected = ["b", "a", "d", "c", "e"]
    for seed in range(5):
        shuffled = random.Random(seed).sample(lines, len(lines))
        assert WordTokenizer.train(shuffled, WordTokenizerConfig()).words == expected


def test_max_size_counts_the_four_specials_and_min_freq_the_occurrences():
    lines = ["a a a b b c"]
    assert WordTokenizer.train(lines, WordTokenizerConfig(max_size=6)).words == ["a", "b"]
    assert WordTokenizer.train(lines, WordTokenizerConfig(max_size=6)).vocab_size == 6
    assert WordTokenizer.train(lines, WordTokenizerConfig(min_freq=3)).words == ["a"]
    with pytest.raises(ValidationError):
        WordTokenizerConfig(max_size=4)


def test_a_vocabulary_without_words_is_refused():
    with pytest.raises(SeqVAEError, match="no word that occurs 2 times") as caught:
        WordTokenizer.train(["a b"], WordTokenizerConfig(min_freq=2))
    assert (caught.value.code, caught.value.hint) == ("E311", "lower `tokenizer.min_freq`")


def test_lowercase_holds_for_training_encoding_and_the_unknown_word():
    tokenizer = WordTokenizer.train(["The the <UNK>"], WordTokenizerConfig(lowercase=True, unknown_word="<Unk>"))
    assert tokenizer.words == ["the"]
    assert tokenizer.encode("THE <unk> <UNK>") == [4, UNK, UNK]


def test_the_corpus_own_unknown_word_is_the_unknown_token():
    lines = ["<unk> a <unk>", "b"]
    read = WordTokenizer.train(lines, WordTokenizerConfig(unknown_word="<unk>"))
    assert read.words == ["a", "b"]
    assert read.encode("<unk> b") == [UNK, 5]
    plain = WordTokenizer.train(lines, WordTokenizerConfig())
    assert plain.words == ["<unk>", "a", "b"]
    assert UNK not in plain.encode("<unk>")


def test_a_saved_tokenizer_comes_back_the_same(tmp_path):
    tokenizer = WordTokenizer([*WORDS, "Zürich"], lowercase=False, unknown_word="N/A")
    tokenizer.save(tmp_path / "model" / "tokenizer")
    back = load_tokenizer(tmp_path / "model" / "tokenizer")
    assert isinstance(back, WordTokenizer)
    assert isinstance(back, Tokenizer)
    assert (back.words, back.lowercase, back.unknown_word) == (tokenizer.words, False, "N/A")
    assert back.fingerprint() == tokenizer.fingerprint()


def test_the_fingerprint_changes_with_all_that_decides_the_encoding():
    made = [
        WordTokenizer(["a", "b"]),
        WordTokenizer(["b", "a"]),
        WordTokenizer(["a", "b"], lowercase=True),
        WordTokenizer(["a", "b"], unknown_word="c"),
    ]
    assert len({tokenizer.fingerprint() for tokenizer in made}) == len(made)
    assert WordTokenizer(("a", "b")).fingerprint() == made[0].fingerprint()


GOOD = {"schema_version": 1, "name": "word", "lowercase": False, "unknown_word": None, "words": ["a", "b"]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"words": ["a", "a"]}, "'a' stands there twice"),
        ({"words": ["a b"]}, "white space"),
        ({"words": ["a\n"]}, "white space"),
        ({"words": [""]}, "empty"),
        ({"words": ["\ud800"]}, "not valid Unicode"),
        ({"words": ["a", 3]}, "words.1"),
        ({"words": {"a": 1}}, "words"),
        ({"words": "ab"}, "words"),
        ({"lowercase": 1}, "lowercase"),
        ({"unknown_word": "a"}, "both a word and the sign"),
        ({"unknown_word": "x y"}, "white space"),
        ({"unknown_word": 7}, "unknown_word"),
        ({"name": "pickle"}, "no such kind of tokenizer: 'pickle'"),
        ({"name": ["word"]}, "no such kind"),
        ({"schema_version": True}, "schema_version is True"),
        ({"schema_version": "1"}, "schema_version is '1'"),
        ({"schema_version": 0}, "schema_version is 0"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_hostile_file_is_refused_by_name(tmp_path, change, said):
    (tmp_path / "tokenizer.json").write_text(json.dumps(GOOD | change))
    with pytest.raises(SeqVAEError) as caught:
        load_tokenizer(tmp_path)
    assert caught.value.code == "E401"
    assert said in caught.value.what
    assert "tokenizer.json" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"{", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_what_is_no_json_object_is_refused(tmp_path, content):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(SeqVAEError) as caught:
        load_tokenizer(tmp_path)
    assert caught.value.code == "E401"


def test_a_missing_key_a_missing_file_and_a_newer_format_say_so(tmp_path):
    with pytest.raises(SeqVAEError) as missing:
        load_tokenizer(tmp_path)
    assert missing.value.code == "E402"
    (tmp_path / "tokenizer.json").write_text(json.dumps({key: GOOD[key] for key in GOOD if key != "words"}))
    with pytest.raises(SeqVAEError, match="words") as keyless:
        load_tokenizer(tmp_path)
    assert keyless.value.code == "E401"
    (tmp_path / "tokenizer.json").write_text(json.dumps(GOOD | {"schema_version": 2}))
    with pytest.raises(SeqVAEError) as newer:
        load_tokenizer(tmp_path)
    assert newer.value.code == "E403"
    assert "upgrade" in newer.value.hint


def test_a_wrong_word_list_is_refused_in_python_too():
    with pytest.raises(SeqVAEError, match="twice") as caught:
        WordTokenizer(["a", "b", "a"])
    assert caught.value.code == "E410"
