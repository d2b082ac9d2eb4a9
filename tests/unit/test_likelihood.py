"""-ELBO and the importance-weighted bound: closed forms, invariances, and what evaluation must leave alone."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from evaluation_toys import WORDS, LinearGaussian, small_model, store_of

import seqvae.evaluation.likelihood as likelihood
from seqvae.data.batching import collate
from seqvae.data.store import TokenStore
from seqvae.errors import SeqVAEError
from seqvae.evaluation.likelihood import autoencoder_rec, elbo_and_iw, perplexity, quick_metrics
from seqvae.evaluation.passes import draw_by_row, evaluating
from seqvae.models.posterior_gaussian import GaussianPosterior

LARGE = 10**6


def test_with_the_exact_posterior_every_bound_is_the_evidence():
    model, store = LinearGaussian(rows=19), store_of(19)
    for samples in (1, 7):
        found = elbo_and_iw(model, store, samples=samples)
        np.testing.assert_allclose(found.iw, model.evidence(), atol=1e-4)
        np.testing.assert_allclose(found.elbo, model.evidence(), atol=1e-4)


def test_with_a_wrong_posterior_iw_falls_to_the_evidence_as_samples_grow():
    model, store = LinearGaussian(rows=400), store_of(400)
    model.shift, model.widen = 0.4, 1.7
    truth = model.evidence().mean()
    gaps = [elbo_and_iw(model, store, samples=k).iw.mean() - truth for k in (1, 8, 64, 512)]
    assert gaps[0] > gaps[1] > gaps[2] > gaps[3]
    assert gaps[0] > 0.2
    assert abs(gaps[3]) < 0.01


def test_elbo_of_a_wrong_posterior_is_the_evidence_plus_the_divergence_of_the_posteriors():
    model, store = LinearGaussian(rows=11), store_of(11)
    batch = collate(store, np.arange(11))
    exact = model.encode(batch)
    model.shift, model.widen = 0.3, 1.4
    wrong = model.encode(batch)
    normals = [torch.distributions.Normal(q.mean, q.std) for q in (wrong, exact)]
    slack = torch.distributions.kl_divergence(*normals).sum(-1).detach().numpy()
    found = elbo_and_iw(model, store, samples=20_000, batch_tokens=LARGE)
    np.testing.assert_allclose(found.elbo, model.evidence() + slack, atol=0.05)
    np.testing.assert_allclose(found.kl, found.kl_analytic, atol=0.05)


def test_analytic_kl_is_that_of_torch_distributions_in_all_and_by_dimension():
    model, store = small_model(), store_of(13)
    found = elbo_and_iw(model, store, samples=2)
    with evaluating(model):
        q = model.encode(collate(store, np.arange(13)))
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(q.mean, q.std), torch.distributions.Normal(0.0, 1.0)
    )
    np.testing.assert_allclose(found.kl_analytic, expected.sum(-1).numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.kl_dims, expected.mean(0).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("samples", [1, 2, 33])
def test_iw_is_at_most_elbo_sentence_by_sentence_and_elbo_is_rec_plus_kl(samples):
    found = elbo_and_iw(small_model(scale=1.0), store_of(50), samples=samples)
    assert (found.iw <= found.elbo).all()
    np.testing.assert_array_equal(found.elbo, found.rec + found.kl)
    if samples == 1:
        np.testing.assert_allclose(found.iw, found.elbo, rtol=1e-12)
    else:
        assert (found.iw < found.elbo - 1e-6).all()


def test_the_bound_is_that_of_the_log_weights_computed_at_once():
    model, store, rows = small_model(), store_of(9), np.array([3, 7, 5])
    found = elbo_and_iw(model, store, samples=23, seed=4, batch_tokens=48)
    with evaluating(model):
        batch = collate(store, rows)
        q = model.encode(batch)
        terms = model.terms(batch, q=q, z=draw_by_row(q, 23, rows, 4).z)
        weights = (-terms.rec - terms.log_q + terms.log_p).double()
    np.testing.assert_allclose(found.elbo[rows], -weights.mean(0).numpy(), rtol=1e-5)
    np.testing.assert_allclose(found.iw[rows], math.log(23) - torch.logsumexp(weights, 0).numpy(), rtol=1e-5)


@pytest.mark.parametrize("batch_tokens", [1, 37, 300, LARGE])
def test_results_do_not_depend_on_the_size_of_batches_or_chunks(batch_tokens):
    model, store = small_model(), store_of(17)
    reference, other = (elbo_and_iw(model, store, samples=21, batch_tokens=size) for size in (1000, batch_tokens))
    for name in ("rec", "kl", "elbo", "iw", "kl_analytic", "kl_dims"):
        np.testing.assert_allclose(getattr(other, name), getattr(reference, name), rtol=2e-5, atol=1e-5, err_msg=name)


def test_many_samples_are_drawn_in_blocks_whose_noise_is_new_and_belongs_to_the_row(monkeypatch):
    """Memory does not grow with k, and the results still do not depend on the size of batches."""
    drawn = []
    rsample = GaussianPosterior.rsample

    def counted(self, samples, generator=None):
        drawn.append(rsample(self, samples, generator))
        return drawn[-1]

    monkeypatch.setattr(GaussianPosterior, "rsample", counted)
    model, store = small_model(), store_of(17)
    whole = elbo_and_iw(model, store, samples=100)
    assert {len(z) for z in drawn} == {100}
    drawn.clear()
    monkeypatch.setattr(likelihood, "_NOISE_ELEMENTS", 3 * 8 + 1)
    found = elbo_and_iw(model, store, samples=100)
    assert max(z.numel() for z in drawn) == 3 * 8
    assert sum(len(z) for z in drawn) == 17 * 100
    every = torch.cat([z.flatten() for z in drawn])
    assert len(every.unique()) == len(every)
    for batch_tokens in (1, 37, LARGE):
        other = elbo_and_iw(model, store, samples=100, batch_tokens=batch_tokens)
        for name in ("rec", "kl", "elbo", "iw"):
            np.testing.assert_allclose(getattr(other, name), getattr(found, name), rtol=2e-5, atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(found.kl_analytic, whole.kl_analytic)
    assert found.iw.mean() == pytest.approx(whole.iw.mean(), abs=0.05)


def test_noise_belongs_to_the_row_whatever_the_company_and_order():
    q = GaussianPosterior(torch.arange(10.0).view(5, 2), torch.zeros(5, 2))
    rows = np.array([4, 8, 15, 16, 23])
    whole = draw_by_row(q, 3, rows, seed=1).z
    order = np.array([3, 0, 4])
    torch.testing.assert_close(draw_by_row(q[torch.from_numpy(order)], 3, rows[order], seed=1).z, whole[:, order])
    assert not torch.equal(draw_by_row(q, 3, rows, seed=2).z, whole)
    noise = (whole - q.mean)[0]
    assert len({tuple(row) for row in noise.tolist()}) == 5


def test_noise_of_neighbouring_rows_and_seeds_is_standard_normal_and_uncorrelated():
    q = GaussianPosterior(torch.zeros(3000, 1), torch.zeros(3000, 1))
    noise = torch.stack([draw_by_row(q, 1, np.arange(3000), seed).z[0, :, 0] for seed in (0, 1)])
    assert abs(float(noise.mean())) < 0.06
    assert abs(float(noise.var()) - 1) < 0.08
    assert abs(float(torch.corrcoef(noise)[0, 1])) < 0.08
    assert abs(float(torch.corrcoef(torch.stack([noise[0, 1:], noise[0, :-1]]))[0, 1])) < 0.08


def test_evaluation_leaves_the_random_state_and_every_module_mode_as_they_were():
    model, store = small_model(), store_of(7)
    model.train()
    model.encoder.eval()
    before, modes = torch.get_rng_state(), [module.training for module in model.modules()]
    elbo_and_iw(model, store, samples=3)
    quick_metrics(model, store)
    assert torch.equal(torch.get_rng_state(), before)
    assert [module.training for module in model.modules()] == modes


def test_modes_come_back_when_evaluation_fails():
    model = small_model()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
    with pytest.raises(RuntimeError, match="stop"), evaluating(model):
        raise RuntimeError("stop")
    assert model.training
    assert torch.is_grad_enabled()


def test_dropout_is_off_during_evaluation():
    model, store = small_model(), store_of(7)
    assert quick_metrics(model, store) == quick_metrics(model, store)


def test_a_language_model_is_scored_exactly():
    model, store = small_model(latent_dim=0), store_of(21)
    found = elbo_and_iw(model, store, samples=500)
    assert found.kl is None
    assert found.kl_analytic is None
    assert found.kl_dims is None
    assert found.samples == 1
    np.testing.assert_array_equal(found.iw, found.rec)
    np.testing.assert_array_equal(found.elbo, found.rec)
    np.testing.assert_allclose(found.rec, _nll_by_stepping(model, store), rtol=1e-4)


def _nll_by_stepping(model, store):
    nll = np.zeros(len(store))
    with evaluating(model):
        for row in range(len(store)):
            z, ids = torch.zeros(1, 0), store[row].tolist()
            state = model.decoder.start(z)
            for token, target in pairwise(ids):
                logits, state = model.decoder.step(torch.tensor([token]), z, state)
                nll[row] -= float(torch.log_softmax(logits, -1)[0, target])
    return nll


def test_perplexity_counts_eos_and_not_bos():
    model = small_model(latent_dim=0, scale=0.0)  # every token has probability 1/V
    store = TokenStore.from_texts(["a b c", "", "d"], WORDS)
    found = elbo_and_iw(model, store)
    assert found.tokens.tolist() == [4, 1, 2]
    assert perplexity(float(found.iw.sum()), int(found.tokens.sum())) == pytest.approx(WORDS.vocab_size, rel=1e-5)
    assert quick_metrics(model, store)["tokens"] == 7
    assert quick_metrics(model, store)["ppl_elbo"] == pytest.approx(WORDS.vocab_size, rel=1e-5)


def test_perplexity_beyond_a_float_is_none():
    assert perplexity(1e6, 3) is None


@pytest.mark.parametrize(
    "lines", [[""], ["a"], ["", ""], ["a b", "c"], ["e f g"] * 30], ids=["empty", "one", "empties", "two", "equal"]
)
def test_degenerate_splits_are_defined_and_finite(lines):
    store = TokenStore.from_texts(lines, WORDS)
    found = elbo_and_iw(small_model(), store, samples=5)
    assert all(np.isfinite(values).all() for values in (found.rec, found.kl, found.elbo, found.iw, found.kl_dims))
    assert all(math.isfinite(value) for value in quick_metrics(small_model(), store).values())


def test_in_bf16_only_what_the_decoder_says_is_rounded():
    model, store = small_model(scale=1.0), store_of(23)
    exact, rounded = (elbo_and_iw(model, store, samples=5, bf16=bf16) for bf16 in (False, True))
    np.testing.assert_array_equal(rounded.kl, exact.kl)
    np.testing.assert_array_equal(rounded.kl_analytic, exact.kl_analytic)
    assert (rounded.rec != exact.rec).any()
    for name in ("rec", "iw"):
        np.testing.assert_allclose(getattr(rounded, name), getattr(exact, name), rtol=0.01)


def test_no_samples_are_refused():
    with pytest.raises(SeqVAEError, match="E230"):
        elbo_and_iw(small_model(), store_of(3), samples=0)


def test_progress_counts_every_sentence_once():
    seen = []
    elbo_and_iw(
        small_model(),
        store_of(29),
        samples=2,
        batch_tokens=40,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (29, 29)
    assert len(seen) > 3
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_quick_metrics_agree_with_the_full_evaluation():
    model, store = small_model(), store_of(31)
    quick, full = quick_metrics(model, store, seed=5), elbo_and_iw(model, store, samples=1, seed=5)
    assert quick["rec_nats"] == pytest.approx(full.rec.mean(), rel=1e-5)
    assert quick["kl_nats"] == pytest.approx(full.kl_analytic.mean(), rel=1e-5)
    assert quick["elbo_nats"] == quick["rec_nats"] + quick["kl_nats"]
    assert quick["sentences"] == 31
    assert quick["ppl_elbo"] == pytest.approx(math.exp(quick["elbo_nats"] * 31 / store.stats.tokens))


def test_quick_metrics_of_a_language_model_have_no_latent_quantity():
    quick = quick_metrics(small_model(latent_dim=0), store_of(6))
    assert quick["kl_nats"] is None
    assert quick["active_units"] is None
    assert quick["elbo_nats"] == quick["rec_nats"]


def test_a_noiseless_autoencoder_is_scored_at_its_mean_and_has_no_bound():
    model, store = small_model(), store_of(12)
    quick, (rec, tokens) = quick_metrics(model, store, noiseless=True), autoencoder_rec(model, store)
    assert (quick["elbo_nats"], quick["kl_nats"], quick["ppl_elbo"]) == (None, None, None)
    with evaluating(model):
        batch = collate(store, np.arange(12))
        q = model.encode(batch)
        sharp = replace(q, logvar=torch.full_like(q.logvar, -30.0))
        expected = model.terms(batch, q=sharp, generator=torch.Generator().manual_seed(0)).rec[0].numpy()
    np.testing.assert_allclose(rec, expected, rtol=1e-4)
    assert quick["rec_nats"] == pytest.approx(rec.mean(), rel=1e-5)
    assert tokens.sum() == store.stats.tokens
