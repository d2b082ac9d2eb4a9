"""The priors p(z)."""

from torch import nn

from seqvae.models.prior_standard import StandardPrior, StandardPriorConfig

PriorConfig = StandardPriorConfig
"""The settings of any one prior (``model.prior``), told apart by ``family``."""


def build_prior(config: PriorConfig, latent_dim: int) -> nn.Module:
    """The module that is the prior."""
    return StandardPrior(latent_dim)
