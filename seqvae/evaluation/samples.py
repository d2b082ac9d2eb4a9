"""What the model writes by itself: its samples beside as many real sentences."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seqvae.data.store import TokenStore
from seqvae.data.tokenizers import Tokenizer
from seqvae.evaluation.diversity import Diversity, diversity, share_unseen
from seqvae.evaluation.fluency import LanguageModel, Perplexity, fit_language_model, perplexity_of
from seqvae.evaluation.latent import subset
from seqvae.evaluation.passes import row_seed, standard_error
from seqvae.evaluation.text import SPARE_TOKENS
from seqvae.generation.decoding import DecodeConfig, decode

MAX_TOKENS = 200
"""A sample is cut here, or a little above the longest sentence of the split where that is longer."""

_TOGETHER = 256

Parses = Callable[[str], bool]
"""Whether a grammar can produce a text."""

Obeys = Callable[[str, str], bool]
"""Whether it can produce a text with a label."""


@dataclass(frozen=True, kw_only=True)
class SampleReport:
    """Samples, and what the same measures give for real text; None: there is nothing to measure it with."""

    samples: Diversity
    real: Diversity
    """As many training sentences; without a training text, sentences of the split."""
    length_distance_tokens: float
    """Earth mover's distance between the two distributions of lengths."""
    truncated: float
    """Share of samples cut before they ended."""
    novelty: float | None
    """Share of samples that are no training sentence."""
    novelty_se: float | None
    novelty_real: float | None
    """The same for the sentences of the split."""
    forward: Perplexity | None
    """Samples under a language model of real text: fluency. Low also for dull text, so read it with self-BLEU."""
    forward_real: Perplexity | None
    """The split under it."""
    reverse: Perplexity
    """The split under a small language model trained on the samples alone: fluency and coverage together."""
    reverse_real: Perplexity
    """The same, trained on the real sentences: as good as that many samples can get."""
    parsed: float | None
    """Share of samples that the corpus' grammar can produce."""
    parsed_se: float | None
    obeyed: float | None
    """Of a conditional model: share of samples that the grammar can produce with the label that was asked for."""
    obeyed_se: float | None


def measure_samples(
    model: nn.Module,
    tokenizer: Tokenizer,
    store: TokenStore,
    *,
    codes: Float[Tensor, "N Z"],
    labels: Int[Tensor, " N"] | None = None,
    train: TokenStore | None = None,
    language_model: LanguageModel | None = None,
    parses: Parses | None = None,
    obeys: Obeys | None = None,
    seed: int = 0,
) -> SampleReport:
    """Write one sample for each of ``codes`` (ancestral, temperature 1) and measure them against ``store``.

    ``labels`` of the samples: for a conditional model.

    ``<unk>`` may be written, so that the samples are the model's own. Forward and reverse perplexity: Zhao et al. 2018
    (ARAE), section 5. The reverse one depends on the number of samples: compare equal numbers.
    """
    written, truncated = write(model, codes, labels=labels, longest=int(store.lengths.max()), seed=seed)
    texts = [tokenizer.decode(tokens) for tokens in written]
    source = store if train is None else train
    real = [source[row][1:-1].tolist() for row in subset(len(source), len(written), seed).tolist()]
    new = None if train is None else share_unseen(written, train)
    in_grammar = None if parses is None else np.array([parses(text) for text in texts], dtype=float)
    obedient = None
    if labels is not None and obeys is not None:
        asked = [model.labels[label] for label in labels.tolist()]
        obedient = np.array([obeys(*pair) for pair in zip(texts, asked, strict=True)], dtype=float)
    learned = [
        perplexity_of(fit_language_model(some, tokenizer.vocab_size, seed=seed, device=model.device), store)
        for some in (written, real)
    ]
    split = (
        None if train is None and language_model is None else [store[row][1:-1].tolist() for row in range(len(store))]
    )
    return SampleReport(
        samples=diversity(written),
        real=diversity(real),
        length_distance_tokens=_earth_mover(list(map(len, written)), list(map(len, real))),
        truncated=truncated,
        novelty_real=None if train is None else float(share_unseen(split, train).mean()),
        forward=None if language_model is None else language_model.measure(texts),
        forward_real=None if language_model is None else language_model.measure([tokenizer.decode(s) for s in split]),
        reverse=learned[0],
        reverse_real=learned[1],
        **_shares(novelty=new, parsed=in_grammar, obeyed=obedient),
    )


def _shares(**values: Float[np.ndarray, " N"] | None) -> dict[str, float | None]:
    """The mean of each and its standard error, by name."""
    means = {name: None if each is None else float(each.mean()) for name, each in values.items()}
    return means | {f"{name}_se": None if each is None else standard_error(each) for name, each in values.items()}


def write(
    model: nn.Module,
    codes: Float[Tensor, "N Z"],
    *,
    longest: int,
    seed: int = 0,
    labels: Int[Tensor, " N"] | None = None,
) -> tuple[list[list[int]], float]:
    """Token ids of one sample for each code, and the share that was cut; the seed decides everything."""
    generator = torch.Generator().manual_seed(row_seed(seed, "samples"))
    config = DecodeConfig(allow_unk=True, max_length=max(MAX_TOKENS, longest + SPARE_TOKENS))
    tokens, cut = [], 0
    for start in range(0, len(codes), _TOGETHER):
        some = slice(start, start + _TOGETHER)
        decoded = decode(model, codes[some], config, generator, labels=None if labels is None else labels[some])
        tokens += decoded.tokens
        cut += sum(decoded.truncated)
    return tokens, cut / len(codes)


def _earth_mover(a: Sequence[int], b: Sequence[int]) -> float:
    """Area between the two distribution functions (Wasserstein-1), in the unit of the values."""
    points = np.unique([*a, *b])
    cdfs = [np.searchsorted(np.sort(each), points[:-1], side="right") / len(each) for each in (a, b)]
    return float(np.abs(cdfs[0] - cdfs[1]) @ np.diff(points))
