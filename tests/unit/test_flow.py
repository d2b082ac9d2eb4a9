"""The inverse autoregressive flow: its density by quadrature, by the Jacobian and by Monte Carlo."""

import math

import numpy as np
import pytest
import torch
from evaluation_toys import WORDS, store_of
from model_toys import batch_of, spread, tiny_vae

from seqvae import gaussian
from seqvae.config import Config
from seqvae.data.batching import collate
from seqvae.errors import SeqVAEError
from seqvae.evaluation import latent
from seqvae.evaluation.latent import encode_split, mutual_information
from seqvae.evaluation.likelihood import elbo_and_iw, quick_metrics
from seqvae.evaluation.marginal import batch_mutual_information
from seqvae.evaluation.passes import draw_by_row
from seqvae.models.masked import MaskedNetwork
from seqvae.models.posterior_iaf import IAFHead, IAFPosteriorConfig
from seqvae.models.prior_standard import StandardPrior

FEATURES, SENTENCES = 6, 4
SMALL = IAFPosteriorConfig(steps=3, hidden=9, context=5)


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


def posterior(latent_dim, seed=0, scale=0.8, config=SMALL):
    head = spread(IAFHead(config, FEATURES, latent_dim), scale, seed)
    return head(torch.randn(SENTENCES, FEATURES, generator=noise(seed)))


@pytest.mark.parametrize(("latent_dim", "hidden"), [(1, 3), (2, 7), (5, 11), (8, 3)])
def test_a_dimension_is_told_by_those_before_it_and_the_context_alone(latent_dim, hidden):
    network = spread(MaskedNetwork(latent_dim, 3, hidden), 1.0)
    z, context = torch.randn(1, latent_dim, generator=noise()), torch.randn(1, 3, generator=noise(1))
    for output in range(2):
        jacobian = torch.autograd.functional.jacobian(lambda x, o=output: network(x, context)[o][0], z)[:, 0]
        assert not torch.triu(jacobian).any()
        if hidden >= latent_dim:
            assert (torch.tril(jacobian, -1) != 0).sum() == latent_dim * (latent_dim - 1) // 2
        told = torch.autograd.functional.jacobian(lambda c, o=output: network(z, c)[o][0], context)
        assert (told.abs().sum(-1) > 0).all(), "the context reaches every dimension, the first one too"


@torch.no_grad()
def test_the_density_integrates_to_one():
    q = posterior(2)
    axis = torch.linspace(-9, 9, 301)
    grid = torch.cartesian_prod(axis, axis)
    cell = float(axis[1] - axis[0]) ** 2
    total = (q.log_prob(grid[:, None].expand(-1, SENTENCES, -1)).double().exp().sum(0) * cell).tolist()
    assert total == pytest.approx([1.0] * SENTENCES, abs=2e-3)


@torch.no_grad()
def test_a_code_so_far_out_that_its_base_is_no_number_has_density_zero():
    """Not a density that is no number, which mutual information over all pairs would turn into one as well."""
    q = posterior(5)
    z = torch.stack([q.rsample(1, noise())[0], torch.full((SENTENCES, 5), 1e30), torch.full((SENTENCES, 5), torch.nan)])
    found = q.log_prob(z)
    assert torch.isfinite(found[0]).all()
    assert (found[1] == -torch.inf).all()
    assert torch.isnan(found[2]).all()


