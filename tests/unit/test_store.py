"""Promises of the token store: what was written is what is read, made once, whole or made again."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import seqvae
import seqvae.data.arrays as arrays
from seqvae.data.corpora import DataConfig
from seqvae.data.row_encoder import RowEncoder
from seqvae.data.sources import Row, Source
from seqvae.data.store import TokenStore, prepare
from seqvae.data.store_files import write_store
from seqvae.data.tokenizers import WordTokenizer, WordTokenizerConfig
from seqvae.errors import SeqVAEError
from seqvae.io import storage
from seqvae.types import BOS, EOS, UNK


@dataclass(frozen=True, kw_only=True)
class Rows(Source):
    """Rows in memory."""

    all_rows: tuple[Row, ...]

    @classmethod
    def of(cls, *texts: str) -> "Rows":
        return cls(name="memory", all_rows=tuple(Row(number, text) for number, text in enumerate(texts, 1)))

    @property
    def labelled(self) -> bool:
        return self.all_rows[0].label is not None

    def identity(self) -> dict[str, object]:
        return {"rows": [list(row) for row in self.all_rows]}

    def _all_rows(self):
        yield from self.all_rows


WORDS = WordTokenizerConfig()
TRAIN = "a b c\n\nb c\nc\n"
VALID = "c a\nb d\n"


@pytest.fixture
def corpus(tmp_path):
    """Paths of a small corpus, written anew for each test, and a cache of its own."""
    for name, text in {"train": TRAIN, "valid": VALID, "test": "a\n"}.items():
        (tmp_path / f"{name}.txt").write_text(text)
    return {name: str(tmp_path / f"{name}.txt") for name in ("train", "valid", "test")}


def rows(store: TokenStore, tokenizer) -> list[str]:
    return [tokenizer.decode(store[row]) for row in range(len(store))]


def failure(*arguments, **keywords) -> SeqVAEError:
    with pytest.raises(SeqVAEError) as caught:
        prepare(*arguments, **keywords)
    return caught.value


# In memory


def test_texts_become_rows_with_bos_and_eos_and_an_empty_one_is_a_sentence():
    tokenizer = WordTokenizer(["a", "b"])
    store = TokenStore.from_texts(["b a", "", "x\ny", " "], tokenizer)
    assert [store[row].tolist() for row in range(4)] == [
        [BOS, 5, 4, EOS],
        [BOS, EOS],
        [BOS, UNK, UNK, EOS],
        [BOS, EOS],
    ]
    assert store.lengths.tolist() == [4, 2, 4, 2]
    assert store.lengths.dtype == np.int64
    assert store.lines.tolist() == [1, 2, 3, 4]
    with pytest.raises(IndexError):
        store[4]
    with pytest.raises(IndexError):
        store[-1]


def test_no_texts_are_an_empty_store():
    store = TokenStore.from_texts([], WordTokenizer(["a"]))
    assert len(store) == 0
    assert store.lengths.tolist() == []
    assert store.stats.rows == 0


def test_the_counts_are_those_of_the_text():
    stats = TokenStore.from_texts(["a  x b", "", "é a "], WordTokenizer(["a", "b"])).stats
    assert (stats.rows, stats.words, stats.characters, stats.unknown) == (3, 5, 10, 2)
    assert stats.tokens == 5 + 3, "each row predicts its words and EOS"
    assert stats.unknown_rate == 2 / 5


def test_the_fingerprint_in_memory_changes_with_text_and_tokenizer():
    one, two = WordTokenizer(["a", "b"]), WordTokenizer(["a", "b"], lowercase=True)
    stores = [TokenStore.from_texts(texts, tok) for texts, tok in [(["a b"], one), (["a", "b"], one), (["a b"], two)]]
    assert len({store.fingerprint for store in stores}) == 3
    assert TokenStore.from_texts(("a b",), one).fingerprint == stores[0].fingerprint


# On disk


def test_ten_thousand_lines_come_back_as_written(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "_BUFFER_BYTES", 777)
    draw = random.Random(5)
    texts = [" ".join(draw.choices("abcdefg", k=draw.randint(1, 12))) for _ in range(10_000)]
    tokenizer = WordTokenizer(list("abcdefg"))
    write_store(tmp_path, Rows.of(*texts), RowEncoder(tokenizer=tokenizer), fingerprint="f")
    store = TokenStore.open(tmp_path)
    assert isinstance(store.tokens, np.memmap)
    assert isinstance(store.offsets, np.memmap)
    assert rows(store, tokenizer) == texts
    memory = TokenStore.from_texts(texts, tokenizer)
    assert store.stats == memory.stats
    assert np.array_equal(store.tokens, memory.tokens)
    assert np.array_equal(store.offsets, memory.offsets)
    assert np.array_equal(np.load(tmp_path / "tokens.npy", allow_pickle=False), memory.tokens)


@pytest.mark.parametrize(("words", "dtype"), [(65_532, np.uint16), (65_533, np.uint32)])
def test_ids_take_16_bits_where_they_fit_and_32_where_not(tmp_path, words, dtype):
    tokenizer = WordTokenizer([str(number) for number in range(words)])
    text = f"0 {words - 1}"
    write_store(tmp_path, Rows.of(text), RowEncoder(tokenizer=tokenizer), fingerprint="f")
    store = TokenStore.open(tmp_path)
    assert store.tokens.dtype == dtype
    assert tokenizer.decode(store[0]) == text
    assert TokenStore.from_texts([text], tokenizer)[0].tolist() == store[0].tolist()


def test_opening_reads_no_tokens(tmp_path):
    tokenizer = WordTokenizer(["a"])
    write_store(tmp_path, Rows.of("a"), RowEncoder(tokenizer=tokenizer), fingerprint="f")
    described = json.loads((tmp_path / "store.json").read_text())
    described["stats"] |= {"rows": 10**9, "tokens": 20 * 10**9}
    (tmp_path / "store.json").write_text(json.dumps(described))
    items = {"tokens": ("<u2", 21 * 10**9, 2), "offsets": ("<i8", 10**9 + 1, 8), "lines": ("<i8", 10**9, 8)}
    for name, (dtype, count, size) in items.items():
        with (tmp_path / f"{name}.npy").open("wb") as file:
            file.write(arrays._header(dtype, count))
            file.truncate(128 + count * size)  # sparse: takes no room on the disk
    assert len(TokenStore.open(tmp_path)) == 10**9


# prepare


def test_prepare_gives_tokenizer_and_splits(tmp_path, corpus):
    made = prepare(DataConfig(**corpus), WORDS, cache=tmp_path / "cache")
    assert made.tokenizer.words == ["c", "b", "a"]
    assert {split: rows(store, made.tokenizer) for split, store in made.splits.items()} == {
        "train": ["a b c", "b c", "c"],
        "valid": ["c a", "b <unk>"],
        "test": ["a"],
    }
    assert made.splits["train"].lines.tolist() == [1, 3, 4]
    assert made.splits["train"].stats.blank_dropped == 1
    assert made.notes == ["train: 1 blank line dropped", "valid: 25.0% of the tokens are unknown words"]


def test_the_second_time_nothing_is_tokenised(tmp_path, corpus, monkeypatch):
    calls = []
    encode = WordTokenizer.encode
    monkeypatch.setattr(WordTokenizer, "encode", lambda self, text: calls.append(text) or encode(self, text))
    monkeypatch.setattr(WordTokenizer, "train", _counted(WordTokenizer.train, calls))
    first = prepare(DataConfig(**corpus), WORDS, cache=tmp_path / "cache")
    made = len(calls)
    assert made == 1 + 6
    second = prepare(DataConfig(**corpus), WORDS, cache=tmp_path / "cache")
    assert len(calls) == made
    assert fingerprints(second) == fingerprints(first)
    assert second.notes == first.notes
    assert rows(second.splits["valid"], second.tokenizer) == rows(first.splits["valid"], first.tokenizer)


def fingerprints(prepared) -> tuple[str, ...]:
    return tuple(store.fingerprint for store in prepared.splits.values())


def test_each_file_is_read_once_for_its_hash(tmp_path, corpus, monkeypatch):
    hashed = []
    digest = hashlib.file_digest

    def counted(stream, kind):
        hashed.append(Path(stream.name).name)
        return digest(stream, kind)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    prepare(DataConfig(**corpus), WORDS, cache=tmp_path / "cache")
    assert sorted(name for name in hashed if name.endswith(".txt")) == ["test.txt", "train.txt", "valid.txt"]


def _counted(train, calls):
    return classmethod(lambda cls, lines, config: calls.append("train") or train(lines, config))


def test_a_change_of_text_tokenizer_or_limit_makes_other_stores(tmp_path, corpus):
    def fingerprint(words=WORDS, **change):
        return fingerprints(prepare(DataConfig(**(corpus | change)), words, cache=tmp_path / "cache"))

    (tmp_path / "train.txt").write_text("a b c\nb c\nc a\n" * 4)
    seen = [
        fingerprint(),
        fingerprint(WordTokenizerConfig(lowercase=True)),
        fingerprint(max_length=2),
        fingerprint(max_length=2, too_long="truncate"),
        fingerprint(valid=None, valid_fraction=0.5),
        fingerprint(valid=None, valid_fraction=0.3),
    ]
    (tmp_path / "test.txt").write_text("b\n")
    seen.append(fingerprint())
    assert len(set(seen)) == len(seen)
    (tmp_path / "test.txt").write_text("a\n")
    assert fingerprint() == seen[0]
    assert fingerprint(batch_size=7) == seen[0]


def test_a_saved_tokenizer_is_used_as_it_is_and_training_text_not_needed(tmp_path, corpus):
    tokenizer = WordTokenizer(["a", "d"])
    made = prepare(DataConfig(test=corpus["test"]), tokenizer, cache=tmp_path / "cache", splits=["test"])
    assert list(made.splits) == ["test"]
    assert made.tokenizer is tokenizer
    assert rows(made.splits["test"], tokenizer) == ["a"]
    error = failure(DataConfig(test=corpus["test"]), WORDS, cache=tmp_path / "cache", splits=["test"])
    assert error.code == "E220"


def test_held_out_rows_are_in_neither_the_training_rows_nor_the_vocabulary(tmp_path):
    (tmp_path / "all.txt").write_text("".join(f"w{row}\n\n" for row in range(40)))
    data = DataConfig(train=tmp_path / "all.txt", valid_fraction=0.25)
    tokenizer = WordTokenizer([f"w{row}" for row in range(40)])
    made = prepare(data, tokenizer, cache=tmp_path / "cache")
    train, valid = (rows(made.splits[split], tokenizer) for split in ("train", "valid"))
    assert (len(train), len(valid)) == (30, 10)
    assert sorted(train + valid) == sorted(tokenizer.words)
    assert made.splits["train"].stats.blank_dropped == 40
    assert made.splits["valid"].stats.blank_dropped == 0
    error = failure(data, WORDS, cache=tmp_path / "cache")
    assert error.code == "E313", "all words differ, so none of the held-out ones is known"
    assert "the valid text" in error.what


@pytest.mark.parametrize(("policy", "kept"), [("drop", ["b c", "c"]), ("truncate", ["a b", "b c", "c"])])
def test_too_long_sentences_are_dropped_or_truncated_and_counted(tmp_path, corpus, policy, kept):
    made = prepare(DataConfig(**corpus, max_length=2, too_long=policy), WORDS, cache=tmp_path / "cache")
    store = made.splits["train"]
    assert rows(store, made.tokenizer) == kept
    assert (store.stats.too_long, store.stats.words) == (1, sum(len(text.split()) for text in kept))
    assert store.stats.characters == sum(map(len, kept))
    assert f"train: 1 sentence longer than 2 tokens {'dropped' if policy == 'drop' else 'truncated'}" in made.notes
    assert store.lines.tolist() == ([3, 4] if policy == "drop" else [1, 3, 4])


def test_too_long_can_be_an_error_that_names_the_line(tmp_path, corpus):
    (tmp_path / "train.txt").write_text("\nb c\na b c\n")
    error = failure(DataConfig(**corpus, max_length=2, too_long="error"), WORDS, cache=tmp_path / "cache")
    assert error.code == "E310"
    assert error.where.line == 3
    assert "3 tokens" in error.what
    error = failure(DataConfig(**(corpus | {"train": corpus["valid"]}), max_length=1), WORDS, cache=tmp_path / "cache")
    assert error.code == "E312"
    assert "all 2 are longer" in error.what


def test_text_without_a_known_word_is_refused(tmp_path, corpus):
    (tmp_path / "valid.txt").write_text("x y\nz\n")
    error = failure(DataConfig(**corpus), WORDS, cache=tmp_path / "cache")
    assert error.code == "E313"
    assert "valid" in error.what
    assert "valid.txt" in str(error)


def test_other_text_without_a_known_word_is_prepared_with_a_note(tmp_path, corpus):
    """For a saved model, and as the test text of a training run: what is measured on it is defined."""
    (tmp_path / "test.txt").write_text("x y\n\nz\n")
    notes = ["test: 1 blank line dropped", "test: 100.0% of the tokens are unknown words"]
    tokenizer = WordTokenizer(["a", "d"])
    made = prepare(DataConfig(test=corpus["test"]), tokenizer, cache=tmp_path / "cache", splits=["test"])
    assert (len(made.splits["test"]), made.notes) == (2, notes)
    trained_on = prepare(DataConfig(**corpus), WORDS, cache=tmp_path / "cache")
    assert [note for note in trained_on.notes if note.startswith("test")] == notes


@pytest.mark.parametrize("content", ["one line\n", "two\nlines\n", "a\na\na\n"])
def test_tiny_files_are_prepared(tmp_path, content):
    (tmp_path / "a.txt").write_text(content)
    path = tmp_path / "a.txt"
    made = prepare(DataConfig(train=path, valid=path), WORDS, cache=tmp_path / "cache")
    assert rows(made.splits["train"], made.tokenizer) == content.splitlines()
    assert made.notes == []


def test_a_failed_preparation_leaves_nothing_in_the_cache(tmp_path, corpus):
    (tmp_path / "train.txt").write_bytes(b"a b\nb\xff\n")
    assert failure(DataConfig(**corpus), WordTokenizer(["a"]), cache=tmp_path / "cache").code == "E303"
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def _damages():
    yield "missing tokens", lambda entry: (entry / "tokens.npy").unlink()
    yield "cut tokens", lambda entry: _rewrite(entry / "tokens.npy", lambda content: content[:-2])
    yield "flipped token", lambda entry: _rewrite(entry / "tokens.npy", lambda c: c[:-4] + b"\x07\0" + c[-2:])
    yield "flipped header", lambda entry: _rewrite(entry / "offsets.npy", lambda c: b"\0" + c[1:])
    yield "empty manifest", lambda entry: _rewrite(entry / "MANIFEST.json", lambda content: b"")
    yield "no manifest", lambda entry: (entry / "MANIFEST.json").unlink()
    yield "no description", lambda entry: (entry / "store.json").unlink()
    yield "a file in its place", lambda entry: (shutil.rmtree(entry), entry.write_text("x"))
    yield "an empty folder", lambda entry: (shutil.rmtree(entry), entry.mkdir())


def _rewrite(path, change):
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(("damage"), [pytest.param(act, id=name) for name, act in _damages()])
def test_a_damaged_entry_is_made_again(tmp_path, corpus, damage):
    tokenizer = WordTokenizer(["a", "b", "c"])
    first = prepare(DataConfig(**corpus), tokenizer, cache=tmp_path / "cache")
    entry = tmp_path / "cache" / "prepared" / first.splits["train"].fingerprint
    expected = rows(first.splits["train"], tokenizer)
    del first
    damage(entry)
    again = prepare(DataConfig(**corpus), tokenizer, cache=tmp_path / "cache")
    assert rows(again.splits["train"], tokenizer) == expected
    assert (entry / "MANIFEST.json").is_file()


def test_opening_a_damaged_store_says_so(tmp_path):
    write_store(tmp_path, Rows.of("a"), RowEncoder(tokenizer=WordTokenizer(["a"])), fingerprint="f")
    good = (tmp_path / "store.json").read_text()
    for damage in ("", "{}", "[1]", good.replace('"rows": 1', '"rows": 2'), good.replace("<u2", "|O")):
        (tmp_path / "store.json").write_text(damage)
        with pytest.raises(SeqVAEError, match="damaged") as caught:
            TokenStore.open(tmp_path)
        assert caught.value.code == "E401"
    (tmp_path / "store.json").write_text(good)
    for change in (lambda c: c.replace(b"}", b"(", 1), lambda c: b"", lambda c: c[:9]):
        whole = (tmp_path / "offsets.npy").read_bytes()
        _rewrite(tmp_path / "offsets.npy", change)
        with pytest.raises(SeqVAEError, match="damaged"):
            TokenStore.open(tmp_path)
        (tmp_path / "offsets.npy").write_bytes(whole)


def test_an_entry_that_another_process_finished_first_is_used(tmp_path, corpus, monkeypatch):
    """The other process puts its folder in place between our look and our rename."""
    tokenizer = WordTokenizer(["a", "b", "c"])
    cache, other = tmp_path / "cache", tmp_path / "other"
    theirs = prepare(DataConfig(**corpus), tokenizer, cache=other).splits["train"].fingerprint
    swap = storage._swap

    def overtaken(temporary, target, *expected):
        if target.name == theirs and not target.exists():
            shutil.copytree(other / "prepared" / theirs, target)
            raise OSError(39, "Directory not empty", str(target))
        swap(temporary, target, *expected)

    monkeypatch.setattr(storage, "_swap", overtaken)
    made = prepare(DataConfig(**corpus), tokenizer, cache=cache)
    assert rows(made.splits["train"], tokenizer) == ["a b c", "b c", "c"]


PREPARE = """
import sys, time
from pathlib import Path
from seqvae.data.corpora import DataConfig
from seqvae.data.store import prepare
from seqvae.data.tokenizers import WordTokenizerConfig
folder = Path(sys.argv[1])
print("ready", flush=True)
while not (folder / "go").exists():
    time.sleep(0.001)
