"""Promises of the cache: standard input is kept whole, and what killed processes left is swept in time."""

import gzip
import hashlib
import io
import os
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from seqvae.config import Config
from seqvae.data import cache
from seqvae.data.cache import adding, kept, spooled, sweep, user_cache
from seqvae.data.corpora import DataConfig, full_paths, resolve
from seqvae.data.lines import text_lines
from seqvae.data.sources import open_source
from seqvae.data.store import prepare
from seqvae.data.word_tokenizer import WordTokenizerConfig
from seqvae.errors import SeqVAEError
from seqvae.training.resuming import rooted


@pytest.fixture
def stdin(monkeypatch):
    """Puts bytes on standard input."""

    def put(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))

    return put


def test_standard_input_is_kept_under_its_sha256(stdin):
    content = "a b\ncafé\n".encode()
    stdin(content)
    path = spooled(sys.stdin.buffer)
    assert path == user_cache() / "stdin" / f"{hashlib.sha256(content).hexdigest()}.txt"
    assert path.read_bytes() == content
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_standard_input_is_read_as_often_as_needed(stdin):
    stdin(b"a b\nc\n")
    source = open_source("-")
    assert list(source.lines()) == list(source.lines()) == [(1, "a b"), (2, "c")]
    assert list(open_source("-").lines()) == [(1, "a b"), (2, "c")]
    stdin(b"other\n")
    assert list(open_source("-").lines()) == [(1, "other")]


def test_packed_standard_input_is_unpacked(stdin):
    stdin(gzip.compress(b"a\n"))
    assert list(open_source("-").lines()) == [(1, "a")]
    stdin(gzip.compress(b"b\n"))
    assert list(text_lines(sys.stdin.buffer, "standard input")) == [(1, "b")]


def test_a_run_names_the_copy_of_standard_input(stdin):
    stdin(b"a b\nb\n")
    data = DataConfig(train="-", valid_fraction=0.5, corpus="tiny")
    paths = full_paths(data)
    assert paths["train"].startswith(str(user_cache()))
    made = prepare(DataConfig(train=paths["train"], valid_fraction=0.5), WordTokenizerConfig(min_freq=1))
    assert sum(len(store) for store in made.splits.values()) == 2


def test_full_paths_leave_names_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert full_paths(DataConfig(train="a.txt", valid="hub:a/b")) == {"train": str(tmp_path / "a.txt")}
    assert full_paths(DataConfig(train="..", valid=".")) == {"train": str(tmp_path.parent), "valid": str(tmp_path)}
    assert full_paths(DataConfig(corpus="tiny")) == {}


def test_a_run_on_a_link_reads_what_the_name_of_the_link_says(tmp_path, monkeypatch):
    """A table stays one though its bytes lie under another name, and labels lie beside the link."""
    (tmp_path / "blobs").mkdir()
    monkeypatch.chdir(tmp_path)
    for name, text in (("a.csv", "text\na b\nb\n"), ("a.txt", "a b\nb\n"), ("vectors.txt", "a 1 2\n")):
        Path("blobs", name.replace(".", "-")).write_text(text)
        Path(name).symlink_to(Path("blobs", name.replace(".", "-")))
    Path("a.labels").write_text("x\ny\n")
    for settings, labels in (({"train": "a.csv"}, [None, None]), ({"train": "a.txt", "labels": True}, ["x", "y"])):
        data = rooted(Config.from_dict({"data": settings})).data
        assert data.train == str(tmp_path / settings["train"])
        rows = resolve(data, ["train"])["train"].rows()
        assert [(row.text, row.label) for row in rows] == list(zip(["a b", "b"], labels, strict=True))
    saved = rooted(Config.from_dict({"train": {"pretrained_embeddings": {"path": "vectors.txt"}}}))
    assert saved.train.pretrained_embeddings.path == tmp_path / "vectors.txt"


