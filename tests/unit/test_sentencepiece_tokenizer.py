"""Promises of the SentencePiece tokenizer: every text comes back, equal text gives equal pieces, no file is trusted."""

import functools
import hashlib
import io
import json
import random
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from seqvae.data.sampling import reservoir
from seqvae.data.sentencepiece_tokenizer import (
    SentencePieceTokenizer,
    SentencePieceTokenizerConfig,
)
from seqvae.data.tokenizers import Tokenizer, load_tokenizer, train_tokenizer
from seqvae.errors import SeqVAEError
from seqvae.shipped import shipped
from seqvae.types import BOS, EOS, PAD, SPECIALS, UNK

LINES = [
    *(shipped("data/tiny") / "train.txt").read_text(encoding="utf-8").splitlines()[:600],
    *["a small cat  drank the tea", "中文没有空格", "老猫看见了一只小狗"] * 20,
    *["<pad> and <unk> and <s> </s> <0x41> are words", "א ב ג שלום עולם", "naïve e\u0301 👩‍👩‍👧"] * 9,
]
NASTY = [
    "",
    " ",
    "  a  b  ",
    "\t",
    "a\nb\rc",
    "\u2581",
    "x\u2581\u2581y\u2581",
    "▅",
    "\0",
    "\u2028\xa0\ufeff",
    *LINES[-7:],
]


def config(**settings) -> SentencePieceTokenizerConfig:
    return SentencePieceTokenizerConfig(**{"vocab_size": 340, **settings})


@functools.cache
def trained(algorithm: str = "unigram", byte_fallback: bool = True) -> SentencePieceTokenizer:
    size = 340 if byte_fallback else 130
    made = train_tokenizer(
        LINES, config(algorithm=algorithm, byte_fallback=byte_fallback, vocab_size=size, character_coverage=1.0)
    )
    assert isinstance(made, SentencePieceTokenizer)
    return made


def foreign(**settings) -> bytes:
    """A model as other programs make them: own ids of the specials, a space before each text, NFKC."""
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    defaults = {"model_type": "unigram", "vocab_size": 175, "num_threads": 1, "minloglevel": 3}
    SentencePieceTrainer.train(sentence_iterator=iter(LINES), model_writer=model, **(defaults | settings))
    return model.getvalue()


@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
@given(text=st.text(st.characters(codec="utf-8")))
@settings(max_examples=60)
def test_every_text_comes_back_exactly_where_rare_characters_are_bytes(algorithm, text):
    tokenizer = trained(algorithm)
    ids = tokenizer.encode(text)
    assert tokenizer.decode([BOS, *ids, EOS, PAD]) == text
    assert all(UNK < identity < tokenizer.vocab_size for identity in ids)


@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
@pytest.mark.parametrize("text", NASTY)
def test_white_space_and_sentencepiece_own_signs_come_back_too(algorithm, text):
    tokenizer = trained(algorithm)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert len(tokenizer.tokens(text)) == len(ids)
    assert (ids == []) == (text == "")


@given(st.text())
@example("\ud800x\udfff")
@example("a\u2581b")
def test_any_python_string_is_read_and_gives_no_special_but_the_unknown(text):
    for tokenizer in (trained(), trained(byte_fallback=False)):
        ids = tokenizer.encode(text)
        assert len(tokenizer.tokens(text)) == len(ids)
        assert not {PAD, BOS, EOS} & set(ids)
        assert all(identity < tokenizer.vocab_size for identity in ids)


def test_what_has_no_piece_is_unknown_and_told_as_it_stands():
    tokenizer = trained(byte_fallback=False)
    ids, tokens = tokenizer.encode("the Ж cat"), tokenizer.tokens("the Ж cat")
    assert [token for token, identity in zip(tokens, ids, strict=True) if identity == UNK] == ["Ж"]
    assert tokenizer.decode(ids) == "the <unk> cat"
    assert tokenizer.decode(tokenizer.encode("a\u2581b")) == "a<unk>b"
    assert trained().decode(trained().encode("a\ud800b")) == "a<unk>b"


@pytest.mark.parametrize("text", ["<pad>", "<bos>", "<eos>", "<unk>", "<s>", "</s>", "<0x41>"])
def test_a_special_written_in_the_text_is_ordinary_text(text):
    for model in (trained(), trained("bpe"), SentencePieceTokenizer(foreign(byte_fallback=True, vocab_size=330))):
        ids = model.encode(text)
        assert min(ids) > UNK
        assert model.decode(ids) == text


def test_the_first_word_is_written_with_the_same_pieces_as_elsewhere():
    first, second = trained().encode("cat"), trained().encode("the cat")
    assert second[-len(first) :] == first


def test_equal_lines_give_equal_model_bytes_and_the_settings_reach_the_model():
    again = SentencePieceTokenizer.train(LINES, config(character_coverage=1.0))
    assert again.model == trained().model
    assert again.fingerprint() == trained().fingerprint()
    others = [trained("bpe"), trained(byte_fallback=False), train_tokenizer(LINES, config(vocab_size=330))]
    others.append(train_tokenizer(LINES, config(lowercase=True, character_coverage=1.0)))
    assert len({made.fingerprint() for made in [again, *others]}) == 5
    assert [made.vocab_size for made in [again, *others]] == [340, 340, 130, 330, 340]


