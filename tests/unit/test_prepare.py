"""Promises of preparing large texts: the same result for any number of processes, and none of them left behind."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seqvae
from seqvae.data import lines, sampling, sources, workers
from seqvae.data.corpora import DataConfig
from seqvae.data.lines import file_lines, line_blocks
from seqvae.data.progress import Told
from seqvae.data.store import prepare
from seqvae.data.tokenizers import (
    CharTokenizerConfig,
    SentencePieceTokenizerConfig,
    WordTokenizer,
    WordTokenizerConfig,
)
from seqvae.errors import SeqVAEError

WORDS = WordTokenizerConfig()
ROOT = str(Path(seqvae.__file__).parent.parent)


@pytest.fixture
def small_is_large(monkeypatch):
    """A text of 500 characters is given to other processes, 200 at a time."""
    monkeypatch.setattr(workers, "LARGE_CHARACTERS", 500)
    monkeypatch.setattr(lines, "BLOCK_BYTES", 200)
    monkeypatch.setattr(sources, "BLOCK_BYTES", 200)


@pytest.fixture
def started(monkeypatch):
    """The processes that were started."""
    found = []
    start = subprocess.Popen

    def recorded(*arguments, **keywords):
        found.append(start(*arguments, **keywords))
        return found[-1]

    monkeypatch.setattr(workers.subprocess, "Popen", recorded)
    return found


@pytest.fixture
def text(tmp_path):
    """Lines of all kinds, blank ones, long ones and such with a CR among them; and a label for each."""
    draw = np.random.default_rng(4)
    words = ["ab", "cde", "f", "gé", "\u2028", "h" * 30, "\ti"]
    written = [" ".join(draw.choice(words, draw.integers(0, 9))) + ["", "\r", " "][row % 3] for row in range(240)]
    path = tmp_path / "text.txt"
    path.write_bytes("\n".join(written).encode())
    (tmp_path / "text.labels").write_text("".join(f"{'xyz'[row % 3]}\n" for row in range(240)))
    return path


def prepared(tmp_path, path, count, tokenizer=WORDS, **data):
    cache = tmp_path / f"cache-{count}"
    data = DataConfig(train=path, workers=count, **({"valid_fraction": 0.1} | data))
    return prepare(data, tokenizer, cache=cache)


def contents(cache: Path) -> dict[str, str]:
    files = (path for path in cache.rglob("*") if path.is_file())
    return {str(path.relative_to(cache)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize(
    ("tokenizer", "data"),
    [
        (WORDS, {}),
        (WORDS, {"labels": True}),
        (WordTokenizerConfig(max_size=7, lowercase=True), {"max_length": 4, "too_long": "truncate"}),
        (CharTokenizerConfig(), {"max_length": 20}),
        (SentencePieceTokenizerConfig(vocab_size=275), {"valid": "text.txt", "valid_fraction": None}),
    ],
)
def test_every_number_of_processes_makes_the_same_files(
    tmp_path, text, small_is_large, started, monkeypatch, tokenizer, data
):
    monkeypatch.chdir(tmp_path)
    made = [prepared(tmp_path, text, count, tokenizer, **data) for count in (1, 3)]
    alone, shared = (contents(tmp_path / f"cache-{count}") for count in (1, 3))
    assert alone == shared
    assert len(started) in (3, 6), "the validation text is large in one case only"
    assert all(process.poll() is not None for process in started)
    assert made[0].notes == made[1].notes
    assert [store.stats for store in made[0].splits.values()] == [store.stats for store in made[1].splits.values()]


def test_what_one_number_of_processes_made_is_found_by_another(tmp_path, text, small_is_large, started):
    cache = tmp_path / "cache"
    data = DataConfig(train=text, valid_fraction=0.1, workers=1)
    first = prepare(data, WORDS, cache=cache)
    second = prepare(data.model_copy(update={"workers": 2}), WORDS, cache=cache)
    assert started == []
    assert [store.fingerprint for store in first.splits.values()] == [
        store.fingerprint for store in second.splits.values()
    ]


@pytest.mark.parametrize(
    ("bad", "code", "line"),
    [
        ({150: b"\xff", 200: b"\xff"}, "E303", 150),
        ({120: b"w " * 60, 150: b"\xff"}, "E310", 120),
        ({149: b"w " * 60, 150: b"\xff"}, "E310", 149),
        ({150: b"\0", 151: b"w " * 60}, "E304", 150),
        ({9: b"\xff", 150: b"\0"}, "E303", 9),
    ],
)
def test_of_several_bad_lines_the_first_is_told_by_every_number_of_processes(
    tmp_path, small_is_large, started, bad, code, line
):
    path = tmp_path / "bad.txt"
    path.write_bytes(b"".join(bad.get(number, b"a b c") + b"\n" for number in range(1, 241)))
    told = []
    for count in (1, 2):
        data = DataConfig(train=path, max_length=50, too_long="error", workers=count)
        with pytest.raises(SeqVAEError) as caught:
            prepare(data, WordTokenizer(["a"]), cache=tmp_path / f"cache-{count}", splits=["train"])
        told.append((caught.value.code, caught.value.where.line, str(caught.value)))
    assert told[0] == told[1]
    assert told[0][:2] == (code, line)
    assert all(process.poll() is not None for process in started)
    assert not contents(tmp_path / "cache-2")


def test_of_a_bad_label_and_a_long_line_the_first_is_told(tmp_path, text, small_is_large):
    for labels, code in (({30: "new"}, "E325"), ({200: "new"}, "E310")):
        lines_of = [b"a"] * 240
        lines_of[99] = b"a " * 60
        (tmp_path / "test.txt").write_bytes(b"\n".join(lines_of))
        (tmp_path / "test.labels").write_text("".join(labels.get(row, "x") + "\n" for row in range(1, 241)))
        data = DataConfig(test=tmp_path / "test.txt", labels=True, max_length=50, too_long="error", workers=2)
        with pytest.raises(SeqVAEError) as caught:
            prepare(data, WordTokenizer(["a"]), cache=tmp_path / "cache", splits=["test"], classes=["x"])
        assert caught.value.code == code


# What goes wrong with processes.


def test_a_small_text_starts_no_process(tmp_path, text, started):
    prepared(tmp_path, text, 8)
    assert started == []


@pytest.mark.parametrize("change", [("executable", ""), ("frozen", True)])
def test_without_an_interpreter_to_start_all_is_done_in_this_one(
    tmp_path, text, small_is_large, started, monkeypatch, change
):
    monkeypatch.setattr(sys, *change, raising=False)
    prepared(tmp_path, text, 2)
    assert started == []


def test_a_tokenizer_of_the_users_own_is_used_in_this_process(tmp_path, text, small_is_large, started):
    class Own(WordTokenizer):
        def encode(self, line):
            return super().encode(line.replace("f", "a"))

    data = DataConfig(test=text, workers=2)
    store = prepare(data, Own(["a"]), cache=tmp_path / "cache", splits=["test"]).splits["test"]
    assert started == []
    assert store.stats.unknown < store.stats.words


def test_a_process_that_is_killed_is_told_and_nothing_is_left(tmp_path, text, small_is_large, started):
    def kill(what, count):
        if started:
            started[-1].kill()

    with pytest.raises(SeqVAEError) as caught:
        prepare(DataConfig(train=text, workers=2), WORDS, cache=tmp_path / "cache", splits=["train"], on_progress=kill)
    assert caught.value.code == "E350"
    assert "data.workers=1" in caught.value.hint
    assert [process.poll() is not None for process in started] == [True, True]
    assert list((tmp_path / "cache" / "prepared").glob(".tmp-*")) == []
    again = prepare(DataConfig(train=text, workers=2), WORDS, cache=tmp_path / "cache", splits=["train"])
    assert len(again.splits["train"]) > 0


def test_a_process_that_cannot_begin_is_told(tmp_path, text, small_is_large, started, monkeypatch):
    monkeypatch.setattr(workers, "_START", "raise SystemExit(7)")
    with pytest.raises(SeqVAEError, match="status 7") as caught:
        prepared(tmp_path, text, 2)
    assert caught.value.code == "E350"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    with pytest.raises(SeqVAEError) as caught:
        prepared(tmp_path, text, 2)
    assert caught.value.code == "E351"
    assert all(process.poll() is not None for process in started)


def test_an_interruption_ends_the_processes_and_leaves_no_part_of_an_entry(tmp_path, text, small_is_large, started):
    def interrupt(what, count):
        if started:
            raise KeyboardInterrupt

    data = DataConfig(train=text, workers=2)
    with pytest.raises(KeyboardInterrupt):
        prepare(data, WORDS, cache=tmp_path / "cache", splits=["train"], on_progress=interrupt)
    assert [process.poll() is not None for process in started] == [True, True]
    assert list((tmp_path / "cache" / "prepared").glob(".tmp-*")) == []


SCRIPT = """
import sys, time
from pathlib import Path
from seqvae.data import lines, workers
from seqvae.data.corpora import DataConfig
from seqvae.data.store import prepare
from seqvae.data.word_tokenizer import WordTokenizer

