"""The sentences of a corpus whose codes lie nearest to a code."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float
from torch import nn

from seqvae.data.store import TokenStore
from seqvae.data.tokenizers import Tokenizer
from seqvae.errors import SeqVAEError, require_choice
from seqvae.evaluation.passes import batches, evaluating

Measure = Literal["cosine", "euclidean"]


@dataclass(frozen=True, kw_only=True)
class Neighbor:
    """A sentence near another: the cosine between their posterior means (1 at most), or the distance (0 at least)."""

    score: float
    """To six digits."""
    text: str
    """As the model reads it: a word that it does not know is ``<unk>``."""
    line: int
    """Its line in the file, from 1; the first where the sentence stands there several times."""


def nearest(
    model: nn.Module,
    tokenizer: Tokenizer,
    store: TokenStore,
    queries: Float[np.ndarray, "Q Z"],
    n: int = 10,
    *,
    by: Measure = "cosine",
    batch_tokens: int = 16_384,
) -> list[list[Neighbor]]:
    """The ``n`` nearest sentences of ``store`` to each code, nearest first, by their posterior means.

    Exact: each code of the corpus is compared, in one pass and in memory that does not grow with the corpus. A
    sentence that stands there several times is found once; where two are as near, the earlier comes first. The cosine
    is about the origin, where the usual priors have their centre, and 0 for a code of length 0.

    Errors: E242 for a negative ``n``, E234 where a model that diverged gives NaN.
    """
    found = _Nearest.to(queries, n, by)
    with evaluating(model):
        for rows, batch in batches(model, store, batch_tokens=batch_tokens):
            means = model.encode(batch).mean.cpu().numpy()
            if not np.isfinite(means).all():
                hint = "the model diverged: train it again"
                raise SeqVAEError("E234", "a latent code holds NaN or infinity", hint=hint)
            for best in found:
                best.add(means, rows, store, by)
    return [best.listed(tokenizer, store, by) for best in found]


def nearest_codes(
    means: Float[np.ndarray, "N Z"],
    tokenizer: Tokenizer,
    store: TokenStore,
    queries: Float[np.ndarray, "Q Z"],
    n: int = 10,
    *,
    by: Measure = "cosine",
) -> list[list[Neighbor]]:
    """The same, where the codes ``means`` of the sentences of ``store`` are at hand."""
    found, rows = _Nearest.to(queries, n, by), np.arange(len(means))
    for best in found:
        best.add(means, rows, store, by)
    return [best.listed(tokenizer, store, by) for best in found]


def _distances(query: Float[np.ndarray, " Z"], means: Float[np.ndarray, "B Z"], by: Measure) -> np.ndarray:
    """Smaller is nearer: the distance, or minus the cosine; fp64."""
    query, means = query.astype(np.float64), means.astype(np.float64)
    if by == "euclidean":
        return np.linalg.norm(means - query, axis=1)
    lengths = np.linalg.norm(means, axis=1) * np.linalg.norm(query)
    cosine = np.divide(means @ query, lengths, out=np.zeros(len(means)), where=lengths > 0)
    return -np.clip(cosine, -1.0, 1.0)


class _Nearest:
    """The nearest different sentences so far, to one code."""

    def __init__(self, query: Float[np.ndarray, " Z"], n: int):
        self.query, self.n = query, n
        self.best: dict[bytes, tuple[float, int]] = {}
        """Tokens of a sentence: (distance, row)."""

    @classmethod
    def to(cls, queries: Float[np.ndarray, "Q Z"], n: int, by: Measure) -> "list[_Nearest]":
        """One for each code, with nothing found yet."""
        require_choice("by", by, get_args(Measure))
        if n < 0:
            raise SeqVAEError("E242", f"cannot find {n} neighbours", hint="give a whole number from 0")
        return [cls(query, n) for query in queries]

    def add(self, means: Float[np.ndarray, "B Z"], rows: np.ndarray, store: TokenStore, by: Measure) -> None:
        # One sentence may get codes that differ in the last bit, in batches of different sizes: rounded, they tie.
        keys = np.round(_distances(self.query, means, by), 6)
        worst = max(self.best.values())[0] if len(self.best) >= self.n > 0 else np.inf
        near = np.flatnonzero(keys <= worst)
        for place in near[np.lexsort((rows[near], keys[near]))].tolist():
            row, key = int(rows[place]), float(keys[place])
            if len(self.best) >= self.n and (self.n == 0 or (key, row) > max(self.best.values())):
                break
            sentence = store[row].tobytes()
            self.best[sentence] = min((key, row), self.best.get(sentence, (np.inf, 0)))
            if len(self.best) > self.n:
                del self.best[max(self.best, key=self.best.__getitem__)]

    def listed(self, tokenizer: Tokenizer, store: TokenStore, by: Measure) -> list[Neighbor]:
        """What was found, nearest first."""
        sign = -1.0 if by == "cosine" else 1.0
        return [
            Neighbor(score=sign * key + 0.0, text=tokenizer.decode(store[row][1:-1]), line=int(store.lines[row]))
            for key, row in sorted(self.best.values())
        ]
