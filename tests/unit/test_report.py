"""The report of an evaluation and its verdict: what is in it, when it is null, how it reads."""

import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from evaluation_toys import WORDS, small_model, store_of, texts
from rich.console import Console

from seqvae.data.store import TokenStore
from seqvae.errors import SeqVAEError
from seqvae.evaluation.likelihood import elbo_and_iw
from seqvae.evaluation.report import EvalConfig, evaluate_model
from seqvae.evaluation.verdict import Evidence, judge
from seqvae.objectives.registry import strategy_types

CONFIG = EvalConfig(iw_samples=7, batch_tokens=500)
PROMISED = {
    *("split", "sentences", "tokens", "elbo_nats", "rec_nats", "kl_nats", "iw_nats", "iw_samples", "ppl_iw"),
    *("ppl_elbo", "mi_nats", "mi_ceiling_nats", "active_units", "latent_dim", "swap_gap_nats", "token_accuracy"),
    *("bleu", "exact_match", "verdict"),
}


def report(model, store, **settings):
    return evaluate_model(model, WORDS, store, split="test", config=CONFIG, **settings)


def test_a_report_is_strict_json_with_every_promised_number():
    found = report(small_model(), store_of(40)).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found.keys() >= PROMISED
    assert found["verdict"].keys() >= {"collapsed", "text"}
    assert found["split"] == "test"
    assert found["sentences"] == 40
    assert found["iw_samples"] == 7
    assert found["latent_dim"] == len(found["kl_dims_nats"]) == 3
    assert None not in [found[name] for name in PROMISED]


def test_the_numbers_are_tied_by_their_definitions():
    store = store_of(40)
    found = report(small_model(), store)
    assert found.elbo_nats == pytest.approx(found.rec_nats + found.kl_nats, abs=1e-9)
    assert found.iw_nats < found.elbo_nats
    assert found.tokens == store.stats.tokens
    assert found.ppl_iw == pytest.approx(math.exp(found.iw_nats * 40 / found.tokens))
    assert found.ppl_elbo == pytest.approx(math.exp(found.elbo_nats * 40 / found.tokens))
    assert found.nats_per_word == pytest.approx(found.iw_nats * 40 / store.stats.words)
    assert found.nats_per_character == pytest.approx(found.iw_nats * 40 / store.stats.characters)
    assert found.kl_analytic_nats == pytest.approx(sum(found.kl_dims_nats), rel=1e-4)
    assert found.mi_nats <= found.mi_ceiling_nats == math.log(40)
    each = elbo_and_iw(small_model(), store, samples=7)
    assert found.iw_se == pytest.approx(each.iw.std(ddof=1) / math.sqrt(40), rel=1e-4)
    assert found.elbo_se == pytest.approx(each.elbo.std(ddof=1) / math.sqrt(40), rel=1e-4)


def test_bounds_in_bf16_are_said_to_be_so():
    model, store = small_model(scale=1.0), store_of(40)
    exact = report(model, store)
    rounded = evaluate_model(model, WORDS, store, split="test", config=CONFIG.model_copy(update={"precision": "bf16"}))
    assert (exact.precision, rounded.precision) == ("fp32", "bf16")
    assert "bf16" in rounded.title
    assert "bf16" not in exact.title
    assert rounded.iw_nats != exact.iw_nats
    assert rounded.iw_nats == pytest.approx(exact.iw_nats, rel=0.01)
    same = ("kl_analytic_nats", "mi_nats", "swap_gap_nats", "bleu")  # not of the bounds
    assert [getattr(rounded, name) for name in same] == [getattr(exact, name) for name in same]


def test_a_language_model_has_a_likelihood_and_no_latent_numbers():
    found = report(small_model(latent_dim=0), store_of(30))
    latent = ["kl_nats", "kl_analytic_nats", "kl_dims_nats", "mi_nats", "mi_se", "mi_ceiling_nats", "active_units"]
    latent += ["swap_gap_nats", "swap_gap_se", "bleu", "bleu_signature", "exact_match", "reconstructions"]
    assert [getattr(found, name) for name in latent] == [None] * len(latent)
    assert found.elbo_nats == found.rec_nats == found.iw_nats
    assert found.ppl_iw == found.ppl_elbo
    assert found.verdict.collapsed is None
    assert "language model" in found.verdict.text
    assert 0 <= found.token_accuracy <= 1


def test_a_noiseless_autoencoder_has_no_likelihood_and_no_information():
    found = report(small_model(), store_of(30), noiseless=True)
    absent = ["elbo_nats", "kl_nats", "kl_analytic_nats", "kl_dims_nats", "iw_nats", "iw_samples", "ppl_iw", "ppl_elbo"]
    absent += ["mi_nats", "mi_ceiling_nats", "nats_per_word", "nats_per_character", "elbo_se", "iw_se"]
    assert [getattr(found, name) for name in absent] == [None] * len(absent)
    assert found.rec_nats > 0
    assert found.bleu is not None
    assert found.swap_gap_nats is not None
    assert found.verdict.collapsed is None
    assert "autoencoder" in found.verdict.text


