"""The noiseless autoencoder: z is the posterior mean and the KL has no weight."""

from typing import Literal

from seqvae.objectives.base import Strategy, StrategyConfig


class AutoencoderConfig(StrategyConfig):
    """Settings of ``autoencoder``: none."""

    name: Literal["autoencoder"] = "autoencoder"


class Autoencoder(Strategy):
    """Loss = rec at z = E_q[z]. A baseline: such a model has no KL, importance-weighted NLL or mutual information.

    For the noisy autoencoder that Li et al. (2019, section 3) pre-train, use ``beta`` with 0 instead.
    """

    Config = AutoencoderConfig
    without_kl = "a noiseless code has no KL"
    capturable = True

    def kl_weight(self, step: int) -> float:
        return 0.0

    def noise_scale(self, step: int) -> float:
        return 0.0
