"""Files of codes: what is written comes back bit by bit, whole or not at all; what is wrong in one is named."""

import json
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seqvae.errors import SeqVAEError
from seqvae.io import codes

LATENT = 3
TEXTS = ["the cat", "", "a\ttab, “quotes” and \\", "日本語 🙂", "one\u2028line"]


def some_codes(rows=5, seed=0, latent=LATENT) -> tuple[np.ndarray, np.ndarray]:
    """Of every size that fp32 has: the shortest decimals are hard to get right at the edges."""
    random = np.random.default_rng(seed)
    bits = random.integers(0, 0x7F800000, size=(2, rows, latent), dtype=np.uint32)
    signs = random.choice([-1.0, 1.0], size=(rows, latent)).astype(np.float32)
    mean, std = bits.view(np.float32)
    return mean * signs, std


def written(path, mean, std, texts=TEXTS, pieces=2):
    with codes.writing(path) as writer:
        for rows in np.array_split(np.arange(len(mean)), pieces):
            writer.write([texts[row] for row in rows], mean[rows], None if std is None else std[rows])
    return path


def read(path, **settings) -> np.ndarray:
    return np.concatenate([np.zeros((0, LATENT), np.float32), *codes.read_means(path, LATENT, **settings)])


def refused(code, path) -> SeqVAEError:
    with pytest.raises(SeqVAEError) as caught:
        read(path)
    assert caught.value.code == code
    return caught.value


def of_lines(*lines) -> np.ndarray:
    return np.concatenate(list(codes.means_of_lines(enumerate(lines, 1), "a pipe", LATENT)))


def npz(path, content=b"", name="mean.npy", **arrays):
    if arrays:
        np.savez(path, **arrays)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, content)
    return path


