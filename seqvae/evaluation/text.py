"""How well sentences come back from their codes: BLEU, exact match, token accuracy."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from seqvae.data.batching import collate
from seqvae.data.store import TokenStore
from seqvae.data.tokenizers import Tokenizer
from seqvae.evaluation.latent import subset
from seqvae.evaluation.passes import batches, evaluating
from seqvae.generation.decoding import DecodeConfig, decode

SPARE_TOKENS = 10
"""A reconstruction may be this much longer than the longest sentence before it is cut."""

_CODES_TOGETHER = 256


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """Greedy decodes of the posterior mean against the sentences as the tokenizer sees them (``<unk>`` included)."""

    bleu: float
    """Corpus BLEU-4 on whitespace tokens, 0 to 100."""
    bleu_signature: str
    """sacrebleu's signature: everything needed to make the number again."""
    exact_match: float
    """Share of sentences whose tokens all come back."""
    sentences: int


def reconstruction(
    model: nn.Module, tokenizer: Tokenizer, store: TokenStore, *, at_most: int = 2_000, seed: int = 0
) -> Reconstruction:
    """Reconstruct at most ``at_most`` sentences, drawn by ``seed``. ``<unk>`` may be written: the sentences hold it."""
    from sacrebleu.metrics import BLEU

    rows = subset(len(store), at_most, seed)
    rows = rows[np.argsort(store.lengths[rows], kind="stable")]
    longest = int(store.lengths[rows].max()) + SPARE_TOKENS
    config = DecodeConfig(strategy="greedy", max_length=longest, allow_unk=True)
    sources, outputs = [], []
    for start in range(0, len(rows), _CODES_TOGETHER):
        some = rows[start : start + _CODES_TOGETHER]
        sources += [store[row][1:-1].tolist() for row in some.tolist()]
        with evaluating(model):
            codes = model.encode(collate(store, some).to(model.device)).mean
        outputs += decode(model, codes, config).tokens
    metric = BLEU(tokenize="none", force=True)
    score = metric.corpus_score(
        [tokenizer.decode(ids) for ids in outputs], [[tokenizer.decode(ids) for ids in sources]]
    )
    same = sum(source == output for source, output in zip(sources, outputs, strict=True))
    return Reconstruction(
        bleu=float(score.score),
        bleu_signature=str(metric.get_signature()),
        exact_match=same / len(rows),
        sentences=len(rows),
    )


def token_accuracy(model: nn.Module, store: TokenStore, *, batch_tokens: int = 16_384) -> float:
    """Share of tokens (EOS counted) that are the decoder's first choice, teacher-forced, at the posterior mean.

    The code has seen the sentence, so this diagnoses; it does not predict. For a language model there is no code.
    """
    hits = total = 0
    with evaluating(model):
        for _, batch in batches(model, store, batch_tokens=batch_tokens):
            q = model.encode(batch)
            z = torch.zeros(len(batch), 0, device=model.device) if q is None else q.mean
            hits += int(model.correct_tokens(batch, z).sum())
            total += int((batch.lengths - 1).sum())
    return hits / total
