"""A fixed weight on the KL: the beta-VAE, and the noisy autoencoder at beta 0."""

from typing import Literal

from pydantic import Field

from seqvae.objectives.base import Strategy, StrategyConfig


class BetaConfig(StrategyConfig):
    """Settings of ``beta``."""

    name: Literal["beta"] = "beta"
    beta: float = Field(ge=0, description="weight of the KL; 0 leaves reconstruction alone (z is still sampled)")


class Beta(Strategy):
    """Loss = rec + beta * kl (Higgins et al. 2017, equation 4). Multiplies with an annealing schedule."""

    Config = BetaConfig
    config: BetaConfig
    capturable = True

    def kl_weight(self, step: int) -> float:
        return self.config.beta
