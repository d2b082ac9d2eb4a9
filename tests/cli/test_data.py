"""Promises of ``seqvae data``: what is there, what was made, what is wrong, for a person and for a program."""

import json
from pathlib import Path

import pytest

from seqvae.config import Config
from seqvae.data.cache import user_cache


def test_list_says_what_each_corpus_is_and_how_to_get_it(desk):
    shown = desk("data", "list").stdout
    for part in ("tiny\n", "licence  Apache-2.0", "data.labels=number or person", "not here: `seqvae data fetch ptb`"):
        assert part in shown
    assert "torchtext:WikiText2" in shown


def test_list_as_json_has_every_corpus_with_its_splits(desk, tmp_path):
    (tmp_path / "data/own").mkdir(parents=True)
    (tmp_path / "data/own/train.txt").write_text("a\n")
    found = {each["name"]: each for each in json.loads(desk("data", "list", "--json").stdout)}
    assert found["tiny"]["splits"] == ["train", "valid", "test"]
    assert found["ptb"]["folder"] is None
    assert found["ptb"]["megabytes"] > 0
    assert found["sst2"]["labels"] == ["true"]
    assert (found["own"]["folder"], found["own"]["splits"]) == (str(tmp_path / "data/own"), ["train"])
    assert found["torchtext:IMDB"]["needs"] == "seqvae[torchtext]"


def test_fetch_of_what_is_here_downloads_nothing_and_says_where(desk, tmp_path):
    (tmp_path / "data/ptb").mkdir(parents=True)
    for split in ("train", "valid", "test"):
        (tmp_path / f"data/ptb/{split}.txt").write_text("a\n")
    result = desk("data", "fetch", "ptb")
    assert result.stdout == f"{tmp_path / 'data/ptb'}\n"
    assert "fetch" not in result.stderr
    assert json.loads(desk("data", "fetch", "ptb", "--json").stdout)["name"] == "ptb"


