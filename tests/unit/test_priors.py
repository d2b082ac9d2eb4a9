"""Learned priors: their densities against torch.distributions, their samples against their densities."""

import copy
import math

import numpy as np
import pytest
import torch
from model_toys import LATENT, batch_of, tiny_vae
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from seqvae.evaluation.likelihood import elbo_and_iw, quick_metrics
from seqvae.evaluation.passes import evaluating
from seqvae.models.prior_mixture import MixturePriorConfig
from seqvae.models.prior_vamp import VampPriorConfig

COMPONENTS, LENGTH = 4, 7

CONFIGS = {
    "mixture": MixturePriorConfig(components=COMPONENTS),
    "vamp": VampPriorConfig(components=COMPONENTS, length=LENGTH),
}

each = pytest.mark.parametrize("family", CONFIGS)


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


def model_with(family, seed=0):
    return tiny_vae(seed=seed, prior=CONFIGS[family])


def reference(model) -> MixtureSameFamily:
    """The same mixture by torch.distributions; that of the VampPrior from the encoder, one pseudo-input at a time."""
    prior = model.prior
    if isinstance(model.config.prior, MixturePriorConfig):
        return mixture(prior.logits, prior.mean, torch.exp(0.5 * prior.logvar))
    pseudo = prior.inputs.weight.view(COMPONENTS, LENGTH, -1)
    q = [model.posterior(model.encoder.read(each[None], torch.tensor([LENGTH]))) for each in pseudo]
    return mixture(torch.zeros(COMPONENTS), torch.cat([one.mean for one in q]), torch.cat([one.std for one in q]))


def mixture(logits, mean, std):
    return MixtureSameFamily(Categorical(logits=logits), Independent(Normal(mean, std), 1))


@torch.no_grad()
@each
def test_its_density_is_that_of_torch_distributions(family):
    model = model_with(family)
    z = 2 * torch.randn(3, 5, LATENT, generator=noise())
    torch.testing.assert_close(model.prior.log_prob(z), reference(model).log_prob(z), rtol=1e-5, atol=1e-5)


@torch.no_grad()
@each
def test_its_samples_have_its_density(family):
    """E_p f / p = 1 for the density f of a narrow Gaussian that the prior covers."""
    model = model_with(family)
    z = model.prior.sample(50_000, generator=noise())
    assert z.shape == (50_000, LATENT)
    components = reference(model).component_distribution.base_dist
    inside = Independent(Normal(components.mean.mean(0), 0.7 * components.stddev.amin(0)), 1)
    ratio = torch.exp(inside.log_prob(z) - model.prior.log_prob(z[:, None])[:, 0]).double()
    error = float(ratio.std()) / math.sqrt(len(ratio))
    assert error < 0.02
    assert float(ratio.mean()) == pytest.approx(1.0, abs=5 * error)
    torch.testing.assert_close(z.mean(0), reference(model).mean, rtol=0, atol=5 * float(z.std(0).max()) / 50_000**0.5)


@each
def test_equal_seeds_draw_equal_codes_and_nothing_is_learned_by_drawing(family):
    prior = model_with(family).prior
    assert torch.equal(prior.sample(6, generator=noise(3)), prior.sample(6, generator=noise(3)))
    assert not torch.equal(prior.sample(6, generator=noise(3)), prior.sample(6, generator=noise(4)))
    assert not prior.sample(2, generator=noise()).requires_grad


@torch.no_grad()
@each
def test_a_component_is_drawn_by_its_weight(family):
    model = model_with(family)
    if family == "mixture":
        model.prior.logits.copy_(torch.tensor([0.0, -math.inf, math.log(3.0), -math.inf]))
        model.prior.mean.copy_(torch.arange(COMPONENTS)[:, None] * 100.0)
        expected = [0.25, 0.0, 0.75, 0.0]
        nearest = (model.prior.sample(4_000, generator=noise())[:, 0] / 100).round().long()
        found = torch.bincount(nearest, minlength=COMPONENTS) / 4_000
        assert found.tolist() == pytest.approx(expected, abs=0.03)
    else:
        model.posterior.linear.weight[:LATENT] *= 1e4
        model.posterior.linear.weight[LATENT:] = 0.0
        means = reference(model).component_distribution.base_dist.mean
        assert torch.pdist(means).min() > 20  # far apart, beside deviations of about 1
        nearest = torch.cdist(model.prior.sample(4_000, generator=noise()), means).argmin(1)
        found = torch.bincount(nearest, minlength=COMPONENTS) / 4_000
        assert found.tolist() == pytest.approx([1 / COMPONENTS] * COMPONENTS, abs=0.03)


