"""The diagnosis: units told apart, findings in words, and remedies that the run's own settings allow."""

from dataclasses import replace

import pytest
from evaluation_toys import WORDS, small_model, store_of

from seqvae.config import Config
from seqvae.evaluation.diagnosis import diagnose
from seqvae.evaluation.report import EvalConfig, evaluate_model
from seqvae.evaluation.verdict import Verdict

CONFIG = Config.from_yaml("tiny.yaml")
BARE = CONFIG.replace("objective.strategies=[]")


@pytest.fixture(scope="module")
def measured():
    return evaluate_model(small_model(), WORDS, store_of(30), split="test", config=EvalConfig(iw_samples=2))


def collapsed(report, **numbers):
    return replace(report, verdict=Verdict(collapsed=True, text="Collapsed."), **numbers)


def settings_of(report, config):
    return [remedy.settings for remedy in diagnose(report, config).remedies]


def test_units_are_live_idle_or_paid_for_nothing(measured):
    report = replace(measured, kl_dims_nats=[0.001, 0.9, 0.4], unit_variances=[0.0, 0.001, 0.3])
    units = diagnose(report).units
    assert [(unit.number, unit.state) for unit in units] == [(1, "paid for nothing"), (2, "live"), (0, "idle")]
    assert sum(unit.state == "live" for unit in diagnose(measured).units) == measured.active_units
    assert diagnose(replace(measured, unit_variances=None)).units is None


def test_findings_say_what_the_numbers_mean(measured):
    names = {finding.name: finding for finding in diagnose(measured).findings}
    assert list(names) == ["KL", "MI", "swap gap", "prior gap", "marginal KL"]
    found = diagnose(collapsed(measured, kl_nats=0.01, mi_nats=0.0, swap_gap_nats=0.0)).findings
    assert "q(z|x) is the prior" in found[0].meaning
    assert "tells nothing" in found[1].meaning
    assert "ignores z" in found[2].meaning
    off = {"swap_gap_nats": 2.0, "swap_gap_se": 0.1, "prior_gap_nats": 4.0, "prior_gap_se": 0.1}
    assert "where no sentence lies" in diagnose(replace(measured, **off)).findings[3].meaning
    off["prior_gap_se"] = 1.0
    assert "where no sentence lies" not in diagnose(replace(measured, **off)).findings[3].meaning


@pytest.mark.parametrize(
    ("numbers", "first"),
    [
        ({"kl_nats": 0.01, "mi_nats": 0.0, "swap_gap_nats": 0.0}, "free_bits"),
        ({"kl_nats": 5.0, "mi_nats": 0.0, "swap_gap_nats": 0.0}, "word_dropout"),
        ({"kl_nats": 5.0, "mi_nats": 3.0, "swap_gap_nats": 0.0}, "word_dropout"),
    ],
)
@pytest.mark.parametrize("config", [CONFIG, BARE])
def test_each_kind_of_collapse_has_three_remedies_that_the_settings_allow(measured, numbers, first, config):
    found = diagnose(collapsed(measured, **numbers), config).remedies
    assert len(found) == 3
    assert first in found[0].settings[0]
    for remedy in found:
        assert config.replace(*remedy.settings) != config
        assert "et al." in remedy.reason


def test_what_is_there_already_is_strengthened_and_the_rest_kept(measured):
    first, *_ = settings_of(collapsed(measured, kl_nats=0.01), CONFIG)
    strategies = CONFIG.replace(*first).objective.strategies
    assert {each.name for each in strategies} == {"kl_annealing", "free_bits"}
    assert next(each for each in strategies if each.name == "free_bits").nats_per_dim == 0.6


