"""Numbers at their edges: kinds of floating point agree, extremes stay finite, bounds hold from one sample to 10,000.

The model has large random weights, so that every part of it matters.
"""

import copy
import math

import numpy as np
import pytest
import torch
from model_toys import VOCAB, batch_of, tiny_vae
from training_toys import WORDS

from seqvae import gaussian
from seqvae.data.batching import collate
from seqvae.data.store import TokenStore
from seqvae.errors import SeqVAEError
from seqvae.evaluation.likelihood import elbo_and_iw
from seqvae.generation.decoding import DecodeConfig, decode
from seqvae.models.posterior_gaussian import GaussianPosterior
from seqvae.models.prior_standard import StandardPrior
from seqvae.objectives.base import Objective
from seqvae.textvae import TextVAE

FP32, BF16 = {"rel": 2e-5, "abs": 2e-5}, {"rel": 0.02, "abs": 0.02}
"""Tolerances to fp64, relative or in nats: the largest error seen was 3e-7 and 0.6 %."""


def terms_in(kind: torch.dtype):
    """Terms of one batch at the same codes, computed in one kind of numbers (bf16 as in training: autocast)."""
    model, batch = tiny_vae(), batch_of()
    z = torch.randn(4, len(batch), model.latent_dim, generator=torch.Generator().manual_seed(1))
    if kind is torch.float64:
        model, z = copy.deepcopy(model).double(), z.double()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=kind is torch.bfloat16):
        return model.terms(batch, samples=4, z=z)


@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float32, FP32), (torch.bfloat16, BF16)])
def test_kinds_of_floating_point_agree_within_the_stated_tolerance(kind, tolerance):
    exact, found = terms_in(torch.float64), terms_in(kind)
    for name in ("rec", "kl", "log_q", "log_p"):
        expected = getattr(exact, name).double().numpy()
        assert getattr(found, name).double().numpy() == pytest.approx(expected, **tolerance), name
    assert found.kl.dtype is torch.float32
    assert found.log_q.dtype is torch.float32


