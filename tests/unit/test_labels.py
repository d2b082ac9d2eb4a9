"""Promises of labels: each stays with its sentence, whatever is dropped, from the file to the batch."""

import json

import numpy as np
import pytest

from seqvae.data.batching import collate
from seqvae.data.corpora import DataConfig
from seqvae.data.labels import MOST_CLASSES
from seqvae.data.sources import TextSource
from seqvae.data.store import TokenStore, prepare
from seqvae.data.word_tokenizer import WordTokenizer, WordTokenizerConfig
from seqvae.errors import SeqVAEError

WORDS = WordTokenizerConfig()


@pytest.fixture
def write(tmp_path):
    """Writes NAME.txt and NAME.labels and gives the path of the text."""

    def make(name: str, texts: list[str], labels: list[str] | None, ending: str = ".labels"):
        (tmp_path / f"{name}.txt").write_text("".join(f"{text}\n" for text in texts))
        if labels is not None:
            (tmp_path / f"{name}{ending}").write_text("".join(f"{label}\n" for label in labels))
        return tmp_path / f"{name}.txt"

    return make


def failure(**data) -> SeqVAEError:
    with pytest.raises(SeqVAEError) as caught:
        prepare(DataConfig(labels=True, **data), WORDS)
    return caught.value


def pairs(store: TokenStore, tokenizer) -> list[tuple[str, str]]:
    """(text, name of its label) by row."""
    return [(tokenizer.decode(store[row]), store.classes[store.labels[row]]) for row in range(len(store))]


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("train.txt", True, "train.labels"),
        ("train.txt.gz", True, "train.labels"),
        ("train", True, "train.labels"),
        ("in/train.txt", "topic", "in/train.topic.labels"),
        ("v1.2.txt", True, "v1.2.labels"),
    ],
)
def test_a_label_file_lies_beside_the_text(text, labels, expected):
    assert str(TextSource.of(text, labels).labels) == expected
    assert TextSource.of(text).labels is None


def test_labels_reach_the_batch_with_their_sentences(write):
    train = write("train", ["a b", "", "c", "a b c d", "b"], ["pos", "?", "neg", "neg", "pos"])
    valid = write("valid", ["c", "a"], ["neg", "pos"])
    made = prepare(DataConfig(train=train, valid=valid, labels=True, max_length=3), WORDS)
    assert made.classes == ["neg", "pos"]
    store = made.splits["train"]
    assert pairs(store, made.tokenizer) == [("a b", "pos"), ("c", "neg"), ("b", "pos")]
    assert store.labels.dtype == np.int32
    assert isinstance(store.labels, np.memmap)
    assert collate(store, np.array([2, 1])).labels.tolist() == [1, 0]
    assert collate(made.splits["valid"], np.array([0])).labels.tolist() == [0]


def test_a_text_without_labels_has_none(write):
    path = write("train", ["a", "b"], None)
    made = prepare(DataConfig(train=path, valid=path), WORDS)
    assert made.classes is None
    assert made.splits["train"].labels is None
    assert collate(made.splits["train"], np.array([0])).labels is None
    assert TokenStore.from_texts(["a"], WordTokenizer(["a"])).labels is None


def test_held_out_rows_keep_their_labels(write):
    path = write("all", [f"w{row} x" for row in range(40)], [f"c{row % 3}" for row in range(40)])
    made = prepare(DataConfig(train=path, valid_fraction=0.2, labels=True), WORDS)
    tokenizer = WordTokenizer(["x", *(f"w{row}" for row in range(40))])
    made = prepare(DataConfig(train=path, valid_fraction=0.2, labels=True), tokenizer)
    rows = [pair for store in made.splits.values() for pair in pairs(store, tokenizer)]
    assert sorted(rows) == sorted((f"w{row} x", f"c{row % 3}") for row in range(40))


