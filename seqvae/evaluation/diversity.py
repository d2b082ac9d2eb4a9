"""What a set of texts is like, as token sequences: how varied, how long, how new. No model is needed."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from seqvae.data.store import TokenStore
from seqvae.evaluation.passes import standard_error
from seqvae.types import BOS, EOS, UNK

ORDER = 4
"""N-grams of BLEU."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

Tokens = Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Diversity:
    """A set of texts; compare sets of one size only, since all but the lengths depend on it."""

    sentences: int
    self_bleu: float | None
    """Mean BLEU-4 of each text against all the others, 0 to 100: lower is more varied. None for one text."""
    self_bleu_se: float | None
    distinct_1: float | None
    """Distinct n-grams over all n-grams; None where there are none."""
    distinct_2: float | None
    distinct_3: float | None
    distinct_sentences: float
    """Share of distinct texts."""
    mean_tokens: float
    mean_tokens_se: float | None
    std_tokens: float
    quantiles_tokens: dict[str, float]
    """Lengths (EOS not counted) that 5, 25, 50, 75 and 95 per cent of the texts do not pass."""
    unknown_rate: float
    """Share of the tokens that are the unknown token."""


def diversity(texts: Sequence[Tokens]) -> Diversity:
    """Everything of `Diversity` for some texts, as token ids without BOS and EOS."""
    lengths = np.array([len(text) for text in texts], dtype=float)
    scores = self_bleu(texts) if len(texts) > 1 else None
    unknown = sum(list(text).count(UNK) for text in texts)
    return Diversity(
        sentences=len(texts),
        self_bleu=None if scores is None else float(scores.mean()),
        self_bleu_se=None if scores is None else standard_error(scores),
        distinct_1=distinct(texts, 1),
        distinct_2=distinct(texts, 2),
        distinct_3=distinct(texts, 3),
        distinct_sentences=len({tuple(text) for text in texts}) / len(texts),
        mean_tokens=float(lengths.mean()),
        mean_tokens_se=standard_error(lengths),
        std_tokens=float(lengths.std()),
        quantiles_tokens={f"{share:.0%}": float(np.quantile(lengths, share)) for share in QUANTILES},
        unknown_rate=unknown / max(1.0, lengths.sum()),
    )


def ngrams(text: Tokens, n: int) -> Iterator[tuple[int, ...]]:
    """The n-grams of one text, in order."""
    return zip(*(text[i:] for i in range(n)), strict=False)


def distinct(texts: Sequence[Tokens], n: int) -> float | None:
    """Distinct n-grams over all n-grams of the texts together (Li et al. 2016, distinct-n)."""
    grams = Counter(gram for text in texts for gram in ngrams(text, n))
    return len(grams) / grams.total() if grams else None


def self_bleu(texts: Sequence[Tokens]) -> Float[np.ndarray, " R"]:
    """BLEU-4 of each text with all the others as references, 0 to 100 (Zhu et al. 2018, Texygen).

    sacrebleu's sentence BLEU (exponential smoothing, effective order). The counts of all references together are
    kept, so it costs as much as the texts are long and not its square.
    """
    from sacrebleu.metrics import BLEU

    lengths = np.array([len(text) for text in texts])
    counts = [[Counter(ngrams(text, n)) for text in texts] for n in range(1, ORDER + 1)]
    largest = [_two_largest(each) for each in counts]
    by_length = Counter(lengths.tolist())
    scores = np.zeros(len(texts))
    for i, length in enumerate(lengths.tolist()):
        correct = [
            sum(min(count, best[gram][best[gram][0] == count]) for gram, count in grams[i].items())
            for grams, best in zip(counts, largest, strict=True)
        ]
        # sacrebleu takes the reference nearest in length, the shorter of two.
        near = min((n for n in by_length if n != length or by_length[n] > 1), key=lambda n: (abs(n - length), n))
        total = [max(0, length - n) for n in range(ORDER)]
        scores[i] = BLEU.compute_bleu(
            correct, total, sys_len=length, ref_len=near, smooth_method="exp", effective_order=True
        ).score
    return scores


def _two_largest(counts: list[Counter]) -> dict[tuple[int, ...], tuple[int, int]]:
    """N-gram -> the largest and the second largest number of times that one text has it.

    What a text's references have at most is the second where the text itself has the largest, else the largest.
    """
    best: dict[tuple[int, ...], tuple[int, int]] = {}
    for grams in counts:
        for gram, count in grams.items():
            first, second = best.get(gram, (0, 0))
            best[gram] = (count, first) if count > first else (first, max(second, count))
    return best


def share_unseen(texts: Sequence[Tokens], train: TokenStore) -> Float[np.ndarray, " R"]:
    """1 for each text that is no training sentence, token by token, else 0; its mean is the novelty.

    The training text is walked through once; what is held grows with the texts alone.
    """
    kind = train.tokens.dtype
    keys = [np.array([BOS, *text, EOS]).astype(kind).tobytes() for text in texts]
    wanted, lengths = set(keys), {len(text) + 2 for text in texts}
    rows = np.flatnonzero(np.isin(train.lengths, list(lengths)))
    seen = {key for row in rows.tolist() if (key := train[row].tobytes()) in wanted}
    return np.array([key not in seen for key in keys], dtype=float)
