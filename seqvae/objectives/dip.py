"""DIP-VAE: the covariance of all codes together is held to that of the prior."""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from seqvae.errors import SeqVAEError
from seqvae.objectives.base import Dims, Loop, Strategy, StrategyConfig
from seqvae.types import Batch, Terms


class DIPConfig(StrategyConfig):
    """Settings of ``dip``, in the letters of the paper."""

    name: Literal["dip"] = "dip"
    lambda_od: float = Field(0.1, ge=0, description="weight of the squared covariances of different dimensions")
    lambda_d: float = Field(0.1, ge=0, description="weight of (variance - 1)^2 of each dimension")
    of: Literal["codes", "means"] = Field(
        "codes", description="whose covariance: of the codes z (DIP-VAE-II), or of the posterior means (DIP-VAE-I)"
    )
    decay: float = Field(
        0.98, ge=0, lt=1, description="how much of the covariance so far is kept at an update; 0: each batch alone"
    )


class DIP(Strategy):
    """Loss = rec + KL + lambda_od * sum_{i != j} C_ij^2 + lambda_d * sum_i (C_ii - 1)^2, with C = Cov_q(z)[z].

    Source: Kumar et al. 2018 ("Variational inference of disentangled latent concepts from unlabeled observations"),
    equation 7 (``of: codes``; C = Cov[mean] + E[variance], their equation 5) and equation 6 (``of: means``; C =
    Cov[mean]). A sum of C_ij^2 over i != j and of (C_ii - 1)^2, times 1/4, is to second order the KL from the Gaussian
    with the moments of q(z) to N(0, I): what of the KL buys no information about the sentence. At weights near 1 (the
    paper's, for images, are larger) it is paid by codes that say nothing, which correlate with nothing either. Other
    than in the paper, C is a moving average over updates, of which the last batch alone has a gradient: in a batch of
    some dozen sentences the covariances are mostly noise, and those of one length are not all sentences. ``decay: 0``
    is the paper's. With several samples of z the variance within a posterior is their mean. Errors: E270 for a
    posterior or prior that is no Gaussian with independent dimensions.
    """

    Config = DIPConfig
    config: DIPConfig

    @property
    def couples_sentences(self) -> bool:
        return True

    def build(self, dims: Dims) -> None:
        self.register_buffer("mean", torch.zeros(dims.latent))
        self.register_buffer("second", torch.zeros(dims.latent, dims.latent))
        self.register_buffer("updates", torch.zeros(()))

    def penalty(self, terms: Terms, batch: Batch, step: int, generator: torch.Generator) -> Float[Tensor, ""] | float:
        if terms.z.shape[-1] == 0:
            return 0.0
        if terms.kl_dims is None:
            raise SeqVAEError(
                "E270",
                "`dip` needs codes and a prior that split by dimension; this model's do not",
                hint="use `mmd`, which compares draws, or leave it out",
            )
        mean, second, count = self._sums(terms)
        now = mean / count, second / count
        mean, second = (_valued(own, self._followed(kept, own)) for own, kept in zip(now, self._kept(), strict=True))
        covariance = second - mean[:, None] * mean
        variances = covariance.diagonal()
        between = covariance.square().sum() - variances.square().sum()
        return self.config.lambda_od * between + self.config.lambda_d * (variances - 1).square().sum()

    @torch.no_grad()
    def after_update(self, loop: Loop, terms: Terms) -> None:
        if terms.z.shape[-1] == 0:
            return
        mean, second, count = self._sums(terms)
        shared = loop.summed(torch.cat([mean, second.flatten(), count.reshape(1)]))
        mean, second = shared[: len(mean)] / shared[-1], shared[len(mean) : -1].view_as(second) / shared[-1]
        for kept, own in zip(self._kept(), (mean, second), strict=True):
            kept.copy_(torch.where(loop.finite, self._followed(kept, own), kept))
        self.updates += loop.finite

    def _kept(self) -> tuple[Float[Tensor, " Z"], Float[Tensor, "Z Z"]]:
        return self.mean, self.second

    def _followed(self, kept: Tensor, own: Tensor) -> Tensor:
        """The average with one batch more; of the first batches it is their plain mean."""
        decay = torch.clamp_max(self.updates / (self.updates + 1), self.config.decay)
        return decay * kept + (1 - decay) * own.detach()

    def _sums(self, terms: Terms) -> tuple[Float[Tensor, " Z"], Float[Tensor, "Z Z"], Float[Tensor, ""]]:
        """Over the sentences of a batch: of z, of z z^T, and their number."""
        means = terms.q.mean
        second = (means[:, :, None] * means[:, None, :]).sum(0)  # in fp32, which a product need not be
        if self.config.of == "codes":
            second = second + torch.diag_embed((terms.z - means).square().mean(0).sum(0))
        return means.sum(0), second, means.new_full((), float(len(means)))


def _valued(own: Tensor, value: Tensor) -> Tensor:
    """``value``, with the gradient of ``own``."""
    return value + (own - own.detach())
