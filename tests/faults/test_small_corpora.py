"""A text of one line or two, or of one line many times, goes through every verb without a division by zero."""

from pathlib import Path

import pytest
from training_toys import MODEL
from typer.testing import CliRunner

from seqvae.cli.app import app
from seqvae.yaml_source import dump_yaml

TEXTS = {
    "one line": ["the cat"],
    "two lines": ["the cat", "a dog saw it"],
    "one word many times": ["cat"] * 9,
    "a blank line between": ["the cat", "", "a dog"],
}

VERBS = [
    "data check --config run",
    "eval --split valid",
    "diagnose --split valid",
    "sample -n 3 --seed 1",
    "sample -n 2 --seed 1 --from aggregate --input a.txt",
    "interpolate cat dog --steps 3",
    "interpolate cat cat --steps 1",
    "reconstruct cat",
    "encode --input a.txt --out codes.npz",
    "decode codes.npz",
    "score --input a.txt",
    "neighbors cat --input a.txt -n 2",
    "analogy cat dog cat",
    "impute",
]


@pytest.mark.parametrize(("name", "latent_dim"), [*((name, 3) for name in TEXTS), ("one line", 0)])
def test_a_text_of_a_few_lines_goes_through_every_verb(name, latent_dim, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("".join(f"{line}\n" for line in TEXTS[name]), encoding="utf-8")
    train = {"steps": 3, "device": "cpu", "threads": 1, "log_every": 1}
    config = {"data": {"train": "a.txt", "valid": "a.txt"}, "model": MODEL | {"latent_dim": latent_dim}, "train": train}
    Path("small.yaml").write_text(dump_yaml(config | {"eval": {"iw_samples": 3}}), encoding="utf-8")
    told = {"train": ran("train", "--config", "small.yaml", "--out", "run")}
    for verb in VERBS:
        words = ["impute", "the ___ cat", "-n", "1"] if verb == "impute" else verb.split()
        told[verb] = ran(*words, *(["--model", "run"] if words[0] != "data" else []))
    told["validate"] = ran("validate", "run")
    # What a language model cannot do is said, and that a mixture needs two sentences.
    refused = [text for code, text in told.values() if code and (latent_dim or code != 2)]
    assert not [text for text in refused if "E245" not in text]


def ran(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words), prog_name="seqvae")
    assert "internal error" not in result.output, result.output
    return result.exit_code, "" if result.exit_code == 0 else f"{' '.join(words)}: {result.stderr}"


@pytest.mark.parametrize(("content", "code"), [("", "E302"), ("\n \n", "E302"), ("a line\n", "E307")])
def test_a_text_that_cannot_be_trained_on_is_refused_before_a_run_is_made(content, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text(content, encoding="utf-8")
    result = CliRunner().invoke(
        app,
        ["train", "--config", "tiny", "--set", "data.train=a.txt", "--set", "data.valid_fraction=0.1", "--out", "r"],
    )
    assert result.exit_code == 3
    assert f"error[{code}]" in result.stderr
    assert not Path("r").exists()
