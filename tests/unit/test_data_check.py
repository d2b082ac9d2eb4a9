"""Promises of the check: one pass tells all that is odd, by line, whatever is wrong with the file."""

import gzip

import pytest

from seqvae.data.check import Finding, check, failures
from seqvae.data.corpora import DataConfig, resolve
from seqvae.data.labels import MOST_CLASSES
from seqvae.data.scan import digest
from seqvae.data.sources import open_source
from seqvae.data.store import MOST_TOKENS
from seqvae.data.word_tokenizer import WordTokenizerConfig


@pytest.fixture
def findings(tmp_path):
    """Checks files with these contents, the first of which is the training text."""

    def run(*contents: bytes, tokenizer=None, ending="txt", **data) -> dict[tuple[str, str], list[Finding]]:
        sources = {}
        columns = {name: data[name] for name in ("labels", "label_column") if name in data}
        for number, content in enumerate(contents):
            path = tmp_path / f"{number}.{ending}"
            path.write_bytes(content)
            sources[("train", "valid", "test")[number]] = open_source(path, **columns)
        found: dict[tuple[str, str], list[Finding]] = {}
        for finding in check(sources, tokenizer or WordTokenizerConfig(), DataConfig(**data)):
            found.setdefault((finding.split, finding.about), []).append(finding)
        return found

    return run


def text(count: int, words: str = "w{} x") -> bytes:
    return "".join(words.format(number) + "\n" for number in range(count)).encode()


def statuses(found) -> dict[tuple[str, str], list[str]]:
    return {key: [finding.status for finding in each] for key, each in found.items()}


def test_a_good_text_is_ok_throughout(findings):
    found = findings(text(200), text(20))
    told = statuses(found)
    told.pop(("valid", "also in train"))
    assert {status for each in told.values() for status in each} == {"ok"}
    assert [about for split, about in found if split == "train"] == [
        "encoding",
        "line ends",
        "blank lines",
        "sentences",
        "length",
        "unknown",
        "repeated",
    ]
    assert failures(finding for each in found.values() for finding in each) == 0


def test_every_bad_line_is_counted_and_the_first_are_named(findings):
    lines = [b"fine text"] * 40
    for row in (3, 7, 8, 20, 21, 30, 31):
        lines[row] = b"caf\xe9"
    lines[10] = b"a\0b"
    lines[12] = b"a\rb"
    lines[13] = "a\u2028b".encode()
    lines[14:16] = [b"", b" \t"]
    found = findings(b"\xef\xbb\xbf" + b"\r\n".join(lines))
    kinds = {f.values["kind"]: f for each in found.values() for f in each if "kind" in f.values}
    assert {kind: finding.values["count"] for kind, finding in kinds.items()} == {
        "utf8": 7,
        "nul": 1,
        "bom": 1,
        "crlf": 39,
        "cr": 1,
        "separator": 1,
        "blank": 2,
    }
    assert kinds["utf8"].values["first"] == [4, 8, 9, 21, 22]
    assert kinds["utf8"].lines == ("lines 4, 8, 9, 21, 22, ...",)
    assert {kind for kind, finding in kinds.items() if finding.status == "failed"} == {"utf8", "nul"}
    (sentences,) = found["train", "sentences"]
    assert sentences.values["rows"] == 40 - 7 - 1 - 2, "what can be read is looked at all the same"


