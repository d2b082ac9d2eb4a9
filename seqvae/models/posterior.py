"""The posterior families: how q(z|x) is read from the encoder's features."""

from typing import Annotated

from pydantic import Field
from torch import nn

from seqvae.models.posterior_batchnorm import BatchNormHead, BatchNormPosteriorConfig
from seqvae.models.posterior_delta import DeltaHead, DeltaPosteriorConfig
from seqvae.models.posterior_gaussian import GaussianHead, GaussianPosteriorConfig
from seqvae.models.posterior_iaf import IAFHead, IAFPosteriorConfig
from seqvae.models.posterior_vmf import VMFHead, VMFPosteriorConfig

PosteriorConfig = Annotated[
    GaussianPosteriorConfig | BatchNormPosteriorConfig | DeltaPosteriorConfig | VMFPosteriorConfig | IAFPosteriorConfig,
    Field(discriminator="family"),
]
"""The settings of any one family (``model.posterior``), told apart by ``family``."""


def build_posterior(config: PosteriorConfig, features: int, latent_dim: int) -> nn.Module:
    """The module that maps features ``[B H]`` to a posterior."""
    match config:
        case GaussianPosteriorConfig():
            return GaussianHead(features, latent_dim)
        case BatchNormPosteriorConfig():
            return BatchNormHead(config, features, latent_dim)
        case DeltaPosteriorConfig():
            return DeltaHead(config, features, latent_dim)
        case VMFPosteriorConfig():
            return VMFHead(config, features, latent_dim)
        case IAFPosteriorConfig():
            return IAFHead(config, features, latent_dim)
