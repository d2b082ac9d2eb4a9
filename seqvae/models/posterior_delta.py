"""The Gaussian posterior whose variance stays below the prior's, so that it spends a minimum rate on every sentence."""

import math
from typing import Literal

from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from seqvae import gaussian
from seqvae.models.posterior_gaussian import GaussianPosterior


class DeltaPosteriorConfig(BaseModel):
    """Settings of ``delta``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal["delta"] = Field("delta", description="Gaussian whose variance is bounded away from the prior's")
    delta_nats: float = Field(
        3.0, gt=0, description="least KL of a sentence in nats; each dimension commits an equal share of it"
    )


MOST_NATS_PER_DIM = 14.0
"""A larger share of the rate would need variances below those that fp32 can invert (`gaussian.LOGVAR_RANGE`)."""


def largest_logvar(nats: float) -> float:
    """The log-variance s < 0 at which KL(N(0, exp(s)) || N(0, 1)) = (exp(s) - 1 - s) / 2 is ``nats``.

    Below it the KL is larger. By Newton's method from the left, where the KL is convex in s and falls: no overshoot.
    """
    logvar = -(2 * nats + 1)
    for _ in range(100):
        logvar -= (math.expm1(logvar) - logvar - 2 * nats) / math.expm1(logvar)
    return logvar


class DeltaHead(nn.Module):
    """mean = m and logvar = s_max - softplus(s), with m and s linear in the features.

    s_max solves KL(N(0, exp(s_max)) || N(0, 1)) = delta / Z, so that KL(q(z|x) || N(0, I)) >= delta for each sentence
    and any encoder, with equality only at m = 0 and s = -inf. The mean is free.

    Razavi et al. 2019 (Preventing Posterior Collapse with delta-VAEs), section 2, name this the simplest choice: a
    posterior and a prior whose variances differ. Deviation from the paper: its experiments have a latent for each
    position and an AR(1) prior over them, which one z for a sentence cannot have. A rate is guaranteed, not that it
    carries information: at the minimum, q(z|x) is the same for every sentence.
    """

    def __init__(self, config: DeltaPosteriorConfig, features: int, latent_dim: int):
        super().__init__()
        self.linear = nn.Linear(features, 2 * latent_dim, bias=False)
        self.largest_logvar = largest_logvar(config.delta_nats / latent_dim)

    def forward(self, features: Float[Tensor, "B H"]) -> GaussianPosterior:
        mean, raw = gaussian.wide(self.linear(features)).chunk(2, dim=-1)
        logvar = self.largest_logvar - functional.softplus(raw)
        return GaussianPosterior(mean, logvar.clamp_min(gaussian.LOGVAR_RANGE[0]))
