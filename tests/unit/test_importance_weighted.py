"""The importance-weighted objective: its value, and its gradients in fp64 against closed forms on a linear model."""

import math

import pytest
import torch
from model_toys import batch_of, tiny_vae
from training_toys import phase_of, toy_trainer

from seqvae.models.posterior_gaussian import GaussianPosterior
from seqvae.models.prior_standard import StandardPrior
from seqvae.objectives import registry
from seqvae.objectives.base import Objective
from seqvae.objectives.importance_weighted import ImportanceWeighted, ImportanceWeightedConfig
from seqvae.objectives.kl_annealing import KLAnnealingConfig
from seqvae.objectives.minimum_rate import MinimumRateConfig
from seqvae.types import Terms

DIMS, SENTENCES, VARIANCE = 3, 5, 0.6


def strategy_of(gradient="doubly_reparameterised"):
    return ImportanceWeighted(ImportanceWeightedConfig(gradient=gradient))


class Linear:
    """x = a * z + noise in each dimension, z ~ N(0, 1), q = N(mean, exp(logvar)); all in fp64, with gradients."""

    def __init__(self, samples, seed=0):
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.x, self.eps = draw(SENTENCES, DIMS), draw(samples, SENTENCES, DIMS)
        self.mean = draw(SENTENCES, DIMS).requires_grad_()
        self.logvar = (0.3 * draw(SENTENCES, DIMS)).requires_grad_()
        self.a = torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64, requires_grad=True)

    def terms(self):
        z = self.mean + torch.exp(0.5 * self.logvar) * self.eps
        residual = (self.x - self.a * z).square().sum(-1) / VARIANCE
        kl = torch.zeros(SENTENCES, dtype=torch.float64)
        return Terms(
            rec=0.5 * (residual + DIMS * math.log(2 * math.pi * VARIANCE)),
            kl=kl,
            kl_dims=None,
            z=z,
            q=GaussianPosterior(self.mean, self.logvar),
            prior=StandardPrior(DIMS),
            tokens=torch.ones(SENTENCES).int(),
        )

    def gradients(self, gradient):
        """By mean, logvar and a, of the loss summed over sentences."""
        loss = strategy_of(gradient).objective(self.terms(), 0).sum()
        return torch.autograd.grad(loss, [self.mean, self.logvar, self.a])

    def closed_forms(self):
        """Weights, d log w / dz, d log q / d(mean, logvar) at fixed z, and d log p(x|z) / da, all by hand."""
        with torch.no_grad():
            terms, std = self.terms(), torch.exp(0.5 * self.logvar)
            log_w = terms.log_p - terms.rec - terms.log_q
            weights = torch.exp(log_w - torch.logsumexp(log_w, 0))[:, :, None]
            residual = self.x - self.a * terms.z
            by_z = self.a * residual / VARIANCE - terms.z + self.eps / std
            by_a = residual * terms.z / VARIANCE
            return weights, std, by_z, (self.eps / std, 0.5 * (self.eps.square() - 1)), by_a


