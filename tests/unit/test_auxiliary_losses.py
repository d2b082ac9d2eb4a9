"""Methods that add a loss of their own: bag of words, maximum mean discrepancy, a critic."""

import math
from typing import ClassVar

import pytest
import torch
from model_toys import LATENT, VOCAB, batch_of, tiny_vae
from pydantic import ValidationError
from training_toys import bytes_of, phase_of, toy_trainer

from seqvae.models.posterior_gaussian import GaussianPosterior
from seqvae.models.prior_standard import StandardPrior
from seqvae.objectives.adversarial import Adversarial, AdversarialConfig
from seqvae.objectives.bag_of_words import BagOfWords, BagOfWordsConfig
from seqvae.objectives.base import Dims, Objective
from seqvae.objectives.mmd import MMD, MMDConfig
from seqvae.types import EOS, Terms


def dims(latent=LATENT):
    return Dims(vocab=VOCAB, latent=latent, hidden=8, epoch_steps=20)


def built(cls, config, latent=LATENT):
    torch.manual_seed(0)
    strategy = cls(config)
    strategy.build(dims(latent))
    return strategy


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


def terms_at(z):
    """Terms whose codes are given; only these and the prior matter here."""
    _, sentences, latent = z.shape
    q = GaussianPosterior(z.mean(0), torch.zeros(sentences, latent))
    ones = torch.ones(sentences)
    return Terms(
        rec=torch.ones(len(z), sentences),
        kl=ones,
        kl_dims=None,
        z=z,
        q=q,
        prior=StandardPrior(latent),
        tokens=ones.int(),
    )


def batch_like(sentences):
    return batch_of((4,) * sentences)


