"""The priors p(z)."""

from typing import Annotated

from pydantic import Field
from torch import nn

from seqvae.models.encoder import Encoder
from seqvae.models.prior_mixture import MixturePrior, MixturePriorConfig
from seqvae.models.prior_sphere import SpherePrior, SpherePriorConfig
from seqvae.models.prior_standard import StandardPrior, StandardPriorConfig
from seqvae.models.prior_vamp import VampPrior, VampPriorConfig

PriorConfig = Annotated[
    StandardPriorConfig | SpherePriorConfig | MixturePriorConfig | VampPriorConfig, Field(discriminator="family")
]
"""The settings of any one prior (``model.prior``), told apart by ``family``."""


def build_prior(config: PriorConfig, latent_dim: int, encoder: Encoder, posterior: nn.Module) -> nn.Module:
    """The module that is the prior of a model with this encoder and this posterior."""
    match config:
        case StandardPriorConfig():
            return StandardPrior(latent_dim)
        case SpherePriorConfig():
            return SpherePrior(latent_dim)
        case MixturePriorConfig():
            return MixturePrior(config, latent_dim)
        case VampPriorConfig():
            return VampPrior(config, encoder, posterior)
