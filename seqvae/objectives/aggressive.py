"""Aggressive training of the encoder, so that it does not lag behind the decoder."""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field

from seqvae.objectives.base import PARTS, Dims, Loop, Strategy, StrategyConfig

_ENCODER, _DECODER = frozenset({"encoder"}), frozenset({"decoder"})


class AggressiveConfig(StrategyConfig):
    """Settings of ``aggressive``."""

    name: Literal["aggressive"] = "aggressive"
    inner_steps: int = Field(100, ge=1, description="most updates of the encoder before each update of the decoder")
    window: int = Field(15, ge=1, description="inner updates between two looks at whether the loss still falls")


class Aggressive(Strategy):
    """Before each update of the decoder the encoder is trained on random batches until its loss stops falling.

    Source: He et al. 2019, algorithm 1. As in their code, the first inner batch is the update's own (with
    ``train.accumulate`` its last one), the loss per predicted token is compared from one ``window`` to the next,
    gradients are clipped by the norm of encoder and decoder together, and the decoder's update leaves the encoder
    alone. The inner loop is given up for good at the first validation whose mutual information is below that of the
    one before (zero before the first); from then on training is the plain one. Deviations: the mutual information is
    that over the validation split rather than within batches, and the encoder's learning rate and optimizer are the
    model's. Other methods act in the inner updates as in any. Whether the inner loop still runs is part of every
    checkpoint.
    """

    Config = AggressiveConfig
    config: AggressiveConfig
    measures = frozenset({"mi"})
    conflicts: ClassVar = {"autoencoder": "it goes on until mutual information falls, and a noiseless code has none"}

    def build(self, dims: Dims) -> None:
        self.register_buffer("active", torch.tensor(dims.latent > 0))
        self.register_buffer("last_mi", torch.zeros(()))

    def trains(self, step: int) -> frozenset[str]:
        return _DECODER if self.active else PARTS

    def before_update(self, loop: Loop) -> None:
        if not self.active:
            return
        generator, batch, before = loop.generator(self.name), loop.batch, math.inf
        loss = tokens = torch.zeros((), device=batch.tokens.device)
        for count in range(1, self.config.inner_steps + 1):
            loop.update(batch, _ENCODER)
            loss, tokens = loss + loop.loss, tokens + loop.tokens.to(loss)
            if count % self.config.window == 0:
                mean = float(loss / tokens)
                if mean > before:
                    return
                before, loss, tokens = mean, torch.zeros_like(loss), torch.zeros_like(tokens)
            batch = loop.draw_batch(generator)

    def after_validation(self, loop: Loop, metrics: Mapping[str, float | None]) -> None:
        if not self.active:
            return
        if metrics["mi_nats"] < self.last_mi:
            self.active.fill_(False)
        self.last_mi.fill_(metrics["mi_nats"])
