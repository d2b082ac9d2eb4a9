"""Word vectors from files: every text format that is about, safetensors, and what is wrong with a file."""

import gzip
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from seqvae.data.vectors import read_vectors, vector_size
from seqvae.errors import Location, SeqVAEError

SIZE = 3
WORDS = {"the": 4, "cat": 5, "sat": 6, "mat": 7}
LINES = {"dog": [9.0, 9.0, 9.0], "the": [0.5, -1.25, 2.0], "sat": [1e-3, -2.5e2, 3.0]}
"""`dog` is not asked for; `cat` and `mat` are not there."""


def as_text(lines=LINES, *, end="\n", between=" ", header=None) -> bytes:
    rows = [] if header is None else [header]
    rows += [between.join([word, *map(str, vector)]) for word, vector in lines.items()]
    return "".join(row + end for row in rows).encode()


FORMS = {
    "glove": as_text(),
    "word2vec, whose lines end in a space": as_text(header="3 3", end=" \n"),
    "tabs": as_text(between="\t"),
    "windows": as_text(end="\r\n"),
    "no last line end": as_text()[:-1],
    "byte order mark": b"\xef\xbb\xbf" + as_text(),
    "uneven spaces and blank lines": as_text(between="  ", end="\n\n"),
    "gzip": gzip.compress(as_text(header="3 3")),
}


def write(path, content: bytes):
    path.write_bytes(content)
    return path


def tensors(path, words, vectors):
    """``words``: a list, or what stands in the metadata in its place."""
    listed = words if isinstance(words, str) else json.dumps(words)
    save_file({"embeddings": torch.as_tensor(vectors)}, path, metadata={"words": listed})
    return path


def check_found(found):
    assert {word: found.vectors[row].tolist() for word, row in WORDS.items() if row in found.vectors} == {
        word: pytest.approx(LINES[word]) for word in ("the", "sat")
    }
    assert {vector.dtype for vector in found.vectors.values()} == {np.dtype(np.float32)}
    assert (found.repeated, found.notes) == (0, [])


def refused(path, code, words=WORDS) -> SeqVAEError:
    with pytest.raises(SeqVAEError) as caught:
        read_vectors(path, words)
    assert caught.value.code == code, caught.value
    assert caught.value.exit_code == 3
    assert str(path) in str(caught.value)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("form", FORMS)
def test_only_the_words_asked_for_are_kept_from_any_text_format(form, tmp_path):
    path = write(tmp_path / "vectors.txt", FORMS[form])
    assert vector_size(path) == SIZE
    check_found(read_vectors(path, WORDS))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_safetensors_hold_the_words_in_their_metadata(kind, tmp_path):
    path = tensors(tmp_path / "v.safetensors", list(LINES), torch.tensor(list(LINES.values()), dtype=kind))
    assert vector_size(path) == SIZE
    check_found(read_vectors(path, WORDS))


def test_half_precision_vectors_are_read(tmp_path):
    exact = torch.tensor([[0.5, -1.25, 2.0]])
    for kind in (torch.float16, torch.bfloat16):
        found = read_vectors(tensors(tmp_path / "v.safetensors", ["the"], exact.to(kind)), WORDS)
        assert found.vectors[4].tolist() == exact[0].tolist()


def test_safetensors_of_several_blocks_are_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("seqvae.data.vectors._ROWS_AT_ONCE", 2)
    check_found(read_vectors(tensors(tmp_path / "v.safetensors", list(LINES), list(LINES.values())), WORDS))


def test_the_first_of_two_vectors_counts_and_the_other_is_counted(tmp_path):
    lines = b"the 1 2 3\ncat 4 5 6\nthe 7 8 9\ndog 1 1 1\ndog 2 2 2\nthe 0 0 0\n"
    words = [line.split()[0].decode() for line in lines.splitlines()]
    vectors = [list(map(float, line.split()[1:])) for line in lines.splitlines()]
    for path in (write(tmp_path / "v.txt", lines), tensors(tmp_path / "v.safetensors", words, vectors)):
        found = read_vectors(path, WORDS)
        assert found.vectors[4].tolist() == [1, 2, 3]
        assert found.repeated == 2


def test_a_header_that_counts_otherwise_is_told(tmp_path):
    found = read_vectors(write(tmp_path / "v.txt", as_text(header="2000 3")), WORDS)
    assert found.notes == ["the first line of v.txt speaks of 2,000 vectors; it has 3"]


def test_words_are_found_only_as_they_are_written(tmp_path):
    path = write(tmp_path / "v.txt", b"The 1 2 3\nTHE 1 2 3\ncat 4 5 6\n")
    assert set(read_vectors(path, WORDS).vectors) == {WORDS["cat"]}


