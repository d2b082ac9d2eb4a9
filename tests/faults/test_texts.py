"""Text that is not as it should be: refused with its place before there is a run, or read exactly as it stands."""

import subprocess
import sys
from pathlib import Path

import pytest

import seqvae

PLAIN = b"the cat saw a dog\nshe ate\nmy friend liked some tea\n"
FEW = ("--set", "train.epochs=1", "--set", "data.valid=valid.txt", "--set", "data.test=null")


def train(desk, text: bytes, *settings: str, out: str = "run"):
    Path("mine.txt").write_bytes(text)
    return desk("train", "--config", "small.yaml", "--set", "data.train=mine.txt", *FEW, *settings, "--out", out)


@pytest.mark.parametrize(
    ("text", "place", "code"),
    [
        ("fine\nun café\n".encode("latin1"), "mine.txt:2:7", "E303"),
        ("fine\n".encode("utf-16"), "mine.txt:1:1", "E303"),
        (b"\xef\xbb\xbffine\r\n\r\nhalf \xed\xa0\x80 of a pair\r\n", "mine.txt:3:6", "E303"),
        (b"fine\na\0b\n", "mine.txt:2:2", "E304"),
    ],
)
def test_what_is_no_text_is_refused_with_its_file_line_and_column(desk, tmp_path, text, place, code):
    result = train(desk, text)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith(f"error[{code}]: ")
    assert f"\n  --> {tmp_path / place}\nhelp: " in result.stderr
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("other", "noted"),
    [
        (b"\xef\xbb\xbf" + PLAIN, ""),
        (PLAIN.replace(b"\n", b"\r\n"), ""),
        (PLAIN.removesuffix(b"\n"), ""),
        (b"\n" + PLAIN.replace(b"\n", b"\n \t \n", 1), "train: 2 blank lines dropped"),
    ],
    ids=["byte order mark", "CRLF", "no end of the last line", "blank lines"],
)
def test_marks_line_ends_and_blank_lines_change_nothing(desk, other, noted):
    for name, text in (("run", PLAIN), ("other", other)):
        result = train(desk, text, out=name)
        assert result.exit_code == 0, result.stderr
        assert "train 3 " in result.stderr
    assert noted in result.stderr
    plain, same = (Path(name, "model/model.safetensors").read_bytes() for name in ("run", "other"))
    assert plain == same


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\r", "\x1c"])
def test_only_a_line_feed_ends_a_sentence(desk, mark):
    result = train(desk, f"the cat{mark}saw\nshe ate\n".encode())
    assert result.exit_code == 0, result.stderr
    assert "train 2 " in result.stderr
    assert len(desk("score", "--model", "run", "--input", "mine.txt").stdout.split("\n")) == 3


@pytest.mark.parametrize(
    ("policy", "code", "told"),
    [
        ("drop", 0, "train: 1 sentence longer than 9 tokens dropped"),
        ("truncate", 0, "train: 1 sentence longer than 9 tokens truncated"),
        ("error", 3, "mine.txt:4"),
        (None, 3, "mine.txt:4"),
    ],
)
def test_a_line_of_ten_megabytes_is_dropped_cut_or_refused_by_its_number(desk, policy, code, told):
    settings = () if policy is None else ("--set", "data.max_length=9", "--set", f"data.too_long={policy}")
    result = train(desk, PLAIN + b"word " * 2_000_000 + b"\n", *settings)
    assert result.exit_code == code
    assert told in result.stderr
    assert Path("run").exists() == (code == 0)


PREPARE = """
import resource
from seqvae import Config
from seqvae.data.store import prepare
for name in "train.txt", "long.txt":
    config = Config.from_yaml("small.yaml", ["data.train=" + name, "data.max_length=9", "data.workers=1"])
    prepare(config.data, config.tokenizer)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is that of Linux")
def test_a_line_of_ten_megabytes_takes_memory_in_proportion_to_it(desk):
    Path("long.txt").write_bytes(PLAIN + b"word " * 2_000_000 + b"\n")
    environment = {"PYTHONPATH": str(Path(seqvae.__file__).parent.parent), "SEQVAE_CACHE": "cache"}
    command = [sys.executable, "-c", PREPARE]
    told = subprocess.run(command, env=environment, capture_output=True, check=True).stdout
    plain, long = map(int, told.split())
    assert long - plain < 30 * 10


def test_a_special_that_is_written_in_a_text_is_a_word_like_any_other(desk):
    text = b"<pad> cat <s> </s>\n<unk> <bos> <eos> cat\ncat cat\n"
    assert train(desk, text, "--set", "data.valid=mine.txt").exit_code == 0
    tokenizer = seqvae.load("run").tokenizer
    words = ["<pad>", "<s>", "</s>", "<unk>", "<bos>", "<eos>", "cat"]
    ids = [tokenizer.encode(word) for word in words]
    assert len({tuple(each) for each in ids}) == len(words)
    assert all(len(each) == 1 and each[0] > 3 for each in ids), "the first four are the specials"
    scored = desk("score", "--model", "run", "--input", "mine.txt").stdout.splitlines()
    assert [line.split("\t")[2:] for line in scored] == [
        ["5", "<pad> cat <s> </s>"],
        ["5", "<unk> <bos> <eos> cat"],
        ["3", "cat cat"],
    ]


def test_words_that_no_vocabulary_has_are_measured_and_refused_where_there_are_no_others(desk):
    Path("other.txt").write_text("ganz andere worte\n", encoding="utf-8")
    some = train(desk, PLAIN, out="some")
    assert some.exit_code == 0
    assert "% of the tokens are unknown words" in some.stderr
    none = train(desk, PLAIN, "--set", "data.valid=other.txt")
    assert (none.exit_code, Path("run").exists()) == (3, False)
    assert none.stderr.startswith("error[E313]: no word of the valid text is in the vocabulary")
    rare = train(desk, PLAIN, "--set", "tokenizer.min_freq=1000")
    assert (rare.exit_code, Path("run").exists()) == (3, False)
    assert rare.stderr.startswith("error[E311]: the training text has no word that occurs 1000 times")


def test_what_training_and_validation_share_is_counted(desk):
    Path("a.txt").write_text("".join(f"w{n} x\n" for n in range(40)), encoding="utf-8")
    Path("b.txt").write_text("".join(f"w{n} x\n" for n in range(30, 50)), encoding="utf-8")
    result = desk("data", "check", "a.txt", "b.txt")
    assert result.exit_code == 0
    assert "warning  also in a.txt 50.0% of the sentences" in result.stdout
