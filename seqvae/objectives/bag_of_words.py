"""Bag-of-words loss: z alone must tell which words a sentence has."""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from seqvae.objectives.base import Dims, Strategy, StrategyConfig
from seqvae.types import BOS, EOS, PAD, Batch, Terms


class BagOfWordsConfig(StrategyConfig):
    """Settings of ``bag_of_words``."""

    name: Literal["bag_of_words"] = "bag_of_words"
    weight: float = Field(1.0, ge=0, description="weight of the loss, which is in nats per sentence like rec")
    hidden: int = Field(400, ge=1, description="tanh units between z and the words")


class BagOfWords(Strategy):
    """Adds weight * E_z[- sum over the words w of a sentence of log softmax(f(z))_w], f a network of its own.

    Source: Zhao et al. 2017, section 3.3 (the bag-of-word loss); f has one tanh layer as in their code. A word that
    stands twice counts twice; ``<unk>`` is a word; BOS, EOS and padding are not counted. f is trained with the model
    (same optimizer), is part of every checkpoint, and is not saved with the model.
    """

    Config = BagOfWordsConfig
    config: BagOfWordsConfig
    capturable = True

    def build(self, dims: Dims) -> None:
        if dims.latent > 0:
            hidden = self.config.hidden
            self.words = nn.Sequential(nn.Linear(dims.latent, hidden), nn.Tanh(), nn.Linear(hidden, dims.vocab))

    def penalty(self, terms: Terms, batch: Batch, step: int, generator: torch.Generator) -> Float[Tensor, ""] | float:
        if terms.z.shape[-1] == 0:
            return 0.0
        tokens = batch.tokens.expand(len(terms.z), -1, -1)
        nll = -self.words(terms.z).float().log_softmax(-1).gather(-1, tokens)
        counted = (tokens != PAD) & (tokens != BOS) & (tokens != EOS)
        return self.config.weight * torch.where(counted, nll, 0.0).sum(-1).mean()