class TestWriting:
    @pytest.mark.parametrize("suffix", codes.SUFFIXES)
    @pytest.mark.parametrize("with_std", [True, False])
    @pytest.mark.parametrize("pieces", [1, 4])
    def test_every_bit_comes_back(self, tmp_path, suffix, with_std, pieces):
        mean, std = some_codes()
        path = written(tmp_path / f"z{suffix}", mean, std if with_std else None, pieces=pieces)
        assert read(path).tobytes() == mean.tobytes()
        assert read(path, rows=2).tobytes() == mean.tobytes()
        assert [entry.name for entry in tmp_path.iterdir()] == [path.name]

    def test_numbers_in_json_are_short_and_exact(self, tmp_path):
        mean, std = some_codes(rows=4000)
        path = written(tmp_path / "z.jsonl", mean, std, texts=["x"] * 4000)
        assert read(path).tobytes() == mean.tobytes()
        path = written(tmp_path / "short.jsonl", np.float32([[0.1, -2.5, 3]]), None, pieces=1)
        assert json.loads(path.read_text()) == {"text": "the cat", "mean": [0.1, -2.5, 3.0]}

    def test_text_is_kept_where_the_format_has_text(self, tmp_path):
        mean, std = some_codes()
        lines = written(tmp_path / "z.jsonl", mean, std).read_text(encoding="utf-8").split("\n")
        assert [json.loads(line)["text"] for line in lines[:-1]] == TEXTS
        table = pq.read_table(written(tmp_path / "z.parquet", mean, std))
        assert table.column_names == ["text", "mean", "std"]
        assert table["text"].to_pylist() == TEXTS
        np.testing.assert_array_equal(np.stack(table["std"].to_numpy()), std)

    def test_numpy_alone_reads_an_npz(self, tmp_path):
        mean, std = some_codes()
        with np.load(written(tmp_path / "z.npz", mean, std), allow_pickle=False) as archive:
            assert sorted(archive) == ["mean", "std"]
            assert archive["mean"].tobytes() == mean.tobytes()
            assert archive["std"].tobytes() == std.tobytes()

    @pytest.mark.parametrize("suffix", codes.SUFFIXES)
    def test_no_codes_are_a_file_without_rows(self, tmp_path, suffix):
        path = written(tmp_path / f"z{suffix}", np.zeros((0, LATENT), np.float32), None, pieces=1)
        assert len(read(path)) == 0

    @pytest.mark.parametrize("suffix", codes.SUFFIXES)
    def test_what_fails_half_way_leaves_the_old_file(self, tmp_path, suffix):
        path = written(tmp_path / f"z{suffix}", *some_codes())
        before = path.read_bytes()

        def interrupted():
            with codes.writing(path) as writer:
                writer.write(TEXTS, *some_codes(seed=1))
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")
    def test_ctrl_c_is_heard_whenever_it_comes(self):
        """NumPy, where it turns an array of text into numbers, clears what a signal raises meanwhile."""
        mean, _ = some_codes(rows=len(TEXTS), latent=64)

        def make_rows(after_us):
            signal.setitimer(signal.ITIMER_REAL, after_us / 1e6)
            for _ in range(1_000):
                list(codes.json_rows(TEXTS, mean, None))

        former = signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            for after_us in range(100, 2_000, 20):
                with pytest.raises(KeyboardInterrupt):
                    make_rows(after_us)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, former)

    @pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
    def test_half_a_surrogate_pair_is_refused(self, tmp_path, suffix):
        with pytest.raises(SeqVAEError) as caught:
            written(tmp_path / f"z{suffix}", *some_codes(1), texts=["a \udc80 b"], pieces=1)
        assert caught.value.code == "E345"
        assert r"\udc80" in caught.value.what
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["z", "z.npy", "z.npz.gz", ".npz"])
    def test_another_suffix_is_refused(self, tmp_path, name):
        for call in (lambda path: codes.writing(path).__enter__(), lambda path: codes.read_means(path, LATENT)):
            with pytest.raises(SeqVAEError) as caught:
                call(tmp_path / name)
            assert caught.value.code == "E249"

    def test_memory_does_not_grow_with_the_rows(self, tmp_path):
        """Twenty times the rows in less than half the memory that they would take."""
        code = f"""
import resource, sys
import numpy as np
from pathlib import Path
from seqvae.io import codes
piece = np.ones((4096, 64), np.float32)
texts = ["a sentence"] * len(piece)
for suffix in codes.SUFFIXES[:2]:
    path = Path({str(tmp_path)!r}, "z" + suffix)
    def fill(pieces):
        with codes.writing(path) as writer:
            for _ in range(pieces):
                writer.write(texts, piece, piece)
        assert sum(map(len, codes.read_means(path, 64))) == pieces * len(piece)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    small, large = fill(2), fill(40)
    assert large - small < 40 * 2 * piece.nbytes / 2, (suffix, small, large)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


class TestForeignFiles:
    """`mean` is enough, of whatever kind of number."""

    @pytest.mark.parametrize("dtype", ["<f8", ">f4", "<f2", "<i8", "u1"])
    def test_npz_of_any_numbers(self, tmp_path, dtype):
        mean = np.arange(6).reshape(2, LATENT).astype(dtype)
        for name, save in {"plain": np.savez, "packed": np.savez_compressed}.items():
            save(tmp_path / f"{name}.npz", mean=mean, other=np.array(["a"]))
            np.testing.assert_array_equal(read(tmp_path / f"{name}.npz"), mean.astype(np.float32))

    def test_npz_that_lies_by_columns(self, tmp_path):
        mean = np.asfortranarray(np.arange(15.0).reshape(5, LATENT))
        np.testing.assert_array_equal(read(npz(tmp_path / "z.npz", mean=mean), rows=2), mean)

    @pytest.mark.parametrize(
        "kind", [pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.int32()), pa.list_(pa.float32(), 3)]
    )
    def test_parquet_of_any_list_of_numbers(self, tmp_path, kind):
        mean = [[1, 2, 3], [4, 5, 6]]
        pq.write_table(pa.table({"id": [7, 8], "mean": pa.array(mean, kind)}), tmp_path / "z.parquet")
        np.testing.assert_array_equal(read(tmp_path / "z.parquet"), mean)

    def test_json_lines_from_a_pipe_with_blank_ones(self):
        found = of_lines('{"mean": [1, 2, 3]}', "", '{"id": 5, "mean": [-1e-3, 0, 4.5]}')
        np.testing.assert_array_equal(found, np.float32([[1, 2, 3], [-1e-3, 0, 4.5]]))


class TestFaults:
    def test_a_missing_file_and_a_folder(self, tmp_path):
        (tmp_path / "folder.npz").mkdir()
        (tmp_path / "codes.npz").touch()
        assert "codes.npz" in refused("E301", tmp_path / "code.npz").hint
        refused("E305", tmp_path / "folder.npz")

    @pytest.mark.parametrize("suffix", codes.SUFFIXES)
    def test_no_byte_that_changes_or_goes_brings_another_error(self, tmp_path, suffix):
        """Either the codes are read, or the mistake is one that is told."""
        whole = written(tmp_path / f"z{suffix}", *some_codes()).read_bytes()
        random, told = np.random.default_rng(0), []
        for number in range(150):
            content = bytearray(whole)
            if number % 3:
                content[random.integers(len(content))] = random.integers(256)
            else:
                del content[random.integers(len(content)) :]
            path = tmp_path / f"changed{suffix}"
            path.write_bytes(content)
            try:
                read(path)
            except SeqVAEError as error:
                told.append(error)
        assert len(told) > 20
        assert {error.code for error in told} <= {"E303", "E304", "E306", "E341", "E342", "E343", "E344"}
        assert all(str(path) in str(error.where) for error in told)

    @pytest.mark.parametrize("suffix", codes.SUFFIXES)
    def test_another_kind_of_file(self, tmp_path, suffix):
        (tmp_path / f"z{suffix}").write_text("just text\n")
        refused("E341", tmp_path / f"z{suffix}")

    def test_objects_are_never_unpickled(self, tmp_path):
        mean = np.array([[1, 2, 3], [4, 5, "x"]], dtype=object)
        assert "object" in refused("E344", npz(tmp_path / "z.npz", mean=mean)).what

    @pytest.mark.parametrize(
        ("arrays", "code", "told"),
        [
            ({"std": np.zeros((2, LATENT))}, "E342", "found `std`"),
            ({"mean": np.zeros((2, 5))}, "E343", "5 dimensions do not fit a model with 3"),
            ({"mean": np.zeros(LATENT)}, "E343", "shape (3,)"),
            ({"mean": np.zeros((1, 2, LATENT))}, "E343", "shape (1, 2, 3)"),
            ({"mean": np.array([["a", "b", "c"]])}, "E344", "not numbers"),
            ({"mean": np.zeros((2, LATENT), complex)}, "E344", "not numbers"),
            ({"mean": np.float32([[1, 2, 3], [4, np.nan, 6]])}, "E344", "NaN"),
            ({"mean": np.array([[1, 2, 3], [4, 1e300, 6]])}, "E344", "too large"),
        ],
    )
    def test_npz(self, tmp_path, arrays, code, told):
        error = refused(code, npz(tmp_path / "z.npz", **arrays))
        assert told in error.what
        assert code != "E344" or "numbers" in error.what or "row 2" in error.where

    @pytest.mark.parametrize(
        "header",
        [
            b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3), }",  # more than there is
            b"{'descr': '<f4', 'fortran_order': True, 'shape': (1000000000000, 3), }",
            b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3), }",
            b"{'descr': '|V0', 'fortran_order': False, 'shape': (2, 3), }",
            b"__import__('os').abort()",
            b"(" * 9000,
            b"'" * 3,
        ],
    )
    def test_a_header_that_lies(self, tmp_path, header):
        header = header.ljust(118 if len(header) < 118 else len(header)) + b"\n"
        content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(24)
        with pytest.raises(SeqVAEError) as caught:
            read(npz(tmp_path / "z.npz", content))
        assert caught.value.code in ("E341", "E344")

    def test_an_array_that_can_only_be_read_as_a_whole_has_a_largest_size(self, tmp_path, monkeypatch):
        """A small archive may unpack to any size; row by row none of it is held."""
        monkeypatch.setattr(codes, "_MOST_BY_COLUMN", 5 * LATENT * 8 - 1)
        for order, code in (("F", "E341"), ("C", None)):
            path = npz(tmp_path / f"{order}.npz", mean=np.array(np.arange(15.0).reshape(5, LATENT), order=order))
            if code is None:
                assert len(read(path)) == 5
            else:
                assert "column by column" in refused(code, path).what

    @pytest.mark.parametrize(
        ("column", "code", "place"),
        [
            ({"std": [[1.0, 2.0, 3.0]]}, "E342", ""),
            ({"mean": [[1.0, 2.0, 3.0], None]}, "E342", "row 2"),
            ({"mean": [[1.0, 2.0, 3.0], [1.0, 2.0], [1.0]]}, "E343", "row 2"),
            ({"mean": [[1.0, 2.0, None]]}, "E344", "row 1"),
            ({"mean": [[1.0, 2.0, 3.0], [1.0, float("inf"), 3.0]]}, "E344", "row 2"),
            ({"mean": ["1 2 3"]}, "E344", ""),
            ({"mean": [["a", "b", "c"]]}, "E344", ""),
            ({"mean": [1.0]}, "E344", ""),
        ],
    )
    def test_parquet(self, tmp_path, column, code, place):
        pq.write_table(pa.table(column), tmp_path / "z.parquet")
        assert place in str(refused(code, tmp_path / "z.parquet").where)

    @pytest.mark.parametrize(
        ("line", "code"),
        [
            ("{", "E341"),
            ("[" * 100_000, "E341"),
            ('{"mean": [' + "9" * 5000 + ", 1, 2]}", "E341"),  # more digits than Python reads
            ("[1, 2, 3]", "E342"),
            ("null", "E342"),
            ('{"text": "a"}', "E342"),
            ('{"mean": null}', "E342"),
            ('{"mean": [1, 2]}', "E343"),
            ('{"mean": [1, 2, 3, 4]}', "E343"),
            ('{"mean": 5}', "E344"),
            ('{"mean": "123"}', "E344"),
            ('{"mean": [1, 2, "3"]}', "E344"),
            ('{"mean": [1, 2, true]}', "E344"),
            ('{"mean": [1, 2, null]}', "E344"),
            ('{"mean": [1, [2], 3]}', "E344"),
            ('{"mean": [1, 2, NaN]}', "E344"),
            ('{"mean": [1, 2, 1e400]}', "E344"),
            ('{"mean": [1, 2, 1e39]}', "E344"),
            ('{"mean": [1, 2, ' + "9" * 400 + "]}", "E344"),
        ],
    )
    def test_json_lines(self, line, code):
        with pytest.raises(SeqVAEError) as caught:
            of_lines('{"mean": [1, 2, 3]}', line)
        assert (caught.value.code, str(caught.value.where)) == (code, "a pipe:2")
        assert caught.value.hint