@each
def test_the_kl_is_the_log_ratio_at_the_samples_that_rec_uses(family):
    model, batch = model_with(family), batch_of()
    terms = model.terms(batch, 3, generator=noise())
    assert terms.kl_estimated
    assert terms.kl_dims is None
    torch.testing.assert_close(terms.kl, (terms.log_q - terms.log_p).mean(0))
    loss = (terms.rec.mean(0) + terms.kl).sum()
    loss.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.prior.parameters())


def test_one_standard_component_is_the_standard_prior():
    model = tiny_vae(prior=MixturePriorConfig(components=1))
    with torch.no_grad():
        model.prior.mean.zero_()
        model.prior.logvar.zero_()
        terms = model.terms(batch_of(), 20_000, generator=noise())
        exact = tiny_vae().terms(batch_of(), 1).kl
    spread = (terms.log_q - terms.log_p).std(0) / math.sqrt(20_000)
    assert ((terms.kl - exact).abs() < 5 * spread + 1e-4).all()


class TestVampPrior:
    def test_it_is_the_posterior_of_a_sentence_whose_embeddings_it_holds(self):
        model = tiny_vae(prior=VampPriorConfig(components=1, length=9))
        batch = batch_of((9,))
        with torch.no_grad():
            model.prior.inputs.weight.copy_(model.encoder.embedding(batch.tokens)[0])
            q = model.encode(batch)
            z = q.rsample(11, noise())
        torch.testing.assert_close(model.prior.log_prob(z), q.log_prob(z))

    def test_its_parameters_count_with_the_decoder_and_the_encoders_are_not_counted_twice(self):
        model = model_with("vamp")
        assert [name for name, _ in model.prior.named_parameters()] == ["inputs.weight"]
        assert len(list(model.parameters())) == len({id(p) for p in model.parameters()})
        assert model.prior in model.parts()["decoder"]
        assert not any(name.startswith("prior.") and "inputs" not in name for name in model.state_dict())

    def test_resetting_either_part_gives_another_prior(self):
        z = torch.randn(1, 5, LATENT, generator=noise())
        for part in ("encoder", "decoder"):
            model = model_with("vamp")
            before = model.prior.log_prob(z)
            pseudo = model.prior.inputs.weight.detach().clone()
            model.reset(part)
            assert torch.equal(pseudo, model.prior.inputs.weight) == (part == "encoder")
            assert not torch.allclose(before, model.prior.log_prob(z))

    def test_a_copy_of_the_model_has_a_prior_of_its_own(self):
        model = model_with("vamp")
        twin = copy.deepcopy(model)
        z = torch.randn(1, 5, LATENT, generator=noise())
        before = model.prior.log_prob(z)
        with torch.no_grad():
            for parameter in model.encoder.parameters():
                parameter.zero_()
        torch.testing.assert_close(twin.prior.log_prob(z), before)
        assert not torch.allclose(model.prior.log_prob(z), before)

    def test_pseudo_inputs_are_drawn_like_embeddings(self):
        model = model_with("vamp")
        model.reset("decoder")
        assert 0.05 < model.prior.inputs.weight.abs().max() <= model.config.init.embeddings


@each
def test_what_is_estimated_is_not_called_a_closed_form(family):
    from evaluation_toys import small_model, store_of

    model, store = small_model(), store_of(17)
    learned = tiny_vae(prior=CONFIGS[family])
    found = elbo_and_iw(learned, store, samples=9)
    assert found.kl_analytic is None
    assert found.kl_dims is None
    assert elbo_and_iw(model, store, samples=9).kl_analytic is not None
    with evaluating(learned):
        quick = np.array([quick_metrics(learned, store, seed=seed)["kl_nats"] for seed in range(40)])
    expected = float(elbo_and_iw(learned, store, samples=400).kl.mean())
    assert quick.mean() == pytest.approx(expected, abs=5 * quick.std(ddof=1) / 40**0.5)
