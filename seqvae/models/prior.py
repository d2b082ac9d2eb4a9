"""The priors p(z)."""

from typing import Annotated

from pydantic import Field
from torch import nn

from seqvae.models.prior_sphere import SpherePrior, SpherePriorConfig
from seqvae.models.prior_standard import StandardPrior, StandardPriorConfig

PriorConfig = Annotated[StandardPriorConfig | SpherePriorConfig, Field(discriminator="family")]
"""The settings of any one prior (``model.prior``), told apart by ``family``."""


def build_prior(config: PriorConfig, latent_dim: int) -> nn.Module:
    """The module that is the prior."""
    match config:
        case StandardPriorConfig():
            return StandardPrior(latent_dim)
        case SpherePriorConfig():
            return SpherePrior(latent_dim)
