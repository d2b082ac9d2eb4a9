"""Runs beside one another: groups by config, and the noise of values and differences by their definitions."""

import json

import numpy as np
import pytest

from seqvae.evaluation.comparison import Measured, compare

SENTENCES = 40


def run(name, seed=0, *, dim=4, nats=None, mark="same", elbo_se=0.5, mi=2.0, **report):
    nats = np.random.default_rng(seed).normal(20, 3, SENTENCES) if nats is None else nats
    report = {"elbo_nats": float(nats.mean()), "elbo_se": elbo_se, "mi_nats": mi, "data_fingerprint": mark, **report}
    settings = {"model": {"latent_dim": dim}, "train": {"seed": seed, "epochs": 3}, "eval": {"seed": seed}}
    return Measured(name=name, report=report, by_sentence={"elbo": nats}, settings=settings)


def compared(*runs, **settings):
    return compare(runs, split="test", **settings)


def test_seeds_of_one_config_are_one_group_with_mean_and_deviation():
    found = compared(run("a", 1, mi=1.0), run("b", 2, dim=8), run("c", 3, mi=4.0), run("d", 5, mi=1.0))
    assert [group.runs for group in found.groups] == [["a", "c", "d"], ["b"]]
    value = found.groups[0].values["mi_nats"]
    assert (value.value, value.of, value.runs) == (2.0, "seeds", 3)
    assert value.noise == pytest.approx(np.sqrt(3))
    assert found.groups[1].settings == {"model.latent_dim": (4, 8)}


def test_settings_that_change_no_number_keep_seeds_together():
    found = [run("a", 1), run("b", 2)]
    found[1].settings["train"] |= {"save_every": 7, "keep_checkpoints": 3, "micro_tokens": 900, "cuda_graphs": True}
    found[1].settings["data"] = {"workers": 5}
    assert [group.runs for group in compared(*found).groups] == [["a", "b"]]


def test_models_without_a_config_are_never_taken_for_seeds():
    runs = [Measured(name=name, report={"mi_nats": 1.0}) for name in "ab"]
    assert [group.runs for group in compared(*runs).groups] == [["a"], ["b"]]


def test_the_noise_of_one_run_is_that_of_its_sentences():
    value = compared(run("a")).groups[0].values["elbo_nats"]
    assert (value.noise, value.of, value.runs) == (0.5, "sentences", 1)
    assert compared(run("a")).groups[0].values["mi_nats"].noise is None


def test_on_the_same_sentences_the_difference_is_paired():
    """Sentences differ far more than models do, which the pairing takes out."""
    nats = np.random.default_rng(3).normal(20, 9, SENTENCES)
    gap = np.random.default_rng(4).normal(1, 0.1, SENTENCES)
    found = compared(run("a", nats=nats), run("b", dim=8, nats=nats + gap)).groups[1].differences["elbo_nats"]
    assert found.value == pytest.approx(gap.mean())
    assert found.noise == pytest.approx(gap.std(ddof=1) / np.sqrt(SENTENCES))
    assert found.of == "paired sentences"


@pytest.mark.parametrize("other", [{"mark": "other"}, {"nats": np.arange(3.0), "mark": "other"}])
def test_on_other_sentences_the_errors_add_in_squares(other):
    found = compared(run("a", elbo_se=0.3), run("b", dim=8, elbo_se=0.4, **other))
    difference = found.groups[1].differences["elbo_nats"]
    assert (difference.noise, difference.of) == (pytest.approx(0.5), "sentences")
    assert any("not all runs have the same sentences" in note for note in found.notes)


def test_between_groups_of_seeds_the_noise_is_that_of_seeds():
    first = [run(f"a{seed}", seed, mi=mi) for seed, mi in enumerate((1.0, 2.0, 3.0))]
    other = [run(f"b{seed}", seed, dim=8, mi=mi) for seed, mi in enumerate((5.0, 9.0))]
    difference = compared(*first, *other).groups[1].differences["mi_nats"]
    assert difference.value == 5
    assert difference.noise == pytest.approx(np.sqrt(1 / 3 + 8 / 2))
    assert difference.of == "seeds"
    assert compared(*first, *other).notes == []


def test_a_group_without_a_number_has_none_and_no_difference():
    found = compared(run("a"), run("b", dim=0, mi=None))
    assert found.groups[1].values["mi_nats"] is None
    assert found.groups[1].differences["mi_nats"] is None


def test_metrics_are_those_that_there_are_or_that_are_named():
    one = run("a", samples={"reverse": {"ppl": 9.5}}, bleu=None)
    assert compared(one).metrics == ["elbo_nats", "mi_nats", "samples.reverse.ppl"]
    assert compared(one, metrics=["samples.reverse.ppl"]).groups[0].values["samples.reverse.ppl"].value == 9.5
    assert compared(one, metrics=["verdict.text"]).groups[0].values["verdict.text"] is None


def test_bounds_of_different_numbers_of_samples_are_noted():
    found = compared(run("a", iw_samples=500, latent_dim=4), run("b", dim=8, iw_samples=50, latent_dim=8))
    assert any("50, 500" in note for note in found.notes)
    found = compared(run("a", iw_samples=500, latent_dim=4), run("b", dim=0, iw_samples=1, latent_dim=0))
    assert not any("IW-NLL" in note for note in found.notes)


def test_bounds_of_rounded_products_beside_exact_ones_are_noted():
    """A report from before there was a choice says nothing: it was fp32."""
    found = compared(run("a", precision="fp32"), run("b", precision="bf16"))
    assert any("bf16" in note for note in found.notes)
    for pair in ({"precision": "fp32"}, {}), ({"precision": "bf16"}, {"precision": "bf16"}):
        found = compared(*(run(name, **each) for name, each in zip("ab", pair, strict=True)))
        assert not any("bf16" in note for note in found.notes)


def test_a_comparison_is_strict_json():
    found = compared(run("a"), run("b", dim=8)).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False))["groups"][1]["differences"]["mi_nats"]["value"] == 0
