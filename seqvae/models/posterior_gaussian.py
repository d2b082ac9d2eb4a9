"""The Gaussian posterior: diagonal, mean and log-variance linear in the encoder's features."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from seqvae import gaussian
from seqvae.models.prior_standard import StandardPrior
from seqvae.types import Posterior, Prior


class GaussianPosteriorConfig(BaseModel):
    """Settings of ``gaussian``: none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal["gaussian"] = Field("gaussian", description="diagonal, linear in the features")


@dataclass(frozen=True)
class GaussianPosterior:
    """q(z|x) = N(mean, diag(exp(logvar))) for each sentence; mean and logvar are ``[B Z]``, fp32."""

    mean: Float[Tensor, "B Z"]
    logvar: Float[Tensor, "B Z"]

    costly_density: ClassVar[bool] = False

    @property
    def std(self) -> Float[Tensor, "B Z"]:
        return torch.exp(0.5 * self.logvar)

    def rsample(self, samples: int, generator: torch.Generator | None = None) -> Float[Tensor, "S B Z"]:
        return gaussian.rsample(self.mean, self.logvar, samples, generator)

    def log_prob(self, z: Float[Tensor, "S #B Z"]) -> Float[Tensor, "S B"]:
        return gaussian.log_prob(z, self.mean, self.logvar)

    def kl(self, prior: Prior) -> tuple[Float[Tensor, " B"], Float[Tensor, "B Z"] | None] | None:
        """Closed form against the standard prior, and none against another."""
        if not isinstance(prior, StandardPrior):
            return None
        dims = gaussian.kl_to_standard(self.mean, self.logvar)
        return dims.sum(-1), dims

    def detach(self) -> Posterior:
        return GaussianPosterior(self.mean.detach(), self.logvar.detach())

    def __getitem__(self, index: slice | Tensor) -> Posterior:
        return GaussianPosterior(self.mean[index], self.logvar[index])


class GaussianHead(nn.Module):
    """Features to (mean, logvar) by one linear map without bias (He et al. 2019, section 4.2)."""

    def __init__(self, features: int, latent_dim: int):
        super().__init__()
        self.linear = nn.Linear(features, 2 * latent_dim, bias=False)

    def forward(self, features: Float[Tensor, "B H"]) -> GaussianPosterior:
        mean, logvar = gaussian.wide(self.linear(features)).chunk(2, dim=-1)
        return GaussianPosterior(mean, logvar.clamp(*gaussian.LOGVAR_RANGE))
