"""Free bits on the batch mean of each dimension's KL."""

from typing import Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from seqvae.objectives.base import Strategy, StrategyConfig
from seqvae.types import Terms


class FreeBitsConfig(StrategyConfig):
    """Settings of ``free_bits``."""

    name: Literal["free_bits"] = "free_bits"
    nats_per_dim: float = Field(0.25, ge=0, description="KL in nats that each latent dimension may spend at no cost")


class FreeBits(Strategy):
    """Shaped KL = sum over dimensions of max(nats_per_dim, mean over the batch of KL_d).

    Source: Kingma et al. 2016, equation 15, with one group per dimension. The mean couples the sentences of a
    micro-batch, so trajectories depend on how an update is split. A rate is guaranteed, not that it carries
    information: judge by mutual information and the swap gap.
    """

    Config = FreeBitsConfig
    config: FreeBitsConfig

    def shape_kl(self, terms: Terms, step: int) -> Float[Tensor, " B"]:
        if terms.kl_dims is None:
            return terms.kl
        return terms.kl_dims.mean(0).clamp_min(self.config.nats_per_dim).sum().expand(len(terms.kl))
