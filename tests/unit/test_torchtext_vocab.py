"""Vocabularies and fields of torchtext become word tokenizers that read text as torchtext did."""

from collections import Counter
from types import SimpleNamespace

import pytest

from seqvae.data.store import TokenStore
from seqvae.data.tokenizers import load_tokenizer
from seqvae.data.torchtext_vocab import from_field, from_vocab
from seqvae.errors import SeqVAEError
from seqvae.types import BOS, EOS, PAD, UNK

SENTENCES = ["the market fell", "the Market rose <pad>", "a market  rose"]
READ = "a the market crashed"


class NewVocab:
    """The methods that torchtext documents for its `Vocab` from 0.9 on, over a list."""

    def __init__(self, tokens: list[str], default: int | None):
        self.tokens, self.default = tokens, default

    def get_itos(self) -> list[str]:
        return self.tokens

    def get_stoi(self) -> dict[str, int]:
        return {token: index for index, token in enumerate(self.tokens)}

    def get_default_index(self) -> int | None:
        return self.default

    def lookup_indices(self, words: list[str]) -> list[int]:
        return [self.get_stoi().get(word, self.default) for word in words]


@pytest.fixture(scope="module")
def torchtext():
    """The real package, the last release that is pure Python."""
    import torchtext
    import torchtext.data
    import torchtext.vocab

    assert torchtext.__version__ == "0.6.0"
    return torchtext


def field_of(torchtext, sentences=SENTENCES, **settings):
    field = torchtext.data.Field(**settings)
    rows = [torchtext.data.Example.fromlist([text], [("text", field)]) for text in sentences]
    field.build_vocab(torchtext.data.Dataset(rows, [("text", field)]))
    return field


def test_an_old_vocab_gives_the_same_words_in_the_same_order(torchtext):
    counts = Counter(" ".join(SENTENCES[:2]).split())
    vocab = torchtext.vocab.Vocab(counts, specials=["<unk>", "<pad>", "<bos>"])
    tokenizer = from_vocab(vocab)
    assert tokenizer.words == [word for word in vocab.itos if word not in ("<unk>", "<pad>", "<bos>")]
    for text in (*SENTENCES[:2], READ, "<unk> x"):
        theirs = [vocab.itos[vocab.stoi[word]] for word in text.split()]
        ours = tokenizer.decode(tokenizer.encode(text)).split()
        assert ours == ["<unk>" if word == "<pad>" else word for word in theirs]


def test_an_old_vocab_with_its_specials_last_or_none_for_unknown_words(torchtext):
    last = torchtext.vocab.Vocab(Counter(["b", "b", "a"]), specials=["<pad>", "<unk>"], specials_first=False)
    assert from_vocab(last).words == ["b", "a"]
    assert from_vocab(last).encode("a <unk> b c") == [5, UNK, 4, UNK]
    without = torchtext.vocab.Vocab(Counter(["b", "b", "a"]), specials=["<pad>"])
    assert from_vocab(without).unknown_word is None
    assert from_vocab(without).encode("a b c") == [5, 4, UNK]


def test_a_new_vocab_gives_the_same_words_and_its_default_is_the_unknown_token():
    vocab = NewVocab(["<s>", "the", "UNKNOWN", "market", "</s>", "a"], default=2)
    tokenizer = from_vocab(vocab)
    assert tokenizer.words == ["the", "market", "a"]
    assert tokenizer.encode(READ) == [6, 4, 5, UNK]
    theirs = [vocab.tokens[index] for index in vocab.lookup_indices(READ.split())]
    assert tokenizer.decode(tokenizer.encode(READ)).replace("<unk>", "UNKNOWN").split() == theirs
    assert tokenizer.encode("UNKNOWN") == [UNK]
    assert from_vocab(NewVocab(["<unk>", "a"], default=None)).words == ["a"]


def test_which_tokens_are_special_can_be_said():
    vocab = NewVocab(["[PAD]", "<unk>", "[SEP]", "word", "<s>"], default=1)
    assert from_vocab(vocab, specials=["[PAD]", "[SEP]"]).words == ["word", "<s>"]
    assert from_vocab(vocab).words == ["[PAD]", "[SEP]", "word"]


