"""Labels beside a text, groups of paraphrases, the grammar of a corpus, and files of pairs."""

import pytest

from seqvae.data.corpora import DataConfig
from seqvae.data.store import prepare
from seqvae.data.word_tokenizer import WordTokenizer
from seqvae.errors import SeqVAEError
from seqvae.evaluation.surroundings import corpus_grammar, labels_of, read_pairs, surroundings_of

WORDS = WordTokenizer(["a", "b", "c"])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQVAE_CACHE", str(tmp_path / "cache"))


def write(folder, **files):
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text, encoding="utf-8")
    return DataConfig(train=folder / "train.txt", test=folder / "test.txt")


def stores(data, *splits):
    return prepare(data, WORDS, splits=splits).splits


def test_label_files_beside_the_text_are_found_and_follow_the_rows(tmp_path):
    """A blank line and a sentence that is too long have a label and no row."""
    data = write(
        tmp_path,
        train_txt="a\nb\n",
        train_kind_labels="x\ny\n",
        train_labels="0\n1\n",
        test_txt="a b\n\na b c a\nc\n",
        test_kind_labels="x\n\ny\nz\n",
        test2_kind_labels="not ours\n",
    ).model_copy(update={"max_length": 3})
    both = stores(data, "train", "test")
    found = surroundings_of(data, WORDS, both["test"], data=data, split="test")
    assert found.labels == {"kind": (["x", "y"], ["x", "z"])}
    assert labels_of(data, "train", both["train"]) == {"kind": ["x", "y"], "label": ["0", "1"]}


def test_labels_of_the_data_itself_are_there_by_their_name(tmp_path):
    data = write(tmp_path, train_txt="a\nb\nc\n", train_kind_labels="x\ny\nx\n", test_txt="b\n", test_kind_labels="y\n")
    data = data.model_copy(update={"labels": "kind"})
    assert labels_of(data, "train", stores(data, "train")["train"]) == {"kind": ["x", "y", "x"]}


def test_the_training_text_is_not_probed_on_itself(tmp_path):
    data = write(tmp_path, train_txt="a\nb\n", train_labels="0\n1\n", test_txt="c\n", test_labels="0\n")
    store = stores(data, "train")["train"]
    assert surroundings_of(data, WORDS, store, data=data, split="train").labels == {}


def test_a_training_text_that_no_disk_holds_is_not_there(tmp_path):
    data = DataConfig(train="hub:some/thing", shards=True, valid="v.txt", test=write(tmp_path, test_txt="c\n").test)
    assert surroundings_of(data, WORDS, stores(data, "test")["test"], data=data, split="test").train is None


def test_paraphrases_are_grouped_by_the_lines_of_the_file(tmp_path):
    data = write(tmp_path, train_txt="a\n", test_txt="a\n\nb\nc\na b\n")
    store = stores(data, "test")["test"]
    assert surroundings_of(data, WORDS, store, data=data, split="test", group_size=2).groups.tolist() == [0, 1, 1, 2]
    assert surroundings_of(data, WORDS, store, data=data, split="test").groups is None


def test_only_the_corpus_that_a_grammar_made_has_one(tmp_path):
    assert corpus_grammar(DataConfig(corpus="tiny")).parses("a a a") is False
    assert corpus_grammar(DataConfig(corpus="ptb")) is None
    assert corpus_grammar(write(tmp_path, train_txt="a\n").model_copy(update={"corpus": "tiny"})) is None


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("one\ttwo\t2.5\nthree\tfour\t1\n", None),
        ("pair_ID\tsentence_A\tsentence_B\trelatedness_score\n1\tone\ttwo\t2.5\n2\tthree\tfour\t1\n", None),
        ("g\tf\ty\t1\t2.5\tone\ttwo\ng\tf\ty\t2\t1\tthree\tfour\tmore\n", None),
        ("s\ta\tb\n2.5\tone\ttwo\n1\tthree\tfour\n", ["a", "b", "s"]),
        ("2.5\tone\ttwo\n1\tthree\tfour\n", ["2", "3", "1"]),
    ],
)
def test_pairs_are_read_in_every_known_layout_and_any_that_is_named(tmp_path, text, columns):
    (tmp_path / "pairs.tsv").write_text(text, encoding="utf-8")
    found = read_pairs(tmp_path / "pairs.tsv", columns)
    assert (found.first, found.second, found.scores) == (["one", "three"], ["two", "four"], [2.5, 1.0])


@pytest.mark.parametrize(
    ("text", "columns", "code", "line"),
    [
        ("one\ttwo\n", None, "E291", None),
        ("one\ttwo\t1\n", ["a", "b", "c"], "E291", None),
        ("one\ttwo\t1\n", ["0", "1", "2"], "E291", None),
        ("one\ttwo\t1\nthree\tfour\tmuch\n", None, "E292", 2),
        ("one\ttwo\t1\n\nthree\tfour\n", None, "E292", 3),
        ("one\ttwo\t1\nthree\tfour\tnan\n", None, "E292", 2),
        ("one\ttwo\t1\n", None, "E292", None),
    ],
)
def test_pairs_that_do_not_fit_are_named_with_their_line(tmp_path, text, columns, code, line):
    (tmp_path / "pairs.tsv").write_text(text, encoding="utf-8")
    with pytest.raises(SeqVAEError) as caught:
        read_pairs(tmp_path / "pairs.tsv", columns)
    assert (caught.value.code, caught.value.where.line) == (code, line)
