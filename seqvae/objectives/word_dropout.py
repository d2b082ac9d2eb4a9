"""Word dropout: the decoder must ask z for the words that it is not shown."""

from typing import Literal

import torch
from pydantic import Field

from seqvae.objectives.base import Strategy, StrategyConfig
from seqvae.types import BOS, PAD, UNK, Batch


class WordDropoutConfig(StrategyConfig):
    """Settings of ``word_dropout``."""

    name: Literal["word_dropout"] = "word_dropout"
    rate: float = Field(0.4, ge=0, le=1, description="share of the decoder's input words replaced by <unk>")


class WordDropout(Strategy):
    """Replaces each input word of the decoder by ``<unk>`` with probability ``rate``, in training only.

    Source: Bowman et al. 2016, section 3.1. BOS and padding stay, and so do the targets.
    """

    Config = WordDropoutConfig
    config: WordDropoutConfig

    def corrupt_decoder(self, batch: Batch, step: int, generator: torch.Generator) -> Batch:
        tokens = batch.tokens
        drawn = torch.rand(tokens.shape, generator=generator, device=tokens.device) < self.config.rate
        return batch.with_tokens(torch.where(drawn & (tokens != BOS) & (tokens != PAD), UNK, tokens))
