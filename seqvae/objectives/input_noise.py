"""Input noise: the encoder reads a spoilt sentence, the decoder must write the clean one."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from seqvae.objectives.base import Dims, Strategy, StrategyConfig
from seqvae.types import PAD, UNK, Batch

_FIRST_WORD = UNK + 1


class InputNoiseConfig(StrategyConfig):
    """Settings of ``input_noise``; several kinds of noise may act together."""

    name: Literal["input_noise"] = "input_noise"
    drop: float = Field(0.3, ge=0, le=1, description="share of words left out")
    blank: float = Field(0.0, ge=0, le=1, description="share of words replaced by <unk>")
    substitute: float = Field(0.0, ge=0, le=1, description="share of words replaced by a random one of the vocabulary")
    shuffle: int = Field(0, ge=0, description="words change places, none by more than this many positions")


class InputNoise(Strategy):
    """Shuffles, blanks, substitutes and drops words of what the encoder reads, in this order, in training only.

    Source: Shen et al. 2020 (denoising adversarial autoencoders), with the local shuffle of Lample et al.
    2018, section 2.3: positions are sorted by i + U(0, k + 1), which moves no word further than k. BOS and EOS stay,
    so that a sentence may come out empty but is always legal. Deviation: blanks are ``<unk>``, since the vocabulary has
    no blank. With ``autoencoder`` it makes the denoising autoencoder (Vincent et al. 2008).
    """

    Config = InputNoiseConfig
    config: InputNoiseConfig
    capturable = True

    def build(self, dims: Dims) -> None:
        self._vocab = dims.vocab

    def corrupt_encoder(self, batch: Batch, step: int, generator: torch.Generator) -> Batch:
        config, tokens, lengths = self.config, batch.tokens, batch.lengths
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        words = (positions > 0) & (positions < lengths[:, None] - 1)

        def uniform() -> Float[Tensor, "B T"]:
            return torch.rand(tokens.shape, generator=generator, device=tokens.device)

        if config.shuffle > 0:
            tokens = tokens.gather(1, _shuffled(words, config.shuffle, uniform()))
        if config.blank > 0:
            tokens = torch.where(words & (uniform() < config.blank), UNK, tokens)
        if config.substitute > 0 and self._vocab > _FIRST_WORD:
            chosen = words & (uniform() < config.substitute)
            tokens = torch.where(chosen, self._random_words(uniform()), tokens)
        if config.drop > 0:
            dropped = words & (uniform() < config.drop)
            lengths = lengths - dropped.sum(1)
            tokens = tokens.gather(1, dropped.int().argsort(dim=1, stable=True))
            tokens = torch.where(positions < lengths[:, None], tokens, PAD)
        return batch.with_tokens(tokens, lengths)

    def _random_words(self, uniform: Float[Tensor, "B T"]) -> Int[Tensor, "B T"]:
        count = self._vocab - _FIRST_WORD
        return _FIRST_WORD + (uniform * count).long().clamp_max(count - 1)  # fp32 may round the product up


def _shuffled(words: Bool[Tensor, "B T"], reach: int, uniform: Float[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """Where each position takes its token from; only words change places."""
    positions = torch.arange(words.shape[1], device=words.device)
    # What follows the words is moved by the whole reach, so that no word can pass it; BOS lies below all keys.
    shift = torch.where(words, uniform * (reach + 1), float(reach + 1))
    shift[:, 0] = -1.0
    return (positions + shift).argsort(dim=1, stable=True)