def test_what_cannot_be_strengthened_is_not_proposed_in_other_words(measured):
    """Neither in another order, nor weaker, nor with its own settings put back."""
    there = [
        "{name: word_dropout, rate: 0.8}",
        "{name: bag_of_words, weight: 5.0}",
        "{name: aggressive, inner_steps: 7}",
        "{name: free_bits, nats_per_dim: 0.3}",
    ]
    config = BARE.replace(f"objective.strategies=[{', '.join(there)}]")
    kinds = {"kl_nats": 0.01}, {"kl_nats": 5.0, "mi_nats": 0.0}, {"kl_nats": 5.0, "mi_nats": 3.0, "swap_gap_nats": 0.0}
    proposed = [settings_of(collapsed(measured, **kind), config) for kind in kinds]
    by_kind = [[[each.partition("=")[0] for each in settings] for settings in some] for some in proposed]
    skip = [["model.decoder.z_to_output"]]
    assert by_kind == [[["objective.strategies"], ["train.phases"], ["model.posterior"]], [["train.phases"]], skip]
    ((methods,), *_) = proposed[0]
    kept = BARE.replace(methods).objective.strategies
    assert [each.name for each in kept] == ["word_dropout", "bag_of_words", "aggressive", "free_bits"]
    assert (kept[0].rate, kept[1].weight, kept[2].inner_steps, kept[3].nats_per_dim) == (0.8, 5.0, 7, 0.6)
    raised = settings_of(
        collapsed(measured, kl_nats=5.0, mi_nats=0.0),
        BARE.replace("objective.strategies=[{name: word_dropout, rate: 0.7}]"),
    )
    assert "rate: 0.8" in raised[0][0]


def test_methods_of_a_run_with_phases_are_changed_in_its_last_phase(measured):
    config = Config.from_yaml("recipes/ae_pretraining.yaml")
    first, *_ = settings_of(collapsed(measured, kl_nats=5.0, mi_nats=0.0), config)
    changed = config.replace(*first)
    assert "word_dropout" in {each.name for each in changed.train.phases[-1].strategies}
    assert changed.train.phases[0] == config.train.phases[0]
    assert changed.objective == config.objective


def test_a_decoder_that_does_not_see_the_code_everywhere_is_wired_first(measured):
    config = BARE.replace("model.decoder.z_to_input=false")
    first, *_ = settings_of(collapsed(measured, kl_nats=5.0, mi_nats=3.0, swap_gap_nats=0.0), config)
    assert first == ["model.decoder.z_to_input=true"]


def test_remedies_that_the_settings_refuse_are_left_out(measured):
    """The importance-weighted objective has no place for free bits."""
    config = BARE.replace("objective.strategies=[{name: importance_weighted}]", "objective.samples=5")
    found = settings_of(collapsed(measured, kl_nats=0.01), config)
    assert found
    assert not any("free_bits" in each and "importance" in each for [each] in found)


@pytest.mark.parametrize("kl_nats", [0.01, 7.2])
def test_a_kl_that_kappa_fixes_is_raised_by_kappa_and_not_by_free_bits(measured, kl_nats):
    config = BARE.replace("model.posterior={family: vmf, kappa: 30}", "model.prior={family: sphere}")
    found = settings_of(collapsed(measured, kl_nats=kl_nats, mi_nats=0.0, swap_gap_nats=0.0), config)
    assert ["model.posterior.kappa=60"] in found
    assert len(found) == 3
    assert not any("free_bits" in setting for settings in found for setting in settings)


def test_a_healthy_model_is_left_alone_unless_its_prior_is_off(measured):
    fine = {"swap_gap_nats": 4.0, "swap_gap_se": 0.1, "prior_gap_nats": 4.0, "prior_gap_se": 0.1, "active_units": 3}
    report = replace(measured, verdict=Verdict(collapsed=False, text="Not collapsed."), **fine)
    assert settings_of(report, BARE) == []
    assert settings_of(replace(report, prior_gap_nats=9.0), BARE) == [["model.prior={family: vamp}"]]


def test_nothing_is_proposed_where_nothing_is_known(measured):
    unknown = replace(measured, verdict=Verdict(collapsed=None, text="Too few."))
    assert settings_of(unknown, BARE) == []
    assert diagnose(collapsed(measured)).remedies == []
    language_model = evaluate_model(small_model(latent_dim=0), WORDS, store_of(30), split="test")
    found = diagnose(language_model, BARE)
    assert (found.findings, found.units, found.remedies) == ([], None, [])
