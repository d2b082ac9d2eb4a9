"""Promises of datasets of the Hub: fetched once, streamed, quiet, and found again without a network."""

import pytest

from seqvae.data.corpora import DataConfig, resolve
from seqvae.data.sources import Row, open_source
from seqvae.data.store import prepare
from seqvae.data.word_tokenizer import WordTokenizerConfig
from seqvae.errors import SeqVAEError

ROWS = [{"text": "one two", "y": 1, "title": "A"}, {"text": "three\nfour", "y": 0, "title": "B"}]


class Hub:
    """Stands in for `datasets.load_dataset`: what was asked of it is in ``asked``."""

    def __init__(self, rows=ROWS, features=None):
        self.rows, self.features, self.asked = rows, features, []

    def __call__(self, name, config, **settings):
        import datasets

        self.asked.append((name, config, settings))
        return datasets.IterableDataset.from_generator(lambda: iter(self.rows), features=self.features)


@pytest.fixture
def hub(monkeypatch):
    import datasets

    hub = Hub()
    monkeypatch.setattr(datasets, "load_dataset", hub)
    return hub


def failure(source) -> SeqVAEError:
    with pytest.raises(SeqVAEError) as caught:
        list(source.rows())
    return caught.value


def test_rows_come_with_line_breaks_as_spaces_and_labels_as_text(hub):
    source = open_source("hub:some/thing", label_column="y")
    assert hub.asked == [], "nothing is fetched before it is needed"
    assert list(source.rows()) == [Row(1, "one two", "1"), Row(2, "three four", "0", joined=True)]
    assert list(open_source("hub:some/thing", text_column="title").lines()) == [(1, "A"), (2, "B")]


def test_it_is_streamed_and_runs_no_code_of_the_dataset(hub):
    list(open_source("hub:some/thing,config=en,revision=abc123,split=extra").rows())
    ((name, config, settings),) = hub.asked
    assert (name, config) == ("some/thing", "en")
    assert (settings["split"], settings["revision"], settings["streaming"]) == ("extra", "abc123", True)
    assert "trust_remote_code" not in settings


def test_a_share_of_a_dataset_is_an_entry_of_its_own(hub):
    hub.rows = [{"text": word} for word in "abcde"]
    shares = [[text for _, text in open_source(f"hub:some/thing,shard={share}/2").lines()] for share in (0, 1)]
    assert shares == [["a", "c", "e"], ["b", "d"]]
    assert len(hub.asked) == 2


@pytest.mark.parametrize("share", ["2/2", "1", "-1/2", "a/b", "1/0"])
def test_a_share_that_there_is_not_is_refused(share):
    with pytest.raises(SeqVAEError, match="no share") as caught:
        open_source(f"hub:some/thing,shard={share}")
    assert caught.value.code == "E224"


def test_what_was_fetched_is_not_fetched_again_whatever_becomes_of_it(hub):
    first = open_source("hub:some/thing")
    rows, identity = list(first.rows()), first.identity()
    hub.rows = [{"text": "changed"}]
    again = open_source("hub:some/thing")
    assert (list(again.rows()), again.identity()) == (rows, identity)
    assert len(hub.asked) == 1
    assert [text for _, text in open_source("hub:some/thing,revision=new").lines()] == ["changed"]


def test_each_split_of_a_run_reads_its_own(hub):
    sources = resolve(DataConfig(train="hub:a/b", valid="hub:a/b", test="hub:a/b,split=dev"))
    for source in sources.values():
        list(source.rows())
    assert [settings["split"] for _, _, settings in hub.asked] == ["train", "validation", "dev"]


def test_names_of_classes_are_used_where_the_dataset_has_them(hub):
    hub.features = two_classes()
    assert [row.label for row in open_source("hub:a/b", label_column="y").rows()] == ["pos", "neg"]


def two_classes():
    import datasets

    text = datasets.Value("string")
    return datasets.Features({"text": text, "y": datasets.ClassLabel(names=["neg", "pos"]), "title": text})


@pytest.mark.parametrize("label", [-1, None])
def test_a_row_without_a_class_is_named_and_the_network_is_not_blamed(hub, label):
    hub.features = two_classes()
    hub.rows = [*ROWS, {"text": "five", "y": label, "title": "C"}]
    error = failure(open_source("hub:a/b", label_column="y"))
    assert (error.code, str(error.where)) == ("E326", "hub:a/b:3")


def test_it_is_prepared_like_a_file_and_counts_joined_lines(hub):
    made = prepare(DataConfig(train="hub:a/b", valid="hub:a/b"), WordTokenizerConfig())
    assert made.tokenizer.words == ["four", "one", "three", "two"]
    assert "train: 1 text with line breaks inside, read as one line each" in made.notes


def test_a_bad_row_is_named_and_nothing_is_kept(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("SEQVAE_CACHE", str(tmp_path / "cache"))
    hub.rows = [{"text": "fine"}, {"text": None}]
    error = failure(open_source("hub:a/b"))
    assert (error.code, str(error.where)) == ("E321", "hub:a/b:2")
    assert failure(open_source("hub:a/b", text_column="txt")).code == "E320"
    assert list((tmp_path / "cache" / "spooled").iterdir()) == []


def test_what_cannot_be_had_says_why_and_what_works_offline(monkeypatch):
    error = failure(open_source("hub:nobody/nothing"))
    assert error.code == "E323"
    assert "nobody/nothing" in error.what
    assert ".parquet" in error.hint


@pytest.mark.parametrize("error", [ValueError("Unknown split\nmore"), PermissionError("gated"), RuntimeError("")])
def test_whatever_datasets_raises_is_one_error(monkeypatch, error):
    import datasets

    def refuse(*arguments, **settings):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    told = failure(open_source("hub:a/b"))
    assert told.code == "E323"
    assert told.what.endswith(next(iter(str(error).splitlines()), "RuntimeError"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hub:", "is no name"),
        ("hub:a/b/c", "is no name"),
        ("hub:../x", "is no name"),
        ("hub:a/b,splt=x", "cannot be read"),
        ("hub:a/b,split", "cannot be read"),
        ("hub:a/b,split=x,split=y", "cannot be read"),
    ],
)
def test_a_name_that_is_not_spelled_so_is_refused(name, said):
    with pytest.raises(SeqVAEError, match=said) as caught:
        open_source(name)
    assert caught.value.code == "E224"
    assert "hub:OWNER/NAME" in caught.value.hint
