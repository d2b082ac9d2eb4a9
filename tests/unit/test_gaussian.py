"""Diagonal Gaussians against torch.distributions and Monte Carlo, and the precision of small KLs."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Independent, Normal, kl_divergence

from seqvae import gaussian
from seqvae.models.posterior_gaussian import GaussianHead, GaussianPosterior
from seqvae.models.prior_standard import StandardPrior

SENTENCES, LATENT = 5, 3


def parameters(dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(SENTENCES, LATENT, generator=generator, dtype=torch.float64)
    logvar = torch.randn(SENTENCES, LATENT, generator=generator, dtype=torch.float64)
    return mean.to(dtype), logvar.to(dtype)


def reference(mean, logvar):
    return Normal(mean.double(), torch.exp(0.5 * logvar.double()))


def exact_kl(mean, logvar):
    """KL by dimension in fp64, by the series where the logarithms would cancel."""
    mean, logvar = mean.double(), logvar.double()
    series = sum(logvar**k / math.factorial(k) for k in range(2, 12))
    return 0.5 * (mean.square() + torch.where(logvar.abs() < 0.1, series, torch.exp(logvar) - 1 - logvar))


def test_log_prob_is_that_of_torch_distributions():
    mean, logvar = parameters()
    z = torch.randn(7, SENTENCES, LATENT, generator=torch.Generator().manual_seed(1))
    expected = Independent(reference(mean, logvar), 1).log_prob(z.double())
    torch.testing.assert_close(gaussian.log_prob(z, mean, logvar).double(), expected, rtol=1e-5, atol=1e-5)


def test_standard_log_prob_is_that_of_torch_distributions():
    z = 3 * torch.randn(7, SENTENCES, LATENT, generator=torch.Generator().manual_seed(2))
    expected = Independent(Normal(torch.zeros(LATENT).double(), torch.ones(LATENT).double()), 1).log_prob(z.double())
    torch.testing.assert_close(gaussian.standard_log_prob(z).double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(StandardPrior(LATENT).log_prob(z).double(), expected, rtol=1e-5, atol=1e-5)


def test_kl_is_that_of_torch_distributions():
    mean, logvar = parameters()
    standard = Normal(torch.zeros(LATENT).double(), torch.ones(LATENT).double())
    expected = kl_divergence(reference(mean, logvar), standard)
    torch.testing.assert_close(gaussian.kl_to_standard(mean, logvar).double(), expected, rtol=1e-5, atol=1e-6)


def test_kl_is_the_mean_of_log_q_minus_log_p_over_samples():
    mean, logvar = parameters()
    q, prior = GaussianPosterior(mean, logvar), StandardPrior(LATENT)
    z = q.rsample(40_000, torch.Generator().manual_seed(3))
    ratio = q.log_prob(z) - prior.log_prob(z)
    error = ratio.std(0) / math.sqrt(len(ratio))
    kl, dims = q.kl(prior)
    assert ((ratio.mean(0) - kl).abs() < 4.5 * error).all()
    torch.testing.assert_close(dims.sum(-1), kl)


def test_samples_have_the_mean_and_the_spread_that_were_asked_for():
    mean, logvar = parameters()
    z = gaussian.rsample(mean, logvar, 40_000, torch.Generator().manual_seed(4))
    assert z.shape == (40_000, SENTENCES, LATENT)
    std = torch.exp(0.5 * logvar)
    assert ((z.mean(0) - mean).abs() < 4.5 * std / 200).all()
    assert ((z.std(0) / std - 1).abs() < 4.5 / math.sqrt(2 * 40_000)).all()


def test_gradients_reach_the_parameters_through_samples():
    """d z / d mean = 1 and d z / d logvar = (z - mean) / 2."""
    mean, logvar = (parameter.requires_grad_() for parameter in parameters())
    z = gaussian.rsample(mean, logvar, 2, torch.Generator().manual_seed(5))
    z.sum().backward()
    torch.testing.assert_close(mean.grad, torch.full_like(mean, 2.0))
    torch.testing.assert_close(logvar.grad, 0.5 * (z.detach() - mean.detach()).sum(0))


def test_samples_follow_the_generator_and_leave_the_global_random_state_alone():
    mean, logvar = parameters()
    before = torch.get_rng_state()
    first, again, other = (gaussian.rsample(mean, logvar, 3, torch.Generator().manual_seed(seed)) for seed in (6, 6, 7))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


@given(st.floats(-1e-3, 1e-3), st.floats(-1e-3, 1e-3))
def test_a_kl_close_to_zero_keeps_its_digits(mean, logvar):
    """A collapsed model has KLs of 1e-6 nats: exp(logvar) - 1 - logvar in fp32 would have no correct digit."""
    mean, logvar = torch.tensor([[mean]]), torch.tensor([[logvar]])
    found, expected = gaussian.kl_to_standard(mean, logvar).double(), exact_kl(mean, logvar)
    # The two remaining terms differ by logvar**2 / 2, so one rounding of logvar is what is left.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=float(logvar.abs()) * 2**-23 + 1e-30)
    assert found >= 0


def test_the_kl_is_zero_exactly_where_q_is_the_prior():
    zero = torch.zeros(SENTENCES, LATENT)
    assert torch.equal(gaussian.kl_to_standard(zero, zero), zero)


@pytest.mark.parametrize("autocast", [False, True])
def test_a_small_kl_of_bf16_parameters_is_computed_in_fp32(autocast):
    mean, logvar = (0.02 * parameter for parameter in parameters())
    mean, logvar = mean.bfloat16(), logvar.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        found = gaussian.kl_to_standard(mean, logvar)
        density = gaussian.log_prob(mean[None], mean, logvar)
        z = gaussian.rsample(mean, logvar, 2)
    assert {found.dtype, density.dtype, z.dtype} == {torch.float32}
    torch.testing.assert_close(found.double(), exact_kl(mean, logvar), rtol=1e-4, atol=1e-9)
    naive = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).double()
    assert ((naive / exact_kl(mean, logvar) - 1).abs() > 0.5).any(), "in bf16 the test would have to fail"


def test_fp64_stays_fp64():
    mean, logvar = parameters(torch.float64)
    assert gaussian.kl_to_standard(mean, logvar).dtype == torch.float64
    assert torch.autograd.gradcheck(gaussian.kl_to_standard, (mean.requires_grad_(), logvar.requires_grad_()))


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_no_encoder_output_makes_the_kl_or_the_density_infinite(size):
    head = GaussianHead(4, LATENT)
    with torch.no_grad():
        head.linear.weight.fill_(size)
    q = head(torch.ones(SENTENCES, 4))
    assert q.logvar[0, 0] == gaussian.LOGVAR_RANGE[1 if size > 0 else 0]
    z = q.rsample(2, torch.Generator().manual_seed(8))
    for value in (*q.kl(StandardPrior(LATENT)), q.log_prob(z), z):
        assert torch.isfinite(value).all()


def test_a_posterior_can_be_cut_and_detached():
    mean, logvar = parameters()
    q = GaussianPosterior(mean.requires_grad_(), logvar)
    part = q[torch.tensor([3, 1])]
    assert torch.equal(part.mean, mean[[3, 1]])
    assert torch.equal(q[1:3].logvar, logvar[1:3])
    torch.testing.assert_close(q.std, torch.exp(0.5 * logvar))
    assert q.mean.requires_grad
    assert not q.detach().mean.requires_grad


def test_there_is_no_closed_form_for_another_prior():
    class Other(torch.nn.Module):
        def log_prob(self, z, labels=None):
            raise AssertionError("asked for by nobody")

        sample = log_prob

    assert GaussianPosterior(*parameters()).kl(Other()) is None


def test_apple_gpus_are_asked_for_no_fp64(monkeypatch):
    assert gaussian.widest(torch.device("mps")) == torch.float32
    assert gaussian.widest(torch.device("cuda")) == gaussian.widest(torch.device("cpu")) == torch.float64
