"""Texts under a language model of this toolkit: one that exists, or one that learns from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from seqvae.data.batching import collate, epoch_plan
from seqvae.data.store import TokenStore
from seqvae.data.tokenizers import Tokenizer
from seqvae.errors import SeqVAEError
from seqvae.evaluation.likelihood import elbo_and_iw, perplexity
from seqvae.evaluation.passes import row_seed
from seqvae.models.decoder import DecoderConfig
from seqvae.models.vae import ModelConfig, SeqVAE
from seqvae.types import BOS, EOS

PASSES = 6
"""Passes over its text that the small language model of the reverse perplexity is trained for."""

_SMALL = ModelConfig(latent_dim=0, decoder=DecoderConfig(embedding=64, hidden=128, dropout_in=0.2, dropout_out=0.2))
_LEARNING_RATE, _BATCH, _CLIP = 5e-3, 32, 1.0


@dataclass(frozen=True, kw_only=True)
class Perplexity:
    """Some sentences under a language model; EOS counted, BOS not."""

    ppl: float | None
    """exp(nats per token); None where that is no finite number."""
    nats_per_token: float
    nats_per_token_se: float | None
    """By the residuals nll - tokens * nats_per_token of the sentences (a ratio of two means)."""
    unknown_rate: float
    """Share of the tokens that the language model does not know."""


@dataclass(frozen=True)
class LanguageModel:
    """A trained model with ``latent_dim`` 0 and its tokenizer. Raises E290 for a model that has a code or labels."""

    model: nn.Module
    tokenizer: Tokenizer

    def __post_init__(self) -> None:
        if self.model.latent_dim > 0:
            hint = "train one: `seqvae train --config tiny-lm.yaml`, or with `--set model.latent_dim=0`"
            raise SeqVAEError("E290", "the model named as language model has a latent code", hint=hint)
        if self.model.labels is not None:
            hint = "train one on the same text without labels"
            raise SeqVAEError("E290", "the model named as language model is conditional", hint=hint)

    def measure(self, texts: Sequence[str]) -> Perplexity:
        """The texts as the model's own tokenizer cuts them."""
        return perplexity_of(self.model, TokenStore.from_texts(texts, self.tokenizer))


def perplexity_of(model: nn.Module, store: TokenStore) -> Perplexity:
    """The exact perplexity of a language model on a store."""
    each = elbo_and_iw(model, store)
    total, tokens = float(each.iw.sum()), int(each.tokens.sum())
    rate = total / tokens
    residuals = each.iw - rate * each.tokens
    error = residuals.std(ddof=1) / np.sqrt(len(residuals)) / each.tokens.mean() if len(residuals) > 1 else None
    return Perplexity(
        ppl=perplexity(total, tokens),
        nats_per_token=rate,
        nats_per_token_se=None if error is None else float(error),
        unknown_rate=store.stats.unknown_rate,
    )


def fit_language_model(
    sentences: Sequence[Sequence[int]], vocab_size: int, *, seed: int = 0, device: torch.device | str = "cpu"
) -> SeqVAE:
    """A small LSTM language model (embedding 64, hidden 128) trained for `PASSES` passes over the sentences (ids).

    The measuring instrument of the reverse perplexity: its budget is part of the definition. The seed decides
    everything; the global random state is left alone.
    """
    # Ids as they are: to write them as text and read them again may change them.
    device, store = torch.device(device), TokenStore.from_ids([[BOS, *words, EOS] for words in sentences])
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(row_seed(seed, "language model"))
        model = SeqVAE(_SMALL, vocab_size).to(device).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE)
        with torch.enable_grad():
            for epoch in range(PASSES):
                for rows in epoch_plan(store.lengths, seed=seed, epoch=epoch, batch_size=_BATCH):
                    terms = model.terms(collate(store, rows).to(device))
                    optimizer.zero_grad()
                    (terms.rec.sum() / terms.tokens.sum()).backward()
                    nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
                    optimizer.step()
    return model.eval()