class TestGradient:
    def test_the_encoders_has_squared_weights_and_no_score(self):
        """Tucker et al. 2019, equation 8: sum_s v_s^2 (d log w_s / dz_s) (dz_s / d parameter)."""
        toy = Linear(7)
        weights, std, by_z, _, _ = toy.closed_forms()
        found = toy.gradients("doubly_reparameterised")
        torch.testing.assert_close(found[0], -(weights.square() * by_z).sum(0))
        torch.testing.assert_close(found[1], -(weights.square() * by_z * 0.5 * std * toy.eps).sum(0))

    def test_the_standard_one_has_the_weights_and_the_score(self):
        toy = Linear(7)
        weights, std, by_z, (score_mean, score_logvar), _ = toy.closed_forms()
        found = toy.gradients("standard")
        torch.testing.assert_close(found[0], -(weights * (by_z - score_mean)).sum(0))
        torch.testing.assert_close(found[1], -(weights * (by_z * 0.5 * std * toy.eps - score_logvar)).sum(0))

    @pytest.mark.parametrize("gradient", ["standard", "doubly_reparameterised"])
    def test_the_decoders_is_the_standard_one_for_both(self, gradient):
        toy = Linear(7)
        weights, *_, by_a = toy.closed_forms()
        torch.testing.assert_close(toy.gradients(gradient)[2], -(weights * by_a).sum((0, 1)))

    def test_both_have_the_same_mean_and_the_doubly_reparameterised_one_the_smaller_variance(self):
        toy, found = Linear(16, seed=1), {"standard": [], "doubly_reparameterised": []}
        generator = torch.Generator().manual_seed(2)
        for _ in range(300):
            toy.eps = torch.randn(toy.eps.shape, generator=generator, dtype=torch.float64)
            for name, values in found.items():
                values.append(torch.cat(toy.gradients(name)[:2], dim=1))
        one, other = (torch.stack(values) for values in found.values())
        difference = one - other
        error = difference.std(0) / math.sqrt(len(difference))
        assert (difference.mean(0).abs() < 4.5 * error).all()
        assert float(other.var(0).sum()) < 0.5 * float(one.var(0).sum())

    def test_it_vanishes_at_the_true_posterior_whatever_the_noise(self):
        """All weights are then equal and constant in z; the standard estimate still scatters."""
        toy = Linear(7)
        with torch.no_grad():
            precision = 1 + toy.a.square() / VARIANCE
            toy.mean.copy_(toy.a * toy.x / VARIANCE / precision)
            toy.logvar.copy_(-precision.log().expand_as(toy.logvar))
        assert all(float(g.abs().max()) < 1e-12 for g in toy.gradients("doubly_reparameterised")[:2])
        assert float(toy.gradients("standard")[0].abs().max()) > 0.01


class TestBound:
    def test_it_is_minus_the_log_of_the_mean_weight(self):
        model, batch = tiny_vae(), batch_of()
        for name in ("standard", "doubly_reparameterised"):
            generator = torch.Generator().manual_seed(0)
            loss, terms = Objective(model, [strategy_of(name)], samples=6)(batch, 0, generator)
            log_w = -terms.rec + terms.log_p - terms.log_q
            torch.testing.assert_close(loss, -torch.log(torch.exp(log_w.double()).mean(0)).sum().float())

    def test_one_sample_makes_it_an_estimate_of_minus_elbo(self):
        model, batch = tiny_vae(), batch_of()
        loss, terms = Objective(model, [strategy_of()])(batch, 0, torch.Generator().manual_seed(0))
        torch.testing.assert_close(loss, (terms.rec + terms.log_q - terms.log_p).sum())

    def test_its_gradient_reaches_every_parameter_of_a_model(self):
        model, batch = tiny_vae(), batch_of()
        Objective(model, [strategy_of()], samples=4)(batch, 0, torch.Generator().manual_seed(0))[0].backward()
        assert all(parameter.grad.any() for parameter in model.parameters())

    def test_it_can_be_read_without_gradients(self):
        with torch.no_grad():
            loss, _ = Objective(tiny_vae(), [strategy_of()], 3)(batch_of(), 0, torch.Generator().manual_seed(0))
        assert torch.isfinite(loss)

    def test_a_language_model_is_trained_by_its_rec(self):
        loss, terms = Objective(tiny_vae(0), [strategy_of()])(batch_of(), 0, torch.Generator().manual_seed(0))
        torch.testing.assert_close(loss, terms.rec.sum())


def test_the_best_weights_are_picked_by_the_bound_itself(tmp_path):
    changes = {"train": {"steps": 4, "validate_every": 2}, "objective": {"samples": 5}}
    trainer = toy_trainer(tmp_path, phases=[phase_of(tmp_path, ImportanceWeightedConfig(), **changes)], **changes)
    assert trainer.fit()
    events = trainer.task.observe.of("valid")
    assert {event["monitor"] for event in events} == {"iw"}
    assert trainer.progress.best == min(event["iw_nats"] for event in events)


@pytest.mark.parametrize("other", [KLAnnealingConfig(), MinimumRateConfig()])
def test_what_shapes_the_elbo_is_refused_beside_it(other):
    with pytest.raises(ValueError, match="`importance_weighted`"):
        registry.check_strategies([other, ImportanceWeightedConfig()])
