"""Promises of reading text: the lines are exactly those of the file, and an error names file, line and column."""

import gzip
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqvae.data.corpora import DataConfig
from seqvae.data.lines import is_blank
from seqvae.data.sources import TextSource
from seqvae.data.store import prepare
from seqvae.data.word_tokenizer import WordTokenizer, WordTokenizerConfig
from seqvae.errors import SeqVAEError


@pytest.fixture
def write(tmp_path):
    def make(content: bytes, name: str = "some.txt") -> TextSource:
        (tmp_path / name).write_bytes(content)
        return TextSource.of(tmp_path / name)

    return make


def failure(source: TextSource) -> SeqVAEError:
    with pytest.raises(SeqVAEError) as caught:
        list(source.lines())
    return caught.value


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"a b\nc\n", ["a b", "c"]),
        (b"a b\nc", ["a b", "c"]),
        (b"one", ["one"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\rb\nc\n", ["a\rb", "c"]),
        (b"a\r\r\nb", ["a\r", "b"]),
        ("a\u2028b\x0b\x0c\x85c\nd".encode(), ["a\u2028b\x0b\x0c\x85c", "d"]),
        (b"\xef\xbb\xbfa\nb", ["a", "b"]),
        (b"a\n\xef\xbb\xbfb", ["a", "\ufeffb"]),
        (b" a \n", [" a "]),
    ],
)
def test_only_a_line_feed_ends_a_line(write, content, lines):
    assert list(write(content).lines()) == list(enumerate(lines, 1))
    packed = write(gzip.compress(content), "some.txt.gz")
    assert list(packed.lines()) == list(enumerate(lines, 1))


@given(lines=st.lists(st.text().filter(lambda line: not {"\n", "\0"} & set(line) and line[-1:] != "\r"), min_size=1))
def test_any_text_is_read_back_line_by_line(tmp_path_factory, lines):
    lines[0] = "a" + lines[0].lstrip("\ufeff")
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes("".join(line + "\n" for line in lines).encode())
    assert [text for _, text in TextSource.of(path).lines()] == lines


def test_gzip_is_known_by_its_content_not_its_name(write):
    assert list(write(gzip.compress(b"a\n"), "a.txt").lines()) == [(1, "a")]
    assert list(write(b"a\n", "a.gz").lines()) == [(1, "a")]


def test_blank_lines_keep_the_numbers_of_the_file(write):
    numbered = list(write(b"\na\n \t\n\nb\n").lines())
    assert [(number, text) for number, text in numbered if not is_blank(text)] == [(2, "a"), (5, "b")]
    assert len(numbered) == 5


@pytest.mark.parametrize("text", ["", " ", "\t\u2028", "\x1c", "a", "\u200b", " a"])
def test_a_blank_line_is_one_without_words(text):
    assert is_blank(text) == (text.split() == [])


@pytest.mark.parametrize(
    ("content", "line", "column", "said"),
    [
        (b"fine\ncaf\xe9 au lait\n", 2, 4, "0xE9"),
        ("été ".encode() + b"\xff", 1, 7, "0xFF"),
        (b"\xef\xbb\xbf\xff", 1, 4, "0xFF"),
        (b"a\n\n\xc3", 3, 1, "0xC3"),
        ("a\n".encode("utf-16"), 1, 1, "iconv -f utf-16"),
    ],
)
def test_bytes_that_are_not_utf8_are_named_by_line_and_byte(write, content, line, column, said):
    error = failure(write(content))
    assert error.code == "E303"
    assert said in str(error)
    assert "iconv" in error.hint
    assert (error.where.line, error.where.column) == (line, column)
    assert f"some.txt:{line}:{column}" in str(error)


def test_a_nul_byte_is_named_by_line_and_byte(write):
    error = failure(write(b"a\nb\0c\n"))
    assert (error.code, error.where.line, error.where.column) == ("E304", 2, 2)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b" \n\t\n", b"\xef\xbb\xbf", gzip.compress(b"", mtime=0), gzip.compress(b"\n", mtime=0)]
)
def test_a_file_without_sentences_is_refused(write, content):
    assert failure(write(content)).code == "E302"
    assert failure(write(content).split(0.3)[1]).code == "E302"