def test_the_sample_is_uniform_over_the_text_and_drawn_anew_in_the_same_way():
    texts = [str(number) for number in range(1_000)]
    assert reservoir(iter(texts), 2_000) == texts
    drawn = reservoir(iter(texts), 300)
    assert drawn == reservoir(iter(texts), 300)
    assert len(set(drawn)) == 300
    # 300 draws without replacement from 0 to 999: the mean is 499.5 with a standard error of about 14.
    assert abs(sum(map(int, drawn)) / 300 - 499.5) < 70
    few = SentencePieceTokenizer.train(["zebra quartz"] + LINES * 5, config(sample_lines=50, vocab_size=320))
    assert few.decode(few.encode("zebra")) == "zebra"


def test_lower_case_and_normal_forms_are_applied_before_the_pieces():
    tokenizer = train_tokenizer(LINES, config(lowercase=True, normalization="NFKC"))
    assert tokenizer.decode(tokenizer.encode("The ﬁne CAT")) == "the fine cat"


def test_training_is_silent(capfd):
    train_tokenizer(LINES, config())
    with pytest.raises(SeqVAEError):
        train_tokenizer(LINES, config(vocab_size=50_000))
    assert capfd.readouterr() == ("", "")


def test_a_vocabulary_too_large_names_the_largest_that_can_be(capfd):
    for algorithm in ("unigram", "bpe"):
        with pytest.raises(SeqVAEError, match="at most") as caught:
            train_tokenizer(LINES, config(vocab_size=50_000, algorithm=algorithm))
        assert caught.value.code == "E314"
        largest = int(caught.value.hint.partition("vocab_size=")[2].strip("`"))
        assert train_tokenizer(LINES, config(vocab_size=largest, algorithm=algorithm)).vocab_size == largest


def test_a_vocabulary_too_small_names_what_it_must_hold():
    with pytest.raises(SeqVAEError, match="256 bytes") as caught:
        train_tokenizer(LINES, config(vocab_size=200))
    assert caught.value.code == "E315"
    with pytest.raises(SeqVAEError, match="vocab_size=5 is too small") as caught:
        train_tokenizer(LINES, config(vocab_size=5, byte_fallback=False))
    assert "byte_fallback" not in caught.value.hint


@pytest.mark.parametrize("lines", [[], ["", " ", "\t"], ["\ud800"]])
def test_text_without_characters_is_refused(lines):
    with pytest.raises(SeqVAEError) as caught:
        train_tokenizer(lines, config())
    assert caught.value.code in ("E311", "E314")


def test_what_sentencepiece_objects_to_is_told_in_its_own_words(monkeypatch):
    def object_to(**settings):
        raise RuntimeError("src/trainer.cc(1) [x] the moon is not right")

    monkeypatch.setattr("sentencepiece.SentencePieceTrainer.train", object_to)
    with pytest.raises(SeqVAEError, match=r"could not learn pieces: .*the moon is not right") as caught:
        SentencePieceTokenizer.train(LINES, SentencePieceTokenizerConfig(vocab_size=400))
    assert caught.value.code == "E316"


def test_of_a_line_without_end_the_beginning_is_learned_from():
    long = "quixotic" * 500 + "жук" * 200_000  # no spaces: a single word of 600,000 characters
    tokenizer = train_tokenizer([*LINES, long], config(vocab_size=330))
    assert "quixotic" in "".join(tokenizer.vocabulary)
    assert not any("ж" in piece for piece in tokenizer.vocabulary)
    assert tokenizer.decode(tokenizer.encode("жук")) == "жук"


def test_long_lines_and_lines_with_odd_characters_are_learned_from():
    lines = [*LINES, "донкихот " * 3_000, "▅ jumbled"]
    tokenizer = train_tokenizer(lines, config(vocab_size=330))
    assert tokenizer.tokens("донкихот")[0].startswith("▁д"), "of a line of many bytes, no rare characters"
    assert tokenizer.decode(tokenizer.encode(lines[-2])) == lines[-2]


# A model that exists already.


def test_a_given_model_keeps_its_pieces_and_our_specials_stand_before_them(tmp_path):
    path = tmp_path / "their.model"
    path.write_bytes(foreign(pad_id=3, user_defined_symbols=["<sep>"], control_symbols=["<cls>", "<mask>"]))
    tokenizer = train_tokenizer([], SentencePieceTokenizerConfig(model_file=path))
    # Of 175 pieces, six are never produced by text: <unk> <s> </s> <pad> <cls> <mask>.
    assert tokenizer.vocab_size == 175 - 6 + len(SPECIALS)
    assert tokenizer.tokens("the cat")[0] == "▁the"
    assert tokenizer.decode(tokenizer.encode("the cat")) == "the cat"
    assert tokenizer.decode(tokenizer.encode("<sep>")) == "<sep>"
    assert len(tokenizer.encode("the<sep>")) == len(tokenizer.encode("the")) + 1
    for text in ("<cls>", "<mask>", "<s>", "<pad>"):
        assert not {PAD, BOS, EOS} & set(tokenizer.encode(text))
        assert len(tokenizer.encode(text)) > 1


