"""InfoVAE: the aggregate posterior is held to the prior by the maximum mean discrepancy."""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from seqvae.objectives.base import Strategy, StrategyConfig
from seqvae.types import Batch, Terms


class MMDConfig(StrategyConfig):
    """Settings of ``mmd``, in the letters of the paper."""

    name: Literal["mmd"] = "mmd"
    alpha: float = Field(1.0, le=1, description="the KL of each sentence has weight 1 - alpha; 1: the MMD-VAE")
    lam: float = Field(100.0, description="lambda: the discrepancy has weight alpha + lam - 1")
    kernel: Literal["imq", "rbf"] = Field("imq", description="inverse multiquadratic, or Gaussian")
    bandwidth: float = Field(1.0, gt=0, description="squared length scale of the kernel, in units of 2 Z")

    @model_validator(mode="after")
    def _weight(self) -> "MMDConfig":
        if self.alpha + self.lam - 1 < 0:
            raise ValueError("alpha + lam - 1, the weight of the discrepancy, is negative")
        return self


class MMD(Strategy):
    """Loss = rec + (1 - alpha) * KL(q(z|x) || p(z)) + (alpha + lam - 1) * MMD^2(q(z) || p(z)).

    Source: Zhao et al. 2019 (InfoVAE, with MMD for D); the factor on the KL multiplies with those of other
    methods. The unbiased estimate (Gretton et al. 2012, equation 3) compares the codes of a micro-batch, one for each
    sentence, with as many draws from the prior; several samples of z give several estimates, whose mean is taken. A
    batch of one sentence gives none. Kernels with C = 2 * Z * ``bandwidth``, the mean squared distance of two draws
    from N(0, I) at bandwidth 1: exp(-|x - y|^2 / C), or C / (C + |x - y|^2) (Tolstikhin et al. 2018).
    """

    Config = MMDConfig
    config: MMDConfig

    @property
    def without_kl(self) -> str | None:
        return "at `alpha: 1` the KL has no weight" if self.config.alpha == 1 else None

    @property
    def couples_sentences(self) -> bool:
        return True

    def kl_weight(self, step: int) -> float:
        return 1.0 - self.config.alpha

    def penalty(self, terms: Terms, batch: Batch, step: int, generator: torch.Generator) -> Float[Tensor, ""] | float:
        samples, sentences, latent = terms.z.shape
        if latent == 0 or sentences < 2:
            return 0.0
        labels = None if batch.labels is None else batch.labels.repeat(samples)
        prior = terms.prior.sample(samples * sentences, labels=labels, generator=generator).view_as(terms.z)
        weight = self.config.alpha + self.config.lam - 1
        return weight * self._mmd(terms.z, prior.detach()).mean()

    def _mmd(self, x: Float[Tensor, "S B Z"], y: Float[Tensor, "S B Z"]) -> Float[Tensor, " S"]:
        count = x.shape[1]
        pairs = count * (count - 1)
        apart = ~torch.eye(count, dtype=torch.bool, device=x.device)
        within = [torch.where(apart, self._kernel(a, a), 0.0).sum((1, 2)) / pairs for a in (x, y)]
        return within[0] + within[1] - 2 * self._kernel(x, y).mean((1, 2))

    def _kernel(self, x: Float[Tensor, "S B Z"], y: Float[Tensor, "S B Z"]) -> Float[Tensor, "S B B"]:
        scale = 2 * x.shape[-1] * self.config.bandwidth
        # Not by products: a distance far smaller than its ends would be lost in them.
        squares = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()
        return scale / (scale + squares) if self.config.kernel == "imq" else torch.exp(-squares / scale)
