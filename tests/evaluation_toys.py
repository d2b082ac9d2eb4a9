"""Models small enough to be checked against a closed form, and a store to evaluate them on."""

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from seqvae.data.store import TokenStore
from seqvae.data.tokenizers import WordTokenizer
from seqvae.models.decoder import DecoderConfig
from seqvae.models.encoder import EncoderConfig
from seqvae.models.posterior_gaussian import GaussianPosterior
from seqvae.models.prior_standard import StandardPrior
from seqvae.models.vae import ModelConfig, SeqVAE
from seqvae.types import Terms

WORDS = WordTokenizer(["a", "b", "c", "d", "e", "f", "g"])


def texts(count: int, seed: int = 0) -> list[str]:
    """Sentences of 0 to 8 words."""
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS.words, size=random.integers(0, 9))) for _ in range(count)]


def store_of(count: int, seed: int = 0) -> TokenStore:
    return TokenStore.from_texts(texts(count, seed), WORDS)


def small_model(
    latent_dim: int = 3,
    seed: int = 0,
    vocab: int = WORDS.vocab_size,
    scale: float = 0.6,
    cell: str = "lstm",
    **families: dict[str, Any],
) -> SeqVAE:
    """A real model with random weights, large enough for z to matter; dropout on, so that a wrong mode shows."""
    torch.manual_seed(seed)
    model = SeqVAE(
        ModelConfig(
            latent_dim=latent_dim,
            encoder=EncoderConfig(cell=cell, embedding=5, hidden=6),
            decoder=DecoderConfig(cell=cell, embedding=7, hidden=8, layers=2, output_bias=True),
            **families,
        ),
        vocab_size=vocab,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-scale, scale)
    return model


class LinearGaussian(nn.Module):
    """x = W z + noise with z ~ N(0, I) and orthogonal columns of W: evidence and posterior are known.

    Row r of the store stands for the observation ``x[r]``; its tokens only give it a length. ``shift`` and ``widen``
    spoil the posterior.
    """

    labels = None

    def __init__(self, rows: int, *, observed: int = 5, latent: int = 2, noise: float = 0.7, seed: int = 0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        basis = torch.linalg.qr(torch.randn(observed, latent, generator=generator))[0]
        self.weight = nn.Parameter(basis * torch.linspace(0.5, 1.5, latent))
        self.latent_dim, self.variance, self.prior = latent, noise**2, StandardPrior(latent)
        z = torch.randn(rows, latent, generator=generator)
        self.x = z @ self.weight.detach().T + noise * torch.randn(rows, observed, generator=generator)
        self.shift, self.widen = 0.0, 1.0

    @property
    def device(self):
        return self.weight.device

    def encode(self, batch):
        precision = 1 + self.weight.square().sum(0) / self.variance
        mean = self.x[batch.rows] @ self.weight / self.variance / precision
        return GaussianPosterior(mean + self.shift, (self.widen / precision).log().expand_as(mean))

    def terms(self, batch, samples=1, *, q=None, z=None, log_q=None, generator=None):
        q = self.encode(batch) if q is None else q
        z = q.rsample(samples, generator) if z is None else z
        residual = (self.x[batch.rows] - z @ self.weight.T).square().sum(-1)
        rec = 0.5 * (residual / self.variance + self.x.shape[1] * math.log(2 * math.pi * self.variance))
        kl, dims = q.kl(self.prior)
        return Terms(rec=rec, kl=kl, kl_dims=dims, z=z, q=q, prior=self.prior, tokens=batch.lengths - 1)

    def evidence(self):
        """-log p(x) of every row, by torch's multivariate normal."""
        covariance = self.weight @ self.weight.T + self.variance * torch.eye(self.x.shape[1])
        normal = torch.distributions.MultivariateNormal(torch.zeros(self.x.shape[1]), covariance)
        return -normal.log_prob(self.x).detach().double().numpy()


class FixedCodes(nn.Module):
    """A model that is only its posterior: row r has N(mean[r], std^2)."""

    labels = None

    def __init__(self, mean: torch.Tensor, std: float):
        super().__init__()
        self.mean, self.std, self.latent_dim = mean, std, mean.shape[1]
        self.device = mean.device

    def encode(self, batch):
        mean = self.mean[batch.rows]
        return GaussianPosterior(mean, torch.full_like(mean, 2 * math.log(self.std)))