def test_bad_lines_are_told_too_where_a_part_is_held_out(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a b\n" * 30 + b"\xff\n\n" + b"c d\n" * 30)
    sources = resolve(DataConfig(train=tmp_path / "a.txt", valid_fraction=0.2))
    found = list(check(sources, WordTokenizerConfig(), DataConfig()))
    told = [(finding.split, finding.values["count"]) for finding in found if finding.values.get("kind") == "utf8"]
    assert told == [("train", 1)]
    rows = {finding.split: finding.values["rows"] for finding in found if finding.about == "sentences"}
    assert rows == {"train": 48, "valid": 12}


def test_a_few_blank_lines_are_ok_and_many_a_warning(findings):
    assert findings(text(200) + b"\n" * 5)["train", "blank lines"][0].status == "ok"
    assert findings(text(200) + b"\n" * 50)["train", "blank lines"][0].status == "warning"


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_a_file_without_sentences_fails_with_one_finding_on_it(findings, content):
    found = findings(content)
    assert [finding.status for each in found.values() for finding in each].count("failed") == 1
    assert found["train", "reading"][0].values["code"] == "E302"


def test_what_cannot_be_read_is_a_finding(findings, tmp_path):
    damaged = findings(gzip.compress(text(3000))[:-20])
    assert damaged["train", "reading"][0].values["code"] == "E306"
    sources = {"train": open_source(tmp_path / "no.txt")}
    (finding,) = check(sources, WordTokenizerConfig(), DataConfig())
    assert (finding.status, finding.values["code"]) == ("failed", "E301")
    table = findings(b'{"text": "a"}\n{"text": 3}\n', ending="jsonl")
    assert table["train", "reading"][0].values["code"] == "E321"
    assert "0.jsonl:2" in table["train", "reading"][0].text


def test_the_histogram_counts_every_sentence(findings):
    lengths = [number % 37 + 1 for number in range(740)] + [900, 950]
    (finding,) = findings("".join("w " * length + "\n" for length in lengths).encode())["train", "length"]
    counts = [int(line.rsplit(maxsplit=1)[1].replace(",", "")) for line in finding.lines]
    assert sum(counts) == len(lengths)
    assert counts[-1] == 2
    assert finding.lines[-1].lstrip().startswith("over ")
    assert (finding.values["longest"], finding.values["median"]) == (950, 19)
    assert finding.status == "ok"
    widest = max(finding.lines, key=lambda line: line.count("#"))
    assert widest.count("#") == 40


@pytest.mark.parametrize(
    ("data", "status", "too_long"),
    [
        ({"max_length": 9}, "ok", 0),
        ({"max_length": 5}, "ok", 10),
        ({"max_length": 2}, "failed", 200),
        ({"max_length": 2, "too_long": "truncate"}, "warning", 200),
        ({"max_length": 5, "too_long": "error"}, "failed", 10),
    ],
)
def test_what_is_too_long_is_counted_and_judged_by_what_is_done_with_it(findings, data, status, too_long):
    content = text(190, "w{} x y") + text(10, "w{} 2 3 4 5 6 7")
    (finding,) = findings(content, **data)["train", "length"]
    assert (finding.status, finding.values["too_long"]) == (status, too_long)


def test_a_very_long_line_is_a_warning_that_says_what_to_set(findings):
    (finding,) = findings(text(200) + b"w " * 5000)["train", "length"]
    assert finding.status == "warning"
    assert "data.max_length=2" in finding.hint


def test_a_line_that_training_refuses_fails(findings):
    content = text(200) + b"w " * (MOST_TOKENS + 1)
    (finding,) = findings(content)["train", "length"]
    assert (finding.status, "data.max_length=2" in finding.hint) == ("failed", True)
    assert findings(content, max_length=9)["train", "length"][0].status == "ok"


def test_text_without_spaces_is_told_to_take_other_tokens(findings):
    (finding,) = findings("今天天氣很好\n我們走吧\n再見\n".encode())["train", "length"]
    assert finding.status == "warning"
    assert "tokenizer.name=char" in finding.hint


def test_unknown_words_are_measured_with_the_vocabulary_of_the_first_text(findings):
    found = findings(text(200, "a b c"), text(100, "a b c") + text(30, "x y z"), text(9, "x y z"))
    rates = [found[split, "unknown"][0].values["unknown_rate"] for split in ("train", "valid", "test")]
    assert rates == [0, pytest.approx(30 / 130), 1]
    assert [found[split, "unknown"][0].status for split in ("train", "valid", "test")] == ["ok", "warning", "warning"]
    assert findings(text(200, "a b c"), text(9, "x y z"))["valid", "unknown"][0].status == "failed"


def test_repeated_and_shared_sentences_are_measured(findings):
    found = findings(text(100) + text(50), text(10) + text(90, "v{} y"))
    (repeated,) = found["train", "repeated"]
    assert (repeated.values["distinct"], repeated.status) == (100, "warning")
    assert repeated.values["repeated_rate"] == pytest.approx(1 / 3)
    (shared,) = found["valid", "also in train"]
    assert (shared.values["shared_rate"], shared.status) == (pytest.approx(0.1), "warning")
    assert "all sentences are alike" in findings(b"the same\n" * 9)["train", "repeated"][0].text


def test_labels_are_counted_and_a_foreign_one_fails(findings, tmp_path):
    (tmp_path / "0.labels").write_text("a\n" * 150 + "b\n" * 49 + "c\n")
    (tmp_path / "1.labels").write_text("a\n" * 19 + "d\n")
    found = findings(text(200), text(20), labels=True)
    (train,), (valid,) = found["train", "labels"], found["valid", "labels"]
    assert train.values["labels"] == {"a": 150, "b": 49, "c": 1}
    assert train.status == "warning", "a class has one sentence"
    assert valid.status == "failed"
    assert "'d' in line 20" in valid.text
    (tmp_path / "0.labels").write_text("a\n" * 200)
    assert findings(text(200), labels=True)["train", "labels"][0].status == "warning"


def test_labels_that_are_no_classes_fail_and_are_not_all_kept(findings, tmp_path):
    (tmp_path / "0.labels").write_text("".join(f"{number}\n" for number in range(MOST_CLASSES + 50)))
    (finding,) = findings(text(MOST_CLASSES + 50, "x"), labels=True)["train", "labels"]
    assert (finding.status, finding.values) == ("failed", {})
    assert "more than 10,000" in finding.text


def test_labels_that_are_not_parallel_fail(findings, tmp_path):
    (tmp_path / "0.labels").write_text("a\n" * 3)
    assert findings(text(200), labels=True)["train", "reading"][0].values["code"] == "E324"


def test_memory_is_eight_bytes_a_sentence(findings):
    """The sentences themselves are not kept, nor are digests as objects: with room for a set's own growth."""
    import tracemalloc

    def peak(sentences: int) -> int:
        content = text(sentences, "{} " + "w" * 40)
        tracemalloc.start()
        try:
            findings(content, tokenizer=WordTokenizerConfig(min_freq=2, max_size=50))
            return tracemalloc.get_traced_memory()[1] - len(content)
        finally:
            tracemalloc.stop()

    peak(100)
    few, many = peak(1_000), peak(41_000)
    assert (many - few) / 40_000 < 150


def test_digests_tell_texts_apart():
    assert len({digest(str(number)) for number in range(20_000)}) == 20_000
    assert digest("é") == digest("\u00e9") != digest("e")
