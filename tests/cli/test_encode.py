"""encode, decode, score and reconstruct as a user meets them: arguments, files and pipes, one result for each line."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import seqvae
from seqvae.cli import sentences
from seqvae.textvae import evaluate

ROOT = Path(__file__).resolve().parents[2]
TEXTS = ["the cat ate some tea", "", "she saw a cake at night", "  ", "quux", "a dog liked some tea"]


def lines(result) -> list[str]:
    assert result.exit_code == 0, result.stderr
    return result.stdout.splitlines()


@pytest.fixture(scope="module")
def vae(workplace):
    return seqvae.load(workplace / "runs/vae")


@pytest.fixture
def small_pieces(monkeypatch):
    """Pieces of 2, 4, 8, 8 ... sentences, so that a short text has several."""
    monkeypatch.setattr(sentences, "_FIRST", 2)
    monkeypatch.setattr(sentences, "_AT_MOST", 8)


WAYS = {
    "arguments": lambda folder: ([*TEXTS], None),
    "stdin": lambda folder: (["-"], "\n".join(TEXTS) + "\n"),
    "a file": lambda folder: (["--input", _saved(folder / "x.txt", "\n".join(TEXTS) + "\n")], None),
    "a table": lambda folder: (
        ["--text-column", "said", "--input", _saved(folder / "x.jsonl", "".join(map(_row, TEXTS)))],
        None,
    ),
}


def _saved(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _row(text: str) -> str:
    return json.dumps({"said": text}) + "\n"


class TestLines:
    """N lines in, N lines out, in order, however the sentences come."""

    @pytest.mark.parametrize("way", WAYS)
    def test_encode(self, verb, vae, tmp_path, way, small_pieces):
        given, stdin = WAYS[way](tmp_path)
        found = [json.loads(line) for line in lines(verb("encode", *given, stdin=stdin))]
        codes = vae.encode(TEXTS)
        assert [row["text"] for row in found] == TEXTS
        np.testing.assert_allclose([row["mean"] for row in found], codes.mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose([row["std"] for row in found], codes.std, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("way", WAYS)
    def test_score(self, verb, vae, tmp_path, way, small_pieces):
        given, stdin = WAYS[way](tmp_path)
        found = [line.split("\t") for line in lines(verb("score", *given, stdin=stdin))]
        scores = vae.score(TEXTS)
        assert [text for *_, text in found] == TEXTS
        assert [int(tokens) for _, _, tokens, _ in found] == scores.tokens.tolist()
        np.testing.assert_allclose([float(row[0]) for row in found], scores.nats, atol=1e-3)
        np.testing.assert_allclose([float(row[1]) for row in found], scores.nats / scores.tokens, atol=1e-3)

    @pytest.mark.parametrize("way", WAYS)
    def test_reconstruct(self, verb, vae, tmp_path, way, small_pieces):
        given, stdin = WAYS[way](tmp_path)
        assert lines(verb("reconstruct", *given, stdin=stdin)) == vae.reconstruct(TEXTS)

    def test_a_line_break_in_an_argument_is_a_space(self, verb):
        for name in ("encode", "score", "reconstruct"):
            broken, whole = verb(name, "she saw\r\na\ncake"), verb(name, "she saw a cake")
            assert lines(broken) == lines(whole)
            assert len(lines(broken)) == 1

    def test_a_cell_with_a_line_break_is_one_line(self, verb, tmp_path):
        table = _saved(tmp_path / "x.csv", 'text\n"the cat\nate some tea"\nshe saw a cake\n')
        assert len(lines(verb("score", "--input", table))) == 2

    def test_no_lines_give_no_lines(self, verb, tmp_path):
        for name in ("encode", "score", "reconstruct"):
            assert lines(verb(name, "-", stdin="")) == []
        assert json.loads(verb("reconstruct", "--json", "-", stdin="").stdout) == []

    @pytest.mark.parametrize(("file", "text"), [("x.txt", "\n \n"), ("x.txt", ""), ("x.csv", 'text\n""\n" "\n')])
    def test_a_file_of_blank_lines_or_none_is_read_like_standard_input(self, verb, tmp_path, file, text):
        path, blank = _saved(tmp_path / file, text), "\n \n" if text else ""
        for name in ("encode", "score", "reconstruct"):
            assert lines(verb(name, "--input", path)) == lines(verb(name, "-", stdin=blank))

    def test_a_dash_among_others_is_a_sentence(self, verb):
        assert len(lines(verb("score", "-", "a", stdin="x\ny\nz\n"))) == 2

    def test_sentences_may_begin_with_a_dash(self, verb):
        for name in ("encode", "score", "reconstruct"):
            assert len(lines(verb(name, "--", "-n", "--beam"))) == 2

    @pytest.mark.parametrize("name", ["encode", "score", "reconstruct"])
    def test_a_sentence_longer_than_any_in_training(self, verb, name):
        assert len(lines(verb(name, "the cat saw " * 300, "a"))) == 2

    @pytest.mark.parametrize("name", ["encode", "score", "reconstruct", "interpolate"])
    def test_an_argument_that_is_not_utf_8_is_named(self, verb, name):
        """As Python hands on a byte that it cannot decode."""
        result = verb(name, "the cat", os.fsdecode(b"a caf\xe9"))
        assert (result.exit_code, result.stdout) == (2, "")
        assert "error[E247]: sentence 2 is not UTF-8: byte 0xE9" in result.stderr


class TestEncode:
    @pytest.mark.parametrize("suffix", [".npz", ".parquet", ".jsonl"])
    def test_a_file_of_codes_decodes_into_the_reconstructions(self, verb, vae, tmp_path, suffix, small_pieces):
        out = tmp_path / f"z{suffix}"
        result = verb("encode", "--out", out, *TEXTS)
        assert lines(result) == []
        assert result.stderr.endswith(f"codes    6 of 3 dimensions in {out}\n")
        assert lines(verb("decode", out)) == vae.reconstruct(TEXTS)
        again = out.read_bytes()
        verb("encode", "--out", out, *TEXTS)
        assert out.read_bytes() == again
        assert list(tmp_path.iterdir()) == [out]

    def test_the_file_holds_what_python_gives(self, verb, vae, tmp_path):
        verb("encode", "--out", tmp_path / "z.npz", *TEXTS)
        verb("encode", "--out", tmp_path / "z.parquet", *TEXTS)
        with np.load(tmp_path / "z.npz", allow_pickle=False) as found:
            assert np.array_equal(found["mean"], vae.encode(TEXTS).mean)
            assert np.array_equal(found["std"], vae.encode(TEXTS).std)
        assert pq.read_table(tmp_path / "z.parquet")["text"].to_pylist() == TEXTS

    def test_what_goes_wrong_half_way_leaves_the_old_file(self, verb, tmp_path, small_pieces):
        out = _saved(tmp_path / "z.npz", "as it was")
        result = verb("encode", "-", "--out", out, stdin=b"the cat\n" * 9 + b"\xff\n")
        assert result.exit_code == 3
        assert "standard input:10:1" in result.stderr
        assert out.read_text() == "as it was"
        assert list(tmp_path.iterdir()) == [out]

    def test_json_lines_pass_through_a_pipe(self, verb, vae):
        encoded = verb("encode", *TEXTS).stdout
        assert lines(verb("decode", "-", stdin=encoded)) == vae.reconstruct(TEXTS)


class TestDecode:
    @pytest.mark.parametrize(
        "options", [("--beam", 3), ("--temperature", 0.9, "--seed", 4), ("--top-k", 3, "--top-p", 0.8, "--seed", 4)]
    )
    def test_it_writes_as_reconstruct_does(self, verb, tmp_path, options, small_pieces):
        verb("encode", "--out", tmp_path / "z.npz", *TEXTS)
        arguments = (*options, "--max-length", 15)
        expected = lines(verb("reconstruct", *arguments, *TEXTS))
        assert lines(verb("decode", tmp_path / "z.npz", *arguments)) == expected
        assert json.loads(verb("decode", "--json", tmp_path / "z.npz", *arguments).stdout) == [
            {"text": text} for text in expected
        ]

    def test_it_names_a_seed_only_where_it_draws(self, verb):
        code = '{"mean": [0.1, 0.2, 0.3]}\n'
        assert "seed" not in verb("decode", "-", stdin=code).stderr
        assert "seed" in verb("decode", "-", "--temperature", 1, stdin=code).stderr


class TestScore:
    def test_the_numbers_are_those_of_the_evaluation(self, verb, vae, workplace):
        texts = (workplace / "test.txt").read_text(encoding="utf-8").splitlines()
        result = verb("score", "--input", "test.txt", "--iw-samples", 7, "--seed", 3, "--json", "--by", "iw")
        found = [json.loads(line) for line in lines(result)]
        config = seqvae.Config.from_yaml(workplace / "small.yaml").eval.model_copy(update={"seed": 3})
        report = evaluate(vae, texts, config=config)
        for name in ("iw", "elbo", "rec", "kl"):
            mean = np.mean([row[name] for row in found])
            assert mean == pytest.approx(getattr(report, f"{name}_nats"), rel=1e-5), name
        assert all(row["nats"] == row["iw"] and row["by"] == "iw" for row in found)

    def test_what_does_not_belong_has_the_highest_score(self, verb):
        odd = "night cake the the saw at a"
        found = lines(verb("score", "the cat ate some tea", odd, "she saw a cake", "a dog liked some tea at night"))
        assert sorted(found, key=lambda line: float(line.split("\t")[0]))[-1].endswith(odd)

    def test_a_header_names_the_columns(self, verb):
        assert lines(verb("score", "--header", "a"))[0].split("\t") == ["nats", "nats_per_token", "tokens", "text"]
        assert len(lines(verb("score", "--header", "--json", "a"))) == 1

    def test_it_says_what_the_number_is(self, verb):
        assert "-ELBO in nats, from 10 samples of z" in verb("score", "a").stderr
        assert "IW-NLL in nats, from 1 sample of z" in verb("score", "a", "--by", "iw", "--iw-samples", 1).stderr
        assert "no likelihood" in verb("score", "a", "--model", "runs/ae").stderr
        assert "exact negative log-likelihood" in verb("score", "a", "--model", "runs/lm").stderr

    def test_an_autoencoder_has_no_null_in_its_json(self, verb):
        row = json.loads(verb("score", "a", "--json", "--model", "runs/ae").stdout)
        assert {*row} == {"nats", "nats_per_token", "tokens", "by", "rec", "text"}


def write_on(process, times=10_000):
    for _ in range(times):
        process.stdin.write(b"she saw a cake\n" * 64)
        process.stdin.flush()


def test_unknown_words_of_a_stream_are_counted_at_its_end(verb):
    told = verb("score", "-", stdin="quux\nthe cat\n\nzork zork\n").stderr
    assert "note     2 of 4 sentences have no word that the model knows\n" in told
    assert "note     60.0% of the words are unknown to the model\n" in told
    assert "note" not in verb("score", "-", stdin="the cat\n\n").stderr


class TestPipes:
    """As real processes: a reader that leaves, a writer that has not ended, and Ctrl-C."""

    @pytest.fixture
    def start(self, workplace):
        def start(*arguments, **settings):
            command = [sys.executable, "-m", "seqvae", *map(str, arguments), "--model", "runs/vae"]
            streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            return subprocess.Popen(command, cwd=workplace, env=environment, **streams, **settings)

        return start

    def test_scores_come_before_the_input_has_ended_and_a_reader_may_leave(self, start):
        process = start("score", "-")
        process.stdin.write(b"the cat\n" * 64)
        process.stdin.flush()
        assert process.stdout.readline().endswith(b"\tthe cat\n")
        process.stdout.close()
        with pytest.raises(BrokenPipeError):
            write_on(process)
        assert process.wait() == 0
        assert process.stderr.read() == b"score    -ELBO in nats, from 10 samples of z for each sentence\n"

    def test_ctrl_c_leaves_nothing_behind(self, start, tmp_path):
        process = start("encode", "-", "--out", tmp_path / "z.jsonl")
        process.stdin.write(b"the cat\n" * 1000)
        process.stdin.flush()
        while not any(tmp_path.iterdir()) and process.poll() is None:
            time.sleep(0.05)  # until there is something that could be left behind
        process.send_signal(signal.SIGINT)
        assert (process.wait(timeout=60), process.stderr.read()) == (130, b"interrupted\n")
        assert list(tmp_path.iterdir()) == []


def test_pieces_grow_and_stay_bounded():
    sizes = [len(piece) for piece in sentences._cut("x" for _ in range(20_000))]
    assert sizes[:3] == [64, 128, 256]
    assert max(sizes) == 4096
    assert sum(sizes) == 20_000
    long = [len(piece) for piece in sentences._cut(["x" * 600_000] * 5)]
    assert long == [2, 2, 1]
    assert list(sentences._cut(io.StringIO(""))) == [[]]
