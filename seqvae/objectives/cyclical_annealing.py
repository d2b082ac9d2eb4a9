"""Cyclical annealing: the weight of the KL goes up several times, not once."""

from typing import Literal

from pydantic import Field, model_validator

from seqvae.objectives.base import Dims, Strategy, StrategyConfig


class CyclicalAnnealingConfig(StrategyConfig):
    """Settings of ``cyclical_annealing``."""

    name: Literal["cyclical_annealing"] = "cyclical_annealing"
    cycles: int = Field(4, ge=1, description="cycles over the whole length; afterwards the weight stays at `end`")
    epochs: float = Field(40.0, gt=0, description="length of all cycles in epochs; `steps` wins where both are set")
    steps: int | None = Field(None, ge=1, description="length of all cycles in updates")
    zero: float = Field(0.0, ge=0, lt=1, description="first share of each cycle, in which the weight stays at `start`")
    ramp: float = Field(0.5, ge=0, le=1, description="share of each cycle in which the weight grows, after `zero`")
    start: float = Field(0.0, ge=0, description="weight at the beginning of each cycle")
    end: float = Field(1.0, ge=0, description="weight in the rest of each cycle, and after the last")

    @model_validator(mode="after")
    def _shares(self) -> "CyclicalAnnealingConfig":
        if self.zero + self.ramp > 1:
            raise ValueError(f"zero + ramp is more than a whole cycle: {self.zero:g} + {self.ramp:g}")
        return self


class CyclicalAnnealing(Strategy):
    """Weight(t) = start + (end - start) * min(max(tau - zero, 0) / ramp, 1), with tau in [0, 1) the place in its cycle.

    Source: Fu et al. 2019, equations 6 and 7, with linear growth (their R is ``ramp``, their M ``cycles``); their runs
    on Penn Treebank have 4 cycles of 10 epochs, half of each a ramp. Li et al. 2020 (Optimus) put a phase at zero
    before each ramp: half a cycle of it, then a quarter of growth.
    """

    Config = CyclicalAnnealingConfig
    config: CyclicalAnnealingConfig
    capturable = True

    def build(self, dims: Dims) -> None:
        self._length = max(1, dims.steps(steps=self.config.steps, epochs=self.config.epochs))

    def kl_weight(self, step: int) -> float:
        config = self.config
        if step >= self._length:
            return config.end
        beyond = (step * config.cycles % self._length) / self._length - config.zero  # exact: no rounding at the edges
        share = min(beyond / config.ramp, 1.0) if config.ramp else 1.0
        return config.start if beyond < 0 else config.start + (config.end - config.start) * share