def test_anything_with_a_list_of_tokens_will_do():
    assert from_vocab(SimpleNamespace(itos=("<unk>", "<pad>", "a"))).words == ["a"]
    assert from_vocab(SimpleNamespace(itos=["a"]), lowercase=True).encode("A") == [4]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"lower": True},
        {"init_token": "<sos>", "eos_token": "<end>", "pad_token": "[PAD]"},
        {"unk_token": "UNKNOWN", "fix_length": 3, "batch_first": True, "include_lengths": True},
        {"tokenize": str.split},
        {"tokenize": lambda text: text.split()},
    ],
    ids=["plain", "lower", "own specials", "own unknown", "split", "function"],
)
def test_a_field_and_its_tokenizer_read_a_text_alike(torchtext, settings):
    field = field_of(torchtext, **settings)
    tokenizer = from_field(field)
    specials = {field.pad_token, field.init_token, field.eos_token, field.unk_token} - {None}
    assert tokenizer.words == [token for token in field.vocab.itos if token not in specials]
    for text in ("the market fell", "A Market the ROSE", "zebra fell"):
        known = set(tokenizer.words)
        theirs = [word if word in known else "<unk>" for word in field.preprocess(text)]
        assert tokenizer.decode(tokenizer.encode(text)).split() == theirs
        assert not {PAD, BOS, EOS} & set(tokenizer.encode(text))
    assert tokenizer.encode(str(field.unk_token)) == [UNK]


def test_a_field_that_does_more_than_split_is_refused_with_the_reason(torchtext):
    def refusal(**settings) -> SeqVAEError:
        with pytest.raises(SeqVAEError) as caught:
            from_field(field_of(torchtext, **settings))
        assert caught.value.code == "E413"
        return caught.value

    assert "white space alone" in refusal(tokenize=lambda text: text.replace(",", " ,").split()).what
    assert "white space alone" in refusal(tokenize=lambda text: text.split(" ")).what
    assert "tokenizer.name=char" in refusal(tokenize=list).hint
    assert "`stop_words`" in refusal(stop_words=["the"]).what
    pipeline = torchtext.data.Pipeline(lambda word: word[:2])
    assert "`preprocessing`" in refusal(preprocessing=pipeline).what


def test_a_field_without_a_vocabulary_says_what_to_do(torchtext):
    for field, hint in (
        (torchtext.data.Field(), "build_vocab"),
        (torchtext.data.Field(sequential=False), "the field of the text"),
        (torchtext.data.Field(use_vocab=False), "the field of the text"),
        (object(), "the field of the text"),
    ):
        with pytest.raises(SeqVAEError) as caught:
            from_field(field)
        assert caught.value.code == "E412"
        assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("vocab", "said"),
    [
        (["a", "b"], "neither `get_itos\\(\\)` nor"),
        (SimpleNamespace(itos="ab"), "neither"),
        (SimpleNamespace(itos=["a", 3]), "3 among the tokens is not text"),
        (SimpleNamespace(itos=["<unk>", "<pad>"]), "holds no words"),
        (SimpleNamespace(itos=["a b"]), "white space"),
        (SimpleNamespace(itos=["a", " "]), "white space"),
        (SimpleNamespace(itos=["a", "a"]), "twice"),
        (SimpleNamespace(itos=["a", "\udc00"]), "not valid Unicode"),
        (NewVocab(["a"], default=7), "its index for unknown words is 7, of 1 tokens"),
        (NewVocab(["a"], default=-1), "is -1"),
    ],
)
def test_what_is_no_vocabulary_of_words_is_refused(vocab, said):
    with pytest.raises(SeqVAEError, match=said) as caught:
        from_vocab(vocab)
    assert caught.value.code == "E412"


def test_the_tokenizer_is_one_like_any_other(torchtext, tmp_path):
    tokenizer = from_field(field_of(torchtext, lower=True))
    tokenizer.save(tmp_path)
    assert load_tokenizer(tmp_path).fingerprint() == tokenizer.fingerprint()
    assert TokenStore.from_texts(SENTENCES, tokenizer).stats.unknown == 1  # the word <pad>, which is special there
