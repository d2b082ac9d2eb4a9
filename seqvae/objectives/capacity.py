"""A KL that is held at a rate which grows: the controlled capacity of the beta-VAE."""

from typing import Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from seqvae.errors import SeqVAEError
from seqvae.objectives.base import Dims, Strategy, StrategyConfig
from seqvae.types import Terms


class CapacityConfig(StrategyConfig):
    """Settings of ``capacity``."""

    name: Literal["capacity"] = "capacity"
    gamma: float = Field(10.0, gt=0, description="price of each nat that the KL lies above or below the capacity")
    start_nats: float = Field(0.0, ge=0, description="capacity before the first update, in nats per sentence")
    end_nats: float = Field(8.0, ge=0, description="capacity after its growth, in nats per sentence")
    epochs: float = Field(10.0, gt=0, description="length of the growth in epochs; `steps` wins where both are set")
    steps: int | None = Field(None, ge=1, description="length of the growth in updates")
    level: Literal["sentence", "mean"] = Field(
        "sentence", description="what is held at the capacity: the KL of each sentence, or its mean over the batch"
    )


class Capacity(Strategy):
    """Shaped KL = gamma * |KL - C(t)|, with C(t) growing linearly from ``start_nats`` to ``end_nats``.

    Source: Burgess et al. 2018, equation 8, which is on each x; ``level: mean`` takes the absolute value of the batch
    mean, as most code does, and couples the sentences of a micro-batch. A KL that is estimated from samples (a learned
    prior, a flow) can be held by its mean alone, up to the noise of that. Any weight on the KL multiplies it. A rate is
    bought, not that it carries information: judge by mutual information and the swap gap.
    """

    Config = CapacityConfig
    config: CapacityConfig

    @property
    def couples_sentences(self) -> bool:
        return self.config.level == "mean"

    def build(self, dims: Dims) -> None:
        self._growth = max(1, dims.steps(steps=self.config.steps, epochs=self.config.epochs))

    def shape_kl(self, terms: Terms, step: int) -> Float[Tensor, " B"]:
        if terms.z.shape[-1] == 0:
            return terms.kl
        if self.config.level == "sentence" and terms.kl_estimated:
            raise SeqVAEError(
                "E270",
                "`capacity` with `level: sentence` needs the KL of each sentence; this model's is an estimate",
                hint="use `level: mean`",
            )
        start, end = self.config.start_nats, self.config.end_nats
        capacity = start + (end - start) * min(step / self._growth, 1.0)
        kl = terms.kl if self.config.level == "sentence" else terms.kl.mean().expand(len(terms.kl))
        return self.config.gamma * (kl - capacity).abs()
