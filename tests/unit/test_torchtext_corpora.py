"""Promises of torchtext's corpora: read by the real package from local files in its layout, never from a network."""

import importlib.util
import sys

import pytest

from seqvae.data.corpora import DataConfig, resolve
from seqvae.data.sources import Row
from seqvae.data.store import prepare
from seqvae.data.word_tokenizer import WordTokenizerConfig
from seqvae.errors import SeqVAEError

needs_torchtext = pytest.mark.skipif(
    importlib.util.find_spec("torchtext") is None, reason="the extra seqvae[torchtext] is not installed"
)
WIKI = {
    "train": " \n = Some <unk> = \n \n The cat , it @-@ sat . \n",
    "valid": " = Valid = \n A cat . \n",
    "test": " sat \n",
}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """``.data`` in the working directory, where torchtext looks by default; ``put`` writes its files."""
    monkeypatch.chdir(tmp_path)

    def put(name: str, content: str) -> None:
        path = tmp_path / ".data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode())

    return put


def wiki(put) -> None:
    for split, text in WIKI.items():
        put(f"wikitext-2/wikitext-2/wiki.{split}.tokens", text)


def failure(corpus: str, **settings) -> SeqVAEError:
    with pytest.raises(SeqVAEError) as caught:
        read_all(DataConfig(corpus=corpus, **settings))
    return caught.value


def read_all(config: DataConfig) -> None:
    for source in resolve(config, required=[]).values():
        list(source.rows())


@needs_torchtext
def test_lines_of_wikitext_are_those_that_torchtext_gives(data, capfd):
    wiki(data)
    sources = resolve(DataConfig(corpus="torchtext:WikiText2"))
    assert {split: [text for _, text in source.lines()] for split, source in sources.items()} == {
        split: text.split("\n")[:-1] for split, text in WIKI.items()
    }
    assert capfd.readouterr() == ("", "")


@needs_torchtext
def test_penn_treebank_and_trec_are_read(data):
    for split in ("train", "valid", "test"):
        data(f"penn-treebank/ptb.{split}.txt", f" {split} of <unk> N \n")
    sources = resolve(DataConfig(corpus="torchtext:PennTreebank"))
    assert [list(source.lines()) for source in sources.values()] == [
        [(1, f" {split} of <unk> N ")] for split in ("train", "valid", "test")
    ]
    data("trec/train_5500.label", "DESC:manner How did it go ?\nHUM:ind Who went , and who , who came ?\n")
    data("trec/TREC_10.label", "NUM:dist How far is it ?\n")
    sources = resolve(DataConfig(corpus="torchtext:TREC", labels=True, valid_fraction=0.5))
    rows = sorted([*sources["train"].rows(), *sources["valid"].rows()])
    assert rows == [Row(1, "How did it go ?", "DESC"), Row(2, "Who went , and who , who came ?", "HUM")]
    assert list(sources["test"].rows()) == [Row(1, "How far is it ?", "NUM")]


@needs_torchtext
def test_imdb_has_the_labels_of_its_folders(data):
    for part in ("train", "test"):
        for label in ("pos", "neg"):
            data(f"imdb/aclImdb/{part}/{label}/0_9.txt", f"A {label} film, twice a film.")
    sources = resolve(DataConfig(corpus="torchtext:IMDB", labels=True), required=["train"])
    expected = [Row(1, "A pos film, twice a film.", "pos"), Row(2, "A neg film, twice a film.", "neg")]
    assert list(sources["train"].rows()) == expected
    assert not resolve(DataConfig(corpus="torchtext:IMDB"), required=["test"])["test"].labelled


@needs_torchtext
def test_such_a_corpus_is_prepared_like_any_other(data):
    wiki(data)
    made = prepare(DataConfig(corpus="torchtext:WikiText2"), WordTokenizerConfig(unknown_word="<unk>"))
    assert len(made.splits["train"]) == 2
    assert made.splits["train"].stats.blank_dropped == 2
    assert "<unk>" not in made.tokenizer.words


@needs_torchtext
def test_files_are_found_under_seqvae_data(data, tmp_path, monkeypatch):
    wiki(data)
    (tmp_path / ".data").rename(tmp_path / "torchtext")
    monkeypatch.setenv("SEQVAE_DATA", str(tmp_path))
    assert len(list(resolve(DataConfig(corpus="torchtext:WikiText2"))["valid"].lines())) == 2


@needs_torchtext
def test_a_download_that_fails_is_one_error_and_leaves_nothing(tmp_path, monkeypatch, data, capfd):
    import torchtext.datasets

    monkeypatch.setenv("SEQVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torchtext.datasets.WikiText2, "urls", ["http://127.0.0.1:9/wikitext-2-v1.zip"])
    error = failure("torchtext:WikiText2")
    assert error.code == "E308"
    assert "wikitext-2/wikitext-2" in error.hint
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
    assert not (tmp_path / "cache" / "torchtext" / "wikitext-2").exists()
    assert capfd.readouterr().out == ""


def sst(put) -> None:
    for split, label in (("train", 3), ("dev", 1), ("test", 2)):
        put(f"sst/trees/{split}.txt", f"({label} (2 A) (3 (2 {split}) (2 film)))\n")


@needs_torchtext
@pytest.mark.skipif(importlib.util.find_spec("nltk") is None, reason="the extra seqvae[torchtext] has nltk")
def test_sentences_of_sst_are_the_leaves_of_its_trees(data):
    sst(data)
    sources = resolve(DataConfig(corpus="torchtext:SST", labels=True))
    assert [list(source.rows()) for source in sources.values()] == [
        [Row(1, "A train film", "positive")],
        [Row(1, "A dev film", "negative")],
        [Row(1, "A test film", "neutral")],
    ]


@needs_torchtext
def test_what_torchtext_itself_misses_is_named(data, monkeypatch):
    sst(data)
    monkeypatch.setitem(sys.modules, "nltk", None)
    monkeypatch.delitem(sys.modules, "nltk.tree", raising=False)
    error = failure("torchtext:SST")
    assert (error.code, error.hint) == ("E225", "pip install 'seqvae[torchtext]'")
    assert "nltk" in error.what


def test_without_the_extra_it_says_how_to_install_it(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchtext", None)
    monkeypatch.setitem(sys.modules, "torchtext.data", None)
    error = failure("torchtext:WikiText2")
    assert error.code == "E225"
    assert error.hint == "pip install 'seqvae[torchtext]'"


def test_a_wrong_name_and_labels_that_are_not_there_are_refused():
    error = failure("torchtext:WikiTxt2")
    assert error.code == "E221"
    assert "did you mean `torchtext:WikiText2`?" in error.hint
    assert failure("torchtext:WikiText2", labels=True).code == "E223"
    assert failure("torchtext:TREC", labels="coarse").code == "E223"
