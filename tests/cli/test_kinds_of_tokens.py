"""Models of characters and of pieces, from `train` to `interpolate`: what a person sees of them."""

import json

import pytest

KINDS = {
    "char": [],
    "sentencepiece": ["--set", "tokenizer.vocab_size=30", "--set", "tokenizer.byte_fallback=false"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_another_kind_trains_evaluates_and_writes(desk, kind, tmp_path):
    options = ["--set", f"tokenizer.name={kind}", *KINDS[kind], "--set", "train.steps=4", "--out", "run"]
    trained = desk("train", "--config", "small.yaml", *options)
    assert trained.exit_code == 0, trained.stderr
    saved = {path.name for path in (tmp_path / "run" / "model" / "tokenizer").iterdir()}
    assert saved == {"tokenizer.json", *(["tokenizer.model"] if kind == "sentencepiece" else [])}
    found = json.loads(desk("eval", "--model", "run", "--json").stdout)
    assert found["nats_per_character"] < found["nats_per_word"] < found["iw_nats"]
    told = desk("interpolate", "the cat 狗", "a dog", "--steps", 3, "--model", "run")
    assert len(told.stdout.splitlines()) == 3
    noun = {"char": "characters", "sentencepiece": "pieces"}[kind]
    assert f"note     {noun} that the model does not know: '狗'\n" in told.stderr
    assert len(desk("sample", "-n", 5, "--seed", 1, "--model", "run").stdout.splitlines()) == 5


def test_a_vocabulary_too_large_is_told_before_anything_is_written(desk, tmp_path):
    told = desk("train", "--config", "small.yaml", "--set", "tokenizer.name=sentencepiece", "--out", "run")
    assert told.exit_code == 3
    assert "error[E314]" in told.stderr
    assert "lower it: `--set tokenizer.vocab_size=" in told.stderr
    assert told.stdout == ""
    assert not (tmp_path / "run").exists()
