"""Paths between codes, and decoding, at their extremes: finite answers that end, or a refusal with the next step."""

import itertools
import json

import numpy as np
import pytest
import torch

import seqvae

EOS = 2


@pytest.mark.parametrize("path", ["slerp", "lerp"])
@pytest.mark.parametrize(("a", "b"), [("the cat ate", "the cat ate"), ("", "a dog saw some tea"), ("", "")])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_any_two_sentences_have_a_path_from_the_one_to_the_other(verb, path, a, b, steps):
    options = ("--model", "runs/vae", "--json")
    result = verb("interpolate", a, b, "--steps", steps, "--path", path, *options)
    assert result.exit_code == 0, result.stderr
    points = json.loads(result.stdout)
    assert [point["t"] for point in points] == np.linspace(0, 1, steps).tolist()
    ends = [verb("reconstruct", text, "--model", "runs/vae").stdout.rstrip("\n") for text in (a, b)]
    assert points[0]["text"] == ends[0]
    assert points[-1]["text"] == ends[-1 if steps > 1 else 0]


@pytest.mark.parametrize("near", [0.0, 1e-9, 1e-5, 1e-3])
def test_a_path_between_equal_or_opposite_codes_is_finite_and_has_exact_ends(near):
    a = torch.tensor([0.3, -1.2, 0.7])
    turned = torch.tensor([0.0, near, 0.0])
    for b in (a + turned, -a + turned, 5 * a + turned, torch.zeros(3), a * 1e30):
        for path in ("slerp", "lerp"):
            found = seqvae.generation.paths.interpolate(a, b, 7, path)
            assert torch.isfinite(found).all()
            assert torch.equal(found[0], a)
            assert torch.equal(found[-1], b)


DRAWN = [
    *itertools.product(["--temperature"], ["1e-9", "1e-3", "1e9", "1e300"]),
    *itertools.product(["--top-k"], ["1", "1000000"]),
    *itertools.product(["--top-p"], ["1e-12", "1"]),
    *itertools.product(["--beam"], ["1", "1000"]),
]


@pytest.mark.parametrize(("option", "value"), DRAWN)
def test_decoding_at_an_extreme_setting_ends_with_a_sentence_for_each_code(verb, tmp_path, option, value):
    mean = np.random.default_rng(0).standard_normal((5, 3)) * np.array([[0.0], [1.0], [1e4], [1e18], [1e30]])
    np.savez(tmp_path / "codes.npz", mean=mean.astype(np.float32))
    common = ("--model", "runs/vae", "--max-length", 6, option, value)
    for command in (("decode", tmp_path / "codes.npz"), ("sample", "-n", 5)):
        seeded = ("--seed", 1) if option != "--beam" else ()
        result = verb(*command, *common, *seeded)
        assert result.exit_code == 0, result.stderr
        sentences = result.stdout.removesuffix("\n").split("\n")
        assert len(sentences) == 5
        assert all(len(sentence.split()) <= 6 for sentence in sentences)
        assert not [special for special in ("<pad>", "<bos>", "<eos>", "<unk>") if special in result.stdout]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *itertools.product(["--temperature"], ["0", "-1", "nan", "inf"]),
        *itertools.product(["--top-p"], ["0", "1.1", "nan"]),
        *itertools.product(["--top-k", "--beam", "--max-length"], ["0", "-3"]),
        *itertools.product(["--beam"], ["1001"]),
        *itertools.product(["--max-length"], ["1000000000"]),
    ],
)
def test_a_setting_that_means_nothing_is_refused_with_the_next_step(verb, option, value):
    result = verb("sample", "--model", "runs/vae", "-n", 2, option, value)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error[E2")
    assert "\nhelp: " in result.stderr


@pytest.mark.parametrize("way", ["--temperature 1", "--greedy", "--beam 3"])
def test_sentences_that_never_end_are_cut_and_that_is_told(verb, tmp_path, way):
    few = ("--set", "train.steps=1", "--set", "model.decoder.output_bias=true")
    assert verb("train", "--config", "small.yaml", *few, "--out", tmp_path / "run").exit_code == 0
    vae = seqvae.load(tmp_path / "run")
    with torch.no_grad():
        vae.model.decoder.output_bias[EOS] = -200.0
    vae.save_pretrained(tmp_path / "endless")
    result = verb("sample", "-n", 4, "--model", tmp_path / "endless", "--max-length", 9, *way.split())
    assert result.exit_code == 0, result.stderr
    assert [len(sentence.split()) for sentence in result.stdout.splitlines()] == [9] * 4
    assert "note     4 of 4 sentences had not ended at 9 tokens: cut\n" in result.stderr
    written = seqvae.load(tmp_path / "endless").write(np.zeros((2, 3)))
    assert [each.truncated for each in written] == [True, True]
    ended = verb("sample", "-n", 4, "--model", "runs/vae", "--max-length", 100, *way.split())
    assert "had not ended" not in ended.stderr