def test_evaluation_changes_neither_random_state_nor_modes_nor_weights():
    model, store = small_model(), store_of(25)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = report(model, store), report(model, store)
    assert first == second
    assert torch.equal(torch.get_rng_state(), before)
    assert np.random.get_state()[1].tolist() == numpy_before
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_results_do_not_depend_on_batch_size_or_on_the_order_of_sentences():
    lines = texts(33, seed=4)
    model = small_model()
    reference = report(model, TokenStore.from_texts(lines, WORDS))
    for name in ("elbo_nats", "iw_nats", "mi_nats", "swap_gap_nats", "token_accuracy", "bleu"):
        small = evaluate_model(
            model,
            WORDS,
            TokenStore.from_texts(lines, WORDS),
            split="test",
            config=CONFIG.model_copy(update={"batch_tokens": 30}),
        )
        assert getattr(small, name) == pytest.approx(getattr(reference, name), rel=1e-4, abs=1e-5)
    # The noise follows the row, so another order changes sampled numbers a little and exact ones not at all.
    turned = report(model, TokenStore.from_texts(lines[::-1], WORDS))
    for name in ("kl_analytic_nats", "token_accuracy", "bleu", "exact_match", "unknown_rate"):
        assert getattr(turned, name) == pytest.approx(getattr(reference, name), rel=1e-5)
    assert turned.elbo_nats == pytest.approx(reference.elbo_nats, rel=0.05)


@pytest.mark.parametrize(
    "lines",
    [[""], ["a"], ["", ""], ["a b", ""], ["xyzzy"], ["e f g"] * 25],
    ids=lambda lines: f"{len(lines)}-{lines[0]}",
)
@pytest.mark.parametrize("latent_dim", [0, 3])
def test_degenerate_splits_give_finite_numbers_or_null(lines, latent_dim):
    found = report(small_model(latent_dim=latent_dim), TokenStore.from_texts(lines, WORDS))
    json.dumps(found.to_dict(), allow_nan=False)
    assert found.iw_nats > 0
    assert found.unknown_rate == (1.0 if lines == ["xyzzy"] else 0.0)
    if latent_dim and len(lines) < 20:
        assert found.verdict.collapsed is None
        assert "few" in found.verdict.text


def test_an_empty_split_and_a_diverged_model_are_refused():
    with pytest.raises(SeqVAEError, match="E330"):
        report(small_model(), TokenStore.from_texts([], WORDS))
    for latent_dim, noiseless in ((0, False), (3, False), (3, True)):
        broken = small_model(latent_dim=latent_dim)
        with torch.no_grad():
            broken.decoder.output_bias[4] = math.nan
        with pytest.raises(SeqVAEError, match="E531"):
            report(broken, store_of(5), noiseless=noiseless)


def test_the_report_reads_well_as_a_table_without_colour():
    out = io.StringIO()
    Console(file=out, width=120, no_color=True).print(report(small_model(), store_of(30)))
    text = out.getvalue()
    for expected in (
        "test split",
        "-ELBO",
        "IW-NLL",
        "PPL (IW)",
        "MI ceiling",
        "swap gap",
        "exact match",
        "KL by dimension",
    ):
        assert expected in text
    assert max(map(len, text.splitlines())) <= 120