def test_fetch_shows_the_licence_before_it_tries(desk, monkeypatch):
    from dataclasses import replace

    from seqvae.data.catalogue import CORPORA

    monkeypatch.setitem(CORPORA, "ptb", replace(CORPORA["ptb"], url="http://127.0.0.1:9/"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    result = desk("data", "fetch", "ptb")
    assert result.exit_code == 3
    lines = result.stderr.splitlines()
    assert lines[0].startswith("fetch    ptb, 6.0 MB from http://127.0.0.1:9/")
    assert lines[1] == f"licence  {CORPORA['ptb'].licence}"
    assert "error[E308]" in lines[2]
    assert not [path for path in user_cache().rglob("*") if path.is_file()]


def test_prepare_says_what_was_made_and_where(desk):
    result = desk("data", "prepare", "--config", "small.yaml", "--json")
    made = json.loads(result.stdout)
    assert {split: each["sentences"] for split, each in made["splits"].items()} == {
        "train": 200,
        "valid": 30,
        "test": 25,
    }
    assert (Path(made["splits"]["train"]["folder"]) / "tokens.npy").is_file()
    assert made["vocabulary"] > 4
    shown = desk("data", "prepare", "--config", "small.yaml").stdout
    assert made["splits"]["valid"]["folder"] in shown
    assert f"vocabulary  {made['vocabulary']} (word)" in shown


def test_prepare_makes_what_training_finds(desk):
    made = json.loads(desk("data", "prepare", "--config", "small.yaml", "--json").stdout)
    before = sorted((user_cache() / "prepared").iterdir())
    config = Config.from_yaml("small.yaml")
    from seqvae.data.store import prepare

    prepared = prepare(config.data, config.tokenizer)
    assert sorted((user_cache() / "prepared").iterdir()) == before
    assert prepared.splits["train"].fingerprint in made["splits"]["train"]["folder"]


@pytest.mark.parametrize("options", [(), ("--config", "small.yaml")])
def test_prepare_of_a_file_prepares_it_alone(desk, options):
    Path("mine.txt").write_text("one two\n\nthree\n")
    result = desk("data", "prepare", "mine.txt", *options, "--json")
    made = json.loads(result.stdout)
    assert list(made["splits"]) == ["train"]
    assert made["splits"]["train"]["sentences"] == 2
    assert result.stderr == "note     train: 1 blank line dropped\n"


@pytest.mark.parametrize("config", [(), ("--config", "small.yaml")])
def test_a_text_that_is_set_goes_with_the_file_that_is_given(desk, config):
    given = ("train.txt", "--set", "data.valid=valid.txt", *config, "--json")
    made = json.loads(desk("data", "prepare", *given).stdout)
    assert {split: each["sentences"] for split, each in made["splits"].items()} == {"train": 200, "valid": 30}
    found = json.loads(desk("data", "check", *given).stdout)["findings"]
    assert list(dict.fromkeys(finding["split"] for finding in found)) == ["train.txt", "valid"]


def test_a_part_of_a_file_is_held_out_where_that_is_set(desk):
    given = ("train.txt", "--set", "data.valid_fraction=0.1", "--json")
    made = json.loads(desk("data", "prepare", *given).stdout)
    assert {split: each["sentences"] for split, each in made["splits"].items()} == {"train": 180, "valid": 20}
    found = json.loads(desk("data", "check", *given).stdout)["findings"]
    assert list(dict.fromkeys(finding["split"] for finding in found)) == ["train", "valid"]


def test_prepare_reads_standard_input_and_labels(desk):
    made = json.loads(desk("data", "prepare", "-", "--json", stdin="a b\nc\n").stdout)
    assert made["splits"]["train"]["sentences"] == 2
    Path("t.csv").write_text("text,y\nfine,good\nbad,poor\n")
    shown = desk("data", "prepare", "t.csv", "--set", "data.label_column=y").stdout
    assert "classes     good, poor" in shown


def test_check_of_a_config_looks_at_every_split(desk):
    result = desk("data", "check", "--config", "small.yaml", "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["ok"]) == (0, True)
    assert {finding["split"] for finding in report["findings"]} == {"train", "valid", "test"}
    assert {"split", "about", "status", "text", "hint", "lines", "values"} == set(report["findings"][0])
    assert "also in train" in {finding["about"] for finding in report["findings"]}


def test_a_failed_check_is_json_on_stdout_and_exit_code_3(desk):
    Path("bad.txt").write_bytes(b"fine\ncaf\xe9\n")
    result = desk("data", "check", "bad.txt", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["ok"] is False
    assert "error[E329]: 1 check failed" in result.stderr


def test_check_reads_standard_input(desk):
    result = desk("data", "check", "-", stdin="a b\nc d\n")
    assert result.exit_code == 0
    assert "ok       encoding     UTF-8" in result.stdout


def test_a_missing_split_of_a_config_is_a_finding(desk):
    result = desk("data", "check", "--config", "small.yaml", "--set", "data.test=no.txt")
    assert result.exit_code == 3
    assert "failed   reading      no such file (no.txt)" in result.stdout


def test_a_run_that_was_begun_from_standard_input_is_gone_on_with(desk):
    """What was piped in is kept in the cache; the run names that file."""
    text = "".join(f"w{row % 7} w{row % 5}\n" for row in range(60))
    changes = ["--set", "data.train=-", "--set", "data.valid=null", "--set", "data.valid_fraction=0.2"]
    changes += ["--set", "data.test=null", "--set", "train.epochs=1"]
    result = desk("train", "--config", "small.yaml", *changes, "--out", "run", stdin=text)
    assert result.exit_code == 0, result.stderr
    saved = Config.from_yaml("run/config.yaml").data.train
    assert Path(saved).read_text() == text
    assert str(user_cache()) in saved
    assert desk("train", "--resume", "run").exit_code == 0


def test_a_run_on_labelled_text_trains_and_is_evaluated(desk):
    for split, count in (("train", 200), ("valid", 30), ("test", 25)):
        Path(f"{split}.labels").write_text("".join(f"c{row % 3}\n" for row in range(count)))
    result = desk(
        "train", "--config", "small.yaml", "--set", "data.labels=true", "--set", "train.epochs=1", "--out", "run"
    )
    assert result.exit_code == 0, result.stderr
    assert desk("eval", "--model", "run", "--json").exit_code == 0
