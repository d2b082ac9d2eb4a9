"""Minimum desired rate: a constraint on the KL, kept by a Lagrange multiplier that learns."""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from seqvae.objectives.base import Dims, Strategy, StrategyConfig
from seqvae.types import Batch, Terms


class MinimumRateConfig(StrategyConfig):
    """Settings of ``minimum_rate``."""

    name: Literal["minimum_rate"] = "minimum_rate"
    nats: float = Field(5.0, ge=0, description="rate r: least mean KL, in nats per sentence")
    start: float = Field(0.5, gt=0, description="multiplier before the first update")
    lr: float = Field(1e-3, gt=0, description="learning rate of the multiplier (RMSprop)")


class MinimumRate(Strategy):
    """min over the model, max over u >= 0, of rec + KL + u * (r - KL): the mean KL comes to lie at r or above.

    Source: Pelsmaeker and Aziz 2020 (minimum desired rate). The constraint is on the mean over the data, so
    on that of an update; u = |m| for a parameter m that ascends by RMSprop while the model descends, as in the authors'
    code. Both steps are made from one gradient. m and its optimizer are part of every checkpoint.
    """

    Config = MinimumRateConfig
    config: MinimumRateConfig

    def build(self, dims: Dims) -> None:
        self.multiplier = nn.Parameter(torch.tensor(self.config.start))

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {"multiplier": torch.optim.RMSprop([self.multiplier], lr=self.config.lr, maximize=True)}

    def penalty(self, terms: Terms, batch: Batch, step: int, generator: torch.Generator) -> Float[Tensor, ""] | float:
        if terms.z.shape[-1] == 0:
            return 0.0
        return self.multiplier.abs() * (self.config.nats - terms.kl.mean())
