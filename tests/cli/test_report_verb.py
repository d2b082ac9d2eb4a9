"""report as a user sees it: one page, the same each time, for every kind of model."""

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def measured(workplace, tmp_path_factory):
    folder = tmp_path_factory.mktemp("measured")
    for name in ("vae", "lm", "ae"):
        shutil.copytree(workplace / "runs" / name, folder / name)
    return folder


@pytest.mark.parametrize(
    ("name", "has", "lacks"),
    [
        ("vae", ["Samples", "Reconstructions", "Paths", "Where sentences lie", "swap gap"], []),
        ("ae", ["Reconstructions", "Paths", "Where sentences lie"], ["Samples", "IW-NLL"]),
        ("lm", ["Samples", "The course of training"], ["Reconstructions", "Paths", "Where sentences lie"]),
    ],
)
def test_a_page_has_what_its_model_has(verb, measured, name, has, lacks):
    assert verb("eval", "--model", measured / name).exit_code == 0
    result = verb("report", measured / name)
    assert result.exit_code == 0, result.stderr
    page = Path(result.stdout.splitlines()[0]).read_text(encoding="utf-8")
    assert [text for text in has if text not in page] == []
    assert [text for text in lacks if text in page] == []
    kept = json.loads((measured / name / "model/eval.json").read_text(encoding="utf-8"))["test"]
    assert f"{kept['rec_nats']:,.3f}" in page
    assert "latent_dim" in page


def test_a_run_with_labels_that_its_model_does_not_take_has_a_page_too(verb, workplace, tmp_path):
    for split in ("train", "valid"):
        lines = (workplace / f"{split}.txt").read_text(encoding="utf-8").splitlines()
        (tmp_path / f"{split}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        (tmp_path / f"{split}.first.labels").write_text(
            "".join(f"{line[:1] or '-'}\n" for line in lines), encoding="utf-8"
        )
    changes = [f"data.{split}={tmp_path / split}.txt" for split in ("train", "valid")]
    changes += ["data.test=null", "data.labels=first", "train.steps=3", "train.epochs=1"]
    trained = verb(
        "train", "--config", workplace / "small.yaml", "--out", tmp_path / "run", *(f"--set={c}" for c in changes)
    )
    assert trained.exit_code == 0, trained.stderr
    assert verb("eval", "--model", tmp_path / "run", "--split", "valid").exit_code == 0
    result = verb("report", tmp_path / "run", "--split", "valid")
    assert result.exit_code == 0, result.stderr
    page = Path(result.stdout.splitlines()[0]).read_text(encoding="utf-8")
    assert "Reconstructions" in page
    assert "Paths" in page


def test_the_same_run_gives_the_same_files_and_another_seed_other_samples(verb, measured, tmp_path):
    assert verb("eval", "--model", measured / "vae", "--split", "valid").exit_code == 0

    def written(name, *options):
        result = verb("report", measured / "vae", "--split", "valid", "--out", tmp_path / name, "--json", *options)
        assert result.exit_code == 0, result.stderr
        return {
            Path(path).relative_to(tmp_path / name).as_posix(): Path(path).read_bytes()
            for path in json.loads(result.stdout)
        }

    first = written("a")
    assert set(first) == {"report.html", "report.md", *(f"figures/{number}.svg" for number in (1, 2, 3))}
    assert written("b") == first
    assert written("c", "--seed", "1")["report.md"] != first["report.md"]


def test_of_a_run_whose_validation_text_alone_was_measured_those_numbers_are_taken(verb, trained, tmp_path):
    """As of every run whose config `init` wrote: it has no test text."""
    run = shutil.copytree(trained / "ae", tmp_path / "run")
    result = verb("report", run)
    assert result.exit_code == 2
    assert result.stderr.rstrip().endswith(f"`seqvae eval --model {run}`")
    assert verb("eval", "--model", run, "--split", "valid").exit_code == 0
    for words in (["report", run], ["compare", run, run], ["plot", run]):
        result = verb(*words)
        assert result.exit_code == 0, result.stderr
        assert "the validation text was measured and no test text" in result.stderr
    assert verb("eval", "--model", run).exit_code == 0
    assert "validation" not in verb("compare", run, run).stderr
    assert verb("compare", run, run, "--split", "valid").exit_code == 0