def test_settings_are_checked():
    for bad in ({"iw_samples": 0}, {"batch_tokens": 0}, {"unknown": 1}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            EvalConfig(**bad)


HEALTHY = Evidence(
    sentences=2000,
    latent_dim=16,
    kl_nats=4.5,
    mi_nats=4.1,
    mi_se=0.04,
    mi_ceiling_nats=7.6,
    active_units=15,
    swap_gap_nats=3.2,
    swap_gap_se=0.06,
)


def test_a_code_in_use_is_not_collapsed_and_needs_nothing():
    verdict = judge(HEALTHY)
    assert verdict.collapsed is False
    assert verdict.next is None
    assert "3.20 nats" in verdict.text
    assert len(verdict.evidence) == 4


def test_no_kl_is_collapse():
    verdict = judge(replace(HEALTHY, kl_nats=0.01, mi_nats=0.0, active_units=0, swap_gap_nats=0.0))
    assert verdict.collapsed is True
    assert "prior" in verdict.text
    assert "free_bits" in verdict.next


def test_what_is_advised_suits_a_kl_that_does_not_split_by_dimension():
    gone = replace(HEALTHY, kl_nats=0.01, mi_nats=0.0, active_units=None, swap_gap_nats=0.0)
    assert "variant" not in judge(gone).next
    assert "{name: free_bits, variant: mean_total, nats_per_dim: 0.31}" in judge(replace(gone, kl_splits=False)).next


@pytest.mark.parametrize("kl_nats", [0.01, 7.2])
def test_where_kappa_fixes_the_kl_a_larger_kappa_is_advised_and_no_free_bits(kl_nats):
    gone = replace(HEALTHY, kl_nats=kl_nats, mi_nats=0.0, active_units=None, swap_gap_nats=0.0, kl_splits=False)
    advice = judge(replace(gone, kappa=30.0)).next
    assert "--set model.posterior.kappa=60" in advice
    assert "free" not in advice


def test_the_report_of_a_spherical_model_knows_its_kappa():
    blind = small_model(posterior={"family": "vmf", "kappa": 0.01}, prior={"family": "sphere"})
    assert "model.posterior.kappa=0.02" in report(blind, store_of(30)).verdict.next


def test_a_rate_without_information_is_collapse():
    verdict = judge(replace(HEALTHY, kl_nats=6.0, mi_nats=0.05, swap_gap_nats=0.01))
    assert verdict.collapsed is True
    assert "6.00 nats" in verdict.text
    assert "word_dropout" in verdict.next


def test_information_that_the_decoder_ignores_is_collapse():
    verdict = judge(replace(HEALTHY, swap_gap_nats=0.02))
    assert verdict.collapsed is True
    assert "decoder" in verdict.text


SMALL, ROUGH, WEAK, CLEAR = (0.05, 0.01), (-0.1, 0.8), (1.5, 0.8), (1.5, 0.1)


@pytest.mark.parametrize(
    ("mi", "gap", "collapsed"),
    [
        (SMALL, SMALL, True),
        (SMALL, WEAK, True),
        (SMALL, CLEAR, True),
        (WEAK, SMALL, True),
        (WEAK, WEAK, None),
        (WEAK, CLEAR, None),
        (CLEAR, SMALL, True),
        (CLEAR, WEAK, None),
        (CLEAR, CLEAR, False),
        (ROUGH, CLEAR, None),
        (CLEAR, ROUGH, None),
        (SMALL, ROUGH, True),
        (CLEAR, (0.1, 0.05), False),
        (CLEAR, (1.5, None), False),
    ],
)
def test_collapse_needs_a_quantity_that_is_small_in_itself_and_use_needs_both_beyond_chance(mi, gap, collapsed):
    seen = replace(HEALTHY, mi_nats=mi[0], mi_se=mi[1], swap_gap_nats=gap[0], swap_gap_se=gap[1])
    verdict = judge(seen)
    assert verdict.collapsed is collapsed
    if collapsed is None:
        assert ("MI" in verdict.text, "swap gap" in verdict.text) == (mi in (ROUGH, WEAK), gap in (ROUGH, WEAK))
        assert "more sentences" in verdict.next


def test_few_live_units_are_partial_use_with_a_hint():
    verdict = judge(replace(HEALTHY, active_units=2))
    assert verdict.collapsed is False
    assert "2 of 16" in verdict.text
    assert "latent_dim" in verdict.next


UNHAPPY = {
    "idle": replace(HEALTHY, kl_nats=0.01, mi_nats=0.0, active_units=0, swap_gap_nats=0.0),
    "empty rate": replace(HEALTHY, mi_nats=0.05, swap_gap_nats=0.01),
    "ignored": replace(HEALTHY, swap_gap_nats=0.02),
    "partial": replace(HEALTHY, active_units=2),
}


@pytest.mark.parametrize("seen", UNHAPPY.values(), ids=UNHAPPY.keys())
def test_every_advice_can_be_followed_to_the_letter(seen):
    advice = judge(seen).next
    strategies = re.findall(r"{.*?}", advice)
    recipes = re.findall(r"--config (\S+\.yaml)", advice)
    assert strategies or recipes
    for text in strategies:
        settings = yaml.safe_load(text)
        strategy_types()[settings["name"]].Config(**settings)
    for recipe in recipes:
        assert (Path(__file__).parents[2] / "configs" / recipe).is_file()


def test_information_at_its_ceiling_is_said_to_be():
    assert "ceiling" in judge(replace(HEALTHY, mi_nats=7.5)).text


def test_a_family_without_mi_is_judged_by_the_swap_gap():
    without = replace(HEALTHY, mi_nats=None, mi_se=None, mi_ceiling_nats=None, active_units=None)
    assert judge(without).collapsed is False
    assert judge(replace(without, swap_gap_nats=0.0)).collapsed is True
