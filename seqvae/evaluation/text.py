"""How well sentences come back from their codes: BLEU, chrF, edit distance, exact match, token accuracy."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from seqvae.data.batching import collate
from seqvae.data.store import TokenStore
from seqvae.data.tokenizers import Tokenizer
from seqvae.evaluation.edits import normalised_edit_distance
from seqvae.evaluation.latent import subset
from seqvae.evaluation.passes import batches, evaluating, standard_error
from seqvae.generation.decoding import DecodeConfig, decode

SPARE_TOKENS = 10
"""A reconstruction may be this much longer than the longest sentence before it is cut."""

_CODES_TOGETHER = 256

_CHINESE_SHARE = 0.2
"""Text with a larger share of Han characters is Chinese, whatever else is written in it."""

_WORDS_IN_A_SENTENCE = 1.5
"""With fewer between spaces on average, spaces do not separate words."""


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """Greedy decodes of the posterior mean against the sentences as the tokenizer sees them (``<unk>`` included)."""

    bleu: float
    """Corpus BLEU-4, 0 to 100 (Papineni et al. 2002)."""
    bleu_signature: str
    """sacrebleu's signature: everything needed to make the number again, the tokenisation among it (Post 2018)."""
    chrf: float
    """Corpus chrF2, 0 to 100: F-score of character 1- to 6-grams (Popović 2015)."""
    chrf_signature: str
    edit_distance: float
    """Mean over sentences of the token edit distance over the length of the longer of the two, 0 to 1."""
    edit_distance_se: float | None
    exact_match: float
    """Share of sentences whose tokens all come back."""
    exact_match_se: float | None
    sentences: int


def bleu_tokenisation(unit: str, texts: Sequence[str]) -> Literal["none", "13a", "zh", "char"]:
    """The sacrebleu tokenisation under which BLEU counts words of these texts; ``unit`` is the tokenizer's.

    ``none`` for a word tokenizer, whose words stand between spaces already. Other text is cut as sacrebleu does by
    default (``13a``); ``zh`` cuts between Chinese characters; where nothing separates words, ``char``.
    """
    if unit == "word":
        return "none"
    characters = [char for text in texts for char in text if not char.isspace()]
    chinese = sum(unicodedata.name(char, "").startswith("CJK UNIFIED") for char in characters)
    if chinese > _CHINESE_SHARE * len(characters):
        return "zh"
    words = sum(len(text.split()) for text in texts)
    return "char" if words < _WORDS_IN_A_SENTENCE * sum(bool(text.strip()) for text in texts) else "13a"


def reconstruction(
    model: nn.Module, tokenizer: Tokenizer, store: TokenStore, *, at_most: int = 2_000, seed: int = 0
) -> Reconstruction:
    """Reconstruct at most ``at_most`` sentences, drawn by ``seed``. ``<unk>`` may be written: the sentences hold it."""
    from sacrebleu.metrics import BLEU, CHRF

    rows = subset(len(store), at_most, seed)
    rows = rows[np.argsort(store.lengths[rows], kind="stable")]
    longest = int(store.lengths[rows].max()) + SPARE_TOKENS
    config = DecodeConfig(strategy="greedy", max_length=longest, allow_unk=True)
    sources, outputs = [], []
    for start in range(0, len(rows), _CODES_TOGETHER):
        some = rows[start : start + _CODES_TOGETHER]
        sources += [store[row][1:-1].tolist() for row in some.tolist()]
        with evaluating(model):
            batch = collate(store, some).to(model.device)
            codes = model.encode(batch).mean
        outputs += decode(model, codes, config, labels=batch.labels).tokens
    references, written = ([tokenizer.decode(ids) for ids in group] for group in (sources, outputs))
    bleu = BLEU(tokenize=bleu_tokenisation(tokenizer.unit, references), force=True)
    chrf = CHRF()
    scores = [metric.corpus_score(written, [references]).score for metric in (bleu, chrf)]
    same = np.array([source == output for source, output in zip(sources, outputs, strict=True)], dtype=float)
    distances = normalised_edit_distance(sources, outputs)
    return Reconstruction(
        bleu=float(scores[0]),
        bleu_signature=str(bleu.get_signature()),
        chrf=float(scores[1]),
        chrf_signature=str(chrf.get_signature()),
        edit_distance=float(distances.mean()),
        edit_distance_se=standard_error(distances),
        exact_match=float(same.mean()),
        exact_match_se=standard_error(same),
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