def test_an_error_in_standard_input_names_it_and_the_line(stdin):
    stdin(b"fine\nb\xff\n")
    with pytest.raises(SeqVAEError) as caught:
        list(open_source("-").lines())
    assert (caught.value.code, str(caught.value.where)) == ("E303", "standard input:2:2")


def test_a_reading_that_breaks_off_leaves_nothing(tmp_path):
    class Broken(io.BytesIO):
        def read(self, size=-1):
            if self.tell():
                raise KeyboardInterrupt
            return super().read(3)

    with pytest.raises(KeyboardInterrupt):
        spooled(Broken(b"a b c"))
    assert list((user_cache() / "stdin").iterdir()) == []


def test_only_temporary_entries_older_than_a_day_are_swept(tmp_path):
    old = time.time() - cache.STALE_AFTER_S - 60
    for name in (".tmp-old-1", ".tmp-busy-2", ".tmp-new-3", "whole"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokens.npy").write_bytes(b"x")
    (tmp_path / ".tmp-file-4").write_bytes(b"x")
    aged = [".tmp-old-1/tokens.npy", ".tmp-old-1", ".tmp-busy-2", ".tmp-file-4", "whole/tokens.npy", "whole"]
    for name in aged:
        os.utime(tmp_path / name, (old, old))
    sweep(tmp_path)
    assert {entry.name for entry in tmp_path.iterdir()} == {".tmp-busy-2", ".tmp-new-3", "whole"}
    sweep(tmp_path / "nowhere")


def test_preparing_sweeps_the_cache(tmp_path):
    stale = tmp_path / "cache" / "prepared" / ".tmp-abc-17"
    stale.mkdir(parents=True)
    os.utime(stale, (1, 1))
    (tmp_path / "a.txt").write_text("a\nb\n")
    path = tmp_path / "a.txt"
    prepare(DataConfig(train=path, valid=path), WordTokenizerConfig(), cache=tmp_path / "cache")
    assert not stale.exists()


@pytest.mark.parametrize("before", ["nothing", "a damaged entry"])
def test_many_may_ask_for_the_same_entry_at_once(tmp_path, before):
    """Each gets it whole, and who has found it keeps what it found."""
    askers, parts = 4, 3
    start = threading.Barrier(askers)

    def write(place):
        for part in range(parts):
            (place / f"{part}.txt").write_text(f"part {part}")

    def read(place):
        texts = []
        for part in range(parts):
            time.sleep(0.001)
            texts.append((place / f"{part}.txt").read_text())
        return texts

    def ask(entry):
        start.wait()
        return kept(entry, write, read)

    with ThreadPoolExecutor(askers) as pool:
        for number in range(20):
            entry = tmp_path / "entries" / str(number)
            if before == "a damaged entry":
                entry.mkdir(parents=True)
                (entry / "0.txt").write_text("half")
            answers = [asked.result() for asked in [pool.submit(ask, entry) for _ in range(askers)]]
            assert answers == [[f"part {part}" for part in range(parts)]] * askers
    assert not list(entry.parent.glob(".*"))


def test_a_whole_entry_is_never_replaced(tmp_path):
    entry = tmp_path / "entries" / "one"
    with adding(entry) as late:
        (late / "text").write_text("late")
        with adding(entry) as early:
            (early / "text").write_text("early")
        found = entry.stat().st_ino
    assert (entry / "text").read_text() == "early"
    assert entry.stat().st_ino == found
    assert [path.name for path in entry.parent.iterdir()] == ["one"]


def test_an_entry_that_another_put_in_place_between_our_look_and_our_rename_stays(tmp_path, monkeypatch):
    entry, rename, met = tmp_path / "entries" / "one", os.rename, []

    def overtaken(source, target):
        if target == entry and not met:
            met.append(shutil.copytree(source, target))
        rename(source, target)

    monkeypatch.setattr(os, "rename", overtaken)
    text = kept(entry, lambda place: (place / "text").write_text("one"), lambda place: (place / "text").read_text())
    assert text == "one"
    assert met == [entry]
    assert [path.name for path in entry.parent.iterdir()] == ["one"]