@pytest.mark.parametrize(
    ("cls", "config"), [(BagOfWords, BagOfWordsConfig()), (MMD, MMDConfig()), (Adversarial, AdversarialConfig())]
)
class TestAll:
    def test_a_language_model_pays_nothing(self, cls, config):
        model, batch = tiny_vae(0), batch_of()
        strategy = built(cls, config, latent=0)
        assert not list(strategy.parameters())
        assert strategy.optimizers() == {}
        loss = Objective(model, [strategy])(batch, 0, noise())[0]
        torch.testing.assert_close(loss, Objective(model, [])(batch, 0, noise())[0])

    def test_its_noise_comes_from_the_generator(self, cls, config):
        model, batch, strategy = tiny_vae(), batch_of(), built(cls, config)
        before = torch.get_rng_state()
        first, again, other = (Objective(model, [strategy], 2)(batch, 0, noise(seed))[0] for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert torch.equal(torch.get_rng_state(), before)

    def test_it_acts_on_the_encoder(self, cls, config):
        model, batch, strategy = tiny_vae(), batch_of(), built(cls, config)
        terms = model.terms(batch, 2, generator=noise())
        strategy.penalty(terms, batch, 0, noise()).backward()
        assert model.posterior.linear.weight.grad.any()
        assert all(parameter.grad is None for parameter in model.decoder.parameters())

    def test_its_parameters_are_trained_and_are_not_saved_with_the_model(self, cls, config, tmp_path):
        changes = {"train": {"steps": 3}}
        trainer = toy_trainer(tmp_path, phases=[phase_of(tmp_path, config, **changes)], **changes)
        trainer._start_phase(0)
        before = bytes_of(trainer.objective.strategies)
        trainer._train_on([trainer.task.batch(trainer.task.plan(0)[0])])
        after = bytes_of(trainer.objective.strategies)
        assert all(after[name] != before[name] for name in before)
        assert trainer.model.state_dict().keys() == toy_trainer(tmp_path / "plain").model.state_dict().keys()


class TestBagOfWords:
    def test_it_is_the_nll_of_the_words_under_one_softmax_a_sentence(self):
        strategy, batch = built(BagOfWords, BagOfWordsConfig(weight=0.7, hidden=13)), batch_of()
        z = torch.randn(2, 5, LATENT, generator=noise())
        expected = []
        for sample in z:
            for code, row in zip(sample, batch.tokens.tolist(), strict=True):
                words = row[1 : row.index(EOS)]
                categories = torch.distributions.Categorical(logits=strategy.words(code))
                expected.append(-sum(categories.log_prob(torch.tensor(word)) for word in words))
        found = strategy.penalty(terms_at(z), batch, 0, noise())
        torch.testing.assert_close(found, 0.7 * torch.stack([torch.as_tensor(e) for e in expected]).mean())

    def test_a_word_that_stands_twice_counts_twice_and_the_order_does_not_matter(self):
        strategy = built(BagOfWords, BagOfWordsConfig())
        z = torch.randn(1, 1, LATENT, generator=noise())

        def loss(*words):
            tokens = torch.tensor([[1, *words, 2]])
            batch = batch_like(1).with_tokens(tokens, torch.tensor([len(words) + 2]))
            return strategy.penalty(terms_at(z), batch, 0, noise())

        torch.testing.assert_close(loss(5, 7, 5), 2 * loss(5) + loss(7))
        assert loss(5, 7, 5) == loss(7, 5, 5)
        assert loss() == 0

    def test_padding_costs_nothing(self):
        strategy, z = built(BagOfWords, BagOfWordsConfig()), torch.randn(1, 5, LATENT, generator=noise())
        found = [strategy.penalty(terms_at(z), batch_of(width=width), 0, noise()) for width in (9, 23)]
        torch.testing.assert_close(*found)


def brute_force(x, y, kernel):
    """MMD^2 of two samples by its definition, pair by pair."""
    count = len(x)
    within = sum(kernel(a[i], a[j]) for a in (x, y) for i in range(count) for j in range(count) if i != j)
    return within / (count * (count - 1)) - 2 * sum(kernel(a, b) for a in x for b in y) / count**2


class TestMMD:
    kernels: ClassVar = {
        "rbf": lambda a, b: float(torch.exp(-(a - b).square().sum() / (2 * LATENT * 0.6))),
        "imq": lambda a, b: 2 * LATENT * 0.6 / (2 * LATENT * 0.6 + float((a - b).square().sum())),
    }

    @pytest.mark.parametrize("kernel", ["rbf", "imq"])
    def test_it_is_the_unbiased_estimate(self, kernel):
        strategy = built(MMD, MMDConfig(alpha=0.2, lam=3.8, kernel=kernel, bandwidth=0.6))
        z = torch.randn(2, 5, LATENT, generator=noise(3))
        prior = StandardPrior(LATENT).sample(10, generator=noise()).view(2, 5, LATENT)
        expected = sum(brute_force(x, y, self.kernels[kernel]) for x, y in zip(z, prior, strict=True)) / 2
        found = strategy.penalty(terms_at(z), batch_like(5), 0, noise())
        assert float(found) == pytest.approx(3.0 * expected, rel=1e-4)

    def test_the_kl_keeps_one_minus_alpha(self):
        model, batch = tiny_vae(), batch_of()
        strategy = built(MMD, MMDConfig(alpha=0.3, lam=0.7))
        loss, terms = Objective(model, [strategy])(batch, 0, noise())
        torch.testing.assert_close(loss, (terms.rec[0] + 0.7 * terms.kl).sum())

    def test_its_mean_over_draws_of_the_prior_is_zero(self):
        """The biased estimate would be at about 2 / B times one minus the mean of the kernel: 0.06 here."""
        strategy, generator = built(MMD, MMDConfig(lam=1.0, kernel="rbf")), noise(5)
        z = torch.randn(4000, 10, LATENT, generator=generator)
        batch = batch_like(10)
        values = torch.stack([strategy.penalty(terms_at(part), batch, 0, generator) for part in z.split(40)])
        error = float(values.std()) / math.sqrt(len(values))
        assert abs(float(values.mean())) < 4 * error
        assert error < 0.003

    def test_it_equals_the_closed_form_for_a_shifted_normal(self):
        """E k(x, y) of two normals, Gaussian kernel: (s / (s + 2))^(Z/2) exp(-|shift|^2 / (2s + 4)) for s = C / 2."""
        shift = torch.tensor([1.0, -0.5, 0.25])
        strategy, generator = built(MMD, MMDConfig(lam=1.0, kernel="rbf")), noise(6)
        z = shift + torch.randn(60, 200, LATENT, generator=generator)
        found = float(strategy.penalty(terms_at(z), batch_like(200), 0, generator))
        s = float(LATENT)
        factor = (s / (s + 2)) ** (LATENT / 2)
        expected = 2 * factor * (1 - math.exp(-float(shift.square().sum()) / (2 * (s + 2))))
        assert found == pytest.approx(expected, rel=0.03)

    def test_a_batch_of_one_sentence_gives_no_estimate(self):
        strategy = built(MMD, MMDConfig())
        assert strategy.penalty(terms_at(torch.randn(2, 1, LATENT)), batch_like(1), 0, noise()) == 0.0

    def test_equal_codes_have_a_finite_gradient(self):
        z = torch.zeros(1, 5, LATENT, requires_grad=True)
        built(MMD, MMDConfig()).penalty(terms_at(z), batch_like(5), 0, noise()).backward()
        assert torch.isfinite(z.grad).all()

    def test_a_negative_weight_is_refused(self):
        with pytest.raises(ValidationError, match="the weight of the discrepancy, is negative"):
            MMDConfig(alpha=0.2, lam=0.1)


class TestAdversarial:
    def losses(self):
        """The two losses by binary cross-entropy, the critic's and the model's, at given codes."""
        strategy = built(Adversarial, AdversarialConfig(weight=3.0, hidden=17))
        z = torch.randn(2, 5, LATENT, generator=noise(3), requires_grad=True)
        real = StandardPrior(LATENT).sample(10, generator=noise())
        entropy = torch.nn.functional.binary_cross_entropy_with_logits
        one, zero = torch.ones(10, 1), torch.zeros(10, 1)
        model = 3.0 * entropy(strategy.critic(z.flatten(0, 1)), one)
        critic = entropy(strategy.critic(real), one) + entropy(strategy.critic(z.detach().flatten(0, 1)), zero)
        return strategy, z, model, critic

    def test_model_and_critic_each_follow_their_own_loss(self):
        strategy, z, model, critic = self.losses()
        expected_z = torch.autograd.grad(model, z, retain_graph=True)
        expected_critic = torch.autograd.grad(critic, list(strategy.critic.parameters()))
        found = strategy.penalty(terms_at(z), batch_like(5), 0, noise())
        torch.testing.assert_close(found, model + critic)
        gradients = torch.autograd.grad(found, [z, *strategy.critic.parameters()])
        for found_one, expected in zip(gradients, (*expected_z, *expected_critic), strict=True):
            torch.testing.assert_close(found_one, expected)

    def test_the_kl_has_no_weight_and_the_best_weights_are_picked_by_rec(self, tmp_path):
        trainer = toy_trainer(tmp_path, phases=[phase_of(tmp_path, AdversarialConfig())])
        trainer._start_phase(0)
        assert trainer.objective.kl_weight(7) == 0
        assert trainer.stage.monitor == "rec"

    def test_the_critic_has_an_optimizer_of_its_own(self, tmp_path):
        trainer = toy_trainer(tmp_path, phases=[phase_of(tmp_path, AdversarialConfig(lr=0.25))])
        trainer._start_phase(0)
        (group,) = trainer.optimizers["adversarial.critic"].param_groups
        assert group["lr"] == 0.25
        assert {id(p) for p in group["params"]} == {id(p) for p in trainer.objective.strategies[0].parameters()}
        assert not {id(p) for p in group["params"]} & {id(p) for p in trainer.stage.main_parameters}

    def test_it_draws_the_codes_to_the_prior(self):
        """Codes free to move, far from the prior at first: mean and spread come to those of N(0, I)."""
        strategy = built(Adversarial, AdversarialConfig(weight=1.0, hidden=32, lr=0.02))
        generator = noise(4)
        shift = torch.full((LATENT,), 2.5, requires_grad=True)
        model, (critic,) = torch.optim.Adam([shift], lr=0.02), strategy.optimizers().values()
        batch, path = batch_like(64), []
        for _ in range(300):
            z = shift + torch.randn(1, 64, LATENT, generator=generator)
            loss = strategy.penalty(terms_at(z), batch, 0, generator)
            for optimizer in (model, critic):
                optimizer.zero_grad()
            loss.backward()
            for optimizer in (model, critic):
                optimizer.step()
            path.append(float(shift.detach().abs().max()))
        assert sum(path[-50:]) / 50 < 0.7 < path[0]
