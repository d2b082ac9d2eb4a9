"""Gaussian posteriors whose parameters are tied down, so that the KL cannot vanish."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from model_toys import LATENT, batch_of, rows_of, tiny_vae
from torch.distributions import Normal, kl_divergence

from seqvae.config import Config
from seqvae.errors import SeqVAEError
from seqvae.evaluation.passes import evaluating
from seqvae.models.posterior_batchnorm import BatchNormHead, BatchNormPosteriorConfig
from seqvae.models.posterior_delta import MOST_NATS_PER_DIM, DeltaHead, DeltaPosteriorConfig, largest_logvar
from seqvae.models.prior_standard import StandardPrior

FEATURES, SENTENCES = 7, 11


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


def features(count=SENTENCES, seed=0):
    return torch.randn(count, FEATURES, generator=noise(seed))


class TestBatchNorm:
    GAMMA = 0.7

    def head(self, seed=0):
        torch.manual_seed(seed)
        return BatchNormHead(BatchNormPosteriorConfig(gamma=self.GAMMA), FEATURES, LATENT)

    def test_the_mean_has_the_moments_that_were_asked_for(self):
        head = self.head()
        with torch.no_grad():
            head.beta.copy_(torch.tensor([0.3, 0.0, -2.0]))
        mean = head(features()).mean.double()
        torch.testing.assert_close(mean.mean(0), head.beta.double(), rtol=1e-4, atol=1e-6)
        assert mean.std(0, correction=0).tolist() == pytest.approx([self.GAMMA] * LATENT, rel=1e-3)

    @torch.no_grad()
    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("beta", [0.0, 0.9])
    def test_the_expected_kl_has_its_lower_bound_whatever_the_encoder_says(self, seed, beta):
        head = self.head(seed)
        with torch.no_grad():
            head.linear.weight.mul_(10.0 ** (seed - 2))
            head.beta.fill_(beta)
        given = features(seed=seed)
        q = head(given)
        raw = head.linear(given)[:, :LATENT]
        share = raw.var(0, correction=0) / (raw.var(0, correction=0) + head.norm.eps)
        bound = float((self.GAMMA**2 * share + beta**2).sum()) / 2
        assert float(q.kl(StandardPrior(LATENT))[0].mean()) >= bound * (1 - 1e-5)

    @torch.no_grad()
    def test_an_encoder_cannot_slip_under_the_bound_by_saying_it_softly(self):
        """Batch normalisation divides by sqrt(variance + eps): outputs far below sqrt(eps) would not be normalised."""
        head = self.head()
        head.linear.weight.mul_(1e-3)
        q = head(torch.randn(37, FEATURES, generator=torch.Generator().manual_seed(3)))
        assert float(q.kl(StandardPrior(LATENT))[0].mean()) >= 0.999 * LATENT * self.GAMMA**2 / 2

    def test_the_bound_is_reached_by_a_posterior_of_unit_variance(self):
        head = self.head()
        with torch.no_grad():
            head.linear.weight[LATENT:] = 0
            kl = float(head(features()).kl(StandardPrior(LATENT))[0].mean())
        assert kl == pytest.approx(LATENT * self.GAMMA**2 / 2, rel=1e-3)

    def test_gamma_is_not_trained_and_beta_is(self):
        assert {name for name, _ in self.head().named_parameters()} == {"linear.weight", "beta"}

    def test_evaluation_uses_the_running_averages_and_leaves_them(self):
        model = tiny_vae(posterior=BatchNormPosteriorConfig(gamma=self.GAMMA)).train()
        for seed in range(4):
            model.amortised(batch_of(seed=seed))
        before = copy.deepcopy(model.state_dict())
        batch = batch_of(seed=9)
        with evaluating(model):
            together = model.encode(batch).mean
            alone = torch.cat([model.encode(rows_of(batch, [row])).mean for row in range(len(batch))])
        torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
        after = model.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)
        model.amortised(batch)
        assert not torch.equal(before["posterior.norm.running_mean"], model.posterior.norm.running_mean)

    def test_a_batch_of_one_sentence_is_normalised_by_the_running_averages(self):
        head = self.head()
        head(features())
        before = copy.deepcopy(head.state_dict())
        mean = head(features(1, seed=3)).mean
        torch.testing.assert_close(mean, head.eval()(features(1, seed=3)).mean)
        assert all(torch.equal(before[name], tensor) for name, tensor in head.state_dict().items())

    def test_batches_of_one_sentence_throughout_are_refused(self):
        with pytest.raises(SeqVAEError, match=r"batchnorm needs data\.batch_size 2 or more"):
            Config.from_dict({}, ["model.posterior.family=batchnorm", "data.batch_size=1"])
        assert Config.from_dict({}, ["data.batch_size=1"]).data.batch_size == 1

    def test_a_reset_forgets_the_running_averages_and_beta(self):
        model = tiny_vae(posterior=BatchNormPosteriorConfig(gamma=self.GAMMA)).train()
        model.amortised(batch_of())
        model.reset("encoder")
        assert not model.posterior.norm.running_mean.any()
        assert (model.posterior.norm.running_var == 1).all()
        assert not model.posterior.beta.any()


class TestDelta:
    @pytest.mark.parametrize("nats", [1e-4, 0.003, 0.1, 1.0, 7.0])
    def test_the_largest_variance_has_the_rate_that_was_asked_for(self, nats):
        logvar = largest_logvar(nats)
        assert -(2 * nats + 1) <= logvar < 0
        q, prior = Normal(torch.tensor(0.0).double(), math.exp(0.5 * logvar)), Normal(torch.tensor(0.0).double(), 1.0)
        assert float(kl_divergence(q, prior)) == pytest.approx(nats, rel=1e-9)

    @given(st.integers(0, 10**6), st.floats(-4, 5), st.sampled_from([1, 3, 32]), st.floats(0.05, MOST_NATS_PER_DIM))
    def test_no_encoder_gets_below_the_minimum_rate(self, seed, scale, latent, delta):
        head = DeltaHead(DeltaPosteriorConfig(delta_nats=delta), FEATURES, latent)
        with torch.no_grad():
            head.linear.weight.copy_(torch.randn(head.linear.weight.shape, generator=noise(seed)) * 10**scale)
            kl = head(features(seed=seed)).kl(StandardPrior(latent))[0]
        assert torch.isfinite(kl).all()
        assert float(kl.min()) >= delta * (1 - 1e-4)

    def test_the_minimum_is_reached(self):
        head = DeltaHead(DeltaPosteriorConfig(delta_nats=2.5), FEATURES, LATENT)
        with torch.no_grad():
            head.linear.weight[:LATENT] = 0
            head.linear.weight[LATENT:] = -1e3
            kl, dims = head(torch.ones(2, FEATURES)).kl(StandardPrior(LATENT))
        assert kl.tolist() == pytest.approx([2.5] * 2, rel=1e-5)
        assert dims[0].tolist() == pytest.approx([2.5 / LATENT] * LATENT, rel=1e-5)

    def test_the_mean_and_the_variance_below_the_bound_are_free(self):
        head = DeltaHead(DeltaPosteriorConfig(delta_nats=2.5), FEATURES, LATENT)
        q = head(features())
        q.rsample(1, noise()).square().sum().backward()
        assert (head.linear.weight.grad.abs().sum(1) > 0).all()
        assert q.mean.std(0).min() > 0.01
        assert q.logvar.max() < head.largest_logvar