print("begun", flush=True)
workers.LARGE_CHARACTERS, lines.BLOCK_BYTES = 500, 200
begin, told = workers._Worker.begin, []

def begin_and_tell(self, *arguments):
    begin(self, *arguments)
    print("worker", self._process.pid, flush=True)

def slowly(what, count):
    time.sleep(float(sys.argv[3]))

workers._Worker.begin = begin_and_tell
made = prepare(DataConfig(test=sys.argv[1], workers=2), WordTokenizer(["ab"]), cache=Path(sys.argv[2]), splits=["test"],
               on_progress=slowly)
print("rows", len(made.splits["test"]), flush=True)
"""


def script(tmp_path, text, pause):
    """A script without a guard around what it does, begun as a program of its own."""
    (tmp_path / "script.py").write_text(SCRIPT)
    # What lies where the user works is not taken for a module of Python's.
    (tmp_path / "json.py").write_text("raise SystemExit(5)")
    environment = os.environ | {"PYTHONPATH": ROOT, "PYTHONSAFEPATH": "1"}
    command = [sys.executable, str(tmp_path / "script.py"), str(text), str(tmp_path / "cache"), str(pause)]
    return subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def test_a_script_without_a_guard_is_run_once(tmp_path, text):
    with script(tmp_path, text, 0) as program:
        said = program.communicate(timeout=100)[0].splitlines()
    assert program.returncode == 0
    assert [line.split()[0] for line in said] == ["begun", "worker", "worker", "rows"]


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_a_program_that_is_ended(tmp_path, text, number):
    with script(tmp_path, text, 1) as program:
        said = [program.stdout.readline().split() for _ in range(3)]
        os.killpg(program.pid, number)  # as a terminal does at Ctrl-C
        program.communicate(timeout=100)
    assert program.returncode == -number
    pids = [int(words[1]) for words in said[1:]]
    deadline = time.monotonic() + 60
    while any(map(_runs, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_runs, pids))
    if number == signal.SIGINT:
        assert list((tmp_path / "cache" / "prepared").glob(".tmp-*")) == []


def _runs(pid: int) -> bool:
    """Whether a process is there and no zombie (who is to bury the orphans of a container, often nobody does)."""
    if shutil.which("ps") is None:
        pytest.skip("there is no `ps` here to see processes with")
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(shown.strip()) and not shown.strip().startswith("Z")


# Reading in blocks.

raw_text = st.lists(st.sampled_from([b"a b", b"", b"\n", b"\r", b"\r\n", b"\xc3\xa9", b"\xff", b"\0", b"\xef\xbb\xbf"]))


@given(raw_text.map(b"".join), st.integers(1, 9))
def test_lines_in_blocks_are_the_lines_one_by_one(tmp_path_factory, content, size):
    path = tmp_path_factory.mktemp("blocks") / "text.txt"
    path.write_bytes(content)

    def flat():
        for first, texts in line_blocks(path, "text"):
            yield from enumerate(texts, first)

    def gathering(iterator):
        found = []
        try:
            for each in iterator:
                found.append(each)
        except SeqVAEError as error:
            return found, str(error)
        return found, None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_BYTES", size)
        assert gathering(flat()) == gathering(file_lines(path, "text"))


# Samples.


def test_a_vocabulary_is_made_from_a_sample_of_stated_size(tmp_path):
    path = tmp_path / "many.txt"
    path.write_text("".join(f"word{row}\n" for row in range(4000)))
    for config, told in [
        (WordTokenizerConfig(sample_lines=1000), "one line in 4, about 1,000, drawn over all 4,000"),
        (CharTokenizerConfig(sample_lines=1500), "one line in 4, about 1,000, drawn over all 4,000"),
        (SentencePieceTokenizerConfig(vocab_size=300, sample_lines=999), "999 lines drawn over all 4,000"),
        (WordTokenizerConfig(sample_lines=4000), None),
    ]:
        made = prepare(DataConfig(train=path), config, cache=tmp_path / "cache", splits=["train"])
        notes = [note for note in made.notes if "vocabulary was made" in note]
        assert notes == ([] if told is None else [f"the vocabulary was made from {told} (tokenizer.sample_lines)"])
        if config.name == "word" and told is not None:
            numbers = [int(word.removeprefix("word")) for word in made.tokenizer.words]
            assert abs(len(numbers) - 1000) < 150
            # Their mean is 1999.5 with a standard error of about 36.
            assert abs(np.mean(numbers) - 1999.5) < 180


def test_counting_all_lines_is_counting_and_counting_some_keeps_no_order(monkeypatch):
    texts = [f"even odd{row % 2} third{row % 3}" for row in range(6000)]
    whole = sampling.counted(texts, str.split, 6000)
    assert (whole["even"], whole["odd1"], whole["third2"]) == (6000, 3000, 2000)
    some = sampling.counted(iter(texts), str.split, 800)
    assert some == sampling.counted(texts, str.split, 800)
    assert abs(some["even"] - 750) < 130
    # Whatever comes in a rhythm of the text has its share in the sample.
    assert abs(some["odd1"] / some["even"] - 1 / 2) < 0.1
    assert abs(some["third2"] / some["even"] - 1 / 3) < 0.1


# Progress.


def test_progress_is_told_now_and_then_with_the_number_of_processes(monkeypatch):
    clock = iter([0.0, 1.0, 9.0, 12.0, 13.0, 30.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    said = []
    told = Told(said.append, workers=3)
    for what, count in [("vocabulary", 10), ("vocabulary", 20), ("vocabulary", 30), ("train", 1000), ("train", 4000)]:
        told(what, count)
    assert said == [
        "preparing vocabulary: 60 lines, 5 a second",
        "preparing train: 5,000 lines, 294 a second, by up to 3 processes",
    ]


def test_the_number_of_processes_is_no_setting_that_a_run_goes_on_with():
    from seqvae.config import Config
    from seqvae.training.resuming import changed_settings

    saved, other = (Config.from_dict({"data": {"corpus": "tiny", "workers": count}}) for count in (None, 3))
    assert changed_settings(saved, other) == []
    assert changed_settings(saved, other.replace(**{"data.batch_size": 3})) == ["data.batch_size"]