def test_the_classes_are_those_of_the_training_text(write):
    train = write("train", ["a", "b", "a"], ["x", "y", "z"])
    write("test", ["a"], ["z"])
    tokenizer = WordTokenizer(["a", "b"])
    data = DataConfig(train=train, valid=train, test=train.with_name("test.txt"), labels=True)
    made = prepare(data, tokenizer)
    assert made.classes == ["x", "y", "z"]
    assert made.splits["test"].labels.tolist() == [2]
    alone = prepare(DataConfig(test=train.with_name("test.txt"), labels=True), tokenizer, splits=["test"])
    assert (alone.classes, alone.splits["test"].labels.tolist()) == (["z"], [0])
    given = prepare(data, tokenizer, splits=["test"], classes=["z", "x", "y"])
    assert given.splits["test"].labels.tolist() == [0]


def test_a_text_apart_from_training_is_labelled_without_the_training_text(write):
    tokenizer = WordTokenizer(["a"])
    data = DataConfig(test=str(write("test", ["a", "b"], ["yes", "no"])), train="gone.txt", labels=True)
    made = prepare(data, tokenizer, splits=["test"])
    store = made.splits["test"]
    assert [store.classes[label] for label in store.labels] == ["yes", "no"]


def test_a_label_that_training_has_not_is_named(write):
    train = write("train", ["a", "b"], ["good", "bad"])
    valid = write("valid", ["a", "", "b"], ["bad", "", "goood"])
    error = failure(train=train, valid=valid)
    assert (error.code, error.where.line) == ("E325", 3)
    assert str(error.where).endswith("valid.labels:3")
    assert "did you mean 'good'?" in error.hint


@pytest.mark.parametrize(("texts", "labels"), [(5, 3), (3, 5)])
def test_files_that_are_not_parallel_are_refused_with_both_counts(write, texts, labels):
    train = write("train", ["a"] * texts, ["x"] * labels)
    error = failure(train=train, valid=train)
    assert error.code == "E324"
    assert error.what == f"{labels} labels for {texts} lines of {train}"


def test_a_sentence_without_label_is_named_and_a_blank_line_needs_none(write):
    train = write("train", ["a", "", "b"], ["x", "", " "])
    error = failure(train=train, valid=train)
    assert (error.code, error.where.line) == ("E326", 3)


def test_a_missing_label_file_is_answered_with_those_that_are_there(write):
    train = write("train", ["a"], ["x"], ".topic.labels")
    error = failure(train=train, valid=train)
    assert error.code == "E301"
    assert error.hint == "`data.labels` can be: topic"
    made = prepare(DataConfig(train=train, valid=train, labels="topic"), WORDS)
    assert made.classes == ["x"]


def test_numbers_are_no_classes(write):
    count = MOST_CLASSES + 1
    train = write("train", ["a"] * count, [str(row) for row in range(count)])
    error = failure(train=train, valid=train)
    assert (error.code, error.where.line) == ("E327", count)


def test_a_change_of_labels_makes_another_store(write):
    train = write("train", ["a", "b"], ["x", "y"])
    data = DataConfig(train=train, valid=train, labels=True)
    seen = [prepare(data, WORDS).splits["train"].fingerprint]
    seen.append(prepare(DataConfig(train=train, valid=train), WORDS).splits["train"].fingerprint)
    write("train", ["a", "b"], ["y", "x"])
    again = prepare(data, WORDS).splits["train"]
    seen.append(again.fingerprint)
    assert len(set(seen)) == 3
    assert again.labels.tolist() == [1, 0]


def test_a_store_made_before_there_were_labels_opens(write, tmp_path):
    train = write("train", ["a", "b"], None)
    made = prepare(DataConfig(train=train, valid=train), WORDS, cache=tmp_path / "cache")
    folder = tmp_path / "cache" / "prepared" / made.splits["train"].fingerprint
    described = json.loads((folder / "store.json").read_text())
    del described["classes"], described["stats"]["joined"]
    (folder / "store.json").write_text(json.dumps(described))
    assert len(TokenStore.open(folder)) == 2


def test_labels_that_are_damaged_are_found(write, tmp_path):
    train = write("train", ["a", "b"], ["x", "y"])
    made = prepare(DataConfig(train=train, valid=train, labels=True), WORDS, cache=tmp_path / "cache")
    folder = tmp_path / "cache" / "prepared" / made.splits["train"].fingerprint
    (folder / "labels.npy").unlink()
    with pytest.raises(SeqVAEError, match="damaged"):
        TokenStore.open(folder)
