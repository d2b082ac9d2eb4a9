"""Settings that cannot be meant: each is answered with its place and the way out, before there is a run."""

import time
from pathlib import Path

import pytest

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
TEXT = "data: {train: train.txt, valid: valid.txt}\n"

CONFIGS = {
    "an unknown setting": (TEXT + "train:\n  stpes: 5\n", "3:3", "did you mean `steps`?"),
    "an unknown section": (TEXT + "trian: {steps: 5}\n", "2:1", "did you mean `train`?"),
    "a value of another type": (TEXT + "train:\n  epochs: ten\n", "3:11", "valid integer"),
    "a value out of range": (TEXT + "model: {latent_dim: -3}\n", "2:21", "0"),
    "a method that does not exist": (
        TEXT + "objective:\n  strategies:\n    - {name: free_bit}\n",
        "4:14",
        "did you mean `free_bits`?",
    ),
    "a key twice": ("train:\n  epochs: 3\n  seed: 1\n  epochs: 4\n", "4:3", "`epochs`"),
    "a tab": ("train:\n\tepochs: 3\n", "2:1", "spaces"),
    "a quote that stays open": ('data:\n  train: "train.txt\n', "2:10", "close it"),
    "a list at the top": ("- train\n- eval\n", "1:1", ""),
    "a word at the top": ("train\n", "1:1", ""),
    "two documents": ("train: {epochs: 1}\n---\neval: {}\n", "2:1", ""),
    "a tag": (TEXT + "train: !!python/object/apply:os.system [touch canary]\n", "2:8", ""),
    "anchors that multiply": (BOMB, "", ""),
    "lists in lists": ("data: " + "[" * 5000 + "\n", "", ""),
}


@pytest.mark.parametrize("case", CONFIGS)
@pytest.mark.parametrize("verb", ["train --config", "config validate"])
def test_a_config_that_cannot_be_meant_is_refused_with_line_and_column(desk, tmp_path, case, verb):
    text, place, said = CONFIGS[case]
    Path("mine.yaml").write_text(text, encoding="utf-8")
    before, start = sorted(tmp_path.rglob("*")), time.monotonic()
    result = desk(*verb.split(), "mine.yaml")
    assert time.monotonic() - start < 10
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    assert result.stderr.startswith("error[E2")
    assert f"mine.yaml:{place}" in result.stderr
    assert said in result.stderr
    assert sorted(tmp_path.rglob("*")) == before, "nothing is made, and no tag is followed"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("train.steps", "="),
        ("train.stpes=3", "did you mean `steps`?"),
        ("trian.steps=3", "did you mean `train`?"),
        ("train.steps=many", "valid integer"),
        ("train.steps=", ""),
        ("train.seed.x=3", ""),
        ("train.optimizer.betas=[1]", ""),
        ("objective.strategies.7.name=free_bits", ""),
        ("objective.strategies[0]=x", ""),
        ("=3", ""),
        ("data.train=[", ""),
    ],
)
def test_a_change_that_cannot_be_made_is_pointed_at_in_the_command(desk, change, said):
    result = desk("train", "--config", "small.yaml", "--set", change, "--out", "run")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error[E2")
    assert said in result.stderr
    pointed = [line for line in result.stderr.splitlines() if "^" in line]
    assert len(pointed) == 1
    assert not Path("run").exists()
