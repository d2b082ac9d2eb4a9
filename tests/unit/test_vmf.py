"""Codes on the sphere: densities and KL against quadrature and SciPy, the sampler against its own density."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from evaluation_toys import WORDS, store_of
from model_toys import batch_of, tiny_vae
from scipy.integrate import quad

from seqvae.config import Config
from seqvae.errors import SeqVAEError
from seqvae.evaluation.latent import encode_split, mutual_information
from seqvae.models.posterior_vmf import VMFHead, VMFPosterior, VMFPosteriorConfig, kl_to_uniform, log_normaliser
from seqvae.models.prior_sphere import SpherePrior, SpherePriorConfig, log_uniform_density
from seqvae.models.vae import ModelConfig
from seqvae.textvae import TextVAE

CASES = [(2, 0.7), (3, 13.0), (5, 0.01), (16, 30.0), (32, 13.0), (32, 200.0), (128, 1.0), (128, 1e4), (600, 0.5)]


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


def directions(count, dim, seed=0):
    return torch.nn.functional.normalize(torch.randn(count, dim, generator=noise(seed)), dim=-1)


def posterior(mean, kappa) -> VMFPosterior:
    dim = mean.shape[1]
    return VMFPosterior(mean, kappa, log_normaliser(kappa, dim), kl_to_uniform(kappa, dim))


def cosine_density(dim: int, kappa: float):
    """Density of t = mean . z by quadrature, C (1 - t^2)^((dim-3)/2) exp(kappa t), without any Bessel function.

    In terms of the angle, where it is smooth at both ends; scaled by its largest value.
    """

    def log_weight(angle):
        return kappa * np.cos(angle) + (dim - 2) * np.log(np.sin(angle))

    grid = np.linspace(1e-9, math.pi - 1e-9, 200_001)
    peak = float(grid[np.argmax(log_weight(grid))])
    top = float(log_weight(peak))
    near = [max(0.0, peak - 0.2), peak, min(math.pi, peak + 0.2)]

    def integrate(f):
        return quad(lambda a: f(a) * math.exp(log_weight(a) - top), 0, math.pi, points=near, limit=500, epsabs=0)[0]

    return integrate, top


@pytest.mark.parametrize(("dim", "kappa"), CASES)
def test_the_kl_is_that_of_a_numerical_integration(dim, kappa):
    """KL = E log(q / uniform) = kappa E t - log E_uniform exp(kappa t), an average over the angle alone."""
    integrate, top = cosine_density(dim, kappa)
    flat, flat_top = cosine_density(dim, 0.0)
    log_mean_exp = math.log(integrate(lambda a: 1.0)) + top - math.log(flat(lambda a: 1.0)) - flat_top
    expected = kappa * integrate(math.cos) / integrate(lambda a: 1.0) - log_mean_exp
    assert kl_to_uniform(kappa, dim) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_the_kl_is_that_of_the_published_settings():
    """32 dimensions: kappa 13 gives 2.17 nats and 200 gives 30.4, as in published comparisons of vMF models."""
    assert kl_to_uniform(13.0, 32) == pytest.approx(2.17, abs=0.005)
    assert kl_to_uniform(200.0, 32) == pytest.approx(30.4, abs=0.05)


@pytest.mark.parametrize(("dim", "kappa"), [case for case in CASES if case[0] <= 32])
def test_the_density_is_scipys(dim, kappa):
    mean, z = directions(3, dim), directions(7, dim, seed=1)
    found = posterior(mean, kappa).log_prob(z[:, None].expand(-1, 3, -1))
    for row in range(3):
        expected = scipy.stats.vonmises_fisher(mean[row].double().numpy(), kappa).logpdf(z.double().numpy())
        np.testing.assert_allclose(found[:, row].numpy(), expected, rtol=1e-5, atol=1e-5 * max(1.0, kappa))


def test_densities_stay_in_fp32_under_autocast():
    q = posterior(directions(3, 16), 30.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = q.rsample(4, noise())
        low = q.log_prob(z)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, q.log_prob(z))


@pytest.mark.parametrize("dim", [2, 3, 32, 128])
def test_the_uniform_density_is_one_over_the_area(dim):
    area = {2: 2 * math.pi, 3: 4 * math.pi}.get(dim, 2 * math.pi ** (dim / 2) / math.gamma(dim / 2))
    assert log_uniform_density(dim) == pytest.approx(-math.log(area))
    prior = SpherePrior(dim)
    z = prior.sample(20_000, generator=noise())
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(20_000))
    assert z.mean(0).abs().max() < 5 / math.sqrt(20_000 * dim)
    assert float(z.square().mean(0).max()) == pytest.approx(1 / dim, rel=0.1)
    assert torch.equal(prior.log_prob(z[:3, None]), torch.full((3, 1), log_uniform_density(dim)))
    assert torch.equal(prior.sample(4, generator=noise(3)), prior.sample(4, generator=noise(3)))


@pytest.mark.parametrize(("dim", "kappa"), [(2, 0.7), (3, 13.0), (16, 30.0), (32, 1e4), (128, 1.0)])
def test_the_sampler_draws_from_the_density(dim, kappa):
    """The cosine by a Kolmogorov-Smirnov test against quadrature, the rest by symmetry about the mean."""
    mean = directions(1, dim)
    z = posterior(mean, kappa).rsample(4_000, noise(5))[:, 0].double()
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(4_000).double(), rtol=1e-5, atol=1e-5)
    cosine = (z @ mean[0].double()).clamp(-1, 1)
    _, top = cosine_density(dim, kappa)
    angles = np.linspace(1e-9, math.pi - 1e-9, 400_001)
    weight = np.exp(kappa * np.cos(angles) + (dim - 2) * np.log(np.sin(angles)) - top)
    cdf = np.cumsum(weight) / weight.sum()
    found = scipy.stats.kstest(np.arccos(cosine.numpy()), lambda angle: np.interp(angle, angles, cdf))
    assert found.pvalue > 1e-3
    across = z - cosine[:, None] * mean[0].double()
    spread = across.square().mean(0).sum()
    assert across.mean(0).norm() < 5 * math.sqrt(float(spread) / 4_000)


def test_the_gradient_through_a_sample_is_that_of_the_expectation():
    """d/dmean E f(z), for f linear: E z = A(kappa) mean, so the gradient of E c . z is A c."""
    dim, kappa = 5, 4.0
    mean = directions(1, dim).requires_grad_()
    c = torch.linspace(-1, 1, dim)
    (posterior(mean, kappa).rsample(200_000, noise()) @ c).mean().backward()
    integrate, _ = cosine_density(dim, kappa)
    length = integrate(math.cos) / integrate(lambda a: 1.0)
    tangent = torch.eye(dim) - torch.outer(mean[0], mean[0]).detach()
    torch.testing.assert_close(tangent @ mean.grad[0], tangent @ (length * c), rtol=0, atol=0.01)


def test_each_sentence_draws_by_itself_whatever_its_company():
    """A rejected proposal of one sentence must not move the noise of another: each has a generator of its own."""
    from seqvae.evaluation.passes import draw_by_row

    q = posterior(directions(5, 4), 2.0)
    together = draw_by_row(q, 3, np.arange(5), seed=1).z
    alone = draw_by_row(q[torch.tensor([3])], 3, np.array([3]), seed=1).z
    assert torch.equal(together[:, 3:4], alone)


def vmf_vae(kappa=9.0):
    return tiny_vae(4, posterior=VMFPosteriorConfig(kappa=kappa), prior=SpherePriorConfig())


def test_the_head_gives_unit_directions_and_the_kl_is_the_same_for_all():
    model, batch = vmf_vae(), batch_of()
    terms = model.terms(batch)
    torch.testing.assert_close(terms.q.mean.norm(dim=-1), torch.ones(len(batch)))
    assert terms.kl.tolist() == pytest.approx([kl_to_uniform(9.0, 4)] * len(batch))
    assert terms.kl_dims is None
    assert terms.q.std is None
    assert not terms.kl_estimated
    assert isinstance(model.posterior, VMFHead)


def test_mutual_information_is_that_of_its_own_densities():
    model, store = vmf_vae(kappa=2_000.0), store_of(40)
    codes = encode_split(model, store)
    found = mutual_information(codes, model.prior)
    assert codes.active_units is None
    assert 0.05 < found.nats < found.ceiling_nats
    # The two parts of the KL, each estimated on the same codes.
    with torch.no_grad():
        log_q = torch.cat(
            [q.log_prob(codes.z[rows][None])[0] for rows, q in zip(codes.rows, codes.posteriors, strict=True)]
        )
    off = float(log_q.mean()) - log_uniform_density(4)
    assert found.nats + found.marginal_kl_nats == pytest.approx(off, abs=1e-3)


def test_paths_stay_on_the_sphere_and_a_straight_one_is_refused(monkeypatch):
    vae = TextVAE(vmf_vae(), WORDS)
    seen = []
    write = vae._write
    monkeypatch.setattr(vae, "_write", lambda z, *rest: seen.append(z) or write(z, *rest))
    vae.interpolate("a b", "g f", 7)
    torch.testing.assert_close(seen[0].norm(dim=-1), torch.ones(7))
    with pytest.raises(SeqVAEError, match="leaves the unit sphere") as caught:
        vae.interpolate("a b", "g f", 7, path="lerp")
    assert caught.value.code == "E280"
    assert "slerp" in caught.value.hint


def test_codes_of_the_aggregate_are_on_the_sphere():
    vae = TextVAE(vmf_vae(), WORDS)
    mixture = vae.fit_aggregate(["a b", "c", "d e f", "g", "a a a", "b c d"])
    torch.testing.assert_close(mixture.sample(9, generator=noise()).norm(dim=-1), torch.ones(9))
    assert len(vae.sample(3, source=mixture)) == 3


def test_the_prior_follows_the_posterior_unless_one_is_given():
    assert Config.from_dict({}, ["model.posterior.family=vmf"]).model.prior == SpherePriorConfig()
    assert ModelConfig(posterior=VMFPosteriorConfig()).prior == SpherePriorConfig()
    for overrides in (["model.posterior.family=vmf", "model.prior.family=standard"], ["model.prior.family=sphere"]):
        with pytest.raises(
            SeqVAEError, match=r"posterior.family \w+ and prior.family \w+ cannot go together"
        ) as caught:
            Config.from_dict({}, overrides)
        assert caught.value.code == "E205"


def test_a_sphere_needs_two_dimensions():
    with pytest.raises(SeqVAEError, match="vmf needs latent_dim 2 or more"):
        Config.from_dict({}, ["model.posterior.family=vmf", "model.latent_dim=1"])
    assert Config.from_dict({}, ["model.posterior.family=vmf", "model.latent_dim=0"]).model.latent_dim == 0
