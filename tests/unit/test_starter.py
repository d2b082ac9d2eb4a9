"""A first config for one's own text: it is valid, fits the text, never overwrites, and trains."""

import dataclasses
import random

import pytest
from typer.testing import CliRunner

from seqvae import starter
from seqvae.cli.app import app
from seqvae.config import Config
from seqvae.data.sources import open_source
from seqvae.shipped import shipped

DRAW = random.Random(0)


def ids(count: int) -> list[str]:
    """Log lines whose words hardly ever come again."""
    return [f"error {DRAW.getrandbits(40):x} at {DRAW.getrandbits(30)} of host {n % 7}" for n in range(count)]


def init(*words: object):
    return CliRunner().invoke(app, ["init", *map(str, words)], prog_name="seqvae")


def look_at(path):
    source = open_source(path)
    text = starter.profile(source)
    return text, starter.choose(text, source)


def write(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def sentences(count: int, words: int = 300) -> list[str]:
    return [
        " ".join(f"word{int(DRAW.paretovariate(1)) % words}" for _ in range(DRAW.randint(3, 9))) for _ in range(count)
    ]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_built_in_corpus_is_read_as_words_and_all_of_its_words_are_known():
    text, chosen = look_at(shipped("data/tiny/train.txt"))
    assert (text.sentences, chosen.tokenizer) == (20_000, "word")
    assert chosen.unknown < 0.01
    assert chosen.max_length == sorted(text.word_lengths)[int(0.99 * 20_000) - 1]


def test_chinese_and_formulas_are_read_by_characters(tmp_path):
    chinese = write(tmp_path / "zh.txt", ["".join(DRAW.choices("我你他是不好人在有的了一大", k=9)) for _ in range(50)])
    assert look_at(chinese)[1].tokenizer == "char"
    formulas = write(tmp_path / "smiles.txt", ["".join(DRAW.choices("CNO=()1c", k=20)) for _ in range(50)])
    _, chosen = look_at(formulas)
    assert (chosen.tokenizer, chosen.vocabulary, chosen.max_length) == ("char", 8 + 4, 20)


def test_text_of_ever_new_words_is_cut_into_pieces_where_it_has_lines_enough(tmp_path):
    assert look_at(write(tmp_path / "log.txt", ids(1_000)))[1].tokenizer == "sentencepiece"
    assert look_at(write(tmp_path / "short.txt", ids(999)))[1].tokenizer == "char"


def test_the_estimate_of_the_time_keeps_the_promise_whatever_the_size(tmp_path):
    for count in (150, 3_000, 30_000):
        _, chosen = look_at(write(tmp_path / "a.txt", sentences(count)))
        assert chosen.seconds <= starter.BUDGET_S
        assert chosen.epochs >= 3
    text, _ = look_at(write(tmp_path / "a.txt", sentences(300)))
    huge = starter.choose(dataclasses.replace(text, sentences=50_000_000), open_source(tmp_path / "a.txt"))
    assert huge.steps is not None
    assert huge.seconds <= starter.BUDGET_S * 1.01


def test_the_written_config_is_valid_and_says_why(here):
    write(here / "mine.txt", sentences(500))
    result = init("mine.txt")
    assert (result.exit_code, result.stdout) == (0, "")
    told = result.stderr.splitlines()
    assert "wrote    mine.yaml" in told
    assert "next     seqvae train --config mine.yaml" in told
    assert told[-1].startswith("then     seqvae interpolate ")
    config = Config.from_yaml("mine.yaml")
    assert str(config.data.train) == "mine.txt"
    assert [strategy.name for strategy in config.objective.strategies] == ["kl_annealing", "free_bits"]
    lines = (here / "mine.yaml").read_text(encoding="utf-8").splitlines()
    assert all("#" in line for line in lines if line.startswith(("  max_length", "  epochs", "  latent_dim", "  name")))


def test_a_config_is_not_overwritten_unless_forced(here):
    write(here / "mine.txt", sentences(20))
    (here / "mine.yaml").write_text("train: {epochs: 3}\n", encoding="utf-8")
    assert init("mine.txt").exit_code == 2
    assert (here / "mine.yaml").read_text(encoding="utf-8") == "train: {epochs: 3}\n"
    assert init("mine.txt", "--force").exit_code == 0
    assert Config.from_yaml("mine.yaml").train.epochs > 3


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a b.txt", "one two\nthree four\n" * 30, ()),
        ("zh.txt", "我不好\n他是人在\n" * 30, ()),
        ("log.txt", "\n".join(ids(1_000)) + "\n", ()),
        ("few.txt", "\n".join(ids(40)) + "\n", ()),
        ("once.txt", "".join(f"a{n} b{n} c{n}\n" for n in range(60)), ()),
        ("pieces.txt", "".join(f"abc abc w{n}\n" for n in range(1_200)), ()),
        ("r.csv", "review,stars\n" + "very fine,5\nnot good,1\n" * 30, ("--text-column", "review")),
    ],
)
def test_what_init_writes_trains_as_it_stands_but_for_its_length(here, name, content, words):
    (here / name).write_text(content, encoding="utf-8")
    assert init(name, *words, "--out", "c.yaml").exit_code == 0
    short = ["--set", "train.steps=2", "--set", "train.device=cpu", "--set", "train.threads=1"]
    result = CliRunner().invoke(app, ["train", "--config", "c.yaml", "--out", "run", *short], prog_name="seqvae")
    assert result.exit_code == 0, result.stderr


def test_labels_beside_the_text_are_pointed_out(here):
    write(here / "mine.txt", sentences(20))
    write(here / "mine.labels", ["a", "b"] * 10)
    init("mine.txt")
    assert "# labels: true" in (here / "mine.yaml").read_text(encoding="utf-8")
    (here / "mine.labels").rename(here / "mine.topic.labels")
    init("mine.txt", "--force")
    written = (here / "mine.yaml").read_text(encoding="utf-8")
    assert "  # labels: topic    # mine.topic.labels" in written
    write(here / "mine.yaml", [written.replace("# labels", "labels")])
    prepared = CliRunner().invoke(app, ["data", "prepare", "--config", "mine.yaml"], prog_name="seqvae")
    assert "classes     a, b" in prepared.stdout, prepared.stderr
    (here / "my.data.labels").touch()
    write(here / "my.data", sentences(20))
    init("my.data")
    assert "# labels: true    # my.data.labels" in (here / "my.yaml").read_text(encoding="utf-8")


def test_label_files_beside_a_table_are_not_pointed_out(here):
    write(here / "mine.csv", ["text", *sentences(20)])
    write(here / "mine.labels", ["a", "b"] * 10)
    init("mine.csv")
    assert "labels" not in (here / "mine.yaml").read_text(encoding="utf-8")


def test_words_that_are_there_once_are_no_vocabulary_and_pieces_are_as_many_as_there_are(tmp_path):
    once = write(tmp_path / "once.txt", [f"a{n} b{n} c{n}" for n in range(60)])
    assert look_at(once)[1].tokenizer == "char"
    pieces = write(tmp_path / "pieces.txt", [f"abc abc w{n}" for n in range(1_200)])
    _, chosen = look_at(pieces)
    assert (chosen.tokenizer, chosen.vocabulary < 500) == ("sentencepiece", True)