def test_words_may_be_numbers_or_have_spaces_of_any_kind_in_them(tmp_path):
    lines = "2 1 2 3\n. . . 4 5 6\nat a@b.org 7 8 9\nfive\u00a0o'clock 1 1 1\n\u2028 2 2 2\n"
    words = {"2": 4, ". . .": 5, "at a@b.org": 6, "five\u00a0o'clock": 7, "\u2028": 8}
    found = read_vectors(write(tmp_path / "v.txt", lines.encode()), words)
    assert {row: vector[0] for row, vector in found.vectors.items()} == {4: 1, 5: 4, 6: 7, 7: 1, 8: 2}


@pytest.mark.parametrize(
    ("line", "count"), [("cat 1 2", 2), ("cat 1 2 3 4", 4), ("unasked 1 2", 2), ("unasked 1 2 3 4", 4), ("alone", 0)]
)
def test_a_line_with_another_count_of_numbers_is_named_wherever_it_stands(line, count, tmp_path):
    path = write(tmp_path / "v.txt", f"the 1 2 3\n{line}\nsat 4 5 6\n".encode())
    error = refused(path, "E331")
    assert error.what == f"{count} numbers; the vectors of this file have 3"
    assert (error.where.line, error.where.text) == (2, line)


@pytest.mark.parametrize("value", ["x", "nan", "inf", "1e60", "1,5", "--"])
def test_what_is_no_finite_number_is_named(value, tmp_path):
    path = write(tmp_path / "v.txt", f"the 1 2 3\ncat 4 {value} 6\n".encode())
    error = refused(path, "E332")
    assert "'cat'" in error.what
    assert error.where.line == 2
    path = tensors(tmp_path / "v.safetensors", ["the", "cat"], [[1.0, 2, 3], [1, float("nan"), 2]])
    assert "'cat' (row 1 of `embeddings`)" in refused(path, "E332").what


def test_a_file_with_none_of_the_words_is_an_error(tmp_path):
    path = write(tmp_path / "v.txt", b"Le 1 2 3\nchat 4 5 6\n")
    assert "('the', 'cat', 'sat', ...)" in refused(path, "E333").what


@pytest.mark.parametrize("content", [b"", b"\n\n", b"only words here\n", b"the\n", b"5 0\n", b'{"the": [1, 2]}\n'])
def test_a_file_of_something_else_is_said_to_have_no_vectors(content, tmp_path):
    refused(write(tmp_path / "v.txt", content), "E334")


def test_a_binary_file_is_told_with_the_line_and_what_to_give_instead(tmp_path):
    for content, code in ((np.float32([1, -2, 3]).tobytes(), "E303"), (b"\0\0\0", "E304")):
        error = refused(write(tmp_path / "v.bin", b"2 3\nthe " + content), code)
        assert error.where.line == 2
        assert "binary word2vec or fastText" in error.hint


def test_what_cannot_be_read_is_told_as_for_any_file(tmp_path):
    for name in ("v.txt", "v.safetensors"):
        refused(tmp_path / name, "E301")
    packed = gzip.compress(as_text() * 500)
    refused(write(tmp_path / "v.gz", packed[: len(packed) // 2]), "E306")


class TestDamagedSafetensors:
    def test_no_safetensors(self, tmp_path):
        refused(write(tmp_path / "v.safetensors", b"the 1 2 3\n"), "E334")

    def test_no_such_tensor(self, tmp_path):
        save_file({"weights": torch.zeros(2, 3)}, tmp_path / "v.safetensors")
        assert "no tensor `embeddings`; there is weights" in refused(tmp_path / "v.safetensors", "E334").what

    @pytest.mark.parametrize("tensor", [torch.zeros(6), torch.zeros(2, 0), torch.zeros(2, 3, dtype=torch.long)])
    def test_no_matrix_of_numbers(self, tensor, tmp_path):
        refused(tensors(tmp_path / "v.safetensors", ["the", "cat"], tensor), "E334")

    @pytest.mark.parametrize("words", ["null", '"the"', '["the", 5]', "[", '{"the": 0}', "[" * 100_000])
    def test_no_list_of_words(self, words, tmp_path):
        path = tensors(tmp_path / "v.safetensors", words, [[1.0, 2, 3]])
        assert "no JSON list of strings `words`" in refused(path, "E334").what

    def test_not_as_many_words_as_vectors(self, tmp_path):
        path = tensors(tmp_path / "v.safetensors", ["the"], [[1.0, 2, 3], [4, 5, 6]])
        assert refused(path, "E334").what == "1 words for 2 vectors"
        assert isinstance(refused(path, "E334").where, Location)
