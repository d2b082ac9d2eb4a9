"""compare and diagnose as a user sees them."""

import csv
import json
import shlex
import shutil
from pathlib import Path

import pytest

import seqvae


@pytest.fixture(scope="module")
def evaluated(workplace, tmp_path_factory):
    """Copies of runs/vae (twice, with different seeds) and runs/lm, evaluated on the test split."""
    folder = tmp_path_factory.mktemp("evaluated")
    for name, source in (("one", "vae"), ("two", "vae"), ("lm", "lm")):
        shutil.copytree(workplace / "runs" / source, folder / name)
    config = folder / "two/config.yaml"
    config.write_text(config.read_text(encoding="utf-8").replace("seed: 0", "seed: 7", 1), encoding="utf-8")
    return folder


@pytest.fixture
def runs(evaluated, verb):
    for number, name in enumerate(("one", "two", "lm")):
        if not (evaluated / name / "model/eval.json").exists():
            assert verb("eval", "--model", evaluated / name, "--seed", number).exit_code == 0
    return [str(evaluated / name) for name in ("one", "two", "lm")]


def test_seeds_are_grouped_and_differences_have_their_noise(verb, runs):
    result = verb("compare", *runs, "--format", "json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert [group["runs"] for group in found["groups"]] == [runs[:2], runs[2:]]
    assert found["groups"][0]["values"]["iw_nats"]["of"] == "seeds"
    assert found["groups"][1]["differences"]["iw_nats"]["of"] == "paired sentences"
    assert found["groups"][1]["differences"]["mi_nats"] is None
    assert found["groups"][1]["settings"]["model.latent_dim"] == [3, 0]


def test_a_run_that_is_named_twice_is_no_second_seed(verb, runs):
    first, _, third = runs
    again = f"{third}/../{Path(first).name}"
    result = verb("compare", first, third, again, f"{first}/model", "--format", "json")
    assert result.exit_code == 0, result.stderr
    assert [group["runs"] for group in json.loads(result.stdout)["groups"]] == [[first], [third]]
    assert result.stderr == "note     a run that is named twice counts once\n"


def test_every_format_has_every_group_and_the_differences(verb, runs, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    table = verb("compare", *runs).stdout
    for words in ("(2 seeds)", "IW-NLL", "differences to", "paired sentences", "model.latent_dim 3 -> 0"):
        assert words in table
    markdown = verb("compare", *runs, "--format", "markdown").stdout.splitlines()
    assert {line.count("|") for line in markdown[:5]} == {markdown[0].count("|")}
    rows = list(csv.DictReader(verb("compare", *runs, "--format", "csv").stdout.splitlines()))
    assert {(row["runs"], row["kind"]) for row in rows} == {("2", "value"), ("1", "value"), ("1", "difference")}
    (row,) = [row for row in rows if (row["metric"], row["kind"], row["runs"]) == ("elbo_nats", "value", "2")]
    kept = [json.loads((Path(run) / "model/eval.json").read_text(encoding="utf-8"))["test"] for run in runs[:2]]
    assert float(row["value"]) == pytest.approx(sum(each["elbo_nats"] for each in kept) / 2)


def test_metrics_can_be_named_and_a_wrong_name_is_met_with_those_there_are(verb, runs):
    found = json.loads(verb("compare", *runs, "--metrics", "chrf, rec_nats", "--format", "json").stdout)
    assert found["metrics"] == ["chrf", "rec_nats"]
    result = verb("compare", *runs, "--metrics", "ppl")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "error[E295]: no run has a number `ppl`" in result.stderr
    assert "ppl_iw" in result.stderr


def test_a_run_that_was_not_evaluated_is_named_with_the_command(verb, runs, workplace):
    result = verb("compare", runs[0], "runs/ae", "--split", "train")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "error[E294]: the train split has not been measured" in result.stderr
    assert f"seqvae eval --model {runs[0]} --split train" in result.stderr


def test_diagnose_says_what_is_live_and_what_to_try_as_commands_that_run(verb, workplace):
    result = verb("diagnose")
    assert result.exit_code == 0, result.stderr
    assert "Evidence, nats per sentence" in result.stdout
    assert "of 3 live" in result.stdout
    found = json.loads(verb("diagnose", "--json").stdout)
    assert found.keys() == {"verdict", "findings", "units", "remedies", "commands"}
    assert len(found["commands"]) == len(found["remedies"])
    for command in found["commands"]:
        words = shlex.split(command)
        assert words[:4] == ["seqvae", "train", "--config", "runs/vae"]
        seqvae.Config.from_yaml(words[3], [words[i + 1] for i, word in enumerate(words) if word == "--set"])


@pytest.mark.parametrize("model", ["lm", "ae"])
def test_diagnose_tells_where_the_question_does_not_arise(verb, model):
    result = verb("diagnose", "--model", f"runs/{model}")
    assert result.exit_code == 0
    assert result.stdout.startswith({"lm": "A language model", "ae": "A noiseless autoencoder"}[model])
    assert "What to try" not in result.stdout
