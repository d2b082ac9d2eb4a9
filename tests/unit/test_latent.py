"""Mutual information, active units and the swap gap: closed forms and edges."""

import math

import numpy as np
import pytest
import torch
from evaluation_toys import WORDS, FixedCodes, LinearGaussian, small_model, store_of
from hypothesis import given
from hypothesis import strategies as st

from seqvae.data.batching import collate
from seqvae.data.store import TokenStore
from seqvae.evaluation.latent import (
    RunningMoments,
    derangement,
    encode_split,
    mutual_information,
    prior_gap,
    subset,
    swap_gap,
)
from seqvae.generation.codes import encode_store
from seqvae.models.posterior_gaussian import GaussianPosterior
from seqvae.models.prior import StandardPrior


def information(mean, std, **settings):
    store = TokenStore.from_texts(["a"] * len(mean), WORDS)
    return mutual_information(encode_split(FixedCodes(mean, std), store, **settings))


def normal(count, latent, scale=1.0, seed=0):
    return scale * torch.randn(count, latent, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("scale", "latent"), [(1.0, 1), (3.0, 1), (1.5, 2)])
def test_mi_of_a_gaussian_channel_is_half_log_one_plus_snr(scale, latent):
    found = information(normal(3000, latent, scale), std=1.0)
    assert found.nats == pytest.approx(latent * 0.5 * math.log(1 + scale**2), abs=4 * found.se + 0.02)
    assert found.sentences == 3000


def test_mi_of_well_separated_codes_reaches_its_ceiling_and_never_passes_it():
    found = information(100.0 * torch.arange(37.0)[:, None], std=0.1)
    assert found.ceiling_nats == math.log(37)
    assert found.nats == pytest.approx(math.log(37), abs=1e-4)
    assert found.nats <= found.ceiling_nats + 1e-6


def test_mi_of_codes_that_ignore_the_sentence_is_zero():
    assert information(torch.zeros(500, 4), std=1.0).nats == pytest.approx(0, abs=1e-5)


def test_mi_standard_error_matches_the_spread_over_seeds():
    estimates = [information(normal(400, 2), std=1.0, seed=seed) for seed in range(12)]
    spread = np.std([found.nats for found in estimates], ddof=1)
    assert 0.3 * estimates[0].se < spread < 2 * estimates[0].se


def test_mi_is_that_of_the_definition_written_out():
    mean = normal(23, 3)
    store = TokenStore.from_texts(["a"] * 23, WORDS)
    codes = encode_split(FixedCodes(mean, 0.6), store, seed=3)
    pairs = torch.distributions.Normal(mean.double(), 0.6).log_prob(codes.z.double()[:, None]).sum(-1)
    expected = (pairs.diagonal() - torch.logsumexp(pairs, 1) + math.log(23)).mean()
    assert mutual_information(codes).nats == pytest.approx(float(expected), abs=1e-5)


def test_mi_and_codes_do_not_depend_on_batch_size():
    model, store = small_model(), store_of(43)
    one, other = (encode_split(model, store, batch_tokens=size) for size in (11, 10_000))
    torch.testing.assert_close(one.z, other.z, rtol=1e-5, atol=1e-6)
    assert mutual_information(one).nats == pytest.approx(mutual_information(other).nats, abs=1e-4)
    assert one.active_units == other.active_units


def test_means_of_some_sentences_depend_neither_on_batch_size_nor_on_the_others():
    model, store, rows = small_model(), store_of(43), np.array([41, 3, 17, 8])
    one, other = (encode_store(model, store, batch_tokens=size).mean for size in (11, 10_000))
    assert one.shape == (43, 3)
    assert one == pytest.approx(other, abs=1e-6)
    assert encode_store(model, store, rows).mean == pytest.approx(one[rows], abs=1e-6)


