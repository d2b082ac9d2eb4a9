"""Semi-amortised inference: the steps against plain autograd, the gradient through them against differences."""

import numpy as np
import pytest
import torch
from evaluation_toys import small_model, store_of
from model_toys import LATENT, batch_of, rows_of, tiny_vae
from training_toys import WORDS, phase_of, settings, toy_trainer

import seqvae
from seqvae.config import Config
from seqvae.errors import SeqVAEError
from seqvae.generation.codes import encode_store
from seqvae.io import pretrained
from seqvae.models.posterior_gaussian import GaussianPosterior
from seqvae.models.vae import SeqVAE
from seqvae.objectives.semi_amortised import SemiAmortised, SemiAmortisedConfig
from seqvae.textvae import TextVAE

GENTLE = {"steps": 3, "lr": 0.02, "momentum": 0.5, "clip_norm": 1e6}
"""Steps whose clipping never acts."""


def strategy_of(**settings):
    return SemiAmortised(SemiAmortisedConfig(**settings))


def double_model(seed=0):
    return tiny_vae(seed=seed).double()


def posterior(seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    mean, logvar = torch.randn(2, 5, LATENT, generator=generator, dtype=dtype)
    return GaussianPosterior(mean.requires_grad_(), (0.3 * logvar).requires_grad_())


def elbo(model, batch, q, noise):
    """-ELBO by sentence at a given draw of the noise."""
    terms = model.terms(batch, q=q, z=(q.mean + q.std * noise)[None])
    return terms.rec[0] + terms.kl


class TestSteps:
    @pytest.mark.parametrize("clip_norm", [1e6, 0.3])
    def test_they_are_momentum_steps_on_minus_elbo_clipped_by_sentence(self, clip_norm):
        model, batch, q = double_model(), batch_of(), posterior()
        strategy = strategy_of(**{**GENTLE, "clip_norm": clip_norm})
        found = strategy.refine(q, batch, model)
        noise = torch.randn(3, 1, LATENT, generator=torch.Generator().manual_seed(0)).double()
        at = [q.mean.detach(), q.logvar.detach()]
        velocity = [torch.zeros(5, LATENT), torch.zeros(5, LATENT)]
        for step in range(3):
            leaves = [value.clone().requires_grad_() for value in at]
            loss = elbo(model, batch, GaussianPosterior(*leaves), noise[step]).sum()
            gradients = torch.autograd.grad(loss, leaves)
            norm = torch.cat(gradients, dim=1).norm(dim=1, keepdim=True)
            factor = (clip_norm / norm).clamp_max(1.0)
            velocity = [0.5 * v + factor * g for v, g in zip(velocity, gradients, strict=True)]
            at = [value - 0.02 * v for value, v in zip(at, velocity, strict=True)]
        torch.testing.assert_close(found.mean, at[0])
        torch.testing.assert_close(found.logvar, at[1])

    def test_they_lower_minus_elbo(self):
        model, batch, q = double_model(), batch_of(), posterior()
        better = strategy_of(steps=20, lr=0.05).refine(q, batch, model)
        noise = torch.randn(60, 1, 1, LATENT, generator=torch.Generator().manual_seed(3)).double()
        with torch.no_grad():
            before, after = (
                torch.stack([elbo(model, batch, one, eps[0]) for eps in noise]).mean(0) for one in (q, better)
            )
        assert (after < before).all()

    def test_no_sentence_depends_on_its_company(self):
        model, batch, strategy = tiny_vae(), batch_of(), strategy_of()
        model.refiners = (strategy,)
        together = model.encode(batch)
        for row in range(5):
            alone = model.encode(rows_of(batch, [row]))
            torch.testing.assert_close(alone.mean[0], together.mean[row], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(alone.logvar[0], together.logvar[row], rtol=1e-4, atol=1e-5)

    def test_in_use_they_are_always_the_same_and_leave_the_random_state_alone(self):
        model, batch = tiny_vae(), batch_of()
        model.refiners = (strategy_of(),)
        before = torch.get_rng_state()
        with torch.no_grad():
            first, again = model.encode(batch), model.encode(batch)
        assert torch.equal(first.mean, again.mean)
        assert not first.mean.requires_grad
        assert torch.equal(torch.get_rng_state(), before)

    def test_in_training_the_noise_is_drawn_anew(self):
        model, batch, q = tiny_vae().train(), batch_of(), posterior(dtype=torch.float32)
        torch.manual_seed(0)
        first, other = (strategy_of().refine(q, batch, model).mean for _ in range(2))
        torch.manual_seed(0)
        again = strategy_of().refine(q, batch, model).mean
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_dropout_is_off_inside_and_every_module_is_in_its_mode_afterwards(self):
        model, batch, q = (
            tiny_vae(decoder={"dropout_in": 0.5, "dropout_out": 0.5}),
            batch_of(),
            posterior(1, torch.float32),
        )
        model.train()
        model.encoder.eval()
        modes = [module.training for module in model.modules()]
        torch.manual_seed(0)
        first = strategy_of().refine(q, batch, model).mean
        assert [module.training for module in model.modules()] == modes
        plain = tiny_vae(decoder={"dropout_in": 0.0, "dropout_out": 0.0}).train()
        torch.manual_seed(0)
        torch.testing.assert_close(first, strategy_of().refine(q, batch, plain).mean)


class TestGradient:
    """Of a loss at the refined posterior, by whatever the steps depend on, in fp64 with fixed noise."""

    weights = torch.linspace(-1.0, 1.0, 5 * LATENT, dtype=torch.float64).view(5, LATENT)

    def loss(self, q, model, strategy):
        refined = strategy.refine(q, batch_of(), model)
        return (self.weights * refined.mean).sum() + refined.logvar.sin().sum()

    def numeric(self, function, tensor, index, width=1e-5):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                tensor.view(-1)[index] += sign * width
                values.append(float(function().detach()))
                tensor.view(-1)[index] -= sign * width
        return (values[0] - values[1]) / (2 * width)

    def test_by_the_encoders_parameters_of_q_it_is_the_derivative_through_all_steps(self):
        model, q, strategy = double_model(), posterior(), strategy_of(**GENTLE)
        found = torch.autograd.grad(self.loss(q, model, strategy), [q.mean, q.logvar])
        for tensor, gradient in zip((q.mean, q.logvar), found, strict=True):
            for index in (0, 4, 7, 14):
                expected = self.numeric(lambda: self.loss(q, model, strategy), tensor, index)
                assert float(gradient.reshape(-1)[index]) == pytest.approx(expected, rel=2e-3, abs=2e-4)

    def test_by_the_decoders_weights_it_is_the_derivative_through_all_steps(self):
        model, q, strategy = double_model(), posterior(), strategy_of(**GENTLE)
        tensors = [model.decoder.state.weight, model.decoder.lstm.weight_ih_l0, model.decoder.output_weight]
        found = torch.autograd.grad(self.loss(q, model, strategy), tensors)
        for tensor, gradient in zip(tensors, found, strict=True):
            for index in gradient.abs().flatten().topk(3).indices.tolist():
                expected = self.numeric(lambda: self.loss(q, model, strategy), tensor, index)
                assert float(gradient.reshape(-1)[index]) == pytest.approx(expected, rel=2e-3, abs=2e-4)

    def test_without_it_the_steps_are_a_shift(self):
        model, q = double_model(), posterior()
        loss = self.loss(q, model, strategy_of(**GENTLE, through_steps=False))
        found = torch.autograd.grad(loss, [q.mean, *model.decoder.parameters()], allow_unused=True)
        torch.testing.assert_close(found[0], self.weights)
        assert all(gradient is None for gradient in found[1:])
        same = strategy_of(**GENTLE).refine(q, batch_of(), model)
        torch.testing.assert_close(
            strategy_of(**GENTLE, through_steps=False).refine(q, batch_of(), model).mean, same.mean
        )

    def test_in_fp32_it_is_near_that_of_fp64(self):
        wide, found = posterior(), []
        narrow = GaussianPosterior(*(t.detach().float().requires_grad_() for t in (wide.mean, wide.logvar)))
        for model, q in ((double_model(), wide), (tiny_vae(), narrow)):
            refined = strategy_of(**GENTLE).refine(q, batch_of(), model)
            loss = (self.weights.to(q.mean.dtype) * refined.mean).sum() + refined.logvar.sin().sum()
            found.append(torch.autograd.grad(loss, [q.mean, model.decoder.state.weight]))
        for expected, gradient in zip(*found, strict=True):
            assert float((gradient.double() - expected).norm()) < 0.02 * float(expected.norm())


def test_a_posterior_that_is_no_gaussian_is_refused():
    class Other:
        mean = torch.zeros(5, LATENT)

        def __getattr__(self, name):
            return lambda *args: None

    with pytest.raises(SeqVAEError, match="this posterior is none") as caught:
        SemiAmortised.refine.__wrapped__(strategy_of(), Other(), batch_of(), tiny_vae())
    assert (caught.value.code, caught.value.exit_code) == ("E272", 2)


def test_a_model_is_trained_validated_saved_and_used_with_its_steps(tmp_path):
    changes = {"train": {"steps": 4, "validate_every": 2}}
    config = SemiAmortisedConfig(steps=2)
    trainer = toy_trainer(tmp_path, phases=[phase_of(tmp_path, config, **changes)], **changes)
    assert trainer.fit()
    assert all(np.isfinite(event["elbo_nats"]) for event in trainer.task.observe.of("valid"))
    vae = TextVAE(trainer.model.eval(), WORDS, noiseless=False)
    pretrained.save(tmp_path / "model", vae, facts={})
    loaded = seqvae.load(tmp_path / "model")
    assert [refiner.config for refiner in loaded.model.refiners] == [config]
    texts = ["w1 w2 w3", "w4", ""]
    np.testing.assert_array_equal(loaded.encode(texts).mean, vae.encode(texts).mean)
    plain = SeqVAE(Config.from_dict(settings()).model, WORDS.vocab_size)
    plain.load_state_dict(loaded.model.state_dict())
    amortised = TextVAE(plain.eval(), WORDS, noiseless=False)
    assert not np.allclose(loaded.encode(texts).mean, amortised.encode(texts).mean, atol=1e-4)


def test_codes_are_refined_in_the_inference_mode_of_a_caller_too():
    model = small_model()
    model.refiners = (strategy_of(**GENTLE),)
    expected = encode_store(model, store_of(5)).mean
    with torch.inference_mode():
        np.testing.assert_array_equal(encode_store(model, store_of(5)).mean, expected)