data = DataConfig(train=folder / "train.txt", valid=folder / "valid.txt", test=folder / "test.txt")
for attempt in range(5):
    made = prepare(data, WordTokenizerConfig(), cache=folder / f"cache-{attempt}")
    train = made.splits["train"]
    print(train.fingerprint, len(train), made.tokenizer.decode(train[1999]))
"""


def test_two_processes_may_prepare_at_once(tmp_path, corpus):
    (tmp_path / "train.txt").write_text("a b c\n" * 2000)
    environment = os.environ | {"PYTHONPATH": str(Path(seqvae.__file__).parent.parent)}
    command = [sys.executable, "-c", PREPARE, str(tmp_path)]
    workers = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        assert [worker.stdout.readline() for worker in workers] == ["ready\n"] * 2
        (tmp_path / "go").touch()
        answers = [worker.communicate(timeout=60)[0].splitlines() for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0]
    assert {line for answer in answers for line in answer} == {answers[0][0]}
    assert len(answers[0]) == 5
    assert answers[0][0].endswith(" 2000 a b c")
    assert [path.name for path in tmp_path.glob("cache-*/prepared/.*")] == []


def test_a_cache_that_cannot_be_written_says_how_to_choose_another(tmp_path, corpus, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    error = failure(DataConfig(**corpus), WORDS, cache=tmp_path / "file")
    assert error.exit_code == 7
    assert "SEQVAE_CACHE" in error.hint
    assert "cache" in error.what
    monkeypatch.setenv("SEQVAE_CACHE", str(tmp_path / "file" / "deeper"))
    assert failure(DataConfig(**corpus), WORDS).exit_code == 7
    monkeypatch.setenv("SEQVAE_CACHE", str(tmp_path / "named"))
    prepare(DataConfig(**corpus), WORDS)
    assert (tmp_path / "named" / "prepared").is_dir()


def test_a_full_disk_is_told_as_such(tmp_path, corpus, monkeypatch):
    def full(self, values):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(arrays.ArrayWriter, "extend", full)
    error = failure(DataConfig(**corpus), WORDS, cache=tmp_path / "cache")
    assert error.code == "E701"
    assert "SEQVAE_CACHE" in error.hint
    assert not [path for path in (tmp_path / "cache" / "prepared").iterdir() if path.name.startswith(".")]


def test_a_store_of_ids_has_them_as_they_are():
    kept = TokenStore.from_ids([[1, 7, 9, 2], np.array([1, 2]), [1, 3, 2]])
    assert [kept[row].tolist() for row in range(3)] == [[1, 7, 9, 2], [1, 2], [1, 3, 2]]
    assert (kept.lengths.tolist(), kept.stats.tokens) == ([4, 2, 3], 6)