def test_a_missing_file_is_named_with_the_nearest(write, tmp_path):
    write(b"a", "train.txt")
    error = failure(TextSource.of(tmp_path / "trian.txt"))
    assert error.code == "E301"
    assert "did you mean" in error.hint
    assert "train.txt" in error.hint
    error = failure(TextSource.of("nowhere/of/mine.txt"))
    assert "there is no folder nowhere/of; relative paths start at" in error.hint
    with pytest.raises(SeqVAEError) as caught:
        TextSource.of(tmp_path / "trian.txt").identity()
    assert caught.value.code == "E301"


def test_a_folder_is_not_read(tmp_path):
    error = failure(TextSource.of(tmp_path))
    assert error.code == "E305"
    assert "a folder" in error.what


@pytest.mark.parametrize("name", ["\ud800", "a\0b"])
def test_a_name_that_no_file_can_have_is_refused(name):
    error = failure(TextSource.of(name))
    assert error.code == "E305"
    assert "no file can have this name" in error.what


@pytest.mark.parametrize("keep", [15, -9])
def test_a_damaged_gzip_file_is_named(write, keep):
    whole = gzip.compress(b"".join(b"line %d\n" % number for number in range(500)))
    assert failure(write(whole[:keep], "a.gz")).code == "E306"
    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 0xFF
    assert failure(write(bytes(broken), "a.gz")).code in ("E306", "E303", "E304")


def test_the_fingerprint_is_that_of_the_bytes(write):
    assert write(b"a\r\nb").sha256 == hashlib.sha256(b"a\r\nb").hexdigest()


@pytest.mark.parametrize("rows", [2, 3, 7, 400])
@pytest.mark.parametrize("fraction", [0.001, 0.05, 0.5])
def test_the_two_parts_of_a_split_share_out_the_rows(write, rows, fraction):
    source = write(b"".join(b"%d\n\n" % row for row in range(rows)))
    kept, held = ([pair for pair in part.lines() if pair[1]] for part in source.split(fraction))
    assert sorted(kept + held) == [(2 * row + 1, str(row)) for row in range(rows)]
    assert len(held) == min(max(1, round(fraction * rows)), rows - 1)
    again = [pair for pair in source.split(fraction)[1].lines() if pair[1]]
    assert again == held


def test_held_out_rows_are_spread_over_the_file(write):
    source = write(b"".join(b"%d\n" % row for row in range(1000)))
    held = [int(text) for _, text in source.split(0.1)[1].lines()]
    assert 350 < sum(held) / len(held) < 650
    assert held != list(range(held[0], held[0] + len(held)))


def test_one_sentence_cannot_be_shared_out(write):
    error = failure(write(b"\nalone\n").split(0.5)[0])
    assert error.code == "E307"
    assert "data.valid" in error.hint


@pytest.mark.parametrize("data", [{"valid_fraction": 0.5}, {"valid_fraction": 0.5, "labels": True}])
def test_a_text_that_is_written_to_while_it_is_read_is_refused_and_nothing_of_it_is_kept(tmp_path, monkeypatch, data):
    """Else tokens of the new text would be kept under the name of the old one."""
    path, label_path = tmp_path / "growing.txt", tmp_path / "growing.labels"
    path.write_text("a b\nb c\n")
    label_path.write_text("x\nx\n")
    train = WordTokenizer.train.__func__

    def write_meanwhile(cls, lines, config):
        made = train(cls, lines, config)
        with (label_path if "labels" in data else path).open("a") as file:
            file.write("x\n")
        return made

    monkeypatch.setattr(WordTokenizer, "train", classmethod(write_meanwhile))
    with pytest.raises(SeqVAEError) as caught:
        prepare(DataConfig(train=path, **data), WordTokenizerConfig(), cache=tmp_path / "cache")
    assert caught.value.code == "E328"
    assert list((tmp_path / "cache" / "prepared").iterdir()) == []


def test_lines_that_come_after_the_rows_were_counted_are_no_crash(write):
    kept, _ = write(b"a\nb\n").split(0.5)
    assert len(list(kept.lines())) == 1
    with kept.path.open("ab") as file:
        file.write(b"c\n" * 9)
    assert failure(kept).code == "E328"