def test_a_learned_prior_over_blocks_is_the_prior_over_all(monkeypatch):
    """The densities of a mixture by all its components for all sentences would not fit."""
    model, sizes = small_model(prior={"family": "mixture", "components": 7}), []
    whole = model.prior.log_prob
    codes = encode_split(model, store_of(43))
    expected = mutual_information(codes, model.prior)
    monkeypatch.setattr("seqvae.evaluation.latent._PRIOR_CODES", 5)
    monkeypatch.setattr(model.prior, "log_prob", lambda z: sizes.append(z.shape[1]) or whole(z))
    assert mutual_information(codes, model.prior).marginal_kl_nats == pytest.approx(expected.marginal_kl_nats, abs=1e-6)
    assert (max(sizes), sum(sizes)) == (5, 43)


def test_mi_over_blocks_is_the_mi_over_all(monkeypatch):
    codes = encode_split(small_model(), store_of(43), batch_tokens=64)
    whole = mutual_information(codes).nats
    monkeypatch.setattr("seqvae.evaluation.latent._PAIRWISE_ELEMENTS", 50)
    assert mutual_information(codes).nats == pytest.approx(whole, abs=1e-5)


def test_mi_of_a_large_split_is_taken_on_a_stated_subset():
    found = information(normal(300, 2), std=1.0, mi_sentences=70)
    assert found.sentences == 70
    assert found.ceiling_nats == math.log(70)
    assert subset(300, 70, seed=1).tolist() == sorted(set(subset(300, 70, seed=1).tolist()))
    assert subset(300, 70, seed=1).tolist() != subset(300, 70, seed=2).tolist()
    assert subset(5, 70, seed=1).tolist() == [0, 1, 2, 3, 4]


def test_mi_of_one_sentence_is_zero_without_an_error():
    found = information(torch.ones(1, 3), std=0.5)
    assert (found.nats, found.ceiling_nats, found.se) == (pytest.approx(0, abs=1e-6), 0.0, None)


def test_running_moments_are_those_of_the_whole_even_far_from_zero():
    mean = 1e4 + normal(100, 5).double()
    moments = RunningMoments(5)
    for part in mean.split(13):
        moments.add(GaussianPosterior(part, torch.zeros_like(part)))
    torch.testing.assert_close(moments.variance(), mean.var(0, correction=0), rtol=1e-7, atol=0)


def test_a_unit_is_active_when_its_mean_varies_by_a_hundredth():
    mean = torch.tensor([[-1.0], [1.0]]) * torch.tensor([0.0, 0.0999, 0.1001, 1.0])
    moments = RunningMoments(4)
    moments.add(GaussianPosterior(mean, torch.zeros_like(mean)))
    assert moments.active_units() == 2
    assert RunningMoments(4).active_units() is None


def test_active_units_are_none_for_a_family_without_spread_by_dimension():
    class Sphere(GaussianPosterior):
        std = None

    moments = RunningMoments(3)
    moments.add(Sphere(torch.eye(3), torch.zeros(3, 3)))
    assert moments.active_units() is None


@given(st.integers(2, 200), st.integers(0, 10**6))
def test_a_derangement_moves_every_row_and_loses_none(count, seed):
    partner = derangement(count, seed)
    assert (partner != np.arange(count)).all()
    assert sorted(partner.tolist()) == list(range(count))


def test_swap_gap_of_a_linear_model_is_its_closed_form():
    """With z = m + s e of its own and z' of another: E|W(z' - z)|^2 / 2 v plus the cross term with the residual."""
    model, store = LinearGaussian(rows=4000), store_of(4000)
    gap = swap_gap(model, store, encode_split(model, store))
    squares = model.weight.detach().square().sum(0)
    information = squares / model.variance
    # Exact posterior: own z and x are jointly Gaussian, z' is an independent draw of the prior; per dimension the
    # expected rise is Cov(z, W^T x) / v = squares / v.
    assert gap.nats == pytest.approx(float(information.sum()), abs=4 * gap.se)
    assert gap.se < 0.2


def test_swap_gap_is_zero_where_the_decoder_ignores_the_code():
    model, store = small_model(), store_of(30)
    with torch.no_grad():
        model.decoder.state.weight.zero_()
        model.decoder.lstm.weight_ih_l0[:, model.decoder.config.embedding :] = 0.0
    gap = swap_gap(model, store, encode_split(model, store))
    assert gap.nats == pytest.approx(0, abs=1e-5)


