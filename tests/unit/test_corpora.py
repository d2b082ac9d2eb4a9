"""Promises of the corpora: the user's files win, a named corpus is found or the one error says where it was sought."""

import gzip
import hashlib
import logging
import os
import re
import time
from pathlib import Path

import pytest
from corpus_stand_in import SPLITS, change, hashes, serving_ptb
from pydantic import ValidationError

import seqvae.shipped
from seqvae.config import Config
from seqvae.data.cache import user_cache
from seqvae.data.catalogue import CORPORA, fetch, names
from seqvae.data.corpora import DataConfig, corpus_notes, full_paths, opened, resolve, title
from seqvae.data.recipes import choose_by_hash, interleave, share_by_hash
from seqvae.errors import SeqVAEError
from seqvae.training.resuming import changed_settings, rooted

PUBLISHED = dict(CORPORA)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A working directory, a cache and an installation of our own: nothing of the real ones is seen."""
    for name in ("work", "cache", "installed"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("SEQVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SEQVAE_DATA", raising=False)
    monkeypatch.setattr(seqvae.shipped, "_PACKAGE", tmp_path / "installed" / "seqvae")
    change(monkeypatch, "ptb", url="http://127.0.0.1:9/")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    return tmp_path


def put(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(f"text of {name}\n")


def failure(config, **keywords) -> SeqVAEError:
    with pytest.raises(SeqVAEError) as caught:
        resolve(config, **keywords)
    return caught.value


# The user's own files


def test_a_text_column_is_that_of_the_tables_among_the_splits():
    sources = resolve(DataConfig(train="my.csv", valid="hub:a/b", test="t.txt", text_column="x"))
    assert sources["train"].text_column == "x"
    assert sources["valid"].key["text_column"] == "x"
    error = failure(DataConfig(train="my.txt", valid="v.txt", text_column="x"))
    assert error.code == "E223"
    assert "`data.text_column` does not go with my.txt" in error.what


@pytest.mark.parametrize("setting", ["text_column", "label_column"])
@pytest.mark.parametrize("corpus", ["tiny", "ptb", "torchtext:IMDB"])
def test_a_corpus_by_name_has_no_columns(corpus, setting):
    error = failure(DataConfig(corpus=corpus, **{setting: "x"}))
    assert error.code == "E223"
    assert f"`data.{setting}` does not go with {corpus}" in error.what


def test_files_that_are_no_splits_are_opened_as_training_text():
    sources = opened({name: name for name in ("a.csv", "b.txt", "hub:a/b")}, DataConfig(text_column="x"))
    assert sources["a.csv"].text_column == "x"
    assert sources["hub:a/b"].key == {"hub": "a/b", "split": "train", "text_column": "x", "label_column": None}


def test_a_path_for_any_split_replaces_the_corpus():
    sources = resolve(DataConfig(corpus="tiny", train="my.txt", valid="v.txt"))
    assert {split: str(source.path) for split, source in sources.items()} == {"train": "my.txt", "valid": "v.txt"}
    sources = resolve(DataConfig(train="my.txt", valid="v.txt", test="t.txt"))
    assert list(sources) == list(SPLITS)


def test_a_missing_valid_is_an_error_unless_a_fraction_is_set():
    error = failure(DataConfig(corpus="tiny", train="my.txt"))
    assert error.code == "E220"
    assert "data.valid is not" in error.what
    assert "data.valid_fraction" in error.hint
    sources = resolve(DataConfig(train="my.txt", valid_fraction=0.1))
    assert {split: (str(s.path), s.part) for split, s in sources.items()} == {
        "train": ("my.txt", "kept"),
        "valid": ("my.txt", "held_out"),
    }


def test_settings_that_do_not_fit_together_are_refused():
    assert failure(DataConfig()).code == "E220"
    assert "data.train is not" in failure(DataConfig(corpus="tiny", test="t.txt")).what
    assert failure(DataConfig(train="a", valid="b", valid_fraction=0.1)).code == "E222"
    for wrong in ({"valid_fraction": 0.0}, {"valid_fraction": 0.6}, {"batch_size": 0}, {"max_length": 0}, {"trian": 1}):
        with pytest.raises(ValidationError):
            DataConfig(**wrong)


def test_only_the_splits_that_are_asked_for_need_a_file():
    assert list(resolve(DataConfig(test="t.txt"), required=["test"])) == ["test"]
    error = failure(DataConfig(train="a", valid="b"), required=["test"])
    assert "there is no test text" in error.what
    assert error.hint == "add `data.test`"
    assert "the splits are" in failure(DataConfig(train="a", valid="b"), required=["dev"]).hint


def test_an_unknown_corpus_is_answered_with_the_nearest():
    error = failure(DataConfig(corpus="tinny"))
    assert error.code == "E221"
    assert "did you mean `tiny`?" in error.hint
    assert "ptb" in error.hint
    assert "did you mean" not in failure(DataConfig(corpus="xyzzy")).hint


# The built-in corpus


@pytest.mark.parametrize("place", ["seqvae/_shipped/data/tiny", "data/tiny"])
def test_tiny_is_found_in_a_wheel_and_in_a_checkout(elsewhere, place):
    put(elsewhere / "installed" / place, [f"{split}.txt" for split in SPLITS])
    sources = resolve(DataConfig(corpus="tiny"))
    assert [source.path for source in sources.values()] == [
        elsewhere / "installed" / place / f"{split}.txt" for split in SPLITS
    ]
    assert failure(DataConfig(corpus="tiny", valid_fraction=0.1)).code == "E222"


def test_an_installation_without_tiny_says_so():
    assert failure(DataConfig(corpus="tiny")).code == "E309"


def test_what_is_packaged_goes_before_what_lies_beside_the_package(elsewhere):
    installed = elsewhere / "installed"
    assert seqvae.shipped.shipped("configs") == installed / "configs"
    (installed / "seqvae/_shipped/configs").mkdir(parents=True)
    assert seqvae.shipped.shipped("configs") == installed / "seqvae/_shipped/configs"


# PTB


@pytest.mark.parametrize("pattern", ["{}.txt", "ptb.{}.txt"])
@pytest.mark.parametrize("place", ["work/data/ptb", "installed/data/ptb", "mine/ptb", "cache/ptb"])
def test_ptb_is_found_on_disk_under_both_names(elsewhere, monkeypatch, place, pattern):
    monkeypatch.setenv("SEQVAE_DATA", str(elsewhere / "mine"))
    put(elsewhere / place, [pattern.format(split) for split in SPLITS])
    sources = resolve(DataConfig(corpus="ptb"))
    assert {split: source.path.resolve() for split, source in sources.items()} == {
        split: elsewhere / place / pattern.format(split) for split in SPLITS
    }


def test_the_working_directory_goes_before_the_cache(elsewhere):
    for place in ("work/data/ptb", "cache/ptb"):
        put(elsewhere / place, [f"{split}.txt" for split in SPLITS])
    sources = resolve(DataConfig(corpus="ptb"))
    assert sources["train"].path.resolve() == elsewhere / "work/data/ptb/train.txt"


def test_a_local_copy_that_differs_is_used_and_noted(elsewhere, monkeypatch):
    put(elsewhere / "work/data/ptb", [f"{split}.txt" for split in SPLITS])
    config = DataConfig(corpus="ptb")
    notes = corpus_notes(config, resolve(config))
    assert len(notes) == 3
    assert all("sha256 differs" in note for note in notes)
    right = hashes({f"{split}.txt": f"text of {split}.txt\n".encode() for split in SPLITS})
    change(monkeypatch, "ptb", files=right | {"test.txt": "0" * 64})
    (note,) = corpus_notes(config, resolve(config))
    assert "test file" in note
    own = DataConfig(corpus="ptb", train="data/ptb/test.txt", valid="data/ptb/test.txt")
    assert corpus_notes(own, resolve(own)) == []


@pytest.fixture
def server(monkeypatch):
    with serving_ptb(monkeypatch) as server:
        yield server


def cached(elsewhere):
    return sorted(path.name for path in (elsewhere / "cache").rglob("*") if path.is_file())


def test_ptb_is_fetched_once_verified_and_without_a_word(elsewhere, server, capfd):
    config = DataConfig(corpus="ptb")
    sources = resolve(config)
    assert [list(source.lines()) for source in sources.values()] == [[(1, f"<unk> of {split}")] for split in SPLITS]
    assert cached(elsewhere) == ["MANIFEST.json", "test.txt", "train.txt", "valid.txt"]
    assert corpus_notes(config, sources) == []
    resolve(config)
    assert len(server.asked) == 3
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("files", "said", "asked"),
    [
        (None, "404", 2),
        ({"ptb.train.txt": b"<html>moved</html>"}, "train.txt has another sha256 than the published files", 3),
    ],
)
def test_a_wrong_answer_is_one_error_and_leaves_nothing(elsewhere, server, files, said, asked):
    server.files = {} if files is None else server.files | files
    error = failure(DataConfig(corpus="ptb"))
    assert error.code == "E308"
    assert said in error.what
    assert server.url in error.what
    assert cached(elsewhere) == []
    assert len(server.asked) == asked


def test_a_download_that_breaks_off_leaves_nothing(elsewhere, server):
    server.cut_at = 5
    error = failure(DataConfig(corpus="ptb"))
    assert error.code == "E308"
    assert server.url in error.what
    assert cached(elsewhere) == []


def test_unreachable_says_what_was_tried_and_what_to_do(elsewhere, monkeypatch):
    monkeypatch.setenv("SEQVAE_DATA", str(elsewhere / "mine"))
    start = time.monotonic()
    error = failure(DataConfig(corpus="ptb"))
    assert time.monotonic() - start < 10
    assert error.code == "E308"
    assert error.exit_code == 3
    for place in ("work/data/ptb", "installed/data/ptb", "mine/ptb", "cache/ptb"):
        assert str(elsewhere / place) in error.what
    assert "http://127.0.0.1:9/" in error.what
    for needed in ("train.txt", "data/ptb", "SEQVAE_DATA", "tiny.yaml"):
        assert needed in error.hint
    assert cached(elsewhere) == []


def test_a_cache_that_cannot_be_written_is_named(elsewhere, monkeypatch, server):
    (elsewhere / "file").write_text("in the way")
    monkeypatch.setenv("SEQVAE_CACHE", str(elsewhere / "file"))
    error = failure(DataConfig(corpus="ptb"))
    assert error.exit_code == 7
    assert "SEQVAE_CACHE" in error.hint


def test_the_cache_is_the_users_unless_named(monkeypatch):
    monkeypatch.delenv("SEQVAE_CACHE")
    assert user_cache().name == "seqvae"
    monkeypatch.setenv("SEQVAE_CACHE", "~/elsewhere")
    assert user_cache().is_absolute()
    assert user_cache().name == "elsewhere"


# Other corpora, and folders of the user's own


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_corpus_says_what_it_is_and_pins_every_file(name):
    corpus = PUBLISHED[name]
    assert corpus.what
    assert corpus.licence
    assert corpus.url.startswith("https://raw.githubusercontent.com/")
    assert re.search(r"/[0-9a-f]{40}/", corpus.url), "one commit, or what is there may change"
    assert {f"{split}.txt" for split in SPLITS} <= set(corpus.files)
    assert all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in corpus.files.values())
    made = corpus.recipe(
        {file: ["sentence\tlabel", *(f"s{row}\t{row % 2}" for row in range(9))] for file in corpus.raw}
    )
    assert set(made) == set(corpus.files)


def test_the_licence_is_told_before_the_download(elsewhere, server, caplog):
    server.files = {}
    with caplog.at_level(logging.INFO, "seqvae"):
        failure(DataConfig(corpus="ptb"))
    assert [record.message.split()[0] for record in caplog.records] == ["fetch", "licence"]
    assert CORPORA["ptb"].licence in caplog.text


def test_a_corpus_with_labels_is_made_from_its_public_files(elsewhere, server, monkeypatch):
    raw = {
        f"{part}.tsv": f"sentence\tlabel\n{part} one \t1\n{part} two\t0\n".encode() for part in ("train", "dev", "test")
    }
    server.files = raw
    made = {}
    for split, part in zip(SPLITS, ("train", "dev", "test"), strict=True):
        made |= {f"{split}.txt": f"{part} one\n{part} two\n".encode(), f"{split}.labels": b"1\n0\n"}
    change(monkeypatch, "sst2", files=hashes(made), url=server.url)
    sources = resolve(DataConfig(corpus="sst2", labels=True))
    assert [[(row.text, row.label) for row in source.rows()] for source in sources.values()] == [
        [(f"{part} one", "1"), (f"{part} two", "0")] for part in ("train", "dev", "test")
    ]
    assert corpus_notes(DataConfig(corpus="sst2"), sources) == []


def test_the_progress_of_a_download_is_reported(server):
    class Bar:
        total, seen, closed = 0, 0, False

        def update(self, size):
            self.seen += size

        def reset(self):
            self.seen = 0

        def close(self):
            self.closed = True

    bars = []
    fetch("ptb", progress=lambda: bars.append(Bar()) or bars[-1])
    assert len(bars) == 3
    assert all(bar.closed and bar.total > 0 for bar in bars)


@pytest.mark.parametrize("place", ["work/data/mine", "own/mine"])
def test_a_folder_of_ones_own_is_a_corpus_by_its_name(elsewhere, monkeypatch, place):
    monkeypatch.setenv("SEQVAE_DATA", str(elsewhere / "own"))
    put(elsewhere / place, ["valid.txt", "test.txt", "train.labels"])
    (elsewhere / place / "train.txt.gz").write_bytes(gzip.compress(b"packed\n"))
    sources = resolve(DataConfig(corpus="mine"))
    assert [source.path.name for source in sources.values()] == ["train.txt.gz", "valid.txt", "test.txt"]
    assert list(sources["train"].lines()) == [(1, "packed")]
    assert resolve(DataConfig(corpus="mine", labels=True))["train"].labels.name == "train.labels"
    assert names()[-1] == "mine"
    assert corpus_notes(DataConfig(corpus="mine"), sources) == []


def test_a_run_on_a_folder_of_ones_own_keeps_its_files_and_not_the_name_alone(elsewhere, monkeypatch):
    """From another working directory the name may mean nothing, or another folder."""
    put(elsewhere / "work/data/mine", ["train.txt", "valid.txt", "train.labels", "valid.labels"])
    config = Config.from_dict({"data": {"corpus": "mine", "labels": True}})
    saved = rooted(config)
    put(elsewhere / "other/data/mine", ["train.txt", "valid.txt", "test.txt"])
    monkeypatch.chdir(elsewhere / "other")
    assert [source.path for source in resolve(saved.data).values()] == [
        elsewhere / "work/data/mine/train.txt",
        elsewhere / "work/data/mine/valid.txt",
    ]
    assert resolve(saved.data)["train"].labels == elsewhere / "work/data/mine/train.labels"
    assert title(saved.data) == title(config.data) == "mine"
    assert changed_settings(saved, config) == ["data.test", "data.train", "data.valid"]
    monkeypatch.chdir(elsewhere / "work")
    assert changed_settings(saved, config) == changed_settings(config, saved) == []
    assert full_paths(DataConfig(corpus="tiny")) == full_paths(DataConfig(corpus="ptb")) == {}
    assert title(DataConfig(corpus="tiny", train="data/tiny/train.txt")) == "own text"


def test_what_does_not_fit_a_folder_of_ones_own_is_told_of_its_name(elsewhere):
    put(elsewhere / "work/data/mine", ["train.txt", "valid.txt"])
    put(elsewhere / "work/data/half", ["train.txt"])
    for corpus, fraction, what in (("mine", 0.5, "the corpus mine has a validation"), ("half", None, "half has train")):
        with pytest.raises(SeqVAEError, match=what):
            full_paths(DataConfig(corpus=corpus, valid_fraction=fraction))
    kept = full_paths(DataConfig(corpus="half", valid_fraction=0.5))
    assert kept == {"train": str(elsewhere / "work/data/half/train.txt")}


def test_a_folder_need_not_have_every_split(elsewhere):
    put(elsewhere / "work/data/half", ["train.txt"])
    error = failure(DataConfig(corpus="half"))
    assert (error.code, "half has train; data.valid is not" in error.what) == ("E220", True)
    put(elsewhere / "work/data/half", ["test.txt"])
    config = DataConfig(corpus="half", valid_fraction=0.5)
    assert list(resolve(config)) == list(SPLITS)


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../work/data/mine"])
def test_a_name_is_no_path(elsewhere, name):
    put(elsewhere / "work/data/mine", ["train.txt", "valid.txt"])
    assert failure(DataConfig(corpus=name)).code == "E221"


def test_recipes_are_pure_and_known_by_hand():
    assert interleave({"all": ["a", "b"], "one": ["b"]}, {"a": ["1", "2"], "b": ["x", "y"]}) == {
        "all": ["1", "x", "2", "y"],
        "one": ["x", "y"],
    }
    # sha1: "a" 86f7..., "b" e9d7..., "c" 84a5...
    assert share_by_hash({"one": 2, "two": 1}, {"all": ["a", "b", "c"]}) == {"one": ["c", "a"], "two": ["b"]}
    chosen = choose_by_hash(
        {"p.0": ["zero ", "one"], "p.1": ["two"]},
        pattern="{part}.{label}",
        shares={"p": {"train": 2, "valid": 1}},
        labels=("0", "1"),
    )
    order = sorted(
        [("p.0.0", "zero"), ("p.0.1", "one"), ("p.1.0", "two")], key=lambda i: hashlib.sha1(i[0].encode()).digest()
    )
    assert chosen["train.txt"] + chosen["valid.txt"] == [text for _, text in order]
    assert chosen["train.labels"] + chosen["valid.labels"] == [key.split(".")[1] for key, _ in order]
    assert (len(chosen["train.txt"]), len(chosen["valid.txt"])) == (2, 1)


FOUND = os.environ.get("SEQVAE_DATA")  # as it was before the fixtures took it away


@pytest.mark.skipif(FOUND is None, reason="SEQVAE_DATA names no folder with corpora")
@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_that_is_here_is_the_published_one(name):
    folder = Path(FOUND).expanduser() / name
    if not (folder / "train.txt").is_file():
        pytest.skip(f"{name} is not in SEQVAE_DATA")
    here = {file: (folder / file).read_bytes() for file in CORPORA[name].files}
    assert hashes(here) == dict(CORPORA[name].files)


def test_a_path_with_a_nul_character_is_a_mistake_in_the_settings():
    with pytest.raises(ValidationError, match="NUL"):
        DataConfig(train="a\0b.txt")


def test_a_name_that_begins_with_a_tilde_and_is_nobodys_home_is_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("~notes.txt", "~$x.csv"):
        (tmp_path / name).write_text("text\none two\n", encoding="utf-8")
        sources = resolve(DataConfig(train=name, valid=name))
        assert [text for _, text in sources["train"].lines()][-1] == "one two"
    assert failure(DataConfig(corpus="~nobody/there")).code == "E221"
    with pytest.raises(SeqVAEError, match="E301"):
        list(resolve(DataConfig(train="~nobody/x.txt", valid="~nobody/x.txt"))["train"].lines())