@torch.no_grad()
def test_the_samples_have_the_density():
    """The mean of f over samples is that of f times the density over a grid."""
    q = posterior(2)
    axis = torch.linspace(-9, 9, 301)
    grid = torch.cartesian_prod(axis, axis)
    weight = q.log_prob(grid[:, None].expand(-1, SENTENCES, -1)).double().exp() * float(axis[1] - axis[0]) ** 2
    z = q.rsample(40_000, noise())
    for f in (lambda x: x[..., 0], lambda x: x[..., 0] * x[..., 1], lambda x: torch.sin(2 * x[..., 1])):
        exact = (weight * f(grid)[:, None]).sum(0)
        values = f(z).double()
        assert ((values.mean(0) - exact).abs() < 5 * values.std(0) / 200 + 1e-3).all()


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_the_log_determinant_is_that_of_the_jacobian(latent_dim):
    flow = spread(IAFHead(SMALL, FEATURES, latent_dim), 0.8).flow
    context, base = torch.randn(1, 5, generator=noise()), torch.randn(1, 1, latent_dim, generator=noise(1))
    jacobian = torch.autograd.functional.jacobian(lambda x: flow(x, context)[0].flatten(), base)
    expected = torch.linalg.slogdet(jacobian.reshape(latent_dim, latent_dim))[1]
    torch.testing.assert_close(flow(base, context)[1][0, 0], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("latent_dim", [1, 2, 32])
def test_what_is_known_of_a_sample_is_what_the_inverse_says(latent_dim):
    q = posterior(latent_dim, scale=0.4)
    z = q.rsample(50, noise())
    known = q.log_prob(z)
    torch.testing.assert_close(q.log_prob(z.clone()), known, rtol=1e-4, atol=1e-3 * latent_dim)
    base, log_det = q.flow(z, q.context, inverse=True)
    back, same = q.flow(base, q.context)
    torch.testing.assert_close(back, z, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(same, log_det, rtol=1e-3, atol=1e-3)


def test_the_density_of_a_sample_is_not_computed_again(monkeypatch):
    q = posterior(3)
    z = q.rsample(2, noise())
    monkeypatch.setattr(type(q), "_run", lambda *given, **named: pytest.fail("computed again"))
    assert q.log_prob(z).shape == (2, SENTENCES)


def test_a_density_kept_without_gradients_is_not_given_where_they_are_wanted():
    q = posterior(3)
    with torch.no_grad():
        z = q.rsample(2, noise())
        kept = q.log_prob(z)
    found = q.log_prob(z)
    assert found.requires_grad
    torch.testing.assert_close(found, kept, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        assert not q.log_prob(z).requires_grad


def test_codes_changed_in_place_are_scored_anew():
    q = posterior(3)
    with torch.no_grad():
        z = q.rsample(2, noise())
        before = q.log_prob(z).clone()
        z += 1
        torch.testing.assert_close(q.log_prob(z), q.log_prob(z.clone()))
        assert not torch.allclose(q.log_prob(z), before)


def test_a_detached_posterior_gives_its_codes_gradients_and_its_parameters_none():
    q = posterior(3)
    z = q.rsample(2, noise())
    q.detach().log_prob(z.detach().requires_grad_()).sum().backward()
    assert all(parameter.grad is None for parameter in q.flow.parameters())
    assert all(parameter.requires_grad for parameter in q.flow.parameters())
    # d log q(z|x)/dz at fixed parameters, by differences.
    point = z.detach()[:1].double()
    fixed = posterior(3)
    fixed.flow.double()
    wide = type(fixed)(*(t.double() for t in (q.base_mean, q.base_logvar, q.context)), fixed.flow).detach()
    assert torch.autograd.gradcheck(lambda x: wide.log_prob(x.clone()).sum(), (point.requires_grad_(),))


def test_an_open_flow_is_the_gaussian_that_it_bends():
    """Gates of 1: nothing is transformed, and the density is the base's."""
    q = posterior(3)
    with torch.no_grad():
        for network in q.flow.networks:
            network.outer.weight.zero_()
            network.outer.bias.fill_(40.0)
    z = torch.randn(7, SENTENCES, 3, generator=noise())
    turned = z.flip(-1)  # an odd number of reversals
    torch.testing.assert_close(q.log_prob(z), gaussian.log_prob(turned, q.base_mean, q.base_logvar))


def test_densities_are_fp32_under_autocast():
    q = posterior(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = q.rsample(2, noise())
        low = q.log_prob(z)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, q.log_prob(z.clone()), rtol=1e-4, atol=1e-4)


def test_it_has_one_code_for_a_sentence_and_no_moments():
    q = posterior(3)
    assert torch.equal(q.mean, q.mean)
    torch.testing.assert_close(q.mean, q.flow(q.base_mean[None], q.context)[0][0])
    assert q.std is None
    assert q.kl(StandardPrior(3)) is None


def sharp_vae():
    """A flow with gates of 1e-7 and less: z keeps too little of its base for fp32 to find it again."""
    model = tiny_vae(5, posterior=SMALL)
    with torch.no_grad():
        for network in model.posterior.flow.networks:
            network.outer.bias[5:] -= 18.0
    return model.eval()


@torch.no_grad()
def test_likelihoods_and_information_take_the_density_of_a_sharp_flow_from_the_drawing():
    model, store = sharp_vae(), store_of(9)
    batch = collate(store, np.arange(9))
    draw = draw_by_row(model.encode(batch), 7, np.arange(9), seed=3)
    found_again = model.encode(batch).log_prob(draw.z)
    assert not torch.allclose(found_again, draw.log_q, atol=1.0), "or the flow is not sharp"
    terms = model.terms(batch, q=model.encode(batch), z=draw.z)
    log_w = (terms.log_p - terms.rec - draw.log_q).double()
    found = elbo_and_iw(model, store, samples=7, seed=3, batch_tokens=48)
    np.testing.assert_allclose(found.elbo, -log_w.mean(0).numpy(), rtol=1e-5)
    np.testing.assert_allclose(found.iw, math.log(7) - torch.logsumexp(log_w, 0).numpy(), rtol=1e-5)
    one = draw_by_row(model.encode(batch), 1, np.arange(9), seed=3)
    kl = float((one.log_q - model.prior.log_prob(one.z)).double().mean())
    assert quick_metrics(model, store, seed=3)["kl_nats"] == pytest.approx(kl, rel=1e-5)
    assert mutual_information(encode_split(model, store, seed=3)).nats == pytest.approx(math.log(9), abs=1e-4)
    information, ceiling = batch_mutual_information(model, store, encode_split(model, store, seed=3))
    assert information == pytest.approx(ceiling, abs=1e-4)


def test_mutual_information_is_from_few_sentences_and_says_so(monkeypatch):
    monkeypatch.setattr(latent, "COSTLY_SENTENCES", 19)
    model, store = tiny_vae(posterior=SMALL), store_of(40)
    codes = encode_split(model, store)
    found = mutual_information(codes, model.prior)
    assert codes.active_units is None
    assert (found.sentences, found.ceiling_nats) == (19, pytest.approx(math.log(19)))
    # The definition, a sentence at a time.
    z = codes.own()
    with torch.no_grad():
        pairs = torch.cat(
            [q[i : i + 1].log_prob(z[:, None]) for q in codes.posteriors for i in range(len(q.mean))], dim=1
        ).double()
    expected = pairs.diagonal() - torch.logsumexp(pairs, 1) + math.log(19)
    assert found.nats == pytest.approx(float(expected.mean()), abs=1e-4)
    assert mutual_information(encode_split(tiny_vae(), store)).sentences == 40


def test_a_prior_of_many_flows_is_refused():
    with pytest.raises(SeqVAEError, match=r"posterior.family iaf and prior.family vamp cannot go together"):
        Config.from_dict({}, ["model.posterior.family=iaf", "model.prior.family=vamp"])


@torch.no_grad()
def test_untrained_it_is_near_its_base():
    torch.manual_seed(0)
    head = IAFHead(IAFPosteriorConfig(steps=1), FEATURES, 8)
    q = head(torch.randn(SENTENCES, FEATURES, generator=noise()))
    assert float((q.mean.flip(-1) - q.base_mean).abs().max()) < 0.3


def test_the_code_of_a_text_is_the_mean():
    from seqvae.textvae import TextVAE

    vae = TextVAE(tiny_vae(posterior=SMALL), WORDS)
    codes = vae.encode(["a b", ""])
    assert codes.std is None
    assert codes.mean.shape == (2, 3)
    np.testing.assert_array_equal(codes.mean, vae.encode(["a b", ""]).mean)
    with torch.no_grad():
        assert torch.isfinite(vae.model.terms(batch_of(), 2).rec).all()
