"""KL annealing: the weight of the KL grows from ``start`` to ``end`` early in training."""

import math
from typing import Literal

from pydantic import Field

from seqvae.objectives.base import Dims, Strategy, StrategyConfig


class KLAnnealingConfig(StrategyConfig):
    """Settings of ``kl_annealing``."""

    name: Literal["kl_annealing"] = "kl_annealing"
    shape: Literal["linear", "logistic"] = Field("linear", description="how the weight grows")
    start: float = Field(0.0, ge=0, description="weight before the first update (linear)")
    end: float = Field(1.0, ge=0, description="weight after warm-up")
    epochs: float = Field(10.0, gt=0, description="length of the warm-up in epochs; `steps` wins where both are set")
    steps: int | None = Field(None, ge=1, description="length of the warm-up in updates")
    steepness: float = Field(12.0, gt=0, description="logistic: the curve's argument runs from -this/2 to +this/2")


class KLAnnealing(Strategy):
    """Weight(t) = start + (end - start) * f(t / warm-up); f(u) = min(u, 1), or a logistic curve centred at u = 1/2.

    Source: Bowman et al. 2016, section 3.1 (logistic, figure 2); the linear form as in He et al. 2019. The logistic
    curve starts at about 0.0025 with the default steepness, and is 1 only in the limit, as in the paper.
    """

    Config = KLAnnealingConfig
    config: KLAnnealingConfig
    capturable = True

    def build(self, dims: Dims) -> None:
        self.warmup = max(1, dims.steps(steps=self.config.steps, epochs=self.config.epochs))

    def kl_weight(self, step: int) -> float:
        progress = step / self.warmup
        if self.config.shape == "linear":
            share = min(progress, 1.0)
        else:
            share = 1.0 / (1.0 + math.exp(-self.config.steepness * (min(progress, 2.0) - 0.5)))
        return self.config.start + (self.config.end - self.config.start) * share
