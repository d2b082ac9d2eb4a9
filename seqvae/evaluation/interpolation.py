"""Paths between pairs of sentences: do they lead from one to the other, through sentences, without standing still?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from seqvae.data.store import TokenStore
from seqvae.data.tokenizers import Tokenizer
from seqvae.evaluation.edits import rouge_l
from seqvae.evaluation.fluency import LanguageModel, Perplexity
from seqvae.evaluation.passes import row_seed, standard_error
from seqvae.evaluation.samples import Parses
from seqvae.evaluation.text import SPARE_TOKENS
from seqvae.generation.codes import encode_store
from seqvae.generation.decoding import DecodeConfig, decode
from seqvae.generation.paths import fractions, interpolate

STEPS = 11
"""Points of a path, both ends included (the DG-VAE code)."""

_TOGETHER = 256


@dataclass(frozen=True, kw_only=True)
class PathReport:
    """Greedy decodes along paths of one kind; a good path is a symmetric X of its two similarities."""

    to_start: list[float]
    """Mean ROUGE-L to the first sentence at each point, 0 to 1."""
    to_end: list[float]
    """The same to the second."""
    distinct_outputs: float
    """Mean share of distinct texts on a path; 1 / steps where all points give one text."""
    distinct_outputs_se: float | None
    fluency: Perplexity | None
    """The points between the ends under a language model."""
    parsed: float | None
    """Share of the points between the ends that the corpus' grammar can produce."""
    parsed_se: float | None
    """By path."""


@dataclass(frozen=True, kw_only=True)
class InterpolationReport:
    pairs: int
    steps: int
    t: list[float]
    lerp: PathReport | None
    """Straight; None for a model on the sphere, whose straight paths leave it."""
    slerp: PathReport
    """Along great circles."""


def measure_interpolation(
    model: nn.Module,
    tokenizer: Tokenizer,
    store: TokenStore,
    *,
    pairs: int = 100,
    language_model: LanguageModel | None = None,
    parses: Parses | None = None,
    seed: int = 0,
) -> InterpolationReport | None:
    """Walk between the posterior means of random pairs of sentences, straight and along great circles.

    Every sentence is in one pair at most; None for a split of one sentence. A conditional model writes the whole path
    under the label of its first sentence.
    """
    order = np.random.default_rng(row_seed(seed, "pairs")).permutation(len(store))
    pairs = min(pairs, len(store) // 2)
    if pairs == 0:
        return None
    rows = order[: 2 * pairs]
    ends = torch.from_numpy(encode_store(model, store, rows).mean).view(2, pairs, -1)
    sentences = [store[row][1:-1].tolist() for row in rows.tolist()]
    labels = None
    if model.labels is not None:
        labels = torch.from_numpy(store.labels[rows[:pairs]].astype(np.int64)).repeat_interleave(STEPS)
    config = DecodeConfig(strategy="greedy", max_length=int(store.lengths[rows].max()) + SPARE_TOKENS, allow_unk=True)

    def walked(kind: Literal["lerp", "slerp"]) -> PathReport:
        codes = torch.cat([interpolate(a, b, STEPS, kind) for a, b in zip(*ends, strict=True)])
        tokens = []
        for start in range(0, len(codes), _TOGETHER):
            some = slice(start, start + _TOGETHER)
            tokens += decode(model, codes[some], config, labels=None if labels is None else labels[some]).tokens
        paths = [tokens[i * STEPS : (i + 1) * STEPS] for i in range(pairs)]
        return _path_report(paths, sentences, tokenizer, language_model, parses)

    return InterpolationReport(
        pairs=pairs,
        steps=STEPS,
        t=fractions(STEPS),
        lerp=None if model.spherical else walked("lerp"),
        slerp=walked("slerp"),
    )


def _path_report(
    paths: Sequence[Sequence[list[int]]],
    sentences: Sequence[list[int]],
    tokenizer: Tokenizer,
    language_model: LanguageModel | None,
    parses: Parses | None,
) -> PathReport:
    pairs, steps = len(paths), len(paths[0])
    flat = [tokens for path in paths for tokens in path]
    similar = [
        rouge_l([end for end in ends for _ in range(steps)], flat).reshape(pairs, steps).mean(0).tolist()
        for ends in (sentences[:pairs], sentences[pairs:])
    ]
    distinct = np.array([len(set(map(tuple, path))) / steps for path in paths])
    between = [[tokenizer.decode(tokens) for tokens in path[1:-1]] for path in paths]
    in_grammar = None if parses is None else np.array([np.mean([parses(text) for text in path]) for path in between])
    return PathReport(
        to_start=similar[0],
        to_end=similar[1],
        distinct_outputs=float(distinct.mean()),
        distinct_outputs_se=standard_error(distinct),
        fluency=None if language_model is None else language_model.measure([text for path in between for text in path]),
        parsed=None if in_grammar is None else float(in_grammar.mean()),
        parsed_se=None if in_grammar is None else standard_error(in_grammar),
    )