def test_swap_gap_does_not_depend_on_batch_size_and_sees_a_decoder_that_uses_the_code():
    model, store = small_model(scale=1.5), store_of(30)
    codes = encode_split(model, store)
    one, other = (swap_gap(model, store, codes, batch_tokens=size) for size in (13, 10_000))
    assert one.nats == pytest.approx(other.nats, abs=1e-4)
    assert abs(one.nats) > 1e-3


def test_swap_gap_of_a_single_sentence_is_none_and_of_two_is_defined():
    model = small_model()
    for count, defined in ((1, False), (2, True)):
        store = store_of(count)
        gap = swap_gap(model, store, encode_split(model, store))
        assert (gap is not None and math.isfinite(gap.nats)) == defined


def test_latent_measures_leave_random_state_and_modes_alone():
    model, store = small_model(), store_of(9)
    before = torch.get_rng_state()
    codes = encode_split(model, store)
    mutual_information(codes)
    swap_gap(model, store, codes)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training


def test_codes_of_a_noiseless_autoencoder_are_its_means():
    model, store = small_model(), store_of(9)
    noisy, plain = (encode_split(model, store, noiseless=flag) for flag in (False, True))
    assert not torch.allclose(noisy.z, plain.z)
    means = torch.zeros_like(plain.z)
    for rows, q in zip(plain.rows, plain.posteriors, strict=True):
        means[torch.from_numpy(rows)] = q.mean
    torch.testing.assert_close(plain.z, means)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.5, 0.7)])
def test_marginal_kl_of_a_gaussian_channel_is_its_closed_form(scale, shift):
    """z = shift + scale n + e with n, e ~ N(0, 1) is N(shift, 1 + scale^2)."""
    mean = shift + normal(4000, 1, scale, seed=3)
    store = TokenStore.from_texts(["a"] * 4000, WORDS)
    found = mutual_information(encode_split(FixedCodes(mean, 1.0), store), StandardPrior(1))
    variance = 1 + scale**2
    expected = 0.5 * (variance + shift**2 - 1 - math.log(variance))
    assert found.marginal_kl_nats == pytest.approx(expected, abs=4 * found.marginal_kl_se)
    assert found.marginal_kl_se < 0.03


def test_mi_and_marginal_kl_sum_to_the_kl_at_the_same_samples():
    model, store = LinearGaussian(rows=70), store_of(70)
    model.shift = 0.4
    codes = encode_split(model, store)
    found = mutual_information(codes, model.prior)
    q = model.encode(collate(store, np.concatenate(codes.rows)))
    kl = (q.log_prob(codes.own()[None]) - model.prior.log_prob(codes.own()[None])).mean()
    assert found.nats + found.marginal_kl_nats == pytest.approx(kl.item(), abs=1e-4)
    assert mutual_information(codes).marginal_kl_nats is None


def test_prior_gap_of_an_exact_posterior_is_the_swap_gap_in_expectation():
    """Codes of other sentences are draws of the prior then, and the closed form is that of the swap gap."""
    model, store = LinearGaussian(rows=4000), store_of(4000)
    gap = prior_gap(model, store, encode_split(model, store), seed=1)
    expected = float((model.weight.detach().square().sum(0) / model.variance).sum())
    assert gap.nats == pytest.approx(expected, abs=4 * gap.se)


def test_prior_gap_sees_a_prior_that_draws_from_where_no_sentence_lies():
    model, store = LinearGaussian(rows=500), store_of(500)
    codes = encode_split(model, store)
    before = prior_gap(model, store, codes).nats
    model.prior.sample = lambda n, generator: 5.0 + torch.randn(n, 2, generator=generator)
    assert prior_gap(model, store, codes).nats > before + 10


def test_prior_gap_does_not_depend_on_batch_size():
    model, store = small_model(scale=1.5), store_of(30)
    codes = encode_split(model, store)
    one, other = (prior_gap(model, store, codes, batch_tokens=size) for size in (13, 10_000))
    assert one.nats == pytest.approx(other.nats, abs=1e-4)
    assert one.nats != pytest.approx(swap_gap(model, store, codes).nats, abs=1e-4)