def test_a_small_kl_is_not_lost_in_bf16():
    mean, logvar = torch.full((2, 3), 1e-3, dtype=torch.bfloat16), torch.full((2, 3), -2e-3, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        kl = GaussianPosterior(mean, logvar).kl(StandardPrior(3))[0]
    exact = 0.5 * (mean.double() ** 2 + logvar.double().exp() - 1 - logvar.double()).sum(-1)
    assert kl.double().numpy() == pytest.approx(exact.numpy(), rel=1e-2)


# Extremes.


@pytest.mark.parametrize("size", [0.0, 1e-30, 1.0, 1e4, 1e18, 1e30])
def test_a_code_of_any_size_gives_a_likelihood_and_text(size):
    model, batch = tiny_vae(), batch_of()
    z = torch.full((1, len(batch), model.latent_dim), size)
    with torch.no_grad():
        assert torch.isfinite(model.terms(batch, z=z).rec).all()
    for strategy in ("greedy", "sample", "beam"):
        config = DecodeConfig(strategy=strategy, max_length=6, beam_size=3)
        found = decode(model, torch.stack([z[0, 0], -z[0, 0]]), config, torch.Generator().manual_seed(0))
        assert all(map(math.isfinite, found.log_probs))


@pytest.mark.parametrize(
    ("value", "code"), [(math.nan, "E234"), (math.inf, "E234"), (-math.inf, "E234"), (3e38, "E530")]
)
def test_a_code_that_is_no_number_or_makes_none_is_refused(value, code):
    with pytest.raises(SeqVAEError) as caught:
        decode(tiny_vae(), torch.tensor([[value, value, value]]), DecodeConfig())
    assert caught.value.code == code


@pytest.mark.parametrize("logvar", [*gaussian.LOGVAR_RANGE, 0.0, -20.0, 10.0])
@pytest.mark.parametrize("mean", [0.0, 1e3, -1e6])
def test_a_posterior_of_any_width_has_finite_numbers_and_gradients(mean, logvar):
    q = GaussianPosterior(
        torch.full((2, 3), mean, requires_grad=True), torch.full((2, 3), float(logvar), requires_grad=True)
    )
    z = q.rsample(5, torch.Generator().manual_seed(0))
    kl, dims = q.kl(StandardPrior(3))
    loss = kl.sum() + q.log_prob(z.detach()).sum()
    loss.backward()
    for found in (z, kl, dims, q.std, q.log_prob(z), q.mean.grad, q.logvar.grad):
        assert torch.isfinite(found).all()
    exact = 0.5 * (mean**2 + math.exp(logvar) - 1 - logvar) * 3
    assert kl.double().tolist() == pytest.approx([exact] * 2, rel=1e-5)


@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_an_encoder_that_explodes_keeps_log_variances_in_their_range(scale):
    model, batch = tiny_vae(), batch_of()
    with torch.no_grad():
        model.posterior.linear.weight.mul_(scale)
        q = model.encode(batch)
    low, high = gaussian.LOGVAR_RANGE
    assert ((q.logvar >= low) & (q.logvar <= high)).all()
    assert torch.isfinite(q.std).all()


@pytest.mark.parametrize("temperature", [1e-300, 1e-9, 1e9, 1e300])
def test_any_temperature_draws_tokens(temperature):
    z = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    config = DecodeConfig(temperature=temperature, max_length=9)
    found = decode(tiny_vae(), z, config, torch.Generator().manual_seed(0))
    assert all(map(math.isfinite, found.log_probs))
    if temperature < 1:
        assert found.tokens == decode(tiny_vae(), z, DecodeConfig(strategy="greedy", max_length=9)).tokens
    else:
        assert len({token for tokens in found.tokens for token in tokens}) > 4


# From one sample to ten thousand.


def store_of(lengths) -> TokenStore:
    random = np.random.default_rng(0)
    texts = [" ".join(WORDS.words[int(random.integers(7))] for _ in range(length)) for length in lengths]
    return TokenStore.from_texts(texts, WORDS)


def test_the_bound_of_ten_thousand_samples_is_the_likelihood_by_quadrature():
    model, store = tiny_vae(latent_dim=1), store_of([2])
    assert WORDS.vocab_size >= VOCAB - 4
    one = elbo_and_iw(model, store, samples=1)
    many = elbo_and_iw(model, store, samples=10_000)
    assert one.iw[0] == pytest.approx(one.elbo[0], abs=1e-12)
    grid = torch.linspace(-12, 12, 4801, dtype=torch.float64)
    batch = collate(store, np.array([0]))
    with torch.no_grad():
        rec = torch.cat([model.terms(batch, z=part[:, None, None].float()).rec[:, 0] for part in grid.split(601)])
    log_joint = -rec.double() - 0.5 * (gaussian.LOG_2PI + grid**2)
    exact = -(torch.logsumexp(log_joint, 0) + math.log(24 / 4800)).item()
    assert many.iw[0] == pytest.approx(exact, abs=0.01)
    assert exact - 0.01 <= many.iw[0] <= many.elbo[0]
    assert many.samples == 10_000


# From one token to five thousand.


@pytest.mark.parametrize("length", [0, 1, 5000])
def test_a_sentence_of_any_length_is_scored_encoded_and_trained_on(length):
    model = tiny_vae()
    vae = TextVAE(model, type(WORDS)(WORDS.words[: VOCAB - 4]))
    text = " ".join(WORDS.words[number % 7] for number in range(length))
    codes, scores = vae.encode([text, "w1"]), vae.score([text, "w1"], samples=2)
    assert np.isfinite(codes.mean).all()
    assert np.isfinite(scores.nats).all()
    # In company or alone, the padding of 5,000 tokens adds nothing.
    np.testing.assert_allclose(vae.encode(["w1"]).mean[0], codes.mean[1], rtol=1e-5, atol=1e-6)
    assert len(vae.decode(codes, config=DecodeConfig(strategy="greedy", max_length=length + 1))) == 2
    batch = batch_of((length + 2, 3) if length < 60 else (62, 3))
    if length > 60:
        tokens = torch.full((2, length + 2), 0)
        tokens[:, 0], tokens[0, 1:-1], tokens[0, -1], tokens[1, 1], tokens[1, 2] = 1, 5, 2, 6, 2
        batch = type(batch)(tokens=tokens, lengths=torch.tensor([length + 2, 3]), rows=torch.arange(2))
    loss, terms = Objective(model, ())(batch, 0, torch.Generator().manual_seed(0))
    loss.backward()
    assert terms.tokens.tolist() == [length + 1, 2]
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)
