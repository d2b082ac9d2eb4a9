"""Word dropout: the decoder must ask z for the words that it is not shown."""

from typing import Literal

import torch
from pydantic import Field, model_validator

from seqvae.objectives.base import Dims, Strategy, StrategyConfig
from seqvae.types import BOS, PAD, UNK, Batch


class WordDropoutConfig(StrategyConfig):
    """Settings of ``word_dropout``: a constant rate, or one that goes from ``rate`` to ``end_rate``."""

    name: Literal["word_dropout"] = "word_dropout"
    rate: float = Field(0.4, ge=0, le=1, description="share of the decoder's input words replaced by <unk>")
    end_rate: float | None = Field(None, ge=0, le=1, description="share at the end of the schedule; null: `rate` stays")
    epochs: float | None = Field(None, gt=0, description="length of the schedule in epochs; `steps` wins over it")
    steps: int | None = Field(None, ge=1, description="length of the schedule in updates")

    @model_validator(mode="after")
    def _schedule(self) -> "WordDropoutConfig":
        given = self.epochs is not None or self.steps is not None
        if given and self.end_rate is None:
            raise ValueError("a schedule needs end_rate, the share at its end")
        if self.end_rate is not None and not given:
            raise ValueError("end_rate needs the length of the schedule: epochs or steps")
        return self


class WordDropout(Strategy):
    """Replaces each input word of the decoder by ``<unk>`` with a probability, in training only.

    Source: Bowman et al. 2016, section 3.1. BOS and padding stay, and so do the targets. The probability is ``rate``,
    or goes linearly from ``rate`` to ``end_rate`` over the schedule and stays there; the paper has none, and a rate
    that falls lets a decoder which has learned to ask z become fluent again.
    """

    Config = WordDropoutConfig
    config: WordDropoutConfig

    @property
    def capturable(self) -> bool:
        return self.config.end_rate is None

    def build(self, dims: Dims) -> None:
        self._length = max(1, dims.steps(steps=self.config.steps, epochs=self.config.epochs))

    def corrupt_decoder(self, batch: Batch, step: int, generator: torch.Generator) -> Batch:
        tokens = batch.tokens
        drawn = torch.rand(tokens.shape, generator=generator, device=tokens.device) < self._rate(step)
        return batch.with_tokens(torch.where(drawn & (tokens != BOS) & (tokens != PAD), UNK, tokens))

    def _rate(self, step: int) -> float:
        if self.config.end_rate is None:
            return self.config.rate
        return self.config.rate + (self.config.end_rate - self.config.rate) * min(step / self._length, 1.0)