def test_a_given_model_leaves_nothing_to_learn(tmp_path):
    for idle in ({"vocab_size": 500}, {"algorithm": "bpe"}, {"byte_fallback": False}, {"sample_lines": 7}):
        with pytest.raises(ValidationError, match=f"`{next(iter(idle))}` is for learning"):
            SentencePieceTokenizerConfig(model_file=tmp_path / "m", **idle)
    assert SentencePieceTokenizerConfig(model_file=tmp_path / "m", lowercase=True).lowercase


@pytest.mark.parametrize("content", [b"", b"\xff" * 99, b"words\nand lines\n", b"cut", None])
def test_a_model_file_that_is_none_is_refused_by_name(tmp_path, content, capfd):
    path = tmp_path / "their.model"
    if content is not None:
        path.write_bytes(trained().model[:-700] if content == b"cut" else content)
    with pytest.raises(SeqVAEError) as caught:
        train_tokenizer([], SentencePieceTokenizerConfig(model_file=path))
    assert caught.value.code == "E411"
    assert "their.model" in str(caught.value)
    assert capfd.readouterr() == ("", "")


# Saved with a model.


def test_a_saved_tokenizer_comes_back_the_same(tmp_path):
    trained("bpe").save(tmp_path / "tokenizer")
    assert sorted(path.name for path in (tmp_path / "tokenizer").iterdir()) == ["tokenizer.json", "tokenizer.model"]
    back = load_tokenizer(tmp_path / "tokenizer")
    assert isinstance(back, Tokenizer)
    assert back.fingerprint() == trained("bpe").fingerprint()
    assert [back.encode(text) for text in NASTY] == [trained("bpe").encode(text) for text in NASTY]


def changed(folder, **change):
    trained().save(folder)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_sha256": "0" * 64}, "sha256 is not the one"),
        ({"model_sha256": None}, "model_sha256"),
        ({"space_before": "yes"}, "space_before"),
        ({"normalization": "nmt"}, "normalization"),
        ({"model": "x"}, "model"),
    ],
)
def test_a_hostile_file_is_refused_by_name(tmp_path, change, said):
    changed(tmp_path, **change)
    with pytest.raises(SeqVAEError) as caught:
        load_tokenizer(tmp_path)
    assert caught.value.code == "E401"
    assert said in caught.value.what


def field(number: int, content: bytes) -> bytes:
    """A field of bytes as protocol buffers write it."""
    size, length = len(content), b""
    while size > 127:
        size, length = size >> 7, length + bytes([size & 127 | 128])
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


TRIE = struct.pack("<256I", *[0x7FFFFC00] * 256)


@pytest.mark.parametrize(
    "added",
    [
        field(1, field(1, b"a" * 2_000_000)),  # a piece
        field(3, field(2, struct.pack("<I", len(TRIE)) + TRIE + b"a\0")),  # the rules of the normaliser
    ],
)
def test_a_model_made_to_crash_sentencepiece_is_refused(added):
    """A piece so long that reading it overflowed the stack; rules that lead outside of their table."""
    with pytest.raises(ValueError, match=r"too long|invalid"):
        SentencePieceTokenizer(trained().model + added)


def test_a_missing_a_changed_and_a_huge_model_are_told(tmp_path, monkeypatch):
    trained().save(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(trained().model + b" ")
    with pytest.raises(SeqVAEError, match="sha256") as damaged:
        load_tokenizer(tmp_path)
    assert damaged.value.code == "E401"
    monkeypatch.setattr("seqvae.data.sentencepiece_tokenizer.MAX_MODEL_BYTES", 1_000)
    with pytest.raises(SeqVAEError, match="larger than"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").unlink()
    with pytest.raises(SeqVAEError) as missing:
        load_tokenizer(tmp_path)
    assert missing.value.code == "E402"


def test_no_change_of_a_model_can_do_worse_than_be_refused(tmp_path):
    """Its sha256 made to fit: what is read is either a tokenizer, or an error that names the file."""
    trained().save(tmp_path)
    described = json.loads((tmp_path / "tokenizer.json").read_text())
    random.seed(5)
    refused = 0
    for _ in range(150):
        content = bytearray(trained().model)
        start = random.choice([random.randrange(len(content)), len(content) - random.randrange(1, 600)])
        content[start : start + random.randrange(3)] = random.randbytes(random.randrange(3))
        described["model_sha256"] = hashlib.sha256(content).hexdigest()
        (tmp_path / "tokenizer.json").write_text(json.dumps(described))
        (tmp_path / "tokenizer.model").write_bytes(content)
        try:
            tokenizer = load_tokenizer(tmp_path)
        except SeqVAEError as error:
            assert error.code == "E401"  # noqa: PT017
            refused += 1
        else:
            assert max(tokenizer.encode("the cat <pad> 中"), default=UNK) < tokenizer.vocab_size
    assert 0 < refused < 150
